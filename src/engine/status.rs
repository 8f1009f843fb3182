//! Whether an engine still serves, and why not; shared by its thread and everyone who calls it.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::error::{Error, Result};

/// A function that is called once with the outcome of what was asked for.
pub type Callback<T> = Box<dyn FnOnce(Result<T>) + Send>;

/// The state of one engine.
#[derive(Default)]
pub struct Status {
    phase: Mutex<Phase>,
    changed: Condvar,
}

#[derive(Default)]
struct Phase {
    /// Why the engine takes no more requests; `None` while it does.
    refusal: Option<Error>,
    /// Whether everything that the engine held has been given back.
    ended: bool,
    /// Who wants to hear of that.
    waiting: Vec<Callback<()>>,
    /// How much longer its end may take than that of others.
    time_to_end: Duration,
}

impl Status {
    /// Why requests are refused, or `None` where they are not.
    pub fn refusal(&self) -> Option<Error> {
        self.lock().refusal.clone()
    }

    /// The reason that a request is given which the engine dropped unanswered.
    pub fn reason(&self) -> Error {
        self.refusal().unwrap_or(Error::Disposed)
    }

    /// Refuses requests from now on, because of `error`. The first reason stays.
    pub fn refuse(&self, error: Error) {
        self.lock().refusal.get_or_insert(error);
    }

    /// Says that its end may take so much longer than that of others.
    pub fn end_takes(&self, time: Duration) {
        self.lock().time_to_end = time;
    }

    /// How much longer its end may take than that of others.
    pub fn time_to_end(&self) -> Duration {
        self.lock().time_to_end
    }

    /// Calls `done` when the engine has given back what it held: at once, where it already has.
    pub fn when_ended(&self, done: Callback<()>) {
        let mut phase = self.lock();
        if phase.ended {
            drop(phase);
            done(Ok(()));
        } else {
            phase.waiting.push(done);
        }
    }

    /// Says that everything has been given back.
    pub fn end(&self) {
        let waiting = {
            let mut phase = self.lock();
            phase.ended = true;
            std::mem::take(&mut phase.waiting)
        };
        self.changed.notify_all();
        for done in waiting {
            done(Ok(()));
        }
    }

    /// Waits until everything has been given back, at most until `deadline`; whether it has.
    pub fn wait_ended(&self, deadline: Instant) -> bool {
        let mut phase = self.lock();
        while !phase.ended {
            let left = deadline.saturating_duration_since(Instant::now());
            if left == Duration::ZERO {
                return false;
            }
            phase = self
                .changed
                .wait_timeout(phase, left)
                .map_or_else(|poisoned| poisoned.into_inner().0, |(phase, _)| phase);
        }
        true
    }

    fn lock(&self) -> MutexGuard<'_, Phase> {
        // No code of others runs under the lock, so a poisoned one still holds a sound state.
        self.phase.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The duty to answer one request. Dropped unanswered, it answers with the engine's reason.
pub struct Reply<T> {
    callback: Option<Callback<T>>,
    status: Arc<Status>,
}

impl<T> Reply<T> {
    /// The duty to call `callback`, on behalf of the engine with `status`.
    pub fn new(callback: Callback<T>, status: Arc<Status>) -> Self {
        Self { callback: Some(callback), status }
    }

    /// Answers the request.
    pub fn send(mut self, result: Result<T>) {
        if let Some(callback) = self.callback.take() {
            callback(result);
        }
    }
}

impl<T> Drop for Reply<T> {
    fn drop(&mut self) {
        if let Some(callback) = self.callback.take() {
            callback(Err(self.status.reason()));
        }
    }
}
