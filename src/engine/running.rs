//! One generation on the engine's thread: from a request to tokens, text and an end.

use std::cmp::Reverse;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::backend::Backend;
use super::follower::Following;
use super::profile::{Prepared, Profile};
use super::prompt_caches::{PromptCacheId, PromptCaches};
use super::request::{
    FinishReason, Finished, GenerateRequest, Matched, PrefillProgress, Timings, Written,
};
use super::stream::Producer;
use super::writer::Writer;
use crate::error::{Error, Result};
use crate::generate::{Prefill, PrefixFetch, TokenOutput};

/// The number of a generation, different from every other of its model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GenerationId(pub u64);

/// A generation that the engine has begun and not ended, with everything that belongs to it alone.
pub struct ActiveGeneration<B: Backend> {
    id: GenerationId,
    producer: Producer,
    request: Arc<GenerateRequest>,
    stage: Stage<B::Sequence>,
    /// The prompt cache that was checked out for it.
    checkout: Option<PromptCacheId>,
    /// That cache, before its sequence has it and after.
    prompt_cache: Option<B::PromptCache>,
    cached_tokens: usize,
    writer: Option<Writer>,
    following: Option<Following>,
    /// What of the options has no effect.
    warnings: Vec<String>,
    clock: Clock,
    prompt_tokens: usize,
    /// How many of them were read, the last time that was told.
    read_tokens: usize,
    /// The number of the last pass that read of its prompt.
    pub last_read: u64,
    completion_tokens: usize,
    max_tokens: usize,
    /// Whether its caches were given up while its consumer was far behind.
    is_aside: bool,
    /// See [`ActiveGeneration::cache_bytes`].
    cache_bytes: usize,
}

enum Stage<S> {
    /// A thread for texts makes tokens of its prompt.
    Preparing,
    /// Its prompt waits to be read.
    Queued(Box<Prepared>),
    /// Its prompt is being read.
    Prefill(S),
    /// It makes tokens.
    Decode(S),
    /// It is over, and its arrays are free.
    Ended,
}

/// What a generation needs next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// It can begin, as soon as there is room.
    Start,
    /// Its prompt must be read on.
    Prefill,
    /// It can make a token.
    Decode,
    /// It waits for its prompt to be prepared, or for a consumer who is too far behind.
    Wait,
    /// Its consumer has asked for the end, or its time is up.
    Abort,
    /// Nothing: it is over.
    Nothing,
}

/// Whose turn is first: the priority, and the number among those of the same.
pub type Rank = (Reverse<i32>, u64);

impl<B: Backend> ActiveGeneration<B> {
    /// A generation whose prompt is being prepared, asked for at `requested`. It gets its prompt
    /// cache at once, so that those who come later find it in use, in their order.
    pub fn new(
        id: GenerationId,
        producer: Producer,
        request: Arc<GenerateRequest>,
        requested: Instant,
        caches: &mut PromptCaches<B>,
    ) -> Self {
        let mut generation = Self {
            id,
            producer,
            request,
            stage: Stage::Preparing,
            checkout: None,
            prompt_cache: None,
            cached_tokens: 0,
            writer: None,
            following: None,
            warnings: Vec::new(),
            clock: Clock::new(requested),
            prompt_tokens: 0,
            read_tokens: 0,
            last_read: 0,
            completion_tokens: 0,
            max_tokens: usize::MAX,
            is_aside: false,
            cache_bytes: 0,
        };
        if let Some(cache) = generation.request.prompt_cache {
            match caches.checkout(cache) {
                Ok(prompt_cache) => {
                    generation.checkout = Some(cache);
                    generation.prompt_cache = Some(prompt_cache);
                }
                Err(error) => {
                    generation.stage = Stage::Ended;
                    generation.producer.fail(error);
                }
            }
        }
        generation
    }

    /// Its number.
    pub fn id(&self) -> GenerationId {
        self.id
    }

    /// Looks at what it needs next. Where that is to wait for its consumer, the consumer's next
    /// pull wakes the engine.
    pub fn poll(&self) -> Next {
        match self.stage {
            Stage::Ended => Next::Nothing,
            _ if self.producer.is_aborted() || self.is_late() => Next::Abort,
            Stage::Preparing => Next::Wait,
            Stage::Queued(_) => Next::Start,
            Stage::Prefill(_) => Next::Prefill,
            Stage::Decode(_) if self.producer.must_pause() => Next::Wait,
            Stage::Decode(_) if self.is_aside => Next::Start,
            Stage::Decode(_) => Next::Decode,
        }
    }

    /// Those of a higher priority come first, and of these the ones that were asked for first.
    pub fn rank(&self) -> Rank {
        (Reverse(self.request.options.priority.unwrap_or_default()), self.id.0)
    }

    /// Whether its prompt is being prepared.
    pub fn is_preparing(&self) -> bool {
        matches!(self.stage, Stage::Preparing)
    }

    /// The sequence, where its prompt is being read.
    pub fn reading(&mut self) -> Option<&mut B::Sequence> {
        match &mut self.stage {
            Stage::Prefill(sequence) => Some(sequence),
            _ => None,
        }
    }

    /// The sequence, where it makes tokens.
    pub fn decoding(&mut self) -> Option<&mut B::Sequence> {
        match &mut self.stage {
            Stage::Decode(sequence) => Some(sequence),
            _ => None,
        }
    }

    /// The sequence, where it has begun.
    pub fn running(&mut self) -> Option<&mut B::Sequence> {
        match &mut self.stage {
            Stage::Prefill(sequence) | Stage::Decode(sequence) => Some(sequence),
            Stage::Preparing | Stage::Queued(_) | Stage::Ended => None,
        }
    }

    /// Whether it had better wait for one of `others`, who is reading the same beginning. Those of
    /// a lower priority it does not wait for. Who has begun is ahead, even if it was asked for
    /// later.
    pub fn waits_for<'a>(&self, others: impl Iterator<Item = &'a mut Self>, backend: &B) -> bool
    where
        B: 'a,
    {
        let Stage::Queued(prepared) = &self.stage else { return false };
        if self.checkout.is_some() {
            return false;
        }
        let others = others.filter(|it| it.rank().0 <= self.rank().0 || it.decoding_now());
        let mut others: Vec<&mut B::Sequence> = others.filter_map(Self::running).collect();
        let Prepared { prompt, options, .. } = &**prepared;
        backend.share(prompt, options, self.request.adapter, &mut others)
    }

    fn decoding_now(&self) -> bool {
        matches!(self.stage, Stage::Decode(_))
    }

    /// The files that are to be read before its prompt is queued, if any.
    pub fn fetch(&self, prepared: &Result<Prepared>, backend: &B) -> Option<PrefixFetch> {
        let prepared = prepared.as_ref().ok().filter(|it| it.may_fetch)?;
        let is_open = self.checkout.is_none() && matches!(self.stage, Stage::Preparing);
        is_open
            .then(|| backend.fetch(&prepared.prompt, &prepared.options, self.request.adapter))
            .flatten()
    }

    /// Takes the prompt's tokens. Ends it if its caches would not even fit by themselves into the
    /// memory that generations may have.
    pub fn queue(&mut self, prepared: Result<Prepared>, backend: &B, profile: &Profile) {
        match prepared {
            // Who was aborted meanwhile has no prompt perhaps, and ends as all others do.
            _ if self.producer.is_aborted() || !matches!(self.stage, Stage::Preparing) => {}
            Ok(prepared) => {
                self.clock.preparation = prepared.duration;
                self.prompt_tokens = prepared.prompt.len();
                let reserved = match profile.memory_bytes {
                    Some(limit) => cache_bytes(&prepared, limit, backend),
                    None => Ok(0),
                };
                self.stage = Stage::Queued(Box::new(prepared));
                match reserved {
                    Ok(bytes) => self.cache_bytes = bytes,
                    Err(error) => self.fail(error, backend),
                }
            }
            Err(error) => self.fail(error, backend),
        }
    }

    /// The bytes that its caches may come to take, where that is limited.
    pub fn cache_bytes(&self) -> usize {
        self.cache_bytes
    }

    /// Whether it has caches.
    pub fn is_running(&self) -> bool {
        matches!(self.stage, Stage::Prefill(_) | Stage::Decode(_)) && !self.is_aside
    }

    /// Whether it has caches, and makes no tokens because its consumer is far behind.
    pub fn is_paused(&self) -> bool {
        self.is_running() && matches!(self.stage, Stage::Decode(_)) && self.poll() == Next::Wait
    }

    /// Gives its caches to others; it reads its tokens again when it goes on.
    pub fn put_aside(&mut self, backend: &B) {
        if let Stage::Decode(sequence) = &mut self.stage {
            self.is_aside = backend.put_aside(sequence);
        }
    }

    /// Begins its sequence.
    pub fn start(&mut self, backend: &B, profile: &Profile) {
        if std::mem::take(&mut self.is_aside) {
            // Its tokens are read again.
            self.stage = match std::mem::replace(&mut self.stage, Stage::Ended) {
                Stage::Decode(sequence) => Stage::Prefill(sequence),
                other => other,
            };
            return;
        }
        match std::mem::replace(&mut self.stage, Stage::Preparing) {
            Stage::Queued(prepared) => match self.begin(*prepared, backend, profile) {
                Ok(sequence) => self.stage = Stage::Prefill(sequence),
                Err(error) => self.fail(error, backend),
            },
            other => self.stage = other,
        }
    }

    fn begin(&mut self, prepared: Prepared, backend: &B, profile: &Profile) -> Result<B::Sequence> {
        let Prepared { prompt, options, output, following, warnings, restored, .. } = prepared;
        self.warnings = warnings;
        if let Some(following) = following.as_ref().filter(|it| !it.open.is_empty()) {
            self.producer.open(following.open.clone());
        }
        self.following = following;
        self.max_tokens = options.generation.max_tokens.unwrap_or(usize::MAX);
        self.writer = Some(Writer::new(&self.request, &profile.text, &prompt, output)?);
        let adapter = self.request.adapter;
        if let Some(restored) = restored {
            backend.admit(restored);
        }
        let sequence = backend.start(prompt, options, adapter, &mut self.prompt_cache)?;
        self.cached_tokens = backend.cached_tokens(&sequence);
        Ok(sequence)
    }

    /// Takes how far the prompt was read in a pass that began at `started`; whether that is farther
    /// than before.
    pub fn read(&mut self, progress: Result<Prefill>, started: Instant, backend: &B) -> bool {
        match progress {
            Ok(progress) => {
                // The last token is left to the first step, but is as good as read.
                let read = if progress.done { progress.total } else { progress.processed };
                let went_on = read != std::mem::replace(&mut self.read_tokens, read);
                if progress.done || read != self.cached_tokens {
                    self.clock.started.get_or_insert(started);
                }
                // What is read again was reported before.
                if went_on && self.clock.prefilled.is_none() {
                    self.producer.prefill(PrefillProgress {
                        processed: read,
                        total: progress.total,
                        cached: self.cached_tokens,
                    });
                }
                if progress.done {
                    self.clock.prefilled.get_or_insert_with(Instant::now);
                    self.stage = match std::mem::replace(&mut self.stage, Stage::Ended) {
                        Stage::Prefill(sequence) => Stage::Decode(sequence),
                        other => other,
                    };
                }
                went_on
            }
            Err(error) => {
                self.fail(error, backend);
                true
            }
        }
    }

    /// Ends it with an error.
    fn fail(&mut self, error: Error, backend: &B) {
        if self.checkout.is_some()
            && let Some(sequence) = self.running()
        {
            backend.fail(sequence);
        }
        self.release(backend);
        self.producer.fail(error);
        self.leave(backend);
    }

    /// Frees the arrays that nobody wants any more, before the consumer hears of the end. What goes
    /// on in a prompt cache, or is kept for others, may wait for the step in flight, and nobody
    /// shall wait for that.
    fn release(&mut self, backend: &B) {
        let is_kept = self.running().is_some_and(|sequence| backend.is_kept(sequence));
        if self.checkout.is_none() && !is_kept {
            self.leave(backend);
        }
    }

    /// Ends its sequence: its arrays are free, or in the prompt cache that was checked out for it,
    /// or kept for others.
    fn leave(&mut self, backend: &B) {
        if let Stage::Prefill(sequence) | Stage::Decode(sequence) =
            std::mem::replace(&mut self.stage, Stage::Ended)
        {
            match self.checkout {
                Some(_) => self.prompt_cache = Some(backend.leave(sequence)),
                None if backend.is_kept(&sequence) => backend.keep(sequence),
                None => drop(sequence),
            }
        }
    }

    /// Gives back the prompt cache that was checked out for it, once it has ended.
    pub fn checkin(&mut self, caches: &mut PromptCaches<B>) {
        if let (Some(id), Some(cache)) = (self.checkout.take(), self.prompt_cache.take()) {
            caches.checkin(id, cache);
        }
    }

    /// Takes the tokens that the model made, up to its end.
    pub fn accept(&mut self, outputs: Result<Vec<TokenOutput>>, backend: &B) {
        let taken = outputs.and_then(|outputs| {
            for output in &outputs {
                if !matches!(self.stage, Stage::Decode(_)) {
                    break;
                }
                self.take(output, backend)?;
            }
            Ok(())
        });
        if let Err(error) = taken {
            self.fail(error, backend);
        }
    }

    fn take(&mut self, output: &TokenOutput, backend: &B) -> Result<()> {
        self.clock.token();
        let Some(writer) = &mut self.writer else { return Ok(()) };
        if writer.end_tokens.contains(&output.token) {
            let (written, stopped) = writer.end(output.token)?;
            let matched = self.matched(stopped).or_else(|| self.stop_token(output.token));
            self.end(FinishReason::Stop, written, matched, backend);
            return Ok(());
        }
        self.completion_tokens += 1;
        let (written, stopped) = writer.push(output.token)?;
        let logprob = writer.logprob(output)?;
        let is_complete = writer.is_complete();
        let is_followed_to_its_end =
            self.following.as_ref().is_some_and(|it| it.has_ended(self.completion_tokens));
        self.producer.token(output.token, written, logprob);
        if stopped.is_some() {
            let matched = self.matched(stopped);
            self.end(FinishReason::Stop, Written::default(), matched, backend);
            Ok(())
        } else if is_followed_to_its_end || is_complete {
            self.finish(FinishReason::Stop, backend)
        } else if self.completion_tokens >= self.max_tokens || self.is_late() {
            self.finish(FinishReason::Length, backend)
        } else {
            Ok(())
        }
    }

    /// Ends it because its consumer asked for that, or its time is up.
    pub fn abort(&mut self, backend: &B) {
        let reason = match self.producer.is_aborted() {
            true => FinishReason::Abort,
            false => FinishReason::Length,
        };
        if let Err(error) = self.finish(reason, backend) {
            self.fail(error, backend);
        }
    }

    /// Ends it with the text that was held back, in which a stop string may come to light.
    fn finish(&mut self, reason: FinishReason, backend: &B) -> Result<()> {
        let (written, stopped) = match &mut self.writer {
            Some(writer) => writer.finish()?,
            None => (Written::default(), None),
        };
        let reason = if stopped.is_some() { FinishReason::Stop } else { reason };
        let is_late = reason == FinishReason::Length && self.completion_tokens < self.max_tokens;
        let time = self.request.options.max_time_ms.filter(|_| is_late);
        let matched = self.matched(stopped).or(time.map(Matched::Time));
        self.end(reason, written, matched, backend);
        Ok(())
    }

    /// Whether it has taken the longest time that it may.
    fn is_late(&self) -> bool {
        let longest = self.request.options.max_time_ms.map(Duration::from_millis);
        longest.is_some_and(|longest| self.clock.requested.elapsed() >= longest)
    }

    /// The stop string or pattern of an index.
    fn matched(&self, stopped: Option<usize>) -> Option<Matched> {
        let index = stopped?;
        let stops = &self.request.options.stop;
        let text = self.writer.as_ref().map(Writer::matched).unwrap_or_default();
        Some(match stops.get(index) {
            Some(stop) => Matched::String(stop.clone()),
            None => Matched::Pattern(text.to_owned()),
        })
    }

    fn stop_token(&self, token: u32) -> Option<Matched> {
        self.request.options.stop_tokens.contains(&token).then_some(Matched::Token(token))
    }

    fn end(
        &mut self,
        reason: FinishReason,
        written: Written,
        matched: Option<Matched>,
        backend: &B,
    ) {
        let mut warnings =
            self.following.take().map(|it| (it.has_ended(self.completion_tokens), it.warnings));
        if let (Some((true, warnings)), Some(least)) =
            (&mut warnings, self.request.options.min_tokens)
            && self.completion_tokens < least
        {
            warnings.push(format!(
                "minTokens: the answer was complete with {} tokens",
                self.completion_tokens
            ));
        }
        let warnings = warnings.map(|(_, warnings)| warnings).unwrap_or_default();
        let warnings = std::mem::take(&mut self.warnings).into_iter().chain(warnings).collect();
        let speculated = self.decoding().and_then(|sequence| backend.speculated(sequence));
        self.release(backend);
        let finished = Finished {
            reason,
            matched,
            warnings,
            prompt_tokens: self.prompt_tokens,
            completion_tokens: self.completion_tokens,
            reasoning_tokens: self.writer.as_ref().map_or(0, Writer::reasoning_tokens),
            raw_length: self.writer.as_ref().and_then(Writer::raw_length),
            cached_tokens: self.cached_tokens,
            speculated,
            timings: self.clock.timings(self.prompt_tokens),
            peak_memory: backend.peak_memory(),
        };
        self.producer.finish(written, finished);
        self.leave(backend);
    }
}

/// The bytes that the caches take of a prompt and of as many tokens as may follow, if they fit into
/// `limit`.
fn cache_bytes<B: Backend>(prepared: &Prepared, limit: usize, backend: &B) -> Result<usize> {
    let Prepared { prompt, options, .. } = prepared;
    let tokens = prompt.len().saturating_add(options.generation.max_tokens.unwrap_or(0));
    let speculates = options.speculation.is_some();
    let bytes = backend.cache_bytes(options.generation.cache_limits(), tokens, speculates)?;
    if bytes > limit {
        return Err(Error::InsufficientMemory(format!(
            "the prompt and maxTokens may take {bytes} bytes, and memoryBytes allows {limit}: ask \
             for fewer tokens, limit them with maxKvSize, pack them with kvBits, or allow more"
        )));
    }
    Ok(bytes)
}

/// The moments of a generation.
struct Clock {
    requested: Instant,
    /// How long making tokens of the prompt took.
    preparation: Duration,
    started: Option<Instant>,
    prefilled: Option<Instant>,
    first: Option<Instant>,
    last: Option<Instant>,
    tokens: usize,
}

impl Clock {
    fn new(requested: Instant) -> Self {
        Self {
            requested,
            preparation: Duration::ZERO,
            started: None,
            prefilled: None,
            first: None,
            last: None,
            tokens: 0,
        }
    }

    fn token(&mut self) {
        let now = Instant::now();
        self.first.get_or_insert(now);
        self.last = Some(now);
        self.tokens += 1;
    }

    fn timings(&self, prompt_tokens: usize) -> Timings {
        let now = Instant::now();
        let milliseconds = |from: Instant, to: Instant| (to - from).as_secs_f64() * 1e3;
        let rate = |count: usize, from: Option<Instant>, to: Option<Instant>| {
            let seconds = (to? - from?).as_secs_f64();
            (count > 0 && seconds > 0.0).then(|| count as f64 / seconds)
        };
        let prepare_ms = self.preparation.as_secs_f64() * 1e3;
        Timings {
            queue_ms: (milliseconds(self.requested, self.started.unwrap_or(now)) - prepare_ms)
                .max(0.0),
            prepare_ms,
            prefill_ms: self
                .started
                .zip(self.prefilled)
                .map(|(started, prefilled)| milliseconds(started, prefilled)),
            first_token_ms: self.first.map(|first| milliseconds(self.requested, first)),
            prompt_tokens_per_second: rate(prompt_tokens, self.started, self.first),
            tokens_per_second: rate(self.tokens.saturating_sub(1), self.first, self.last),
            total_ms: milliseconds(self.requested, now),
        }
    }
}
