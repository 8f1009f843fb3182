//! Converting a checkpoint.

use std::time::{Duration, Instant};

use napi::Env;
use napi::bindgen_prelude::{Either, Function, Null, Object};
use napi::threadsafe_function::ThreadsafeFunctionCallMode;
use napi_derive::napi;

use super::error::{Result, throw};
use super::load::absolute;
use super::promise::promise;
use crate::convert::{
    ConvertOptions, Pattern, Progress, QuantizeOptions, Recipe, Report, TargetSize,
};
use crate::engine::{self, Conversion, ConvertRequest};
use crate::error::{Error, Result as EngineResult};
use crate::mlx::Dtype;
use crate::mlx::quantized::Mode;

/// The least time between two reports of progress.
const REPORT_EVERY: Duration = Duration::from_millis(50);

/// What to convert, and how.
#[napi(object, object_to_js = false)]
pub struct NativeConvertRequest {
    /// The model's folder.
    pub source: String,
    /// The folder that is made.
    pub target: String,
    /// Whether matrices are quantized.
    pub quantize: bool,
    /// Bits of a number.
    pub bits: Option<f64>,
    /// Numbers that share a scale.
    pub group_size: Option<f64>,
    /// The kind of codes and scales.
    #[napi(ts_type = "'affine' | 'mxfp4' | 'mxfp8' | 'nvfp4'")]
    pub mode: Option<String>,
    /// Which layers get more bits.
    #[napi(ts_type = "'mixed_2_6' | 'mixed_3_4' | 'mixed_3_6' | 'mixed_4_6'")]
    pub recipe: Option<String>,
    /// Patterns of modules, and the bits of each; null for none.
    pub layers: Vec<NativeLayerBits>,
    /// What chooses the bits of all others.
    pub calibrate: Option<NativeCalibration>,
    /// The folder of an adapter that is added to the weights first.
    pub adapter: Option<String>,
    /// Whether what is quantized becomes numbers again.
    pub dequantize: bool,
    /// The type of what is not quantized.
    #[napi(ts_type = "'float32' | 'bfloat16' | 'float16'")]
    pub dtype: Option<String>,
    /// Whether a model at the target is replaced.
    pub overwrite: bool,
}

/// The bits of the modules that a pattern names.
#[napi(object, object_to_js = false)]
pub struct NativeLayerBits {
    /// Consecutive parts of their paths.
    pub pattern: String,
    /// Null leaves them as they are.
    pub bits: Either<f64, Null>,
}

/// A text by which bits are chosen, and the size that is wanted: one of the two.
#[napi(object, object_to_js = false)]
pub struct NativeCalibration {
    /// The text.
    pub text: String,
    /// Bits for each number of the model.
    pub bits: Option<f64>,
    /// Bytes of its tensors.
    pub bytes: Option<f64>,
}

/// How far a conversion has come.
#[napi(object, object_from_js = false)]
pub struct NativeConvertProgress {
    /// What is done: matrices are measured, or the model is written.
    #[napi(ts_type = "'calibrate' | 'convert'")]
    pub stage: &'static str,
    /// Bytes that have been measured or written.
    pub done_bytes: f64,
    /// All that will be.
    pub total_bytes: f64,
}

/// A module that was quantized.
#[napi(object, object_from_js = false)]
pub struct NativeLayerReport {
    /// Its path.
    pub path: String,
    /// The kind of codes and scales.
    pub mode: &'static str,
    /// Bits of a number.
    pub bits: i32,
    /// Numbers that share a scale.
    pub group_size: i32,
    /// How many numbers it stands for.
    pub parameters: f64,
    /// ‖w − ŵ‖ / ‖w‖ of its numbers and what the codes stand for.
    pub error: f64,
}

/// What a conversion wrote.
#[napi(object, object_from_js = false)]
pub struct NativeConvertReport {
    /// The folder.
    pub path: String,
    /// Numbers of the model.
    pub parameters: f64,
    /// Bytes of its tensors.
    pub bytes: f64,
    /// Bits of a number, scales and biases included.
    pub bits_per_weight: f64,
    /// The modules that were quantized.
    pub layers: Vec<NativeLayerReport>,
}

impl NativeConvertReport {
    fn new(path: String, report: Report) -> Self {
        let bits_per_weight = report.bits_per_weight();
        let layers = report.layers.into_iter().map(|layer| NativeLayerReport {
            path: layer.path,
            mode: layer.params.mode.name(),
            bits: layer.params.bits,
            group_size: layer.params.group_size,
            parameters: layer.parameters as f64,
            error: layer.error,
        });
        Self {
            path,
            parameters: report.parameters as f64,
            bytes: report.bytes as f64,
            bits_per_weight,
            layers: layers.collect(),
        }
    }
}

/// A conversion under way. Collected as garbage, it is aborted.
#[napi]
pub struct NativeConversion {
    conversion: Conversion,
}

#[napi]
impl NativeConversion {
    /// Ends the conversion with `ABORTED`, unless it has ended.
    #[napi]
    pub fn abort(&self) {
        self.conversion.abort();
    }
}

impl Drop for NativeConversion {
    fn drop(&mut self) {
        self.conversion.abort();
    }
}

/// A conversion and its outcome.
#[napi(object, object_from_js = false)]
pub struct NativeConverting<'env> {
    /// The conversion.
    pub conversion: NativeConversion,
    /// What it wrote.
    #[napi(ts_type = "Promise<NativeConvertReport>")]
    pub report: Object<'env>,
}

/// Begins to convert a checkpoint.
#[napi]
pub fn convert_model<'env>(
    env: &'env Env,
    request: NativeConvertRequest,
    on_progress: Option<Function<'_, NativeConvertProgress, ()>>,
) -> Result<NativeConverting<'env>> {
    let request = translate(request).map_err(|error| throw(env, &error))?;
    let progress = match on_progress {
        Some(function) => reporter(&function)?,
        None => Box::new(|_| {}),
    };
    let path = request.target.to_string_lossy().into_owned();
    let (report, callback) = promise(env, move |report| NativeConvertReport::new(path, report))?;
    let conversion = engine::convert(request, progress, callback);
    Ok(NativeConverting { conversion: NativeConversion { conversion }, report })
}

fn translate(request: NativeConvertRequest) -> EngineResult<ConvertRequest> {
    let dtypes = [Dtype::Float32, Dtype::Bfloat16, Dtype::Float16];
    let dtype = match &request.dtype {
        Some(name) => Some(one_of("dtype", name, &dtypes, |dtype| crate::mlx::dtype_name(*dtype))?),
        None => None,
    };
    let calibration = match &request.calibrate {
        Some(NativeCalibration { text, bits, bytes }) => {
            let size = match (bits, bytes) {
                (Some(bits), None) => TargetSize::BitsPerWeight(*bits),
                (None, Some(bytes)) => TargetSize::Bytes(*bytes),
                _ => {
                    let message = "needs either bits or bytes";
                    return Err(Error::argument("calibrate", message));
                }
            };
            Some((text.clone(), size))
        }
        None => None,
    };
    Ok(ConvertRequest {
        calibration,
        source: absolute(&request.source),
        target: absolute(&request.target),
        options: ConvertOptions {
            quantize: if request.quantize { Some(quantize(&request)?) } else { None },
            adapter: request.adapter.as_deref().map(absolute),
            dequantize: request.dequantize,
            dtype,
            overwrite: request.overwrite,
        },
    })
}

fn quantize(request: &NativeConvertRequest) -> EngineResult<QuantizeOptions> {
    let mode = match &request.mode {
        Some(name) => one_of("mode", name, &Mode::ALL, |mode| mode.name())?,
        None => Mode::Affine,
    };
    let recipe = match &request.recipe {
        Some(name) => Some(one_of("recipe", name, &Recipe::ALL, |recipe| recipe.name())?),
        None => None,
    };
    let params = QuantizeOptions::format(mode, whole(request.group_size), whole(request.bits))?;
    let layers = request.layers.iter().map(|NativeLayerBits { pattern, bits }| {
        let option = format!("layers[\"{pattern}\"]");
        let parsed = Pattern::parse(pattern)
            .ok_or_else(|| Error::argument(&option, "is no path of a module"))?;
        let bits = match bits {
            Either::A(bits) => Some(QuantizeOptions::layer_bits(&option, *bits)?),
            Either::B(_) => None,
        };
        Ok((parsed, bits))
    });
    let layers = layers.collect::<EngineResult<_>>()?;
    Ok(QuantizeOptions { params, recipe, layers, calibration: None, must_change: true })
}

/// A whole number as it was given; any other becomes one that no option takes.
fn whole(value: Option<f64>) -> Option<i64> {
    value.map(|value| if value.fract() == 0.0 { value as i64 } else { -1 })
}

fn one_of<T: Copy>(
    option: &str,
    name: &str,
    choices: &[T],
    name_of: impl Fn(&T) -> &'static str,
) -> EngineResult<T> {
    choices.iter().copied().find(|choice| name_of(choice) == name).ok_or_else(|| {
        let names = choices.iter().map(name_of).collect::<Vec<_>>().join(", ");
        Error::argument(option, format!("must be one of {names}, not \"{name}\""))
    })
}

/// Calls `function` on the JavaScript thread, not too often, and without keeping Node.js alive.
fn reporter(
    function: &Function<'_, NativeConvertProgress, ()>,
) -> Result<Box<dyn FnMut(Progress) + Send>> {
    let function =
        function.build_threadsafe_function::<NativeConvertProgress>().weak::<true>().build()?;
    let mut last: Option<Instant> = None;
    Ok(Box::new(move |progress| {
        let (stage, done, total) = match progress {
            Progress::Calibration { measured_bytes, total_bytes } => {
                ("calibrate", measured_bytes, total_bytes)
            }
            Progress::Writing { written_bytes, total_bytes } => {
                ("convert", written_bytes, total_bytes)
            }
        };
        let complete = done == total;
        if last.is_some_and(|at| at.elapsed() < REPORT_EVERY) && !complete {
            return;
        }
        last = Some(Instant::now());
        let report =
            NativeConvertProgress { stage, done_bytes: done as f64, total_bytes: total as f64 };
        // An environment that has ended wants no reports.
        let _ = function.call(report, ThreadsafeFunctionCallMode::NonBlocking);
    }))
}
