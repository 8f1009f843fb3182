//! Converting a checkpoint on an engine's thread.

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::exit;
use super::pool::ENGINES;
use super::status::Callback;
use crate::convert::{self, ConvertOptions, Progress, Report};
use crate::mlx;

/// What to convert, and how.
#[derive(Debug, Clone)]
pub struct ConvertRequest {
    /// The model's folder.
    pub source: PathBuf,
    /// The folder that is made.
    pub target: PathBuf,
    /// What is done.
    pub options: ConvertOptions,
}

/// A conversion under way.
#[derive(Debug, Clone, Default)]
pub struct Conversion(Arc<AtomicBool>);

impl Conversion {
    /// Ends it with [`crate::error::Error::Aborted`], unless it has ended.
    pub fn abort(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Begins a conversion. `progress` is called on its thread, `callback` once with the outcome.
pub fn convert(
    request: ConvertRequest,
    mut progress: Box<dyn FnMut(Progress) + Send>,
    callback: Callback<Report>,
) -> Conversion {
    let conversion = Conversion::default();
    let aborted = Arc::clone(&conversion.0);
    ENGINES.call(callback, move || {
        let mut turn = Some(exit::begin_turn());
        let ConvertRequest { source, target, options } = request;
        let mut guarded = false;
        let result = convert::convert(&source, &target, &options, &mut |step| {
            if !guarded {
                // MLX has made its objects by now.
                exit::guard();
                guarded = true;
            }
            progress(step);
            // A process that exits waits for no more than one block.
            drop(turn.take());
            turn = Some(exit::begin_turn());
            match aborted.load(Ordering::Relaxed) {
                true => ControlFlow::Break(()),
                false => ControlFlow::Continue(()),
            }
        });
        // It cannot fail but for an MLX that never started, which then holds nothing.
        let _ = mlx::memory::clear_cache();
        drop(turn);
        result
    });
    conversion
}
