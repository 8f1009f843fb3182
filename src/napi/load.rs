//! Loading a model.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use napi::Env;
use napi::bindgen_prelude::{Function, Object};
use napi::threadsafe_function::ThreadsafeFunctionCallMode;
use napi_derive::napi;

use super::environment;
use super::error::{Result, throw};
use super::model::NativeModel;
use super::promise::promise;
use crate::engine::{self, Callback, Engine, LoadProgress, LoadRequest, Model, PrefixDisk};
use crate::error::{Error, Result as EngineResult};
use crate::fused::Precision;
use crate::mlx::{DeviceKind, Dtype};
use crate::ranges;

/// The least time between two reports of progress within one stage.
const REPORT_EVERY: Duration = Duration::from_millis(50);

/// What to load, and how.
#[napi(object, object_to_js = false)]
pub struct NativeLoadRequest {
    /// The model's folder.
    pub path: String,
    /// Where it shall run.
    #[napi(ts_type = "'auto' | 'gpu' | 'cpu'")]
    pub device: String,
    /// The type of activations and of weights that are not quantized.
    #[napi(ts_type = "'auto' | 'float32' | 'bfloat16' | 'float16'")]
    pub dtype: String,
    /// How many threads may compute at the same time on the CPU.
    pub threads: Option<f64>,
    /// How the CPU multiplies activations with quantized weights.
    #[napi(ts_type = "'exact' | 'fast' | 'fastest'")]
    pub precision: Option<String>,
    /// How many generations run at the same time, at most.
    pub max_sequences: Option<f64>,
    /// How long a generation that makes tokens may wait for the prompt of another, in milliseconds.
    pub max_stall_ms: Option<f64>,
    /// The bytes that the keys, values and states of running generations may take.
    pub memory_bytes: Option<f64>,
    /// The most bytes that are kept of what generations have read, for others that begin alike; 0
    /// for none at all.
    pub prefix_cache_bytes: Option<f64>,
    /// The most bytes of files for what generations have read, of all models.
    pub prefix_cache_disk_bytes: Option<f64>,
    /// Where those files are.
    pub prefix_cache_directory: Option<String>,
    /// The folder of a smaller model that drafts tokens.
    pub draft_path: Option<String>,
    /// Whether a head of the model that predicts more tokens than the next is loaded; left out for
    /// yes.
    pub prediction_heads: Option<bool>,
    /// The most tokens of a prompt and its answer.
    pub context_length: Option<f64>,
}

/// How far a load has come.
#[napi(object, object_from_js = false)]
pub struct NativeLoadProgress {
    /// What is being loaded.
    #[napi(ts_type = "'weights' | 'tokenizer' | 'kernels'")]
    pub stage: &'static str,
    /// The bytes of the weights that have been read.
    pub loaded_bytes: f64,
    /// All bytes of the weights.
    pub total_bytes: f64,
}

/// Begins to load a model.
#[napi]
pub fn load_model(
    env: &Env,
    request: NativeLoadRequest,
    on_progress: Option<Function<'_, NativeLoadProgress, ()>>,
) -> Result<NativeLoad> {
    let request = translate(request).map_err(|error| throw(env, &error))?;
    let progress = match on_progress {
        Some(function) => reporter(&function)?,
        None => Box::new(|_| {}),
    };
    let outcome = Arc::new(Outcome::default());
    let callback: Callback<Model> = Box::new({
        let outcome = Arc::clone(&outcome);
        move |result| outcome.put(result)
    });
    let engine = engine::load(request, progress, callback);
    environment::adopt(&engine);
    Ok(NativeLoad { engine, outcome })
}

/// Refuses options of a load that no model could honour.
#[napi]
pub fn check_load_request(env: &Env, request: NativeLoadRequest) -> Result<()> {
    translate(request).map(drop).map_err(|error| throw(env, &error))
}

/// The path as it is from here: the current folder may be another one when the engine comes to it.
pub(super) fn absolute(path: &str) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| PathBuf::from(path))
}

fn translate(request: NativeLoadRequest) -> EngineResult<LoadRequest> {
    let prefix_disk = match (request.prefix_cache_disk_bytes, &request.prefix_cache_directory) {
        (Some(bytes), Some(directory)) => Some(PrefixDisk {
            directory: absolute(directory),
            bytes: ranges::PREFIX_CACHE_DISK_BYTES.check(bytes)? as u64,
        }),
        _ => None,
    };
    Ok(LoadRequest {
        prefix_disk,
        path: absolute(&request.path),
        draft: request.draft_path.as_deref().map(absolute),
        prediction_heads: request.prediction_heads.unwrap_or(true),
        context_length: match request.context_length {
            Some(tokens) => Some(ranges::CONTEXT_LENGTH.check(tokens)? as usize),
            None => None,
        },
        device: match request.device.as_str() {
            "auto" => None,
            "gpu" => Some(DeviceKind::Gpu),
            "cpu" => Some(DeviceKind::Cpu),
            other => return Err(one_of("device", "auto, gpu or cpu", other)),
        },
        dtype: match request.dtype.as_str() {
            "auto" => None,
            "float32" => Some(Dtype::Float32),
            "bfloat16" => Some(Dtype::Bfloat16),
            "float16" => Some(Dtype::Float16),
            other => return Err(one_of("dtype", "auto, float32, bfloat16 or float16", other)),
        },
        threads: match request.threads {
            Some(threads) => Some(ranges::THREADS.check(threads)? as usize),
            None => None,
        },
        precision: match request.precision.as_deref() {
            None => None,
            Some("exact") => Some(Precision::Exact),
            Some("fast") => Some(Precision::Fast),
            Some("fastest") => Some(Precision::Fastest),
            Some(other) => return Err(one_of("precision", "exact, fast or fastest", other)),
        },
        max_sequences: match request.max_sequences {
            Some(count) => Some(ranges::MAX_SEQUENCES.check(count)? as usize),
            None => None,
        },
        max_stall_ms: match request.max_stall_ms {
            Some(time) => Some(ranges::MAX_STALL_MS.check(time)? as u64),
            None => None,
        },
        memory_bytes: match request.memory_bytes {
            Some(bytes) => Some(ranges::MEMORY_BYTES.check(bytes)? as usize),
            None => None,
        },
        prefix_cache_bytes: match request.prefix_cache_bytes {
            Some(bytes) => Some(ranges::PREFIX_CACHE_BYTES.check(bytes)? as usize),
            None => None,
        },
    })
}

fn one_of(option: &str, accepted: &str, value: &str) -> Error {
    Error::argument(option, format!("must be {accepted}, not \"{value}\""))
}

/// Calls `function` on the JavaScript thread, not too often, and without keeping Node.js alive.
fn reporter(
    function: &Function<'_, NativeLoadProgress, ()>,
) -> Result<Box<dyn FnMut(LoadProgress) + Send>> {
    let function =
        function.build_threadsafe_function::<NativeLoadProgress>().weak::<true>().build()?;
    let mut last: Option<(LoadProgress, Instant)> = None;
    Ok(Box::new(move |progress| {
        let complete = progress.loaded_bytes == progress.total_bytes;
        if let Some((before, at)) = last
            && (before == progress
                || before.stage == progress.stage && !complete && at.elapsed() < REPORT_EVERY)
        {
            return;
        }
        last = Some((progress, Instant::now()));
        let report = NativeLoadProgress {
            stage: progress.stage.as_str(),
            loaded_bytes: progress.loaded_bytes as f64,
            total_bytes: progress.total_bytes as f64,
        };
        // An environment that has ended wants no reports.
        let _ = function.call(report, ThreadsafeFunctionCallMode::NonBlocking);
    }))
}

/// A model that is being loaded.
#[napi]
pub struct NativeLoad {
    engine: Arc<Engine>,
    outcome: Arc<Outcome>,
}

#[napi]
impl NativeLoad {
    /// The model. May be called once; a load whose promise nobody took does not keep Node.js alive.
    #[napi(ts_return_type = "Promise<NativeModel>")]
    pub fn promise<'env>(&self, env: &'env Env) -> Result<Object<'env>> {
        let (promise, callback) = promise(env, NativeModel::new)?;
        self.outcome.take(callback);
        Ok(promise)
    }

    /// Ends the load with `ABORTED`, unless it has ended.
    #[napi]
    pub fn abort(&self) {
        self.engine.abort_load();
    }
}

/// The meeting place of a load's result and of who waits for it.
#[derive(Default)]
struct Outcome(Mutex<Meeting>);

#[derive(Default)]
enum Meeting {
    #[default]
    Nobody,
    Result(EngineResult<Model>),
    Waiting(Callback<Model>),
    Over,
}

impl Outcome {
    fn put(&self, result: EngineResult<Model>) {
        let mut meeting = self.lock();
        match std::mem::replace(&mut *meeting, Meeting::Over) {
            Meeting::Waiting(callback) => {
                drop(meeting);
                callback(result);
            }
            _ => *meeting = Meeting::Result(result),
        }
    }

    fn take(&self, callback: Callback<Model>) {
        let mut meeting = self.lock();
        match std::mem::replace(&mut *meeting, Meeting::Over) {
            Meeting::Nobody => *meeting = Meeting::Waiting(callback),
            Meeting::Result(result) => {
                drop(meeting);
                callback(result);
            }
            taken => {
                *meeting = taken;
                drop(meeting);
                let message = "the promise of a load can be taken once";
                callback(Err(Error::Unsupported(message.to_owned())));
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Meeting> {
        // No code of others runs under the lock, so a poisoned one still holds a sound state.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
