//! Kernels that fail, beside sequences that are sound.

use std::ffi::CStr;
use std::ops::ControlFlow;
use std::path::Path;

use crate::cache::{Cache, CacheLimits, CachePart};
use crate::engine::core::CoreBackend;
use crate::error::{Error, Result};
use crate::fused::Device;
use crate::generate::{
    GenerationOptions, Prefill, PrefixCache, PrefixOwner, PromptCache, Sequence, SequenceOptions,
    TokenOutput,
};
use crate::mlx::primitive::{Input, Kernel, Output, custom_one};
use crate::mlx::{self, Array, DeviceKind, Dtype, ops};
use crate::models::{self, LanguageModel, LoadOptions, Loaded};
use crate::nn::{Embedding, Step};

const VOCABULARY: usize = 100;
/// The kernel fails where it meets this token.
pub(super) const BAD: u32 = 50;
/// What follows is no number.
const NAN: u32 = 80;

/// The likeliest token after one is the next number. The model in it is there for its embedding,
/// which nobody asks for anything.
struct Counting {
    loaded: Loaded,
    /// Whether a layer has a state beside the one that attends.
    has_state: bool,
}

struct Count;

impl Kernel for Count {
    const NAME: &'static CStr = c"Count";
    fn run(&self, inputs: &[Input], outputs: &mut [Output]) -> Result<()> {
        let tokens = inputs[0].slice::<u32>()?;
        let rows = outputs[0].slice::<f32>()?;
        for (&token, row) in tokens.iter().zip(rows.chunks_exact_mut(VOCABULARY)) {
            if token == BAD {
                return Err(Error::Mlx("met a bad token".to_owned()));
            }
            row.fill(if token == NAN { f32::NAN } else { 0.0 });
            row[(token as usize + 1) % VOCABULARY] += 1.0;
        }
        Ok(())
    }
}

impl LanguageModel for Counting {
    fn forward(&self, step: &Step, caches: &mut [&mut [Cache]]) -> Result<Array> {
        let length = step.tokens().dim(1);
        let logits = custom_one(Count, &[step.tokens()], &[1, length, 100], Dtype::Float32)?;
        let column = ops::slice_axis(&logits, 2, 0, 64)?;
        let (mut start, mut wanted) = (0, Vec::new());
        for (row, caches) in step.rows().iter().zip(caches) {
            let own = ops::slice_axis(&column, 1, start, start + row.length)?;
            let positions = ops::reshape(&own, &[1, 1, row.length, 64])?;
            caches[0].update(&positions, &positions)?;
            if self.has_state {
                let state = caches[1].state()?;
                state.set(0, positions);
                state.advance(row.length);
            }
            start += row.length;
            wanted.push(ops::slice_axis(&logits, 1, start - row.logits, start)?);
        }
        ops::concatenate(&wanted.iter().collect::<Vec<_>>(), 1)
    }

    fn make_caches(&self) -> Vec<Cache> {
        let state = self.has_state.then(|| Cache::arrays_of(1));
        std::iter::once(Cache::standard()).chain(state).collect()
    }

    fn layers(&self) -> usize {
        1
    }

    fn embedding(&self) -> &Embedding {
        self.loaded.model.embedding()
    }

    fn vocabulary(&self) -> usize {
        VOCABULARY
    }

    fn device(&self) -> Device {
        Device::default()
    }
}

pub(super) fn backend() -> CoreBackend {
    CoreBackend::new(counting(), "counting".to_owned())
}

pub(super) fn counting() -> Box<dyn LanguageModel> {
    counting_with(false)
}

fn counting_with(has_state: bool) -> Box<dyn LanguageModel> {
    mlx::enter(DeviceKind::Cpu).unwrap();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/demo");
    let loaded = models::load(&folder, &LoadOptions::default(), &mut |_| ControlFlow::Continue(()));
    Box::new(Counting { loaded: loaded.unwrap(), has_state })
}

pub(super) fn greedy() -> GenerationOptions {
    GenerationOptions {
        temperature: Some(0.0),
        max_tokens: Some(1000),
        logprobs: Some(2),
        ..GenerationOptions::default()
    }
}

pub(super) fn sequence_options(generation: GenerationOptions) -> SequenceOptions {
    SequenceOptions::new(generation, 4)
}

pub(super) fn options() -> SequenceOptions {
    sequence_options(greedy())
}

fn start(backend: &CoreBackend, first: u32, cache: Option<PromptCache>) -> Sequence {
    start_with(backend, first, cache, options())
}

/// A sequence that counts on from five numbers.
pub(super) fn start_with(
    backend: &CoreBackend,
    first: u32,
    cache: Option<PromptCache>,
    options: SequenceOptions,
) -> Sequence {
    let prompt = (first..first + 5).collect();
    let mut cache = cache.into_iter().next();
    let mut sequence = backend.start(prompt, options, &mut cache).unwrap();
    while !read(backend, &mut [&mut sequence], 4)[0].as_ref().unwrap().done {}
    sequence
}

/// How far the prompts are read after so many more tokens.
pub(super) fn read(
    backend: &CoreBackend,
    sequences: &mut [&mut Sequence],
    tokens: usize,
) -> Vec<Result<Prefill>> {
    backend.prefill(sequences, tokens, false).progress
}

fn step(backend: &CoreBackend, sequence: &mut Sequence) -> Result<TokenOutput> {
    loop {
        if let Some(output) = backend.decode(&mut [sequence]).remove(0)?.pop() {
            return Ok(output);
        }
    }
}

#[test]
fn a_failing_kernel_is_its_own_sequences_alone() {
    let backend = backend();
    // In both orders of their rows, and with caches that cannot go back.
    let cases = [true, false].map(|order| [None, Some(16)].map(|it| (order, it)));
    for (failing_first, max_kv_size) in cases.into_iter().flatten() {
        let options = || sequence_options(GenerationOptions { max_kv_size, ..greedy() });
        let mut failing = start_with(&backend, BAD - 9, None, options());
        let mut sound = start_with(&backend, 0, None, options());
        // It has been around before the other one comes.
        let earlier: Vec<_> = (0..14).map(|_| step(&backend, &mut sound).unwrap().token).collect();
        assert_eq!(earlier, (5..19).collect::<Vec<_>>());
        let (mut made, mut soundly_made) = (Vec::new(), Vec::new());
        let mut error = None;
        while soundly_made.len() < 20 {
            let outputs = match (&error, failing_first) {
                (None, true) => backend.decode(&mut [&mut failing, &mut sound]),
                (None, false) => backend.decode(&mut [&mut sound, &mut failing]),
                (Some(_), _) => backend.decode(&mut [&mut sound]),
            };
            let mut outputs = outputs.into_iter().collect::<Vec<_>>();
            if error.is_none() && failing_first {
                outputs.reverse();
            }
            let mut outputs = outputs.into_iter();
            let sound = outputs.next().unwrap().unwrap();
            soundly_made.extend(sound.iter().map(|output| output.token));
            match outputs.next() {
                Some(Ok(outputs)) => made.extend(outputs.iter().map(|output| output.token)),
                Some(Err(failure)) => error = Some(failure),
                None => {}
            }
        }
        assert_eq!(made, (BAD - 4..=BAD).collect::<Vec<_>>(), "all before the failure");
        assert_eq!(soundly_made, (19..39).collect::<Vec<_>>());
        let error = error.unwrap();
        assert!(error.to_string().contains("Count: MLX: met a bad token"), "{error}");
        drop(failing);
        assert_eq!(step(&backend, &mut sound).unwrap().token, 39);
    }
}

#[test]
fn a_step_that_fails_in_flight_is_nobodys() {
    let backend = backend();
    let mut dropped = start(&backend, BAD - 5, None);
    // The step after this token is queued, and meets the bad one.
    assert_eq!(step(&backend, &mut dropped).unwrap().token, BAD);
    drop(dropped);
    assert_eq!(step(&backend, &mut start(&backend, 0, None)).unwrap().token, 5);
    let mut caches = backend.caches();
    assert_eq!(backend.logits(&[BAD], &mut caches).unwrap_err().code(), "MLX_ERROR");
    assert_eq!(backend.logits(&[1], &mut backend.caches()).unwrap()[2], 1.0);
}

#[test]
fn a_prompt_that_fails_leaves_those_that_are_read_with_it() {
    let backend = backend();
    let begin =
        |first: u32| backend.start((first..first + 7).collect(), options(), &mut None).unwrap();
    let (mut failing, mut sound) = (begin(BAD - 3), begin(0));
    let progress = read(&backend, &mut [&mut failing, &mut sound], 8);
    // Nobody knows yet whose failure it was.
    assert!(progress.iter().all(|it| it.as_ref().is_ok_and(|progress| progress.processed == 0)));
    let progress = read(&backend, &mut [&mut failing, &mut sound], 8);
    let error = progress[0].as_ref().unwrap_err();
    assert!(error.to_string().contains("met a bad token"), "{error}");
    assert_eq!(progress[1].as_ref().unwrap().processed, 0);
    drop(failing);
    let processed = [(); 2].map(|()| {
        let progress = read(&backend, &mut [&mut sound], 8).remove(0).unwrap();
        progress.processed
    });
    assert_eq!(processed, [4, 7], "by itself first, in chunks of its own size");
    assert_eq!(step(&backend, &mut sound).unwrap().token, 7);
}

#[test]
fn the_first_token_comes_with_the_end_of_the_prompt() {
    // Where others are to go on from the state before the last token, and share its step, that one
    // is left to a step of its own.
    let kinds = [(false, false, 7, vec![7]), (true, false, 7, vec![7]), (true, true, 6, vec![])];
    for (has_state, leaves_state, read_tokens, first) in kinds {
        let backend = CoreBackend::new(counting_with(has_state), String::new());
        let mut sequence = backend.start((0..7).collect(), options(), &mut None).unwrap();
        if leaves_state {
            sequence.leave_state();
        }
        let mut last = read(&backend, &mut [&mut sequence], 4).remove(0).unwrap();
        assert!(!last.done);
        while !last.done {
            last = read(&backend, &mut [&mut sequence], 4).remove(0).unwrap();
        }
        assert_eq!(last.processed, read_tokens, "{has_state}, {leaves_state}");
        let outputs = backend.decode(&mut [&mut sequence]).remove(0).unwrap();
        let tokens: Vec<u32> = outputs.iter().map(|output| output.token).collect();
        assert_eq!(tokens, first, "{has_state}, {leaves_state}");
        assert_eq!(step(&backend, &mut sequence).unwrap().token, 7 + tokens.len() as u32);
    }
}

/// A sequence of a backend whose model has a state, which leaves that for others.
fn start_leaving(backend: &CoreBackend, prompt: Vec<u32>) -> (PrefixOwner, PrefixCache, Sequence) {
    let owner = PrefixOwner::new(backend.model(), None, CacheLimits::default());
    let prefixes = PrefixCache::new(1 << 20, Vec::new());
    let mut lent = Some(backend.prompt_cache(CacheLimits::default()));
    let mut sequence = backend.start(prompt, options(), &mut lent).unwrap();
    prefixes.plan_stops(&owner, &mut sequence);
    (owner, prefixes, sequence)
}

#[test]
fn who_is_alone_has_its_first_step_with_its_prompt_and_leaves_the_state_before_it() {
    let backend = CoreBackend::new(counting_with(true), String::new());
    // One token is left after a chunk of four, and after one of two.
    for length in [5, 7] {
        let prompt: Vec<u32> = (0..length).collect();
        let (owner, mut prefixes, mut sequence) = start_leaving(&backend, prompt.clone());
        let mut passes = 0;
        while !sequence.progress().done {
            let progress = backend.prefill(&mut [&mut sequence], 4, true).progress;
            assert!(progress[0].is_ok());
            prefixes.note(&owner, &mut sequence);
            passes += 1;
        }
        assert_eq!(passes, length.div_ceil(4) as usize - usize::from(length == 5));
        assert_eq!(sequence.progress().processed, length as usize);
        for token in length..length + 20 {
            assert_eq!(step(&backend, &mut sequence).unwrap().token, token);
        }
        prefixes.keep(&owner, None, sequence);
        // The same again, and another last token.
        for last in [length - 1, 90] {
            let again = [&prompt[..prompt.len() - 1], &[last]].concat();
            let begun = prefixes.begin(backend.model(), &owner, &again).unwrap();
            assert_eq!(begun.length(), length as usize - 1);
            let mut next = backend.start_behind(again, options(), Some(begun)).unwrap();
            assert_eq!(step(&backend, &mut next).unwrap().token, last + 1);
            let state = next.caches()[1].arrays()[0];
            assert_eq!(mlx::to_f32_vec(state).unwrap().len(), 64, "that of one step");
        }
    }
}

#[test]
fn a_failure_of_who_is_alone_leaves_no_state() {
    let backend = CoreBackend::new(counting_with(true), String::new());
    // In the pass, and in the step behind it.
    for bad in [5, 6] {
        let prompt = (BAD - bad..BAD - bad + 7).collect();
        let (owner, mut prefixes, mut failing) = start_leaving(&backend, prompt);
        let error = loop {
            match backend.prefill(&mut [&mut failing], 4, true).progress.remove(0) {
                Ok(progress) => assert!(!progress.done),
                Err(error) => break error,
            }
        };
        assert!(error.to_string().contains("met a bad token"), "{error}");
        prefixes.note(&owner, &mut failing);
        assert_eq!(prefixes.nbytes(), 0);
        assert_eq!(backend.prompt_cache_size(&backend.leave(failing)).tokens, 0);
        assert_eq!(step(&backend, &mut start(&backend, 0, None)).unwrap().token, 5);
    }
}

#[test]
fn a_failure_leaves_the_prompt_cache_as_it_was() {
    let kinds = [(false, None), (false, Some(200)), (false, Some(16)), (true, None)];
    // In the answer, and in the prompt.
    let culprits = [(BAD, 0, "MLX_ERROR"), (BAD, 12, "MLX_ERROR"), (NAN, 0, "INVALID_LOGITS")];
    // Where the next prompt parts from what is there: at the end, before it, and at once.
    for parting in [0, 1, 7, 30] {
        for (culprit, more, code) in culprits {
            for (has_state, max_size) in kinds {
                let backend = CoreBackend::new(counting_with(has_state), String::new());
                let limits = CacheLimits { max_size, quantization: None };
                let mut first = start(&backend, 0, Some(backend.prompt_cache(limits)));
                for _ in 0..20 {
                    step(&backend, &mut first).unwrap();
                }
                let cache = backend.leave(first);
                assert_eq!(backend.prompt_cache_size(&cache).tokens, 25);
                let before = contents(&cache);
                let kept = 25_u32.saturating_sub(parting);
                let beside = start(&backend, 0, None);
                let prompt = (0..kept).chain(culprit - 15..culprit - 8 + more);
                let (mut lent, mut sequences) = (Some(cache), [None, Some(beside)]);
                sequences[0] = backend.start(prompt.collect(), options(), &mut lent).ok();
                let [failing, beside] = sequences.each_mut().map(|it| it.as_mut().unwrap());
                let mut done = false;
                let error = loop {
                    if done {
                        if let Err(error) = backend.decode(&mut [beside, failing]).remove(1) {
                            break error;
                        }
                    } else {
                        step(&backend, beside).unwrap();
                        match read(&backend, &mut [failing], 4).remove(0) {
                            Ok(progress) => done = progress.done,
                            Err(error) => break error,
                        }
                    }
                };
                assert_eq!(error.code(), code, "{error}");
                let cache = backend.leave(sequences[0].take().unwrap());
                let case = format!("{parting}, {more}, {has_state}, {max_size:?}");
                assert_eq!(cache.limits(), limits);
                assert_eq!(backend.prompt_cache_size(&cache).tokens, 25, "{case}");
                assert!(contents(&cache) == before, "{case}");
            }
        }
    }
}

/// What is in a prompt cache that later tokens may see.
fn contents(cache: &PromptCache) -> Vec<Vec<f32>> {
    let caches = CachePart::without_room(cache.clone().into_caches()).unwrap();
    let arrays = caches.iter().flat_map(Cache::arrays);
    arrays.map(|array| mlx::to_f32_vec(array).unwrap()).collect()
}

#[test]
fn what_fails_later_on_leaves_the_prompt_cache_as_it_was() {
    let backend = backend();
    let mut first = start(&backend, 0, Some(backend.prompt_cache(CacheLimits::default())));
    for _ in 0..3 {
        step(&backend, &mut first).unwrap();
    }
    let cache = backend.leave(first);
    let before = contents(&cache);
    let mut second = start(&backend, 1, Some(cache));
    step(&backend, &mut second).unwrap();
    // Something that is done with its tokens fails, and not the sequence.
    second.fail();
    let cache = backend.leave(second);
    assert!(contents(&cache) == before);
}

#[test]
fn a_failure_leaves_nothing_for_others_and_changes_nothing_that_others_have_left() {
    let backend = backend();
    let owner = PrefixOwner::new(backend.model(), None, CacheLimits::default());
    let mut prefixes = PrefixCache::new(1 << 20, Vec::new());
    for culprit in [BAD, NAN] {
        let prompt: Vec<u32> = (culprit - 20..culprit).collect();
        let begun = |prefixes: &mut PrefixCache| {
            let begun = prefixes.begin(backend.model(), &owner, &prompt);
            begun.filter(|begun| begun.length() == 8)
        };
        let mut sound = start(&backend, culprit - 20, None);
        for _ in 0..3 {
            step(&backend, &mut sound).unwrap();
        }
        prefixes.keep(&owner, None, sound);
        let bytes = prefixes.nbytes();
        let mut failing = start(&backend, culprit - 20, begun(&mut prefixes));
        assert_eq!(failing.cached_tokens(), 4);
        assert!((0..30).any(|_| step(&backend, &mut failing).is_err()));
        assert!(!prefixes.share(&owner, &prompt, &mut [&mut failing]));
        prefixes.keep(&owner, None, failing);
        assert_eq!(prefixes.nbytes(), bytes);
        let mut next = start(&backend, culprit - 20, begun(&mut prefixes));
        assert_eq!(step(&backend, &mut next).unwrap().token, culprit - 15);
    }
    // The step in flight fails.
    let mut failing = start(&backend, BAD - 5, None);
    assert_eq!(step(&backend, &mut failing).unwrap().token, BAD);
    prefixes.keep(&owner, None, failing);
    let prompt: Vec<u32> = (BAD - 5..BAD + 5).collect();
    assert!(prefixes.begin(backend.model(), &owner, &prompt).is_none());
}

#[test]
fn logits_that_are_no_numbers_are_told_with_their_place() {
    let backend = backend();
    let mut sequence = start(&backend, NAN - 6, None);
    assert_eq!(step(&backend, &mut sequence).unwrap().token, NAN - 1);
    assert_eq!(step(&backend, &mut sequence).unwrap().token, NAN);
    let error = step(&backend, &mut sequence).unwrap_err();
    assert_eq!(error.code(), "INVALID_LOGITS");
    assert!(error.to_string().contains("token 3 of the answer are not numbers (NaN)"), "{error}");
    // Raw logits are what they are.
    assert!(backend.logits(&[NAN], &mut backend.caches()).unwrap()[0].is_nan());
}

#[test]
fn a_sequence_whose_logits_are_no_numbers_ends_alone() {
    let backend = backend();
    for poisoned_first in [true, false] {
        let (mut poisoned, mut sound) = (start(&backend, NAN - 9, None), start(&backend, 0, None));
        let (mut made, mut soundly_made, mut error) = (Vec::new(), Vec::new(), None);
        while soundly_made.len() < 20 {
            let mut outputs = match (&error, poisoned_first) {
                (None, true) => backend.decode(&mut [&mut poisoned, &mut sound]),
                (None, false) => backend.decode(&mut [&mut sound, &mut poisoned]),
                (Some(_), _) => backend.decode(&mut [&mut sound]),
            };
            if poisoned_first {
                outputs.reverse();
            }
            let mut outputs = outputs.into_iter();
            let tokens = |outputs: Vec<TokenOutput>| outputs.into_iter().map(|it| it.token);
            soundly_made.extend(tokens(outputs.next().unwrap().unwrap()));
            match outputs.next() {
                Some(Ok(outputs)) => made.extend(tokens(outputs)),
                Some(Err(failure)) => error = Some(failure),
                None => {}
            }
        }
        assert_eq!(made, (NAN - 4..=NAN).collect::<Vec<_>>(), "all before the failure");
        assert_eq!(soundly_made, (5..25).collect::<Vec<_>>());
        assert_eq!(error.unwrap().code(), "INVALID_LOGITS");
    }
}
