//! The queue between one running generation and its consumer.
//!
//! The engine pushes what it makes, the consumer pulls everything that has gathered. The engine
//! never waits here: it asks [`Producer::must_pause`] before each token, and is woken when a
//! consumer who had fallen behind pulls again.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::request::{Batch, Finished, PrefillProgress, TokenLogprob, Written};
use super::status::{Callback, Status};
use crate::error::{Error, Result};

/// How many tokens a generation may be ahead of its consumer.
pub const MAX_AHEAD: usize = 256;

/// The shared half of a generation; see the module.
#[derive(Default)]
pub struct Stream {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    ready: Batch,
    has_ready: bool,
    waiting: VecDeque<Callback<Batch>>,
    end: Option<Result<Arc<Finished>>>,
    aborted: bool,
    paused: bool,
}

impl State {
    /// The next answer for a consumer, where there is one.
    fn take(&mut self) -> Option<Result<Batch>> {
        if !self.has_ready && self.end.is_none() {
            return None;
        }
        self.has_ready = false;
        let mut batch = std::mem::take(&mut self.ready);
        match &self.end {
            // What was made before the failure is delivered before it.
            Some(Err(error)) if batch.is_empty() => return Some(Err(error.clone())),
            Some(Ok(finished)) => batch.done = Some(Arc::clone(finished)),
            _ => {}
        }
        Some(Ok(batch))
    }
}

impl Stream {
    /// Calls `callback` with everything that is ready, or as soon as something is. After the end
    /// every call is answered with the end again.
    ///
    /// Returns whether the engine had paused for this consumer and must be woken.
    pub fn pull(&self, callback: Callback<Batch>) -> bool {
        let mut state = self.lock();
        if !state.waiting.is_empty() {
            state.waiting.push_back(callback);
            return false;
        }
        match state.take() {
            Some(answer) => {
                let wake = std::mem::take(&mut state.paused);
                drop(state);
                callback(answer);
                wake
            }
            None => {
                state.waiting.push_back(callback);
                false
            }
        }
    }

    /// Asks the engine to end this generation; whether it must be woken for that.
    pub fn abort(&self) -> bool {
        let mut state = self.lock();
        let first = !state.aborted;
        state.aborted = true;
        first && state.end.is_none()
    }

    /// Whether the consumer asked for the end.
    pub fn is_aborted(&self) -> bool {
        self.lock().aborted
    }

    fn update(&self, change: impl FnOnce(&mut State)) {
        let mut answers = Vec::new();
        {
            let mut state = self.lock();
            if state.end.is_some() {
                return;
            }
            change(&mut state);
            while !state.waiting.is_empty() {
                let Some(answer) = state.take() else { break };
                answers.extend(state.waiting.pop_front().map(|callback| (callback, answer)));
            }
        }
        for (callback, answer) in answers {
            callback(answer);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // No code of others runs under the lock, so a poisoned one still holds a sound state.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The engine's end of a [`Stream`]. Dropped before the end, it ends the stream with the engine's
/// reason, so that no consumer waits for a generation that nobody runs.
pub struct Producer {
    stream: Arc<Stream>,
    status: Arc<Status>,
}

impl Producer {
    /// The producing end of `stream`, for the engine with `status`.
    pub fn new(stream: Arc<Stream>, status: Arc<Status>) -> Self {
        Self { stream, status }
    }

    /// Adds a token, what it has made certain, and its log probabilities where they were asked
    /// for.
    pub fn token(&self, token: u32, written: Written, logprob: Option<TokenLogprob>) {
        self.stream.update(|state| {
            state.ready.tokens.push(token);
            state.ready.add(written, 1);
            state.ready.logprobs.extend(logprob);
            state.has_ready = true;
        });
    }

    /// Says what of the answer the prompt has begun, before anything is added.
    pub fn open(&self, text: String) {
        self.stream.update(|state| state.ready.open_text = Some(text));
    }

    /// Says how far the prompt has been read.
    pub fn prefill(&self, progress: PrefillProgress) {
        self.stream.update(|state| {
            state.ready.prefill = Some(progress);
            state.has_ready = true;
        });
    }

    /// Ends the stream, after what was `written` last. What comes after the end is dropped.
    pub fn finish(&self, written: Written, finished: Finished) {
        self.stream.update(|state| {
            state.ready.add(written, 0);
            state.end = Some(Ok(Arc::new(finished)));
        });
    }

    /// Ends the stream with an error.
    pub fn fail(&self, error: Error) {
        self.stream.update(|state| state.end = Some(Err(error)));
    }

    /// Whether the consumer asked for the end.
    pub fn is_aborted(&self) -> bool {
        self.stream.is_aborted()
    }

    /// Whether the consumer is so far behind that this generation must wait for it. Where it is,
    /// its next pull wakes the engine.
    pub fn must_pause(&self) -> bool {
        let mut state = self.stream.lock();
        state.paused = state.ready.tokens.len() >= MAX_AHEAD;
        state.paused
    }
}

impl Drop for Producer {
    fn drop(&mut self) {
        self.stream.update(|state| state.end = Some(Err(self.status.reason())));
    }
}
