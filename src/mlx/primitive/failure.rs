//! Whose kernels have failed.
//!
//! MLX keeps the error of a task for whoever waits on the stream next, which may be another
//! sequence, and adds it to every step that is queued until then. So kernels that are made in a
//! [`Failure::scope`] report to the scope, and MLX does not hear of it.

use std::cell::RefCell;
use std::sync::{Arc, OnceLock};

use crate::error::{Error, Result};

thread_local! {
    static SCOPE: RefCell<Option<Failure>> = const { RefCell::new(None) };
}

/// The first failure among some kernels, such as those of one step. Those that come after it do
/// nothing: what they update stays as it is, and their other outputs are zeros.
#[derive(Clone, Debug, Default)]
pub struct Failure(Arc<OnceLock<String>>);

impl Failure {
    /// Runs `build`, whose kernels report here.
    pub fn scope<T>(&self, build: impl FnOnce() -> T) -> T {
        struct Outer(Option<Failure>);
        impl Drop for Outer {
            fn drop(&mut self) {
                SCOPE.set(self.0.take());
            }
        }
        let _outer = Outer(SCOPE.replace(Some(self.clone())));
        build()
    }

    /// The failure among kernels that have run.
    pub fn check(&self) -> Result<()> {
        self.0.get().map_or(Ok(()), |message| Err(Error::Mlx(message.clone())))
    }

    /// The scope that kernels are made in now.
    pub(super) fn current() -> Option<Self> {
        SCOPE.with_borrow(Option::clone)
    }

    pub(super) fn happened(&self) -> bool {
        self.0.get().is_some()
    }

    /// Notes a failure that kernels did not report themselves.
    pub fn report(&self, message: String) {
        // The first one is the cause of the others.
        let _ = self.0.set(message);
    }
}
