//! The one thread pool of all kernels.
//!
//! A kernel cuts its work into chunks and calls [`parallel_for`]. Chunks are handed out one at a
//! time by atomic counters, and the calling thread works on them too: a core that another process
//! holds delays one chunk, not the kernel, and a caller whose helpers do not get to run at all
//! simply does everything itself. Nobody waits at a barrier by spinning: waits spin for a few
//! microseconds, then sleep.
//!
//! Why not rayon: `rayon_core::scope` called from a thread outside its pool puts that thread to
//! sleep and wakes it again, which costs two thread switches per kernel; a token is about a hundred
//! kernels. `benches/kernels.rs` measures both.

mod ahead;

use std::any::Any;
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

pub use ahead::{Matrices, Matrix};
use ahead::{Prefetched, Prefetcher};

/// How long a thread looks for work, or for the end of its kernel, before it sleeps: longer than
/// MLX takes from the end of one kernel to the start of the next, shorter than anybody notices.
const SPIN_TIME: Duration = Duration::from_micros(100);

thread_local! {
    static MAX_THREADS: Cell<usize> = const { Cell::new(usize::MAX) };
}

/// Runs `work` with at most `threads` threads, this one included, for each kernel that it calls on
/// this thread.
pub fn with_threads<T>(threads: usize, work: impl FnOnce() -> T) -> T {
    /// Puts the limit back, also where `work` panics.
    struct Restore(usize);
    impl Drop for Restore {
        fn drop(&mut self) {
            MAX_THREADS.set(self.0);
        }
    }
    let _restore = Restore(MAX_THREADS.replace(threads.max(1)));
    work()
}

/// A type-erased `parallel_for` in progress.
struct Job {
    /// Called with chunk numbers below `total`. The pointee lives on the stack of the caller, who
    /// does not return before `finished == total`; it is only called for a chunk that was claimed
    /// and is not yet counted as finished.
    task: *const (dyn Fn(usize) + Sync),
    total: usize,
    /// Chunks in as many parts as threads may work.
    parts: Box<[Part]>,
    /// Threads that have ever worked on it, the caller first.
    joined: AtomicUsize,
    finished: AtomicUsize,
    failed: AtomicBool,
    panic: Mutex<Option<Box<dyn Any + Send>>>,
    caller: Thread,
}

/// Chunks that follow one another: those of a thread, which others help with when they have done
/// theirs. A thread so walks through neighbouring memory, which is what the processor foresees.
#[repr(align(64))]
struct Part {
    next: AtomicUsize,
    end: usize,
}

impl Part {
    fn claim(&self) -> Option<usize> {
        // Looked at first, so that threads that find nothing do not take the line from the one at
        // work.
        if self.next.load(Ordering::Relaxed) >= self.end {
            return None;
        }
        Some(self.next.fetch_add(1, Ordering::Relaxed)).filter(|&chunk| chunk < self.end)
    }
}

// SAFETY: all fields but `task` are Send and Sync by themselves; `task` points to a `Sync` closure,
// which may be called from any thread, and is valid whenever it is called (see the field).
unsafe impl Send for Job {}
// SAFETY: as above.
unsafe impl Sync for Job {}

impl Job {
    /// Counts a thread more that works on it, if there may be one.
    fn join(&self) -> bool {
        let most = self.parts.len();
        let next = |joined| (joined < most).then_some(joined + 1);
        self.joined.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next).is_ok()
    }

    /// Works on chunks, first those of part `own`, until none is left to claim.
    fn work(&self, own: usize) {
        for part in 0..self.parts.len() {
            while let Some(chunk) = self.parts[(own + part) % self.parts.len()].claim() {
                self.run(chunk);
            }
        }
    }

    fn run(&self, chunk: usize) {
        if !self.failed.load(Ordering::Relaxed) {
            // SAFETY: this chunk is claimed and not counted as finished, so the caller is still
            // waiting.
            let task = unsafe { &*self.task };
            if let Err(payload) = catch_unwind(AssertUnwindSafe(|| task(chunk))) {
                self.failed.store(true, Ordering::Relaxed);
                lock(&self.panic).get_or_insert(payload);
            }
        }
        if self.finished.fetch_add(1, Ordering::AcqRel) + 1 == self.total {
            self.caller.unpark();
        }
    }

    /// Whether a thread more has something to do.
    fn open(&self) -> bool {
        self.joined.load(Ordering::Relaxed) < self.parts.len() && self.unclaimed()
    }

    fn unclaimed(&self) -> bool {
        self.parts.iter().any(|part| part.next.load(Ordering::Relaxed) < part.end)
    }

    fn done(&self) -> bool {
        self.finished.load(Ordering::Acquire) == self.total
    }
}

#[derive(Default)]
struct State {
    jobs: Vec<Arc<Job>>,
    workers: usize,
    sleeping: usize,
}

/// A pool of threads. Kernels share [`Pool::global`].
pub struct Pool {
    state: Mutex<State>,
    ahead: Prefetcher,
    wake: Condvar,
    /// Counts jobs ever submitted; lets idle workers look for work without taking the lock.
    submitted: AtomicUsize,
    /// Threads inside a kernel at this moment, callers included.
    busy: AtomicUsize,
    limit: AtomicUsize,
}

/// The data stays consistent when a holder panics (no holder runs foreign code), so poisoning means
/// nothing here.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Spins for at most [`SPIN_TIME`] until `condition` holds; tells whether it does.
fn spin_until(condition: impl Fn() -> bool) -> bool {
    let start = Instant::now();
    loop {
        for _ in 0..32 {
            if condition() {
                return true;
            }
            std::hint::spin_loop();
        }
        if start.elapsed() > SPIN_TIME {
            return condition();
        }
    }
}

impl Pool {
    /// A pool in which at most `threads` threads, callers included, work at the same time. Its own
    /// threads are started when first needed, and live as long as the process.
    pub fn leak(threads: usize) -> &'static Self {
        Box::leak(Box::new(Self {
            state: Mutex::default(),
            ahead: Prefetcher::default(),
            wake: Condvar::new(),
            submitted: AtomicUsize::new(0),
            busy: AtomicUsize::new(0),
            limit: AtomicUsize::new(threads.max(1)),
        }))
    }

    /// The pool of all kernels: as many threads as there are physical cores that this process may
    /// use.
    pub fn global() -> &'static Self {
        static GLOBAL: OnceLock<&'static Pool> = OnceLock::new();
        GLOBAL.get_or_init(|| Self::leak(default_threads()))
    }

    /// The greatest number of threads that work at the same time.
    pub fn threads(&self) -> usize {
        self.limit.load(Ordering::Relaxed)
    }

    /// Lets at least so many threads work at the same time from now on.
    pub fn grow(&self, threads: usize) {
        self.limit.fetch_max(threads, Ordering::Relaxed);
    }

    /// Calls `task(i)` once for every `i < total`, on this thread and on as many others as are
    /// free, and returns when all calls have returned.
    ///
    /// # Panics When a call panics, calls that have not begun are left out, and the first panic
    /// goes on in this thread.
    pub fn parallel_for(&'static self, total: usize, task: impl Fn(usize) + Sync) {
        let count = self.threads().min(MAX_THREADS.get()).min(total);
        if count <= 1 {
            (0..total).for_each(task);
            return;
        }
        let task: &(dyn Fn(usize) + Sync) = &task;
        // SAFETY: only the lifetime changes; `Job::task` says why the pointer is not used after
        // this call.
        let task = unsafe {
            std::mem::transmute::<*const (dyn Fn(usize) + Sync), *const (dyn Fn(usize) + Sync)>(
                task,
            )
        };
        let part = |i: usize| Part {
            next: AtomicUsize::new(total * i / count),
            end: total * (i + 1) / count,
        };
        let job = Arc::new(Job {
            task,
            total,
            parts: (0..count).map(part).collect(),
            joined: AtomicUsize::new(1),
            finished: AtomicUsize::new(0),
            failed: AtomicBool::new(false),
            panic: Mutex::new(None),
            caller: thread::current(),
        });
        self.busy.fetch_add(1, Ordering::Relaxed);
        self.submit(&job);
        job.work(0);
        self.busy.fetch_sub(1, Ordering::Relaxed);
        self.retire(&job);
        if !job.done() && !spin_until(|| job.done()) {
            while !job.done() {
                thread::park();
            }
        }
        let payload = lock(&job.panic).take();
        if let Some(payload) = payload {
            resume_unwind(payload);
        }
    }

    fn submit(&'static self, job: &Arc<Job>) {
        let mut state = lock(&self.state);
        state.jobs.push(Arc::clone(job));
        self.submitted.fetch_add(1, Ordering::Release);
        let helpers = job.parts.len() - 1;
        let wake = state.sleeping.min(helpers);
        while state.workers < self.threads() - 1 {
            let name = format!("nodemlx-cpu-{}", state.workers);
            // Without the thread (the system has no more to give) the others do its work.
            let number = state.workers + 1;
            if thread::Builder::new().name(name).spawn(move || self.serve(number)).is_err() {
                break;
            }
            state.workers += 1;
        }
        drop(state);
        for _ in 0..wake {
            self.wake.notify_one();
        }
    }

    /// Takes a job without unclaimed chunks off the list, and passes this thread's place on if
    /// others wait for one.
    fn retire(&self, job: &Arc<Job>) {
        let mut state = lock(&self.state);
        state.jobs.retain(|other| !Arc::ptr_eq(other, job));
        let wake = state.sleeping > 0 && state.jobs.iter().any(|job| job.open());
        drop(state);
        if wake {
            self.wake.notify_one();
        }
    }

    /// A job to help with, if there is one and a thread more may work; the thread then counts as
    /// busy.
    fn join(&self, state: &State) -> Option<Arc<Job>> {
        let job = state.jobs.iter().find(|job| job.open())?;
        let limit = self.threads();
        self.busy
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| (n < limit).then_some(n + 1))
            .ok()?;
        // Threads join under the lock, so that what was open is not full by now.
        if !job.join() {
            self.busy.fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        Some(Arc::clone(job))
    }

    /// The life of worker `number`, counted from 1.
    fn serve(&self, number: usize) {
        let mut fetched = Prefetched::default();
        loop {
            let seen = self.submitted.load(Ordering::Acquire);
            let mut found = self.join(&lock(&self.state));
            if found.is_none() {
                let more = || self.submitted.load(Ordering::Acquire) != seen;
                self.ahead.fetch(&mut fetched, number, self.threads(), more);
                if !spin_until(more) {
                    found = Some(self.sleep());
                }
            }
            if let Some(job) = found {
                job.work(number % job.parts.len());
                self.busy.fetch_sub(1, Ordering::Relaxed);
            }
        }
    }

    /// Sleeps until there is a job to help with.
    fn sleep(&self) -> Arc<Job> {
        let mut state = lock(&self.state);
        loop {
            if let Some(job) = self.join(&state) {
                return job;
            }
            state.sleeping += 1;
            state = self.wake.wait(state).unwrap_or_else(PoisonError::into_inner);
            state.sleeping -= 1;
        }
    }
}

/// To be called before a kernel that reads a few matrices at the speed of the memory: threads that
/// wait for the next one then fetch what was read after these the last time.
pub fn reads(now: Matrices) {
    if let Some(next) = ahead::after(now) {
        Pool::global().ahead.announce(next);
    }
}

/// [`Pool::parallel_for`] of the global pool.
pub fn parallel_for(total: usize, task: impl Fn(usize) + Sync) {
    Pool::global().parallel_for(total, task);
}

/// Physical cores, as far as the process may use them: two threads of one core share the units that
/// the kernels keep busy.
pub fn default_threads() -> usize {
    let allowed = thread::available_parallelism().map_or(1, |n| n.get());
    num_cpus::get_physical().clamp(1, allowed)
}

/// A slice that tasks write to in parallel, each its own part.
pub struct DisjointSliceMut<T> {
    start: *mut T,
    len: usize,
}

// SAFETY: access goes through `slice`, whose callers promise disjoint ranges.
unsafe impl<T: Send> Send for DisjointSliceMut<T> {}
// SAFETY: as above.
unsafe impl<T: Send> Sync for DisjointSliceMut<T> {}

impl<T> Clone for DisjointSliceMut<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for DisjointSliceMut<T> {}

impl<T> DisjointSliceMut<T> {
    /// Wraps `slice`, which must not be used otherwise while the tasks run.
    pub fn new(slice: &mut [T]) -> Self {
        Self { start: slice.as_mut_ptr(), len: slice.len() }
    }

    /// The part `[from, from + len)`.
    ///
    /// # Safety
    /// The slice given to [`DisjointSliceMut::new`] stays borrowed for `'a`, and no two parts that
    /// overlap are alive at the same time.
    pub unsafe fn slice<'a>(self, from: usize, len: usize) -> &'a mut [T] {
        assert!(from <= self.len && len <= self.len - from, "a task's part lies outside the slice");
        // SAFETY: in bounds (checked above), and exclusive by the caller's promise.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(from), len) }
    }
}

#[cfg(test)]
mod tests;
