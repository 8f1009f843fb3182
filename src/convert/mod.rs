//! Conversion of checkpoints: quantized, dequantized or cast, in the layout of mlx-lm, which loads
//! what is written here as it does what `mlx_lm.convert` writes.
//!
//! One matrix after the other is read from the mapped source, computed in blocks of rows and
//! written, so that memory holds little more than one of them. The target is a folder beside its
//! final place until it is whole.

mod calibrate;
mod config;
mod fuse;
mod job;
mod pattern;
mod plan;
mod report;
mod shards;
mod target;

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use crate::adapters::AdapterFile;
use crate::error::{Error, Result};
use crate::mlx::quantized::{Mode, QuantizationParams};
use crate::mlx::{self, DeviceKind, Dtype};
use crate::models;
pub use calibrate::{Calibration, TargetSize};
use job::Job;
pub use pattern::Pattern;
use plan::Plan;
pub use plan::Recipe;
pub use report::{LayerReport, Report};
use shards::{Output, Shards};
use target::Target;

/// What affine quantization packs a number in.
const AFFINE_BITS: [i32; 6] = [2, 3, 4, 5, 6, 8];

/// How the matrices of a checkpoint are quantized.
#[derive(Debug, Clone)]
pub struct QuantizeOptions {
    /// The format of the model.
    pub params: QuantizationParams,
    /// Which layers get more bits.
    pub recipe: Option<Recipe>,
    /// Bits of the modules that patterns name, of which the last wins; `None` leaves one as it is.
    pub layers: Vec<(Pattern, Option<i32>)>,
    /// What chooses the bits of all others, if `params` does not.
    pub calibration: Option<Calibration>,
    /// Whether it is an error if that leaves all matrices as they are, which mlx-lm copies then.
    pub must_change: bool,
}

/// What is done to a checkpoint.
#[derive(Debug, Clone, Default)]
pub struct ConvertOptions {
    /// How its matrices are quantized, if they are.
    pub quantize: Option<QuantizeOptions>,
    /// The folder of an adapter that is added to the weights first.
    pub adapter: Option<PathBuf>,
    /// Whether what is quantized becomes numbers again.
    pub dequantize: bool,
    /// The type of what is not quantized, and of scales; `None` for what the configuration says.
    pub dtype: Option<Dtype>,
    /// Whether a model that is at the target is replaced.
    pub overwrite: bool,
}

impl QuantizeOptions {
    /// A format of MLX; `None` for what is usual with the mode.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for sizes that the mode does not have.
    pub fn format(
        mode: Mode,
        group_size: Option<i64>,
        bits: Option<i64>,
    ) -> Result<QuantizationParams> {
        let usual = mode.defaults();
        let (groups, widths): (&[i32], &[i32]) = match mode {
            Mode::Affine => (&[32, 64, 128], &AFFINE_BITS),
            _ => (&[usual.0], &[usual.1]),
        };
        let one_of = |option: &str, value: Option<i64>, choices: &[i32], usual: i32| match value {
            None => Ok(usual),
            Some(value) => {
                choices.iter().copied().find(|&it| i64::from(it) == value).ok_or_else(|| {
                    let message =
                        format!("must be one of {choices:?} with the mode {}", mode.name());
                    Error::argument(option, message)
                })
            }
        };
        Ok(QuantizationParams {
            mode,
            group_size: one_of("groupSize", group_size, groups, usual.0)?,
            bits: one_of("bits", bits, widths, usual.1)?,
        })
    }

    /// The bits of single modules.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] about `option` for others than MLX has.
    pub fn layer_bits(option: &str, bits: f64) -> Result<i32> {
        AFFINE_BITS.into_iter().find(|&it| f64::from(it) == bits).ok_or_else(|| {
            Error::argument(option, format!("must be one of {AFFINE_BITS:?}, or null"))
        })
    }
}

/// How far a conversion has come.
#[derive(Debug, Clone, Copy)]
pub enum Progress {
    /// Matrices are measured.
    Calibration {
        /// Bytes of those that have been.
        measured_bytes: u64,
        /// Bytes of all that will be.
        total_bytes: u64,
    },
    /// The model is written.
    Writing {
        /// Bytes of what has been.
        written_bytes: u64,
        /// All bytes that will be.
        total_bytes: u64,
    },
}

/// Tells how far a conversion has come, which may end it.
fn tell(progress: &mut dyn FnMut(Progress) -> ControlFlow<()>, step: Progress) -> Result<()> {
    match progress(step) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(()) => Err(Error::Aborted("the conversion was aborted".to_owned())),
    }
}

/// Converts the model of the folder `source` into the new folder `target`, on this thread.
///
/// # Errors
/// Those of [`models::load`] about the source; [`Error::InvalidArgument`] for options that do not
/// go together and for a target that is there; [`Error::Io`]; [`Error::Aborted`] if `progress`
/// breaks. Nothing is left of a conversion that failed.
pub fn convert(
    source: &Path,
    target: &Path,
    options: &ConvertOptions,
    progress: &mut dyn FnMut(Progress) -> ControlFlow<()>,
) -> Result<Report> {
    mlx::enter(DeviceKind::Cpu)?;
    let target = Target::new(source, target, options.overwrite)?;
    let adapter = options.adapter.as_deref().map(AdapterFile::open).transpose()?;
    let mut layout = models::layout(source)?;
    if let Some(adapter) = &adapter {
        adapter.check_trainer(layout.trainer)?;
    }
    let mut config = config::read(source)?;
    let packed = plan::packed(&layout)?;
    let unpacked = match &adapter {
        Some(adapter) => fuse::fuse(&mut layout.tensors, &packed, adapter, options.dtype)?,
        None => BTreeMap::new(),
    };
    let mut plan = Plan::of(&layout, &config, packed, unpacked, options)?;
    let mut jobs = plan.jobs(layout.tensors)?;
    let calibration = options.quantize.as_ref().and_then(|it| it.calibration.as_ref());
    if let (Some(calibration), Some(quantization)) = (calibration, &mut plan.quantization) {
        calibrate::choose(&mut jobs, &plan.free, calibration, quantization, source, progress)?;
    }
    config::finish(&mut config, plan.quantization.as_ref(), options, layout.declared);
    write(target, source, &config, jobs, progress)
}

/// Writes jobs, the configuration and the files beside them.
fn write(
    target: Target,
    source: &Path,
    config: &serde_json::Map<String, serde_json::Value>,
    jobs: Vec<Job>,
    progress: &mut dyn FnMut(Progress) -> ControlFlow<()>,
) -> Result<Report> {
    let outputs: Vec<_> = jobs.iter().flat_map(Job::outputs).collect();
    // Before hours of work: what is written must load.
    models::check_tensors(source, config, outputs.iter().map(Output::outline).collect())?;
    let total_bytes = outputs.iter().map(|output| output.bytes() as u64).sum();
    target::check_room(target.folder(), total_bytes)?;
    let parameters = jobs.iter().map(Job::parameters).sum();
    let mut shards = Shards::create(target.folder(), outputs, parameters)?;
    let mut report = Report::new(parameters, total_bytes);
    let mut written_bytes = 0;
    let mut written = |bytes: u64| {
        written_bytes += bytes;
        tell(progress, Progress::Writing { written_bytes, total_bytes })
    };
    written(0)?;
    for job in jobs {
        if let Some(layer) = job.run(&mut shards, &mut written)? {
            if !layer.error.is_finite() {
                let name = format!("{}.weight", layer.path);
                let message = " holds numbers that are not finite, which have no codes; leave it as \
                               it is (`layers` with null), or repair the source";
                return Err(Error::of_tensor(source, &name, message));
            }
            report.layers.push(layer);
        }
        mlx::memory::clear_cache()?;
    }
    shards.finish()?;
    config::write(target.folder(), config)?;
    target::copy_files(source, target.folder())?;
    target.finish()?;
    Ok(report)
}
