//! The end of the process.
//!
//! When a process exits, MLX's C++ objects are destroyed while other threads still run. An
//! engine that computes at that moment would crash the process, so every turn of an engine is
//! counted here, and an exiting process closes the gate: it waits for the turns under way, and
//! none begins after that.

use std::sync::{Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use crate::mlx::process;

/// How long an exiting process waits for the turns under way.
const PATIENCE: Duration = Duration::from_millis(200);

/// How much longer the end of an engine may take that saves something.
pub const TIME_TO_SAVE: Duration = Duration::from_secs(10);

static GATE: Gate = Gate::new();
static CODE: OnceLock<i32> = OnceLock::new();

struct Gate {
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    busy: usize,
    closed: bool,
}

/// A turn of an engine; it ends when this is dropped.
pub struct Turn {
    gate: &'static Gate,
}

/// Begins a turn: anything that touches MLX. Once the process is exiting this never returns.
pub fn begin_turn() -> Turn {
    GATE.enter()
}

/// Says that the calling thread is about to exit with `code`. Only the main thread's code is that
/// of the process: a worker has one of its own.
pub fn set_code(code: i32) {
    if process::on_main_thread() {
        // A process exits once.
        let _ = CODE.set(code);
    }
}

/// Closes the gate when the process exits. Called once MLX has made its objects, because what was
/// made last is destroyed first.
pub(super) fn guard() {
    process::at_exit(close_gate);
}

fn close_gate(code: Option<i32>) {
    if GATE.close(Some(PATIENCE)) {
        return;
    }
    // A long chunk of a prompt is being computed. Going on would destroy what it works with, and it
    // cannot be interrupted, so the process ends here without destroying anything.
    if let Some(code) = code.or_else(|| CODE.get().copied()) {
        process::exit_now(code);
    }
    // With a code that nobody knows it waits: chunks end.
    GATE.close(None);
}

impl Gate {
    const fn new() -> Self {
        Self { state: Mutex::new(State { busy: 0, closed: false }), changed: Condvar::new() }
    }

    fn enter(&'static self) -> Turn {
        let mut state = self.lock();
        while state.closed {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.busy += 1;
        Turn { gate: self }
    }

    /// Lets no turn begin any more and waits for those under way, at most for `limit`; whether all
    /// have ended.
    fn close(&self, limit: Option<Duration>) -> bool {
        let deadline = limit.map(|limit| Instant::now() + limit);
        let mut state = self.lock();
        state.closed = true;
        while state.busy > 0 {
            let Some(deadline) = deadline else {
                state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            let left = deadline.saturating_duration_since(Instant::now());
            if left == Duration::ZERO {
                return false;
            }
            state = self
                .changed
                .wait_timeout(state, left)
                .map_or_else(|poisoned| poisoned.into_inner().0, |(state, _)| state);
        }
        true
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing panics while it holds the lock, so a poisoned one still holds a sound state.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.gate.lock().busy -= 1;
        self.gate.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;
    use std::thread;

    use super::*;

    #[test]
    fn closing_waits_for_turns_under_way_and_lets_none_begin() {
        static TEST: Gate = Gate::new();
        let turn = TEST.enter();
        assert!(!TEST.close(Some(Duration::from_millis(20))), "a turn is under way");
        drop(turn);
        assert!(TEST.close(Some(Duration::from_secs(5))));
        let (sender, receiver) = channel();
        thread::spawn(move || {
            let turn = TEST.enter();
            let _ = sender.send(());
            drop(turn);
        });
        assert!(receiver.recv_timeout(Duration::from_millis(50)).is_err(), "a turn began");
    }

    #[test]
    fn closing_wakes_up_when_the_last_turn_ends() {
        static TEST: Gate = Gate::new();
        let turn = TEST.enter();
        let ending = thread::spawn(move || {
            thread::sleep(Duration::from_millis(30));
            drop(turn);
        });
        let started = Instant::now();
        assert!(TEST.close(Some(Duration::from_secs(30))));
        assert!(started.elapsed() < Duration::from_secs(10));
        assert!(ending.join().is_ok());
    }
}
