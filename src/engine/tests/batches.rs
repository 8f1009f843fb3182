//! Sequences that share their steps.

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::failures::{backend, greedy, options, read, sequence_options, start_with};
use crate::engine::core::CoreBackend;
use crate::error::{Error, Result};
use crate::fused::{Device, Precision};
use crate::generate::{GenerationOptions, Sequence, SequenceOptions, TokenMask, TokenOutput};
use crate::mlx::{self, DeviceKind};
use crate::models::{self, LoadOptions};

pub(super) fn demo(precision: Precision) -> CoreBackend {
    mlx::enter(DeviceKind::Cpu).unwrap();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/demo");
    let device = Device::cpu(None, precision);
    let options = LoadOptions { device, ..LoadOptions::default() };
    let loaded = models::load(&folder, &options, &mut |_| ControlFlow::Continue(())).unwrap();
    CoreBackend::new(loaded.model, "demo".to_owned())
}

/// Seven sequences that differ in everything: prompt, length, sampling, penalties, cache.
pub(super) fn different() -> Vec<(Vec<u32>, GenerationOptions)> {
    let prompt = |length: u32, step: u32| (0..length).map(|i| 300 + i * step % 900).collect();
    let greedy = GenerationOptions { max_tokens: Some(12), ..greedy() };
    let warm = GenerationOptions { temperature: Some(0.8), top_p: Some(0.95), ..greedy.clone() };
    let penalized = GenerationOptions {
        repetition_penalty: Some(1.2),
        penalty_context_size: Some(20),
        presence_penalty: Some(0.5),
        logprobs: None,
        ..greedy.clone()
    };
    vec![
        (prompt(1, 1), GenerationOptions { max_tokens: Some(6), ..greedy.clone() }),
        (prompt(7, 31), GenerationOptions { seed: Some(3), ..warm.clone() }),
        (prompt(20, 7), penalized),
        (prompt(12, 11), GenerationOptions { max_kv_size: Some(16), ..greedy.clone() }),
        (prompt(9, 5), GenerationOptions { seed: Some(4), max_tokens: Some(9), ..warm.clone() }),
        (prompt(6, 3), GenerationOptions { mirostat: Some(2), seed: Some(5), top_p: None, ..warm }),
        (prompt(30, 0), GenerationOptions { dry_multiplier: Some(2.0), ..greedy }),
    ]
}

fn begin(backend: &CoreBackend, (prompt, options): (Vec<u32>, GenerationOptions)) -> Sequence {
    let options = sequence_options(options);
    let mut sequence = backend.start(prompt, options, &mut None).unwrap();
    while !read(backend, &mut [&mut sequence], 5)[0].as_ref().unwrap().done {}
    sequence
}

/// What each sequence gives with no other beside it.
pub(super) fn alone(backend: &CoreBackend, deterministic: bool) -> Vec<Vec<TokenOutput>> {
    let run = |(prompt, options): (Vec<u32>, GenerationOptions)| {
        let count = options.max_tokens.unwrap();
        let options = GenerationOptions { deterministic, ..options };
        let mut sequence = begin(backend, (prompt, options));
        let mut outputs = Vec::new();
        while outputs.len() < count {
            outputs.extend(backend.decode(&mut [&mut sequence]).remove(0).unwrap());
        }
        outputs
    };
    different().into_iter().map(run).collect()
}

/// The same, with one more sequence beside the others every second step; each leaves at its end.
fn together(backend: &CoreBackend, deterministic: bool) -> Vec<Vec<TokenOutput>> {
    let mut waiting = different().into_iter().enumerate().collect::<Vec<_>>().into_iter();
    let mut running: Vec<(usize, usize, Sequence)> = Vec::new();
    let mut outputs = vec![Vec::new(); waiting.len()];
    for turn in 0.. {
        if turn % 2 == 0
            && let Some((index, (prompt, options))) = waiting.next()
        {
            let count = options.max_tokens.unwrap();
            let options = GenerationOptions { deterministic, ..options };
            running.push((index, count, begin(backend, (prompt, options))));
        } else if running.is_empty() {
            break;
        }
        let mut rows: Vec<_> = running.iter_mut().map(|(_, _, sequence)| sequence).collect();
        let made = backend.decode(&mut rows);
        for ((index, _, _), output) in running.iter().zip(made) {
            outputs[*index].extend(output.unwrap());
        }
        running.retain(|(index, count, _)| outputs[*index].len() < *count);
    }
    outputs
}

fn tokens(outputs: &[Vec<TokenOutput>]) -> Vec<Vec<u32>> {
    outputs.iter().map(|outputs| outputs.iter().map(|output| output.token).collect()).collect()
}

#[test]
fn sequences_that_share_steps_make_the_tokens_that_they_make_alone() {
    let backend = demo(Precision::Exact);
    let (alone, together) = (alone(&backend, false), together(&backend, false));
    assert_eq!(tokens(&together), tokens(&alone));
    let logprobs = |outputs: &[Vec<TokenOutput>]| -> Vec<_> {
        outputs.iter().flatten().filter_map(|output| output.logprob).collect()
    };
    let (alone, together) = (logprobs(&alone), logprobs(&together));
    assert!(alone.len() > 30 && alone.len() == together.len());
    assert!(alone.iter().zip(&together).all(|(a, b)| (a - b).abs() < 1e-3));
}

#[test]
fn prompts_that_are_read_together_are_read_as_alone() {
    let backend = demo(Precision::Exact);
    let mut all: Vec<_> = different()
        .into_iter()
        .map(|(prompt, options)| {
            backend.start(prompt, sequence_options(options), &mut None).unwrap()
        })
        .collect();
    let mut rows: Vec<_> = all.iter_mut().collect();
    let mut passes = 0;
    // Seven prompts of 85 tokens.
    while read(&backend, &mut rows, 16).iter().any(|progress| !progress.as_ref().unwrap().done) {
        passes += 1;
    }
    assert_eq!(passes, 5, "and one more");
    let mut outputs = vec![Vec::new(); all.len()];
    for _ in 0..7 {
        let mut rows: Vec<_> = all.iter_mut().collect();
        for (outputs, output) in outputs.iter_mut().zip(backend.decode(&mut rows)) {
            outputs.extend(output.unwrap());
        }
    }
    let expected = alone(&backend, false).into_iter().map(|outputs| outputs[..6].to_vec());
    assert_eq!(tokens(&outputs), tokens(&expected.collect::<Vec<_>>()));
}

#[test]
fn a_deterministic_sequence_is_the_same_to_the_last_bit() {
    let backend = demo(Precision::Fast);
    assert_eq!(together(&backend, true), alone(&backend, true));
}

/// Allows what is `step` above the last token, and fails at one of them.
#[derive(Debug)]
pub(super) struct Steps {
    step: u32,
    next: u32,
    fails_at: u32,
    words: Vec<u32>,
}

impl Steps {
    pub(super) fn boxed(step: u32, first: u32, fails_at: u32) -> Option<Box<dyn TokenMask>> {
        Some(Box::new(Self { step, next: first, fails_at, words: Vec::new() }))
    }
}

impl TokenMask for Steps {
    fn accept(&mut self, token: u32) -> Result<()> {
        assert_eq!(token, self.next);
        if token == self.fails_at {
            return Err(Error::Unsupported("the grammar ends here".to_owned()));
        }
        self.next = token + self.step;
        Ok(())
    }

    fn allowed(&mut self) -> Result<Option<&[u32]>> {
        self.words = vec![0; self.next as usize / 32 + 1];
        self.words[self.next as usize / 32] = 1 << (self.next % 32);
        // What the model would choose anyway needs no mask.
        Ok((self.step > 1).then_some(&self.words))
    }
}

#[test]
fn a_mask_limits_its_own_sequence_alone() {
    let backend = backend();
    let start =
        |first, mask| start_with(&backend, first, None, SequenceOptions { mask, ..options() });
    let mut free = start(0, None);
    let mut thirds = start(0, Steps::boxed(3, 7, 1000));
    let mut ends = start(10, Steps::boxed(2, 15, 21));
    let mut unlimited = start(20, Steps::boxed(1, 25, 1000));
    let mut made = [const { Vec::new() }; 4];
    let mut error = None;
    for _ in 0..8 {
        let mut rows = vec![&mut free, &mut thirds, &mut unlimited];
        if error.is_none() {
            rows.push(&mut ends);
        }
        for (tokens, output) in made.iter_mut().zip(backend.decode(&mut rows)) {
            match output {
                Ok(outputs) => tokens.extend(outputs.iter().map(|output| output.token)),
                Err(failure) => error = Some(failure),
            }
        }
    }
    assert_eq!(made[0], (5..12).collect::<Vec<_>>());
    assert_eq!(made[1], (7..28).step_by(3).collect::<Vec<_>>());
    assert_eq!(made[2], (25..32).collect::<Vec<_>>());
    assert_eq!(made[3], [15, 17, 19, 21], "the token at which it ends is there");
    assert!(error.unwrap().to_string().contains("the grammar ends here"));
}

/// Counts in steps, and guesses what comes next: two right ones and a wrong one.
#[derive(Debug)]
struct Guessing {
    steps: Box<dyn TokenMask>,
    guesses: Vec<u32>,
}

impl TokenMask for Guessing {
    fn accept(&mut self, token: u32) -> Result<()> {
        self.steps.accept(token)?;
        match self.guesses.first() {
            Some(&first) if first == token => _ = self.guesses.remove(0),
            _ => self.guesses.clear(),
        }
        Ok(())
    }

    fn allowed(&mut self) -> Result<Option<&[u32]>> {
        let allowed = self.steps.allowed()?;
        let next = allowed.and_then(|words| {
            let word = words.iter().position(|&word| word != 0)?;
            Some(32 * word as u32 + words[word].trailing_zeros())
        });
        self.guesses = next.map_or(Vec::new(), |next| vec![next, next + 3, next + 6, next + 7]);
        Ok(allowed)
    }

    fn forced(&self) -> &[u32] {
        &self.guesses
    }
}

#[test]
fn what_a_mask_leaves_no_choice_about_is_read_in_one_step() {
    let backend = backend();
    let steps = Steps::boxed(3, 7, 1000).unwrap();
    let mask: Box<dyn TokenMask> = Box::new(Guessing { steps, guesses: Vec::new() });
    let with_mask = SequenceOptions { mask: Some(mask), ..options() };
    let mut guessing = start_with(&backend, 0, None, with_mask);
    let mut free = start_with(&backend, 0, None, options());
    let (mut made, mut made_freely) = (Vec::new(), Vec::new());
    for _ in 0..5 {
        let mut outputs = backend.decode(&mut [&mut guessing, &mut free]).into_iter();
        made.extend(outputs.next().unwrap().unwrap().iter().map(|output| output.token));
        made_freely.extend(outputs.next().unwrap().unwrap().iter().map(|output| output.token));
    }
    assert_eq!(made_freely, [5, 6, 7, 8]);
    // The first token comes with the second call, then three with each.
    assert_eq!(made, (7..).step_by(3).take(10).collect::<Vec<_>>());
    assert!(guessing.speculated().is_none(), "nobody asked for it");
}

#[test]
fn ends_wait_for_the_least_length() {
    let backend = backend();
    let start = |min_tokens, mask| {
        let generation = GenerationOptions { min_tokens: Some(min_tokens), ..greedy() };
        let options = sequence_options(generation);
        // The model counts on; 7 is the third token.
        start_with(&backend, 0, None, SequenceOptions { end_tokens: vec![7, 9], mask, ..options })
    };
    let made = |mut sequence: Sequence| -> Vec<u32> {
        let tokens = (0..6).map(|_| backend.decode(&mut [&mut sequence]).remove(0).unwrap());
        tokens.flatten().map(|output| output.token).collect()
    };
    assert_eq!(made(start(2, None)), [5, 6, 7, 8, 9]);
    // All others are as likely, so the first of them comes.
    assert_eq!(made(start(3, None)), [5, 6, 0, 1, 2]);
    // What is complete may end.
    assert_eq!(made(start(5, Steps::boxed(2, 7, 1000))), [7, 9, 11, 13, 15]);
}

#[test]
fn a_mask_that_allows_nothing_is_told() {
    let backend = backend();
    let mask = Steps::boxed(2, 200, 1000);
    let mut sequence = start_with(&backend, 0, None, SequenceOptions { mask, ..options() });
    let outputs = [(); 2].map(|()| backend.decode(&mut [&mut sequence]).remove(0));
    let [Ok(first), Err(error)] = outputs else { panic!("{outputs:?}") };
    assert!(first.is_empty());
    assert!(error.to_string().contains("leave no token to choose"), "{error}");
}

#[test]
fn what_is_made_to_warm_up_changes_nothing_and_ends_when_it_is_to() {
    let backend = demo(Precision::Exact);
    let before = tokens(&alone(&backend, false));
    let turns = AtomicUsize::new(0);
    let warm_up = |longest, goes_on: bool| {
        backend.warm_up(Device::default(), &greedy(), longest, &|| {
            turns.fetch_add(1, Ordering::Relaxed);
            goes_on
        });
    };
    warm_up(100, true);
    assert!(turns.swap(0, Ordering::Relaxed) >= 6, "two prompts, and two tokens behind each");
    warm_up(100, false);
    assert!(turns.load(Ordering::Relaxed) <= 6, "nothing is read or made");
    warm_up(0, true);
    assert_eq!(tokens(&alone(&backend, false)), before);
}
