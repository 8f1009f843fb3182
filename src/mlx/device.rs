//! Devices, and the one stream of each engine thread.

use std::cell::Cell;
use std::ffi::CStr;
use std::fmt;
use std::sync::Once;

use mlx_sys as sys;

use super::call::{check, install_error_handler};
use super::metal;
use crate::error::{Error, Result};

/// Where a model runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DeviceKind {
    /// Metal on a Mac, CUDA on Linux.
    Gpu,
    /// The processor.
    Cpu,
}

impl fmt::Display for DeviceKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Gpu => "gpu",
            Self::Cpu => "cpu",
        })
    }
}

/// The streams of a thread. They are bound to the thread because MLX's are: a stream may only be
/// used by the thread that made it. Everything else that a model runs with is in its
/// [`crate::fused::Device`].
struct ThreadStreams {
    current: Cell<Option<sys::mlx_stream>>,
    gpu: Cell<Option<sys::mlx_stream>>,
    cpu: Cell<Option<sys::mlx_stream>>,
}

thread_local! {
    static STREAMS: ThreadStreams = const {
        ThreadStreams {
            current: Cell::new(None),
            gpu: Cell::new(None),
            cpu: Cell::new(None),
        }
    };
}

/// Prepares MLX for this process: errors become results, and kernel fusion by an external compiler
/// is off.
///
/// Must run before any other call; later calls do nothing.
pub fn init() {
    static INIT: Once = Once::new();
    INIT.call_once(|| {
        install_error_handler();
        super::memory::fail_without_memory();
        #[cfg(target_os = "linux")]
        if gpu_available() {
            super::kernel_images::announce();
            let_caches_change();
        }
        // On the CPU `compile` pipes generated code through `g++` and loads it from a predictable
        // path in the temporary folder: slow, and a risk on a shared machine.
        // Whether there is a GPU does not matter: a model may run on the CPU beside it.
        // SAFETY: sets a process-wide flag.
        #[cfg(not(target_os = "macos"))]
        unsafe {
            sys::mlx_disable_compile()
        };
    });
}

/// Lets MLX's caches of graphs and plans for CUDA forget what is old. By default it fails for good
/// once a process has had twice as many as one of them holds (800 graphs), as a server that reads
/// prompts of all lengths soon has.
#[cfg(target_os = "linux")]
fn let_caches_change() {
    const VARIABLE: &str = "MLX_ENABLE_CACHE_THRASHING_CHECK";
    if std::env::var_os(VARIABLE).is_none() {
        // SAFETY: sets a variable that MLX alone reads, when it makes its first cache, which is
        // after this.
        unsafe { std::env::set_var(VARIABLE, "0") };
    }
}

/// MLX's version, such as `0.32.2`.
pub fn version() -> Result<String> {
    // SAFETY: makes an empty string, filled by the next call and freed below.
    let mut text = unsafe { sys::mlx_string_new() };
    // SAFETY: `text` is live.
    let status = unsafe { sys::mlx_version(&mut text) };
    let result = check(status).map(|()| {
        // SAFETY: the string is live and NUL-terminated.
        unsafe { CStr::from_ptr(sys::mlx_string_data(text)) }.to_string_lossy().into_owned()
    });
    // SAFETY: freed once.
    unsafe { sys::mlx_string_free(text) };
    result
}

fn with_device<T>(kind: DeviceKind, f: impl FnOnce(sys::mlx_device) -> T) -> T {
    let kind = match kind {
        DeviceKind::Gpu => sys::mlx_device_type__MLX_GPU,
        DeviceKind::Cpu => sys::mlx_device_type__MLX_CPU,
    };
    // SAFETY: makes a handle to the first device of that type, freed below.
    let device = unsafe { sys::mlx_device_new_type(kind, 0) };
    let result = f(device);
    // SAFETY: freed once.
    unsafe { sys::mlx_device_free(device) };
    result
}

/// Whether a GPU can be used. Never fails.
pub fn gpu_available() -> bool {
    if metal::check().is_err() {
        return false;
    }
    with_device(DeviceKind::Gpu, |device| {
        let mut available = false;
        // SAFETY: both arguments are live.
        let status = unsafe { sys::mlx_device_is_available(&mut available, device) };
        check(status).is_ok() && available
    })
}

fn with_info<T>(kind: DeviceKind, f: impl FnOnce(sys::mlx_device_info) -> Option<T>) -> Option<T> {
    if kind == DeviceKind::Gpu && !gpu_available() {
        return None;
    }
    with_device(kind, |device| {
        // SAFETY: makes an empty handle, filled by the next call and freed below.
        let mut info = unsafe { sys::mlx_device_info_new() };
        // SAFETY: both handles are live.
        let status = unsafe { sys::mlx_device_info_get(&mut info, device) };
        let result = check(status).ok().and_then(|()| f(info));
        // SAFETY: freed once.
        unsafe { sys::mlx_device_info_free(info) };
        result
    })
}

/// The device's name as its driver gives it, if there is one.
pub fn device_name(kind: DeviceKind) -> Option<String> {
    with_info(kind, |info| {
        let mut text = std::ptr::null();
        // SAFETY: the handle is live and the key is NUL-terminated.
        let status =
            unsafe { sys::mlx_device_info_get_string(&mut text, info, c"device_name".as_ptr()) };
        if check(status).is_err() || text.is_null() {
            return None;
        }
        // SAFETY: the string belongs to `info`, which outlives the copy made here.
        Some(unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned())
    })
}

/// The device's memory in bytes, if MLX knows it.
pub fn device_memory(kind: DeviceKind) -> Option<usize> {
    with_info(kind, |info| {
        [c"memory_size", c"total_memory"].into_iter().find_map(|key| {
            let mut exists = false;
            // SAFETY: the handle is live and the key is NUL-terminated.
            let status = unsafe { sys::mlx_device_info_has_key(&mut exists, info, key.as_ptr()) };
            if check(status).is_err() || !exists {
                return None;
            }
            let mut bytes = 0;
            // SAFETY: as above.
            let status = unsafe { sys::mlx_device_info_get_size(&mut bytes, info, key.as_ptr()) };
            check(status).ok().map(|()| bytes)
        })
    })
}

/// Makes `kind` the device of this thread's operations.
///
/// MLX's streams belong to the thread that made them and are never given back, and each CPU stream
/// is an operating-system thread; so a thread makes one per device and keeps it. Engine threads are
/// reused for the same reason.
pub fn enter(kind: DeviceKind) -> Result<()> {
    init();
    metal::check()?;
    if kind == DeviceKind::Gpu && !gpu_available() {
        return Err(Error::DeviceUnavailable(
            "no GPU that MLX can use was found; load the model with device \"cpu\" or \"auto\""
                .to_owned(),
        ));
    }
    STREAMS.with(|streams| {
        let slot = match kind {
            DeviceKind::Gpu => &streams.gpu,
            DeviceKind::Cpu => &streams.cpu,
        };
        let stream = match slot.get() {
            Some(stream) => stream,
            None => {
                let stream = with_device(kind, |device| {
                    // SAFETY: the device handle is live; the stream is kept for the thread's life.
                    unsafe { sys::mlx_stream_new_device(device) }
                });
                if stream.ctx.is_null() {
                    check(1)?;
                }
                slot.set(Some(stream));
                stream
            }
        };
        with_device(kind, |device| {
            // SAFETY: live handles; both calls only set defaults that array creation falls back to.
            check(unsafe { sys::mlx_set_default_device(device) })?;
            // SAFETY: as above.
            check(unsafe { sys::mlx_set_default_stream(stream) })
        })?;
        streams.current.set(Some(stream));
        Ok(())
    })
}

/// Waits for everything that this thread has asked MLX for. The errors of tasks that nobody waited
/// for end here: MLX would give them to whoever waits next. Gives the first of them.
pub fn settle() -> Result<()> {
    let stream = current_stream()?;
    // SAFETY: the stream is live.
    let synchronize = || check(unsafe { sys::mlx_synchronize(stream) });
    let outcome = synchronize();
    // An error that was there before may have come back in place of waiting; the next call waits.
    for _ in 0..3 {
        if outcome.is_ok() || synchronize().is_ok() {
            break;
        }
    }
    outcome
}

/// The stream that this thread's operations run on.
pub(super) fn current_stream() -> Result<sys::mlx_stream> {
    STREAMS.with(|streams| streams.current.get()).ok_or_else(|| {
        Error::Mlx(
            "an array operation was called on a thread that has entered no device".to_owned(),
        )
    })
}
