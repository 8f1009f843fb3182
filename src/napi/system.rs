//! Functions that need no model.

use std::path::Path;

use napi::Env;
use napi_derive::napi;

use super::error::{Result, throw};
use super::request::NativeGenerateRequest;
use crate::foreign;
use crate::mlx::{self, DeviceKind};
use crate::models;

/// The versions of the addon and of the MLX it runs on.
#[napi(object, object_from_js = false)]
pub struct NativeVersion {
    /// The addon's version.
    pub addon: String,
    /// MLX's version.
    pub mlx: String,
}

/// The versions of the addon and of the MLX it runs on.
#[napi]
pub fn native_version(env: &Env) -> Result<NativeVersion> {
    mlx::init();
    let mlx = mlx::version().map_err(|error| throw(env, &error))?;
    Ok(NativeVersion { addon: env!("CARGO_PKG_VERSION").to_owned(), mlx })
}

/// Throws `DEVICE_UNAVAILABLE` on a machine on which MLX cannot run at all. Does not touch MLX.
#[napi]
pub fn check_machine(env: &Env) -> Result<()> {
    mlx::check_machine().map_err(|error| throw(env, &error))
}

/// Refuses options of a generation that no model could honour.
#[napi]
pub fn check_generate_request(env: &Env, request: NativeGenerateRequest) -> Result<()> {
    request.translate().and_then(|request| request.check()).map_err(|error| throw(env, &error))
}

/// A device that models can run on.
#[napi(object, object_from_js = false)]
pub struct NativeDevice {
    /// What it is.
    #[napi(ts_type = "'gpu' | 'cpu'")]
    pub kind: &'static str,
    /// Its name, as far as it is known.
    pub name: Option<String>,
    /// Its memory, as far as it is known.
    pub memory_bytes: Option<f64>,
}

/// What this machine has.
#[napi(object, object_from_js = false)]
pub struct NativeSystemInfo {
    /// Its devices, the best first.
    pub devices: Vec<NativeDevice>,
    /// What `auto` stands for.
    #[napi(ts_type = "'gpu' | 'cpu'")]
    pub default_device: &'static str,
}

/// What this machine has. Never throws.
#[napi]
pub fn system_info() -> NativeSystemInfo {
    mlx::init();
    let kinds: &[DeviceKind] =
        if mlx::gpu_available() { &[DeviceKind::Gpu, DeviceKind::Cpu] } else { &[DeviceKind::Cpu] };
    let devices = kinds
        .iter()
        .map(|&kind| NativeDevice {
            kind: device_name(kind),
            name: mlx::device_name(kind),
            memory_bytes: mlx::device_memory(kind).map(|bytes| bytes as f64),
        })
        .collect();
    NativeSystemInfo { devices, default_device: device_name(kinds[0]) }
}

/// Why the kernels for NVIDIA cards do not run on the one that there is, and MLX's operations do the
/// work; nothing where they run, and where there is no such card. Never throws.
#[napi]
pub fn kernel_problem() -> Option<String> {
    mlx::init();
    mlx::gpu::Card::complaint().map(str::to_owned)
}

/// The device's name in JavaScript.
pub fn device_name(kind: DeviceKind) -> &'static str {
    match kind {
        DeviceKind::Gpu => "gpu",
        DeviceKind::Cpu => "cpu",
    }
}

/// MLX's memory in this process, in bytes.
#[napi(object, object_from_js = false)]
pub struct NativeMemoryStats {
    /// What arrays take.
    pub active_bytes: f64,
    /// What is kept for reuse.
    pub cache_bytes: f64,
    /// The most that arrays took.
    pub peak_bytes: f64,
}

/// MLX's memory in this process, in bytes.
#[napi]
pub fn memory_stats(env: &Env) -> Result<NativeMemoryStats> {
    mlx::init();
    let bytes = |read: crate::error::Result<usize>| match read {
        Ok(bytes) => Ok(bytes as f64),
        Err(error) => Err(throw(env, &error)),
    };
    Ok(NativeMemoryStats {
        active_bytes: bytes(mlx::memory::active())?,
        cache_bytes: bytes(mlx::memory::cache())?,
        peak_bytes: bytes(mlx::memory::peak())?,
    })
}

/// Gives the memory that MLX keeps for reuse back to the system.
#[napi]
pub fn clear_memory_cache(env: &Env) -> Result<()> {
    mlx::init();
    mlx::memory::clear_cache().map_err(|error| throw(env, &error))
}

/// What a file is by its name, where it is none of a model's in safetensors, and what to do about
/// it.
#[napi]
pub fn foreign_format(name: String) -> Option<String> {
    foreign::describe(&name)
}

/// The architecture of a model's folder, of which no more than `config.json` needs to be there.
#[napi]
pub fn architecture_of(env: &Env, folder: String) -> Result<&'static str> {
    models::architecture_of(Path::new(&folder)).map_err(|error| throw(env, &error))
}
