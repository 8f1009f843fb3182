//! Sequences that speculate.

use std::ops::ControlFlow;
use std::path::Path;

use super::batches::{Steps, alone, demo, different};
use super::failures::{
    BAD, backend, counting, greedy, options, read, sequence_options, start_with,
};
use crate::engine::core::CoreBackend;
use crate::fused::{Device, Precision};
use crate::generate::{
    GenerationOptions, Sequence, SequenceOptions, SpeculationOptions, TokenOutput,
};
use crate::mlx::{self, DeviceKind};
use crate::models::{self, LanguageModel, LoadOptions};

/// What counts as counting on: every draft is right.
fn with_right_drafts() -> CoreBackend {
    backend().with_draft(Some((counting(), String::new())))
}

/// The smallest model that writes texts.
fn small() -> CoreBackend {
    CoreBackend::new(draft_model(), "small".to_owned())
}

fn draft_model() -> Box<dyn LanguageModel> {
    model("demo-draft")
}

fn model(name: &str) -> Box<dyn LanguageModel> {
    mlx::enter(DeviceKind::Cpu).unwrap();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("models").join(name);
    let device = Device::cpu(None, Precision::Exact);
    let options = LoadOptions { device, ..LoadOptions::default() };
    models::load(&folder, &options, &mut |_| ControlFlow::Continue(())).unwrap().model
}

pub(super) fn fixed(length: usize) -> Option<SpeculationOptions> {
    Some(SpeculationOptions { draft_tokens: Some(length), lookup: true })
}

/// A sequence that has read its prompt.
fn begin(backend: &CoreBackend, prompt: Vec<u32>, options: SequenceOptions) -> Sequence {
    let mut sequence = backend.start(prompt, options, &mut None).unwrap();
    while !read(backend, &mut [&mut sequence], 5)[0].as_ref().unwrap().done {}
    sequence
}

/// The tokens of a sequence alone.
pub(super) fn make(
    backend: &CoreBackend,
    sequence: &mut Sequence,
    count: usize,
) -> Vec<TokenOutput> {
    let mut outputs = Vec::new();
    while outputs.len() < count {
        outputs.extend(backend.decode(&mut [sequence]).remove(0).unwrap());
    }
    outputs
}

pub(super) fn tokens(outputs: &[TokenOutput]) -> Vec<u32> {
    outputs.iter().map(|output| output.token).collect()
}

/// As those of the tests of batches, but their prompts repeat, so that there is something to look
/// up.
fn repeating(
    backend: &CoreBackend,
    speculation: Option<&SpeculationOptions>,
) -> impl Iterator<Item = Sequence> {
    different().into_iter().map(move |(prompt, options)| {
        let options = GenerationOptions { max_tokens: Some(20), ..options };
        let speculation = speculation.cloned();
        let options = SequenceOptions { speculation, ..sequence_options(options) };
        begin(backend, prompt.repeat(2), options)
    })
}

#[test]
fn a_seed_gives_the_same_text_with_drafts() {
    const COUNT: usize = 20;
    let plain = small();
    let expected: Vec<_> =
        repeating(&plain, None).map(|mut sequence| make(&plain, &mut sequence, COUNT)).collect();
    let auto = SpeculationOptions { lookup: true, ..SpeculationOptions::default() };
    for drafts in [false, true] {
        for speculation in [fixed(1), fixed(5), Some(auto.clone())] {
            let draft = drafts.then(draft_model);
            let backend = small().with_draft(draft.map(|draft| (draft, String::new())));
            let mut accepted = 0;
            let sequences = repeating(&backend, speculation.as_ref());
            for (mut sequence, expected) in sequences.zip(&expected) {
                let outputs = make(&backend, &mut sequence, COUNT);
                assert_eq!(tokens(&outputs), tokens(expected), "{drafts} {speculation:?}");
                for (output, expected) in outputs.iter().zip(expected) {
                    let ids = |output: &TokenOutput| {
                        output.top.iter().map(|(id, _)| *id).collect::<Vec<_>>()
                    };
                    assert_eq!(ids(output), ids(expected));
                    let difference =
                        output.logprob.unwrap_or(0.0) - expected.logprob.unwrap_or(0.0);
                    assert!(difference.abs() < 1e-3);
                }
                let speculated = sequence.speculated().unwrap();
                assert!(speculated.accepted <= speculated.drafted);
                assert_eq!(speculated.steps + speculated.accepted, COUNT);
                accepted += speculated.accepted;
            }
            // What pays is another matter.
            let is_fixed = speculation.is_some_and(|it| it.draft_tokens.is_some());
            assert!(accepted > 0 || !is_fixed, "{drafts}");
        }
    }
}

#[test]
fn sequences_with_and_without_drafts_share_their_steps() {
    let backend = demo(Precision::Exact).with_draft(Some((draft_model(), String::new())));
    let expected = alone(&demo(Precision::Exact), false);
    let mut sequences: Vec<_> = different()
        .into_iter()
        .enumerate()
        .map(|(index, (prompt, options))| {
            let speculation = if index % 2 == 0 { fixed(3) } else { None };
            begin(&backend, prompt, SequenceOptions { speculation, ..sequence_options(options) })
        })
        .collect();
    let mut made = vec![Vec::new(); sequences.len()];
    while made.iter().zip(&expected).any(|(made, expected)| made.len() < expected.len()) {
        let unfinished = sequences.iter_mut().zip(&mut made).zip(&expected);
        let unfinished = unfinished.filter(|((_, made), expected)| made.len() < expected.len());
        let (mut rows, places): (Vec<_>, Vec<_>) = unfinished.map(|(row, _)| row).unzip();
        for (place, outputs) in places.into_iter().zip(backend.decode(&mut rows)) {
            place.extend(outputs.unwrap());
        }
    }
    for ((made, expected), sequence) in made.iter().zip(&expected).zip(&sequences) {
        assert_eq!(tokens(made), tokens(expected));
        let drafted = sequence.speculated().map(|speculated| speculated.drafted);
        assert!(drafted.is_none_or(|drafted| drafted > 0));
    }
}

#[test]
fn a_step_makes_as_many_tokens_as_are_right_and_no_more_than_are_asked_for() {
    let backend = with_right_drafts();
    let options = GenerationOptions { max_tokens: Some(12), ..greedy() };
    let options = SequenceOptions { speculation: fixed(4), ..sequence_options(options) };
    let mut sequence = start_with(&backend, 0, None, options);
    let steps = [(); 4].map(|()| backend.decode(&mut [&mut sequence]).remove(0).unwrap());
    assert_eq!(steps.each_ref().map(Vec::len), [0, 5, 5, 2]);
    assert_eq!(tokens(&steps.concat()), (5..17).collect::<Vec<_>>());
    let speculated = sequence.speculated().unwrap();
    assert_eq!((speculated.drafted, speculated.accepted, speculated.steps), (9, 9, 3));
}

#[test]
fn nothing_is_drafted_behind_an_end_token() {
    let backend = with_right_drafts();
    let end_tokens = vec![8];
    let options = SequenceOptions { speculation: fixed(10), end_tokens, ..options() };
    let mut sequence = start_with(&backend, 0, None, options);
    let outputs = make(&backend, &mut sequence, 1);
    assert_eq!(tokens(&outputs), [5, 6, 7, 8]);
}

#[test]
fn what_a_mask_forbids_is_not_accepted() {
    let backend = with_right_drafts();
    let start = |mask| {
        let options = SequenceOptions { mask, speculation: fixed(4), ..options() };
        start_with(&backend, 0, None, options)
    };
    let mut thirds = start(Steps::boxed(3, 7, 1000));
    assert_eq!(tokens(&make(&backend, &mut thirds, 7)), (7..28).step_by(3).collect::<Vec<_>>());
    let mut free = start(Steps::boxed(1, 5, 1000));
    let outputs = make(&backend, &mut free, 10);
    assert_eq!(tokens(&outputs), (5..15).collect::<Vec<_>>());
    assert_eq!(free.speculated().unwrap().steps, 2, "a mask that allows drafts costs no steps");
    let mut ends = start(Steps::boxed(1, 5, 7));
    let outputs = [(); 2].map(|()| backend.decode(&mut [&mut ends]).remove(0));
    let [Ok(_), Ok(last)] = outputs else { panic!("{outputs:?}") };
    assert_eq!(tokens(&last), [5, 6, 7], "the token at which it ends is there");
    let error = backend.decode(&mut [&mut ends]).remove(0).unwrap_err();
    assert!(error.to_string().contains("the grammar ends here"));
}

#[test]
fn a_failure_is_its_own_sequences_with_drafts_too() {
    let backend = with_right_drafts();
    for max_kv_size in [None, Some(16)] {
        let start = |first| {
            let options = sequence_options(GenerationOptions { max_kv_size, ..greedy() });
            let options = SequenceOptions { speculation: fixed(4), ..options };
            start_with(&backend, first, None, options)
        };
        let (mut failing, mut sound) = (start(BAD - 20), start(0));
        let (mut made, mut soundly_made, mut error) = (Vec::new(), Vec::new(), None);
        while soundly_made.len() < 40 {
            let mut outputs = match &error {
                None => backend.decode(&mut [&mut sound, &mut failing]),
                Some(_) => backend.decode(&mut [&mut sound]),
            };
            match outputs.pop() {
                Some(Ok(tokens)) if !outputs.is_empty() => made.extend(tokens),
                Some(Err(failure)) => error = Some(failure),
                Some(Ok(tokens)) => outputs.push(Ok(tokens)),
                None => {}
            }
            soundly_made.extend(outputs.remove(0).unwrap());
        }
        assert_eq!(tokens(&made), (BAD - 15..=BAD).collect::<Vec<_>>(), "all before the failure");
        assert_eq!(tokens(&soundly_made)[..40], (5..45).collect::<Vec<_>>());
        assert!(error.unwrap().to_string().contains("met a bad token"));
    }
}

#[test]
fn what_is_left_for_the_next_sequence_has_no_drafts() {
    let backend = with_right_drafts();
    for count in 1..12 {
        let options = || SequenceOptions { speculation: fixed(3), ..options() };
        let mut sequence = start_with(&backend, 0, None, options());
        let made = make(&backend, &mut sequence, count).len() as u32;
        let cache = backend.leave(sequence);
        assert_eq!(backend.prompt_cache_size(&cache).tokens as u32, 5 + made);
        let prompt = (0..5 + made + 2).collect();
        let mut next = backend.start(prompt, options(), &mut Some(cache)).unwrap();
        assert_eq!(next.cached_tokens() as u32, 5 + made);
        while !backend.prefill(&mut [&mut next], 8, false).progress[0].as_ref().unwrap().done {}
        let positions = next.caches()[0].offset();
        assert_eq!(positions as u32, 5 + made + 1, "the last token is left to the first step");
    }
}

#[test]
fn drafts_of_earlier_text_do_not_change_the_distribution() {
    check_distribution(&small(), fixed(2));
}

/// The larger model drafts for the smaller one, and is wrong as often as it is another one.
#[test]
fn drafts_of_a_model_do_not_change_the_distribution() {
    let backend = small().with_draft(Some((model("demo"), String::new())));
    let speculation = SpeculationOptions { draft_tokens: Some(2), lookup: false };
    check_distribution(&backend, Some(speculation));
}

/// Tokens are drawn with the probabilities that the model gives them (Pearson's χ² test), the ones
/// that were drafted, too. The sequences share their steps.
fn check_distribution(backend: &CoreBackend, speculation: Option<SpeculationOptions>) {
    const TEMPERATURE: f32 = 4.0;
    /// At three degrees of freedom, one in a thousand is above.
    const CRITICAL: f64 = 16.27;
    let candidates = [300, 400, 500, 600];
    // All pairs of candidates: whatever comes, what followed it before is looked up.
    let order = [0, 0, 1, 0, 2, 0, 3, 1, 1, 2, 1, 3, 2, 2, 3, 3, 0, 1];
    let prompt = order.map(|at| candidates[at]);
    let start = |prompt: &[u32], seed| {
        let options = GenerationOptions {
            temperature: Some(TEMPERATURE),
            logit_bias: candidates.iter().map(|&token| (token, 100.0)).collect(),
            seed: Some(seed),
            logprobs: Some(4),
            max_tokens: Some(3),
            ..greedy()
        };
        let speculation = speculation.clone();
        let options = SequenceOptions { speculation, ..sequence_options(options) };
        begin(backend, prompt.to_vec(), options)
    };
    let probabilities = |prompt: &[u32]| -> Vec<f64> {
        let first = make(backend, &mut start(prompt, 0), 1).remove(0);
        let weights = candidates.iter().map(|token| {
            let found = first.top.iter().find(|(id, _)| id == token).unwrap();
            f64::from(found.1 / TEMPERATURE).exp()
        });
        let sum: f64 = weights.clone().sum();
        weights.map(|weight| weight / sum).collect()
    };
    let mut counts = [[0.0; 4]; 5];
    let (mut drafted, mut accepted) = (0, 0);
    for seeds in (0..400).collect::<Vec<u64>>().chunks(25) {
        let mut sequences: Vec<_> = seeds.iter().map(|&seed| start(&prompt, seed)).collect();
        let mut drawn = vec![Vec::new(); sequences.len()];
        while drawn.iter().any(|drawn| drawn.len() < 3) {
            let unfinished = sequences.iter_mut().zip(&mut drawn).filter(|(_, it)| it.len() < 3);
            let (mut rows, places): (Vec<_>, Vec<_>) = unfinished.unzip();
            for (place, outputs) in places.into_iter().zip(backend.decode(&mut rows)) {
                place.extend(tokens(&outputs.unwrap()));
            }
        }
        let place = |token: u32| candidates.iter().position(|&it| it == token).unwrap();
        for drawn in drawn {
            counts[4][place(drawn[0])] += 1.0;
            counts[place(drawn[0])][place(drawn[1])] += 1.0;
        }
        for speculated in sequences.iter().map(|it| it.speculated().unwrap()) {
            drafted += speculated.drafted;
            accepted += speculated.accepted;
        }
    }
    assert!(accepted > 20 && drafted > accepted + 20, "{accepted} of {drafted}");
    for (before, counts) in counts.iter().enumerate() {
        let mut prompt = prompt.to_vec();
        prompt.extend(candidates.get(before));
        let total: f64 = counts.iter().sum();
        let expected = probabilities(&prompt).into_iter().map(|probability| probability * total);
        let terms = counts.iter().zip(expected).filter(|(_, expected)| *expected > 1.0);
        let chi_square: f64 =
            terms.map(|(count, expected)| (count - expected).powi(2) / expected).sum();
        assert!(chi_square < CRITICAL, "{before}: {counts:?}, {chi_square}");
    }
}

#[test]
fn a_deterministic_sequence_does_not_speculate() {
    let backend = with_right_drafts();
    let options = sequence_options(GenerationOptions { deterministic: true, ..greedy() });
    let options = SequenceOptions { speculation: fixed(4), ..options };
    let mut sequence = start_with(&backend, 0, None, options);
    assert_eq!(make(&backend, &mut sequence, 3).len(), 3);
    assert_eq!(sequence.speculated(), None);
}
