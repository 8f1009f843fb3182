//! The end of the process, which must not come in the middle of MLX's work.

/// Calls `handler` when the process exits normally: before the destructors of C++ objects that
/// exist already, after those of objects that are made later.
pub fn at_exit(handler: extern "C" fn()) {
    // SAFETY: `handler` is a function of this library, which is not unloaded before the process
    // ends (the bindings see to that). Without memory for one more handler, exiting is as it was.
    unsafe { libc::atexit(handler) };
}

/// Ends the process at once, without handlers and destructors.
pub fn exit_now(code: i32) -> ! {
    // SAFETY: does not return, and touches nothing.
    unsafe { libc::_exit(code) }
}
