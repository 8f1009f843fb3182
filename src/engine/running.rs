//! One generation on the engine's thread: from a request to tokens, text and an end.

use std::sync::Arc;
use std::time::Instant;

use super::backend::Backend;
use super::profile::Profile;
use super::prompt_caches::{PromptCacheId, PromptCaches};
use super::request::{Candidate, FinishReason, Finished, GenerateRequest, Timings, TokenLogprob};
use super::stream::Producer;
use crate::error::{Error, Result};
use crate::generate::TokenOutput;
use crate::text::{Detokenizer, StopMatcher, Tokenizer};

/// A generation, with everything that belongs to it alone.
pub struct Running<B: Backend> {
    producer: Producer,
    request: Box<GenerateRequest>,
    stage: Stage<B::Sequence>,
    /// What it leaves in the cache that it was lent.
    left: Option<B::PromptCache>,
    /// Whether it was lent one.
    borrowed: bool,
    cached_tokens: usize,
    writer: Option<Writer>,
    clock: Clock,
    prompt_tokens: usize,
    completion_tokens: usize,
    max_tokens: usize,
}

enum Stage<S> {
    /// Its prompt has not been tokenized yet.
    Waiting,
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
    /// Its prompt must be prepared, or read on.
    Prefill,
    /// It can make a token.
    Decode,
    /// Its consumer is too far behind.
    Pause,
    /// Its consumer has asked for the end.
    Abort,
    /// Nothing: it is over.
    Nothing,
}

impl<B: Backend> Running<B> {
    /// A generation for which nothing has been done yet, asked for at `requested`.
    pub fn new(producer: Producer, request: Box<GenerateRequest>, requested: Instant) -> Self {
        Self {
            producer,
            request,
            stage: Stage::Waiting,
            left: None,
            borrowed: false,
            cached_tokens: 0,
            writer: None,
            clock: Clock::new(requested),
            prompt_tokens: 0,
            completion_tokens: 0,
            max_tokens: 0,
        }
    }

    /// What it needs next.
    pub fn next(&self) -> Next {
        match self.stage {
            Stage::Ended => Next::Nothing,
            _ if self.producer.is_aborted() => Next::Abort,
            Stage::Waiting | Stage::Prefill(_) => Next::Prefill,
            Stage::Decode(_) if self.producer.must_pause() => Next::Pause,
            Stage::Decode(_) => Next::Decode,
        }
    }

    /// The sequence, where it makes tokens.
    pub fn decoding(&mut self) -> Option<&mut B::Sequence> {
        match &mut self.stage {
            Stage::Decode(sequence) => Some(sequence),
            _ => None,
        }
    }

    /// Prepares the prompt, or reads the next chunk of it.
    pub fn prefill(&mut self, backend: &B, profile: &Profile, caches: &mut PromptCaches<B>) {
        self.clock.started.get_or_insert_with(Instant::now);
        self.stage = match std::mem::replace(&mut self.stage, Stage::Ended) {
            Stage::Waiting => match self.prepare(backend, profile, caches) {
                Ok(sequence) => Stage::Prefill(sequence),
                Err(error) => return self.producer.fail(error),
            },
            Stage::Prefill(mut sequence) => match backend.prefill(&mut sequence) {
                Ok(progress) => {
                    // The last token is left to the first step, but is as good as read.
                    let read = if progress.done { progress.total } else { progress.processed };
                    self.producer.prefill(read, progress.total);
                    if progress.done {
                        self.clock.prefilled = Some(Instant::now());
                        Stage::Decode(sequence)
                    } else {
                        Stage::Prefill(sequence)
                    }
                }
                Err(error) => return self.producer.fail(error),
            },
            other => other,
        };
    }

    fn prepare(
        &mut self,
        backend: &B,
        profile: &Profile,
        caches: &mut PromptCaches<B>,
    ) -> Result<B::Sequence> {
        let (prompt, options) = profile.prepare(&self.request)?;
        self.prompt_tokens = prompt.len();
        self.max_tokens = options.max_tokens;
        self.writer = Some(Writer {
            end_tokens: match self.request.ignore_end_tokens {
                true => Vec::new(),
                false => profile.text.end_tokens().to_vec(),
            },
            tokenizer: profile.text.tokenizer().ok().cloned(),
            detokenizer: profile.text.tokenizer().ok().cloned().map(Detokenizer::new),
            stops: StopMatcher::new(self.request.stop.clone()),
        });
        let cache = self.request.prompt_cache.map(|id| caches.lend(id)).transpose()?;
        self.borrowed = cache.is_some();
        let sequence = backend.start(prompt, options, cache)?;
        self.cached_tokens = backend.cached_tokens(&sequence);
        Ok(sequence)
    }

    /// The cache that it was lent, with what it left there; after a failure, which may have left anything, an empty
    /// one.
    pub fn give_back(&mut self, backend: &B) -> Option<(PromptCacheId, B::PromptCache)> {
        let id = self.request.prompt_cache.filter(|_| self.borrowed)?;
        self.borrowed = false;
        let left = self.left.take();
        Some((id, left.unwrap_or_else(|| backend.prompt_cache(self.request.cache_limits))))
    }

    /// Takes the token that the model made.
    pub fn accept(&mut self, output: Result<TokenOutput>, backend: &B) {
        if let Err(error) = output.and_then(|output| self.take(&output, backend)) {
            self.stage = Stage::Ended;
            self.producer.fail(error);
        }
    }

    fn take(&mut self, output: &TokenOutput, backend: &B) -> Result<()> {
        self.clock.token();
        let Some(writer) = &mut self.writer else { return Ok(()) };
        if writer.end_tokens.contains(&output.token) {
            return self.finish(FinishReason::Stop, backend);
        }
        self.completion_tokens += 1;
        let (text, stopped) = writer.push(output.token)?;
        let logprob = writer.logprob(output)?;
        self.producer.token(output.token, &text, logprob);
        if let Some(stop) = stopped {
            self.end(FinishReason::Stop, "", Some(stop), backend);
            Ok(())
        } else if self.completion_tokens >= self.max_tokens {
            self.finish(FinishReason::Length, backend)
        } else {
            Ok(())
        }
    }

    /// Ends it because its consumer asked for that.
    pub fn abort(&mut self, backend: &B) {
        if let Err(error) = self.finish(FinishReason::Abort, backend) {
            self.stage = Stage::Ended;
            self.producer.fail(error);
        }
    }

    /// Ends it with the text that was held back, in which a stop string may come to light.
    fn finish(&mut self, reason: FinishReason, backend: &B) -> Result<()> {
        let (text, stopped) = match &mut self.writer {
            Some(writer) => writer.finish()?,
            None => (String::new(), None),
        };
        let reason = if stopped.is_some() { FinishReason::Stop } else { reason };
        self.end(reason, &text, stopped, backend);
        Ok(())
    }

    fn end(&mut self, reason: FinishReason, text: &str, stop: Option<usize>, backend: &B) {
        // Its arrays are free, or in the cache that it was lent, before its consumer hears of the end.
        match std::mem::replace(&mut self.stage, Stage::Ended) {
            Stage::Prefill(sequence) | Stage::Decode(sequence) if self.borrowed => {
                self.left = Some(backend.leave(sequence));
            }
            _ => {}
        }
        let finished = Finished {
            reason,
            stop_string: stop.and_then(|index| self.request.stop.get(index).cloned()),
            prompt_tokens: self.prompt_tokens,
            completion_tokens: self.completion_tokens,
            cached_tokens: self.cached_tokens,
            timings: self.clock.timings(self.prompt_tokens),
            peak_memory: backend.peak_memory(),
        };
        self.producer.finish(text, finished);
    }
}

/// Turns tokens into text, up to an end token or a stop string.
struct Writer {
    end_tokens: Vec<u32>,
    tokenizer: Option<Arc<Tokenizer>>,
    detokenizer: Option<Detokenizer>,
    stops: StopMatcher,
}

impl Writer {
    /// The text that is certain with `token`, and the index of the stop string it completes.
    fn push(&mut self, token: u32) -> Result<(String, Option<usize>)> {
        let Some(detokenizer) = &mut self.detokenizer else { return Ok((String::new(), None)) };
        let state = self.stops.push(&detokenizer.push(token)?);
        Ok((state.emit, state.stopped))
    }

    /// The text that was held back, and the index of a stop string in it.
    fn finish(&mut self) -> Result<(String, Option<usize>)> {
        let Some(detokenizer) = &mut self.detokenizer else { return Ok((String::new(), None)) };
        let state = self.stops.push(&detokenizer.finish()?);
        Ok((state.emit + &self.stops.finish(), state.stopped))
    }

    /// How likely the token and its rivals were, where that was asked for.
    fn logprob(&self, output: &TokenOutput) -> Result<Option<TokenLogprob>> {
        let Some(logprob) = output.logprob else { return Ok(None) };
        let candidate = |token: u32, logprob: f32| {
            let text = match &self.tokenizer {
                Some(tokenizer) => Some(tokenizer.decode(&[token], false)?),
                None => None,
            };
            Ok::<_, Error>(Candidate { token, logprob, text })
        };
        let top = output.top.iter().map(|&(token, logprob)| candidate(token, logprob));
        Ok(Some(TokenLogprob {
            chosen: candidate(output.token, logprob)?,
            top: top.collect::<Result<_>>()?,
        }))
    }
}

/// The moments of a generation.
struct Clock {
    requested: Instant,
    started: Option<Instant>,
    prefilled: Option<Instant>,
    first: Option<Instant>,
    last: Option<Instant>,
    tokens: usize,
}

impl Clock {
    fn new(requested: Instant) -> Self {
        Self { requested, started: None, prefilled: None, first: None, last: None, tokens: 0 }
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
        Timings {
            queue_ms: milliseconds(self.requested, self.started.unwrap_or(now)),
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
