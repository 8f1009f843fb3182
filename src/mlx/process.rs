//! The end of the process, which must not come in the middle of MLX's work.

use std::sync::OnceLock;

/// What is called with the exit code, where the system tells it.
type Handler = fn(Option<i32>);

static HANDLER: OnceLock<Handler> = OnceLock::new();

/// Calls `handler` when the process exits normally: before the destructors of C++ objects that
/// exist already, after those of objects that are made later. Only the first call counts.
pub fn at_exit(handler: Handler) {
    if HANDLER.set(handler).is_ok() {
        register();
    }
}

#[cfg(all(target_os = "linux", target_env = "gnu"))]
fn register() {
    use std::ffi::{c_int, c_void};
    unsafe extern "C" {
        fn on_exit(handler: extern "C" fn(c_int, *mut c_void), argument: *mut c_void) -> c_int;
    }
    extern "C" fn call(code: c_int, _: *mut c_void) {
        if let Some(handler) = HANDLER.get() {
            handler(Some(code));
        }
    }
    // SAFETY: `call` is a function of this library, which is not unloaded before the process ends
    // (the bindings see to that). Without memory for one more handler, exiting is as it was.
    unsafe { on_exit(call, std::ptr::null_mut()) };
}

#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
fn register() {
    extern "C" fn call() {
        if let Some(handler) = HANDLER.get() {
            handler(None);
        }
    }
    // SAFETY: as in the other `register`.
    unsafe { libc::atexit(call) };
}

/// Whether the calling thread is the one that the process began with; never where the system does
/// not tell.
pub fn on_main_thread() -> bool {
    #[cfg(target_os = "macos")]
    // SAFETY: no arguments, no conditions.
    return unsafe { libc::pthread_main_np() } != 0;
    #[cfg(target_os = "linux")]
    // SAFETY: as above.
    return unsafe { libc::gettid() == libc::getpid() };
    #[cfg(not(any(target_os = "macos", target_os = "linux")))]
    false
}

/// Ends the process at once, without handlers and destructors.
pub fn exit_now(code: i32) -> ! {
    // SAFETY: does not return, and touches nothing.
    unsafe { libc::_exit(code) }
}
