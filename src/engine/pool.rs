//! Threads that are reused instead of ended.
//!
//! MLX gives a thread its streams once and never takes them back, so a thread that touched MLX
//! and ended has leaked them. The pools here keep their threads: as many as were ever busy at
//! the same time, each waiting without cost for the next job.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use super::status::Callback;
use crate::error::{Error, Result};
use crate::panics;

/// Threads of engines: one per loaded or loading model.
pub static ENGINES: Pool = Pool::new("nodemlx-engine", usize::MAX);

/// Threads for work on text, which must not wait for a model, nor a model for it.
pub static TEXTS: Pool = Pool::new("nodemlx-text", TEXT_THREADS);

/// Long texts take seconds each; short ones go past fewer of them than this.
pub(super) const TEXT_THREADS: usize = 4;

/// Threads for work on the file system, which may be slow and must not wait for text.
pub static FILES: Pool = Pool::new("nodemlx-file", 2);

/// MLX's recursions over graphs were written for a main thread's stack.
const STACK_BYTES: usize = 8 << 20;

/// What a job leaves to be done once its thread is free again, such as telling a caller who
/// may start the next job at once.
pub type Afterwards = Box<dyn FnOnce() + Send>;

type Job = Box<dyn FnOnce(Result<()>) -> Option<Afterwards> + Send>;

/// A process-wide set of reusable threads.
pub struct Pool {
    name: &'static str,
    limit: usize,
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    jobs: VecDeque<Job>,
    threads: usize,
    idle: usize,
}

impl Pool {
    /// A pool whose threads are called `name`, at most `limit` of them.
    pub const fn new(name: &'static str, limit: usize) -> Self {
        let state = State { jobs: VecDeque::new(), threads: 0, idle: 0 };
        Self { name, limit, state: Mutex::new(state), changed: Condvar::new() }
    }

    /// Runs `job` on a thread of the pool: on an idle one, else on a new one, else, where the
    /// limit is reached, when one becomes free. What `job` returns runs after its thread has
    /// been counted as idle again.
    ///
    /// Where the system refuses the thread that it would need, `job` runs at once on the calling
    /// thread with [`Error::EngineFailed`], so that it can tell whoever waits for it.
    pub fn run(&'static self, job: impl FnOnce(Result<()>) -> Option<Afterwards> + Send + 'static) {
        let mut state = self.lock();
        if state.idle <= state.jobs.len() && state.threads < self.limit {
            // The lock is held while the thread starts: the new thread waits for it first, and
            // nobody must see the counts in between.
            let started = thread::Builder::new()
                .name(self.name.to_owned())
                .stack_size(STACK_BYTES)
                .spawn(|| self.work());
            match started {
                Ok(_) => {
                    state.threads += 1;
                    state.idle += 1;
                }
                // The job waits for one of the threads that are there.
                Err(_) if state.threads > 0 && self.limit < usize::MAX => {}
                Err(error) => {
                    drop(state);
                    let error = Error::EngineFailed(format!("no thread to run on: {error}"));
                    if let Some(afterwards) = job(Err(error)) {
                        afterwards();
                    }
                    return;
                }
            }
        }
        state.jobs.push_back(Box::new(job));
        drop(state);
        self.changed.notify_one();
    }

    /// Runs `work` on a thread of the pool, and calls `callback` there with what it returns.
    pub fn call<T: Send + 'static>(
        &'static self,
        callback: Callback<T>,
        work: impl FnOnce() -> Result<T> + Send + 'static,
    ) {
        self.run(move |started| {
            let result = started.and_then(|()| {
                catch_unwind(AssertUnwindSafe(work))
                    .unwrap_or_else(|panic| Err(Error::EngineFailed(panics::message(&*panic))))
            });
            callback(result);
            None
        });
    }

    /// How many threads the pool has, idle ones included.
    pub fn threads(&self) -> usize {
        self.lock().threads
    }

    fn work(&self) {
        let mut state = self.lock();
        loop {
            let Some(job) = state.jobs.pop_front() else {
                state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            state.idle -= 1;
            drop(state);
            // Jobs report their own panics; a thread must survive them in any case.
            let afterwards = catch_unwind(AssertUnwindSafe(|| job(Ok(())))).unwrap_or_default();
            state = self.lock();
            state.idle += 1;
            if let Some(afterwards) = afterwards {
                drop(state);
                let _ = catch_unwind(AssertUnwindSafe(afterwards));
                state = self.lock();
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing panics while it holds the lock, so a poisoned one still holds a sound state.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

    use std::sync::mpsc::{channel, sync_channel};
    use std::thread::ThreadId;

    use super::*;

    #[test]
    fn a_thread_is_reused_as_soon_as_what_follows_its_job_runs() {
        static POOL: Pool = Pool::new("test", usize::MAX);
        let mut seen: Vec<ThreadId> = Vec::new();
        for _ in 0..50 {
            let (sender, receiver) = channel();
            POOL.run(move |_| {
                let id = thread::current().id();
                Some(Box::new(move || sender.send(id).unwrap()))
            });
            seen.push(receiver.recv().unwrap());
        }
        seen.dedup();
        assert_eq!(seen.len(), 1);
        assert_eq!(POOL.threads(), 1);
    }

    #[test]
    fn jobs_that_wait_for_each_other_get_threads_of_their_own() {
        static POOL: Pool = Pool::new("test", usize::MAX);
        let (to_first, from_second) = sync_channel::<u32>(0);
        let (done, result) = channel();
        POOL.run(move |_| {
            done.send(from_second.recv().unwrap()).unwrap();
            None
        });
        POOL.run(move |_| {
            to_first.send(7).unwrap();
            None
        });
        assert_eq!(result.recv().unwrap(), 7);
        assert_eq!(POOL.threads(), 2);
    }

    #[test]
    fn a_limited_pool_queues_and_loses_nothing() {
        static POOL: Pool = Pool::new("test", 2);
        let (sender, receiver) = channel();
        for number in 0..100 {
            let sender = sender.clone();
            POOL.run(move |_| {
                sender.send(number).unwrap();
                None
            });
        }
        drop(sender);
        let mut numbers: Vec<i32> = receiver.iter().collect();
        numbers.sort_unstable();
        assert_eq!(numbers, (0..100).collect::<Vec<_>>());
        assert!(POOL.threads() <= 2);
    }

    #[test]
    fn a_panicking_job_does_not_cost_a_thread() {
        static POOL: Pool = Pool::new("test", 1);
        POOL.run(|_| panic!("on purpose"));
        let (sender, receiver) = channel();
        POOL.run(move |_| {
            sender.send(()).unwrap();
            None
        });
        receiver.recv().unwrap();
        assert_eq!(POOL.threads(), 1);
    }
}
