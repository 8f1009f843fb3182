//! The rules of the engine, tried on a model that waits, fails and panics on command.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod batches;
mod budgets;
mod calls_or_answers;
mod demo;
mod embed;
mod failures;
mod prediction_head;
mod prefix_drafts;
mod prefix_files;
mod prefixes;
mod preparing;
mod prompt_caches;
mod queue;
mod score;
mod speculation;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use super::backend::Backend;
use super::load::launch;
use super::pool::ENGINES;
use super::*;
use crate::adapters::{AdapterId, AdapterInfo};
use crate::cache::CacheLimits;
use crate::cache::file::{CacheBytes, OpenFile};
use crate::error::{Error, Result};
use crate::generate::{
    GenerationOptions, Likelihood, Prefill, Reading, ScoredRow, Segmented, SequenceOptions, Target,
    TextPart, TokenOutput,
};
use crate::mlx::{DeviceKind, Dtype};
use crate::models;

const CHUNK: usize = 4;
const ABILITIES: models::Abilities =
    models::Abilities { writes: true, embeds: true, reads_whole: false, labels: Some(1) };
const PATIENCE: Duration = Duration::from_secs(60);

/// What the model does at a step; the first token of the prompt says which sequence it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Event {
    Prefill(u32),
    Step(u32),
    Logits,
    Score,
    Embed,
    Judge,
}

/// The outside of the fake model.
#[derive(Default)]
struct Control {
    events: Mutex<Vec<Event>>,
    live_sequences: AtomicUsize,
    most_sequences: AtomicUsize,
    live_models: AtomicUsize,
    /// How many tokens of prompts were read in each pass.
    chunks: Mutex<Vec<usize>>,
    /// Of each pass over prompts whether it was said to be that of one who is alone, and how many
    /// sequences there were.
    passes: Mutex<Vec<(bool, usize)>>,
    /// What sequences have left for others: their names and tokens.
    kept: Mutex<Vec<(u32, usize)>>,
    /// How long one of them takes, and a step.
    time_of_token: Duration,
    /// Where present, every step and chunk waits for a permit.
    permits: Option<Mutex<Receiver<()>>>,
}

impl Control {
    fn gated() -> (Arc<Self>, Sender<()>) {
        Self::gated_and_slow(Duration::ZERO)
    }

    fn gated_and_slow(time_of_token: Duration) -> (Arc<Self>, Sender<()>) {
        let (sender, receiver) = channel();
        let permits = Some(Mutex::new(receiver));
        (Arc::new(Self { permits, time_of_token, ..Self::default() }), sender)
    }

    fn record(&self, event: Event) {
        if let Some(permits) = &self.permits {
            // Without anybody who gives permits, the model runs freely.
            let _ = permits.lock().unwrap().recv();
        }
        self.events.lock().unwrap().push(event);
    }

    fn count(&self, event: Event) -> usize {
        self.events.lock().unwrap().iter().filter(|&&it| it == event).count()
    }

    fn wait_for(&self, what: &str, condition: impl Fn(&Self) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !condition(self) {
            assert!(Instant::now() < deadline, "never happened: {what}");
            thread::sleep(Duration::from_millis(1));
        }
    }
}

/// Its tokens follow from the seed alone. The prompt's second token is what it does wrong.
struct Fake(Arc<Control>);

struct FakeSequence {
    control: Arc<Control>,
    name: u32,
    fault: u32,
    prompt: usize,
    processed: usize,
    cached: usize,
    failed: bool,
    state: u64,
    made: usize,
}

const FAILS: u32 = 1;
const PANICS: u32 = 2;
const PANICS_IN_PREFILL: u32 = 3;
/// Outside of what the fake draws.
const END: u32 = 999;
const ENDS_AFTER_THREE: u32 = 4;
const CANNOT_START: u32 = 5;
/// What it does right: others of its name wait while it reads.
const SHARES: u32 = 6;

impl Drop for Fake {
    fn drop(&mut self) {
        self.0.live_models.fetch_sub(1, SeqCst);
    }
}

impl Drop for FakeSequence {
    fn drop(&mut self) {
        self.control.live_sequences.fetch_sub(1, SeqCst);
    }
}

impl Backend for Fake {
    type Sequence = FakeSequence;
    type Caches = usize;
    /// The sum of its tokens.
    type Text = u32;
    /// The tokens that were read.
    type PromptCache = usize;

    fn start(
        &self,
        prompt: Vec<u32>,
        options: SequenceOptions,
        _: Option<AdapterId>,
        cache: &mut Option<usize>,
    ) -> Result<FakeSequence> {
        if prompt.get(1) == Some(&CANNOT_START) {
            return Err(Error::argument("topP", "is not to the model's liking"));
        }
        let cache = cache.take();
        let others = self.0.live_sequences.fetch_add(1, SeqCst);
        self.0.most_sequences.fetch_max(others + 1, SeqCst);
        Ok(FakeSequence {
            control: Arc::clone(&self.0),
            name: prompt[0],
            fault: prompt.get(1).copied().unwrap_or(0),
            prompt: prompt.len(),
            processed: cache.unwrap_or(0),
            cached: cache.unwrap_or(0),
            failed: false,
            state: options.generation.seed.unwrap(),
            made: 0,
        })
    }

    fn cache_bytes(&self, _: CacheLimits, tokens: usize, _: bool) -> Result<usize> {
        Ok(10 * tokens)
    }

    fn put_aside(&self, _: &mut FakeSequence) -> bool {
        true
    }

    fn load_adapter(&self, _: AdapterId, path: &Path) -> Result<AdapterInfo> {
        Err(Error::adapter(path, "the fake model has none"))
    }

    fn drop_adapter(&self, _: AdapterId) {}

    fn cached_tokens(&self, sequence: &FakeSequence) -> usize {
        sequence.cached
    }

    /// One that reads what another one is reading waits for it.
    fn share(
        &self,
        prompt: &[u32],
        _: &SequenceOptions,
        _: Option<AdapterId>,
        others: &mut [&mut FakeSequence],
    ) -> bool {
        let reads_same = |it: &FakeSequence| it.name == prompt[0] && it.processed < it.prompt;
        prompt.get(1) == Some(&SHARES) && others.iter().any(|it| reads_same(it))
    }

    fn is_kept(&self, sequence: &FakeSequence) -> bool {
        sequence.fault == SHARES
    }

    fn keep(&self, sequence: FakeSequence) {
        self.0.kept.lock().unwrap().push((sequence.name, sequence.processed + sequence.made));
    }

    fn clear_prefixes(&self, done: Box<dyn FnOnce() + Send>) {
        self.0.kept.lock().unwrap().clear();
        done();
    }

    fn fail(&self, sequence: &mut FakeSequence) {
        sequence.failed = true;
    }

    fn leave(&self, sequence: FakeSequence) -> usize {
        if sequence.failed {
            return sequence.cached;
        }
        sequence.processed + sequence.made
    }

    fn prompt_cache(&self, _: CacheLimits) -> usize {
        0
    }

    fn prompt_cache_size(&self, cache: &usize) -> PromptCacheSize {
        PromptCacheSize { tokens: *cache, bytes: 0 }
    }

    fn prompt_cache_bytes(&self, _: &usize) -> Result<CacheBytes> {
        Err(Error::Unsupported("the fake writes no files".to_owned()))
    }

    fn load_prompt_cache(&self, file: OpenFile) -> Result<usize> {
        Err(Error::prompt_cache(file.path(), "broken"))
    }

    fn prefill(&self, sequences: &mut [&mut FakeSequence], tokens: usize, alone: bool) -> Reading {
        let live = self.0.live_sequences.load(SeqCst);
        self.0.passes.lock().unwrap().push((alone, live));
        let mut left = tokens;
        let mut progress = Vec::new();
        for sequence in sequences {
            let count = left.min(sequence.prompt.saturating_sub(sequence.processed));
            if count > 0 {
                self.0.record(Event::Prefill(sequence.name));
            }
            if sequence.fault == PANICS_IN_PREFILL {
                panic!("the model broke while reading");
            }
            // A cache may hold more than this prompt.
            sequence.processed = sequence.prompt.min(sequence.processed + count);
            left -= count;
            progress.push(Ok(Prefill {
                processed: sequence.processed,
                total: sequence.prompt,
                done: sequence.processed == sequence.prompt,
            }));
        }
        thread::sleep(self.0.time_of_token * (tokens - left) as u32);
        self.0.chunks.lock().unwrap().push(tokens - left);
        Reading { progress, tokens: tokens - left }
    }

    fn decode(&self, sequences: &mut [&mut FakeSequence]) -> Vec<Result<Vec<TokenOutput>>> {
        thread::sleep(self.0.time_of_token);
        sequences
            .iter_mut()
            .map(|sequence| {
                self.0.record(Event::Step(sequence.name));
                sequence.made += 1;
                if sequence.fault == PANICS && sequence.made == 3 {
                    panic!("the model broke at token {}", sequence.made);
                }
                if sequence.fault == FAILS && sequence.made == 3 {
                    sequence.failed = true;
                    return Err(Error::Mlx("out of memory".to_owned()));
                }
                sequence.state = sequence.state.wrapping_mul(6364136223846793005).wrapping_add(1);
                let drawn = (sequence.state >> 33) as u32 % 900;
                let ends = sequence.fault == ENDS_AFTER_THREE && sequence.made == 4;
                let token = if ends { END } else { drawn };
                Ok(vec![TokenOutput { token, logprob: None, top: Vec::new() }])
            })
            .collect()
    }

    fn caches(&self, _: Option<AdapterId>) -> Result<usize> {
        Ok(0)
    }

    fn logits(&self, tokens: &[u32], caches: &mut usize) -> Result<Vec<f32>> {
        self.0.record(Event::Logits);
        *caches += tokens.len();
        Ok(tokens.iter().map(|&token| token as f32).collect())
    }

    /// Of a token its number, less how many were read before it.
    fn logprobs(&self, rows: &mut [ScoredRow<usize>], top: usize) -> Result<Vec<Vec<Likelihood>>> {
        self.0.record(Event::Score);
        let score = |row: &mut ScoredRow<usize>| {
            let before = *row.caches;
            *row.caches += row.tokens.len();
            let of = |target: &Target| {
                let logprob = target.token as f32 - (before + target.after + 1) as f32;
                Likelihood { logprob, top: vec![(target.token, logprob); top] }
            };
            row.targets.iter().map(of).collect()
        };
        Ok(rows.iter_mut().map(score).collect())
    }

    fn begin_text(&self, _: Option<AdapterId>, _: &models::EmbedOptions) -> Result<u32> {
        Ok(0)
    }

    fn read_texts(&self, parts: &mut [TextPart<u32>]) -> Result<()> {
        self.0.record(Event::Embed);
        let read = parts.iter().map(|part| part.tokens.len()).sum();
        self.0.chunks.lock().unwrap().push(read);
        parts.iter_mut().for_each(|part| *part.text += part.tokens.iter().sum::<u32>());
        Ok(())
    }

    fn embeddings(&self, texts: Vec<u32>, _: &models::EmbedOptions) -> Result<Vec<Vec<f32>>> {
        Ok(texts.into_iter().map(|sum| vec![sum as f32]).collect())
    }

    fn classify(&self, texts: &[Segmented], _: Option<AdapterId>) -> Result<Vec<Vec<f32>>> {
        self.0.record(Event::Judge);
        self.0.chunks.lock().unwrap().push(texts.iter().map(|text| text.tokens.len()).sum());
        Ok(texts.iter().map(|text| vec![text.tokens[0] as f32]).collect())
    }

    fn reset_peak_memory(&self) {}

    fn peak_memory(&self) -> usize {
        4096
    }
}

fn fake_model(control: &Arc<Control>) -> Model {
    fake_model_with(control, |_| {})
}

fn fake_model_with(
    control: &Arc<Control>,
    change: impl FnOnce(&mut Profile) + Send + 'static,
) -> Model {
    let control = Arc::clone(control);
    let (sender, receiver) = channel();
    launch(Box::new(move |model| sender.send(model).unwrap()), move |_| {
        control.live_models.fetch_add(1, SeqCst);
        let mut profile = Profile {
            text: Text::for_tests(vec![END]),
            defaults: models::GenerationDefaults::default(),
            vocabulary_size: 1000,
            context_length: None,
            abilities: ABILITIES,
            embedder: Some(models::EmbedderInfo::default()),
            max_text_tokens: None,
            prefill_chunk: CHUNK,
            fixed_prefill_chunk: CHUNK,
            max_sequences: 1000,
            max_stall: PATIENCE,
            memory_bytes: None,
            has_draft: false,
            has_prediction_head: false,
            prefix_store: None,
        };
        change(&mut profile);
        let info = ModelInfo {
            model: nothing_known(),
            device: DeviceKind::Cpu,
            path: PathBuf::new(),
            max_sequences: 1000,
            has_tokenizer: false,
            has_chat_template: false,
            end_tokens: vec![END],
        };
        Ok((Fake(control), info, Arc::new(profile)))
    });
    receiver.recv_timeout(PATIENCE).unwrap().unwrap()
}

fn nothing_known() -> models::Info {
    models::Info {
        model_type: String::new(),
        architecture: "fake",
        parameters: 0,
        bytes: 0,
        quantization: None,
        mixed_quantization: false,
        context_length: None,
        vocabulary_size: 1000,
        layers: 0,
        dtype: Dtype::Float32,
        generation: models::GenerationDefaults::default(),
        fingerprint: String::new(),
        abilities: ABILITIES,
        embedder: None,
        label_activation: models::LabelActivation::Identity,
        max_text_tokens: None,
        warnings: Vec::new(),
    }
}

impl GenerateRequest {
    /// The same with other options.
    fn with(mut self, change: impl FnOnce(&mut GenerationOptions)) -> Self {
        change(&mut self.options);
        self
    }
}

fn request(prompt: &[u32], max_tokens: usize) -> GenerateRequest {
    GenerateRequest::new(Prompt::Tokens(prompt.to_vec())).with(|options| {
        options.max_tokens = Some(max_tokens);
        options.seed = Some(7);
    })
}

/// Pulls to the end.
fn collect(generation: &Generation) -> Result<(Vec<u32>, Arc<Finished>)> {
    let mut tokens = Vec::new();
    loop {
        let batch = generation.wait_next()?;
        tokens.extend(batch.tokens);
        if let Some(done) = batch.done {
            return Ok((tokens, done));
        }
    }
}

/// Pulls until there is a token.
fn first_token(generation: &Generation) {
    while generation.wait_next().unwrap().tokens.is_empty() {}
}

fn dispose(model: &Model) {
    let (sender, receiver) = channel();
    model.dispose(Box::new(move |result| sender.send(result).unwrap()));
    receiver.recv_timeout(PATIENCE).unwrap().unwrap();
}

#[test]
fn a_generation_ends_at_its_limit_and_says_what_it_used() {
    let model = fake_model(&Arc::default());
    let generation = model.generate(request(&[10, 0, 0, 0, 0], 5)).unwrap();
    let (tokens, done) = collect(&generation).unwrap();
    assert_eq!(tokens.len(), 5);
    assert_eq!(done.reason, FinishReason::Length);
    assert_eq!((done.prompt_tokens, done.completion_tokens), (5, 5));
    assert_eq!(done.peak_memory, 4096);
    let timings = done.timings;
    assert!(timings.first_token_ms.unwrap() <= timings.total_ms);
    assert!(timings.prefill_ms.unwrap() <= timings.first_token_ms.unwrap());
    assert!(timings.tokens_per_second.unwrap() > 0.0);
    let again = generation.wait_next().unwrap();
    assert!(again.tokens.is_empty() && again.done.is_some(), "the end is told again");
}

#[test]
fn an_end_token_ends_it_and_is_not_among_the_tokens() {
    let model = fake_model(&Arc::default());
    let generation = model.generate(request(&[10, ENDS_AFTER_THREE], 50)).unwrap();
    let (tokens, done) = collect(&generation).unwrap();
    assert_eq!(tokens.len(), 3);
    assert!(!tokens.contains(&END));
    assert_eq!(done.reason, FinishReason::Stop);
    assert_eq!(done.completion_tokens, 3);
}

#[test]
fn end_tokens_can_be_ignored() {
    let model = fake_model(&Arc::default());
    let request =
        request(&[10, ENDS_AFTER_THREE], 50).with(|options| options.ignore_end_tokens = true);
    let (tokens, done) = collect(&model.generate(request).unwrap()).unwrap();
    assert_eq!((tokens.len(), done.reason), (50, FinishReason::Length));
}

#[test]
fn two_generations_take_turns_token_by_token() {
    let (control, permits) = Control::gated();
    let model = fake_model(&control);
    let first = model.generate(request(&[10], 20)).unwrap();
    let second = model.generate(request(&[20], 20)).unwrap();
    drop(permits);
    collect(&first).unwrap();
    collect(&second).unwrap();
    let events = control.events.lock().unwrap().clone();
    let both = events.iter().position(|&event| event == Event::Step(20)).unwrap();
    let shared: Vec<Event> = events[both..both + 30].to_vec();
    for pair in shared.chunks(2) {
        assert_ne!(pair[0], pair[1], "one ran twice while the other waited: {shared:?}");
    }
}

#[test]
fn a_long_prompt_does_not_stop_who_is_decoding() {
    let (control, permits) = Control::gated();
    let model = fake_model(&control);
    let decoding = model.generate(request(&[10], 200)).unwrap();
    for _ in 0..3 {
        permits.send(()).unwrap();
    }
    first_token(&decoding);
    let reading = model.generate(request(&[20; 10 * CHUNK], 1)).unwrap();
    drop(permits);
    collect(&reading).unwrap();
    let events = control.events.lock().unwrap().clone();
    let chunks: Vec<usize> =
        (0..events.len()).filter(|&index| events[index] == Event::Prefill(20)).collect();
    assert_eq!(chunks.len(), 10);
    // Where a chunk took very long, its answer may have come to its end meanwhile.
    let last_step = events.iter().rposition(|&event| event == Event::Step(10)).unwrap();
    assert!(last_step > chunks[0]);
    for pair in chunks.windows(2).filter(|pair| pair[1] < last_step) {
        // As many as fit the time that a chunk takes.
        let between = &events[pair[0] + 1..pair[1]];
        assert!(!between.is_empty() && between.iter().all(|it| *it == Event::Step(10)));
    }
}

#[test]
fn prompts_take_turns_chunk_by_chunk() {
    let (control, permits) = Control::gated();
    let model = fake_model(&control);
    let long = model.generate(request(&[10; 50 * CHUNK], 1)).unwrap();
    let short = model.generate(request(&[20; 2 * CHUNK], 1)).unwrap();
    drop(permits);
    collect(&short).unwrap();
    collect(&long).unwrap();
    let events = control.events.lock().unwrap().clone();
    let short_end = events.iter().rposition(|&event| event == Event::Prefill(20)).unwrap();
    let long_before =
        events[..short_end].iter().filter(|&&event| event == Event::Prefill(10)).count();
    assert!(long_before <= 4, "the short prompt waited for {long_before} chunks of the long one");
}

#[test]
fn who_reads_is_alone_if_nobody_else_reads_or_decodes() {
    let (control, permits) = Control::gated();
    let model = fake_model(&control);
    let first = model.generate(request(&[10; 3 * CHUNK], 1_000_000)).unwrap();
    thread::scope(|scope| {
        // Who is read does not pause.
        scope.spawn(|| collect(&first).unwrap());
        control.wait_for("a pass", |it| !it.passes.lock().unwrap().is_empty());
        let second = model.generate(request(&[20; 3 * CHUNK], 1)).unwrap();
        control.wait_for("the second prompt", |it| {
            permits.send(()).unwrap();
            it.count(Event::Step(20)) > 0
        });
        drop(permits);
        collect(&second).unwrap();
        first.abort();
    });
    collect(&model.generate(request(&[30; 3 * CHUNK], 1)).unwrap()).unwrap();
    let passes = control.passes.lock().unwrap();
    assert!(passes.iter().all(|&(alone, live)| alone == (live == 1)), "{passes:?}");
    assert!(passes[0].0 && passes[passes.len() - 1].0, "{passes:?}");
    assert!(passes.iter().any(|(alone, _)| !alone), "{passes:?}");
}

#[test]
fn prefill_progress_is_told() {
    let model = fake_model(&Arc::default());
    let generation = model.generate(request(&[10; 3 * CHUNK], 1)).unwrap();
    let mut seen = Vec::new();
    loop {
        let batch = generation.wait_next().unwrap();
        seen.extend(batch.prefill);
        if batch.done.is_some() {
            break;
        }
    }
    assert_eq!(seen.last(), Some(&PrefillProgress { processed: 12, total: 12, cached: 0 }));
}

#[test]
fn several_pulls_at_once_are_all_answered() {
    let model = fake_model(&Arc::default());
    let generation = model.generate(request(&[10], 1)).unwrap();
    let (sender, receiver) = channel();
    for number in 0..10 {
        let sender = sender.clone();
        generation.next(Box::new(move |batch| sender.send((number, batch)).unwrap()));
    }
    let answers: Vec<_> = (0..10).map(|_| receiver.recv_timeout(PATIENCE).unwrap()).collect();
    assert!(answers.iter().map(|(number, _)| *number).eq(0..10), "in their order");
    let tokens: usize = answers.iter().map(|(_, batch)| batch.as_ref().unwrap().tokens.len()).sum();
    assert_eq!(tokens, 1, "each token goes to one of them");
    assert!(answers[9].1.as_ref().unwrap().done.is_some());
}

#[test]
fn an_abort_takes_effect_within_one_token() {
    let (control, permits) = Control::gated();
    let model = fake_model(&control);
    let generation = model.generate(request(&[10], 10_000)).unwrap();
    for _ in 0..6 {
        permits.send(()).unwrap();
    }
    control.wait_for("five steps", |it| it.count(Event::Step(10)) == 5);
    generation.abort();
    generation.abort();
    drop(permits);
    let (tokens, done) = collect(&generation).unwrap();
    assert_eq!(done.reason, FinishReason::Abort);
    assert!(tokens.len() <= 6, "{} tokens", tokens.len());
    assert_eq!(control.live_sequences.load(SeqCst), 0);
}

#[test]
fn an_abort_takes_effect_within_one_chunk_of_the_prompt() {
    let (control, permits) = Control::gated();
    let model = fake_model(&control);
    let generation = model.generate(request(&[10; 1000 * CHUNK], 10)).unwrap();
    for _ in 0..5 {
        permits.send(()).unwrap();
    }
    control.wait_for("five chunks", |it| it.count(Event::Prefill(10)) == 5);
    generation.abort();
    drop(permits);
    let (tokens, done) = collect(&generation).unwrap();
    assert_eq!((tokens.len(), done.reason), (0, FinishReason::Abort));
    assert!(control.count(Event::Prefill(10)) <= 6);
}

#[test]
fn a_generation_aborted_before_its_turn_never_runs() {
    let (control, permits) = Control::gated();
    let model = fake_model(&control);
    let first = model.generate(request(&[10], 3)).unwrap();
    // Which the second one would be part of if it came before.
    control.wait_for("a pass", |it| !it.passes.lock().unwrap().is_empty());
    let second = model.generate(request(&[20], 3)).unwrap();
    second.abort();
    drop(permits);
    let (tokens, done) = collect(&second).unwrap();
    assert_eq!((tokens.len(), done.reason), (0, FinishReason::Abort));
    collect(&first).unwrap();
    assert_eq!(control.count(Event::Prefill(20)), 0);
}

#[test]
fn a_consumer_that_does_not_pull_stops_the_work() {
    let control = Arc::new(Control::default());
    let model = fake_model(&control);
    let slow = model.generate(request(&[10], 3 * MAX_AHEAD)).unwrap();
    control.wait_for("the limit", |it| it.count(Event::Step(10)) >= MAX_AHEAD);
    thread::sleep(Duration::from_millis(50));
    assert_eq!(control.count(Event::Step(10)), MAX_AHEAD);

    let other = model.generate(request(&[20], 10)).unwrap();
    assert_eq!(collect(&other).unwrap().0.len(), 10, "others go on");
    assert_eq!(control.count(Event::Step(10)), MAX_AHEAD);

    let (tokens, done) = collect(&slow).unwrap();
    assert_eq!((tokens.len(), done.reason), (3 * MAX_AHEAD, FinishReason::Length));
}

#[test]
fn a_paused_generation_can_be_aborted() {
    let control = Arc::new(Control::default());
    let model = fake_model(&control);
    let generation = model.generate(request(&[10], 10_000)).unwrap();
    control.wait_for("the limit", |it| it.count(Event::Step(10)) == MAX_AHEAD);
    generation.abort();
    control.wait_for("its end", |it| it.live_sequences.load(SeqCst) == 0);
    let (tokens, done) = collect(&generation).unwrap();
    assert_eq!((tokens.len(), done.reason), (MAX_AHEAD, FinishReason::Abort));
}

#[test]
fn a_dropped_consumer_aborts() {
    let control = Arc::new(Control::default());
    let model = fake_model(&control);
    let generation = model.generate(request(&[10], 10_000)).unwrap();
    first_token(&generation);
    drop(generation);
    control.wait_for("its end", |it| it.live_sequences.load(SeqCst) == 0);
    assert!(control.count(Event::Step(10)) < 10_000);
}

#[test]
fn an_error_ends_only_its_own_generation_after_what_was_made() {
    let model = fake_model(&Arc::default());
    let failing = model.generate(request(&[10, FAILS], 10)).unwrap();
    let sound = model.generate(request(&[20], 10)).unwrap();
    let mut tokens = 0;
    let error = loop {
        match failing.wait_next() {
            Ok(batch) => tokens += batch.tokens.len(),
            Err(error) => break error,
        }
    };
    assert_eq!((tokens, error.code()), (2, "MLX_ERROR"));
    assert_eq!(failing.wait_next().unwrap_err().code(), "MLX_ERROR", "told again");
    assert_eq!(collect(&sound).unwrap().0.len(), 10);
}

#[test]
fn a_panic_poisons_its_model_and_no_other() {
    for fault in [PANICS, PANICS_IN_PREFILL] {
        let control = Arc::new(Control::default());
        let (broken, sound) = (fake_model(&control), fake_model(&Arc::default()));
        let beside = sound.generate(request(&[30], 500)).unwrap();
        let pending = broken.generate(request(&[20], 100_000)).unwrap();
        let culprit = broken.generate(request(&[10, fault], 100)).unwrap();
        for generation in [culprit, pending] {
            let error = collect(&generation).unwrap_err();
            assert_eq!(error.code(), "ENGINE_FAILED");
            assert!(error.to_string().contains("the model broke"), "{error}");
        }
        let later = broken.generate(request(&[40], 3)).unwrap();
        assert_eq!(collect(&later).unwrap_err().code(), "ENGINE_FAILED");
        let (sender, receiver) = channel();
        broken.logits(vec![1], Box::new(move |result| sender.send(result).unwrap()));
        let result = receiver.recv_timeout(PATIENCE).unwrap();
        assert_eq!(result.unwrap_err().code(), "ENGINE_FAILED");
        dispose(&broken);
        assert_eq!(control.live_sequences.load(SeqCst), 0);
        assert_eq!(control.live_models.load(SeqCst), 0);
        assert_eq!(collect(&beside).unwrap().0.len(), 500);
    }
}

#[test]
fn a_panic_while_loading_fails_the_load() {
    let (sender, receiver) = channel();
    let engine =
        launch::<Fake>(Box::new(move |model| sender.send(model.map(|_| ())).unwrap()), |_| {
            panic!("broken weights")
        });
    let error = receiver.recv_timeout(PATIENCE).unwrap().unwrap_err();
    assert_eq!(error.code(), "ENGINE_FAILED");
    assert!(error.to_string().contains("broken weights"));
    assert!(engine.status().wait_ended(Instant::now() + PATIENCE));
}

#[test]
fn disposing_ends_what_runs_and_refuses_what_comes() {
    let control = Arc::new(Control::default());
    let model = fake_model(&control);
    let running = model.generate(request(&[10], 100_000)).unwrap();
    first_token(&running);
    dispose(&model);
    assert_eq!(control.live_sequences.load(SeqCst), 0);
    assert_eq!(control.live_models.load(SeqCst), 0);
    assert_eq!(collect(&running).unwrap_err().code(), "DISPOSED");
    let later = model.generate(request(&[20], 3)).unwrap();
    assert_eq!(collect(&later).unwrap_err().code(), "DISPOSED");
    let (sender, receiver) = channel();
    let prompt = Prompt::Text("text".to_owned());
    let encoding = PromptEncoding::default();
    model.tokenize(prompt, encoding, Box::new(move |it| sender.send(it).unwrap()));
    assert_eq!(receiver.recv_timeout(PATIENCE).unwrap().unwrap_err().code(), "DISPOSED");
    dispose(&model);
}

#[test]
fn the_last_handle_ends_the_engine_and_generations_are_handles() {
    let control = Arc::new(Control::default());
    let model = fake_model(&control);
    let status = Arc::clone(model.engine().status());
    let generation = model.generate(request(&[10], 5)).unwrap();
    drop(model);
    assert_eq!(collect(&generation).unwrap().0.len(), 5);
    assert!(!status.wait_ended(Instant::now() + Duration::from_millis(20)));
    drop(generation);
    assert!(status.wait_ended(Instant::now() + PATIENCE));
    assert_eq!(control.live_models.load(SeqCst), 0);
}

#[test]
fn the_same_seed_gives_the_same_tokens_whatever_else_runs() {
    let model = fake_model(&Arc::default());
    let alone = collect(&model.generate(request(&[10], 200)).unwrap()).unwrap().0;
    let others: Vec<Generation> = (0..5)
        .map(|name| {
            let other = request(&[20 + name], 10_000).with(|options| options.seed = None);
            model.generate(other).unwrap()
        })
        .collect();
    let among = collect(&model.generate(request(&[10], 200)).unwrap()).unwrap().0;
    drop(others);
    assert_eq!(alone, among);
}

#[test]
fn requests_without_a_seed_differ() {
    let model = fake_model(&Arc::default());
    let draw = || {
        let request = request(&[10], 20).with(|options| options.seed = None);
        collect(&model.generate(request).unwrap()).unwrap().0
    };
    assert_ne!(draw(), draw());
}

#[test]
fn logits_come_row_by_row_beside_a_generation() {
    let model = fake_model(&Arc::default());
    let running = model.generate(request(&[10], 100_000)).unwrap();
    let (sender, receiver) = channel();
    let tokens: Vec<u32> = (0..900).collect();
    model.logits(tokens.clone(), Box::new(move |rows| sender.send(rows).unwrap()));
    let rows = receiver.recv_timeout(PATIENCE).unwrap().unwrap();
    assert_eq!(rows, tokens.iter().map(|&token| token as f32).collect::<Vec<_>>());
    drop(running);
}

#[test]
fn tokens_outside_of_the_vocabulary_and_empty_prompts_are_refused() {
    let model = fake_model(&Arc::default());
    for prompt in [vec![], vec![5, 1000]] {
        let generation = model.generate(request(&prompt, 3)).unwrap();
        assert_eq!(collect(&generation).unwrap_err().code(), "INVALID_ARGUMENT");
    }
}

#[test]
fn text_is_refused_without_a_tokenizer() {
    let model = fake_model(&Arc::default());
    let text = GenerateRequest::new(Prompt::Text("Hello".to_owned()));
    assert_eq!(collect(&model.generate(text).unwrap()).unwrap_err().code(), "NO_TOKENIZER");
    let stop = request(&[1], 3).with(|options| options.stop = vec!["x".to_owned()]);
    assert_eq!(collect(&model.generate(stop).unwrap()).unwrap_err().code(), "NO_TOKENIZER");
}

#[test]
fn rounds_of_loading_and_disposing_use_the_same_threads() {
    for _ in 0..200 {
        let control = Arc::new(Control::default());
        let model = fake_model(&control);
        collect(&model.generate(request(&[10], 3)).unwrap()).unwrap();
        dispose(&model);
        assert_eq!(control.live_models.load(SeqCst), 0);
    }
    // Other tests use the pool at the same time; without reuse it would have 200 and more.
    assert!(ENGINES.threads() < 100, "{} threads", ENGINES.threads());
}
