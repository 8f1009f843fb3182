//! Converting a checkpoint on an engine's thread.

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::exit;
use super::pool::ENGINES;
use super::status::Callback;
use crate::convert::{self, Calibration, ConvertOptions, Progress, Report, TargetSize};
use crate::error::{Error, Result};
use crate::mlx;
use crate::text::Tokenizer;

/// What to convert, and how.
#[derive(Debug, Clone)]
pub struct ConvertRequest {
    /// The model's folder.
    pub source: PathBuf,
    /// The folder that is made.
    pub target: PathBuf,
    /// What is done.
    pub options: ConvertOptions,
    /// A text by which bits are chosen, and the size that is wanted.
    pub calibration: Option<(String, TargetSize)>,
}

impl ConvertRequest {
    /// What is done, with the tokens of the text.
    fn prepared(self) -> Result<ConvertOptions> {
        let mut options = self.options;
        let (Some((text, size)), Some(quantize)) = (self.calibration, &mut options.quantize) else {
            return Ok(options);
        };
        let tokenizer = Tokenizer::from_dir(&self.source)?.ok_or_else(|| {
            let message = "the model has no tokenizer, so it cannot read a text by which bits are \
                           chosen (`calibrate`)";
            Error::Unsupported(message.to_owned())
        })?;
        let tokens = tokenizer.encode(&text, true)?;
        if tokens.len() < LEAST_TOKENS {
            let message = format!(
                "has {} tokens; some hundred say which layers matter, and {LEAST_TOKENS} are needed",
                tokens.len()
            );
            return Err(Error::argument("calibrate.text", message));
        }
        quantize.calibration = Some(Calibration { tokens, size });
        Ok(options)
    }
}

/// A text of fewer says nothing of a model.
const LEAST_TOKENS: usize = 16;

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
        let (source, target) = (request.source.clone(), request.target.clone());
        let mut guarded = false;
        let mut each_step = |step| {
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
        };
        let result = request
            .prepared()
            .and_then(|options| convert::convert(&source, &target, &options, &mut each_step));
        // It cannot fail but for an MLX that never started, which then holds nothing.
        let _ = mlx::memory::clear_cache();
        drop(turn);
        result
    });
    conversion
}
