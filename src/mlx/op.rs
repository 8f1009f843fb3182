//! Operations of the C API that write one array.

use std::ffi::c_int;

use mlx_sys as sys;

use super::call::check;
use super::{Array, device};
use crate::error::Result;

/// Runs an operation that writes one array, on this thread's stream.
pub(super) fn produce(
    operation: impl FnOnce(*mut sys::mlx_array, sys::mlx_stream) -> c_int,
) -> Result<Array> {
    let stream = device::current_stream()?;
    // SAFETY: makes an empty handle; the operation fills it or leaves it empty, and both may be
    // freed.
    let mut handle = unsafe { sys::mlx_array_new() };
    let status = operation(&mut handle, stream);
    // SAFETY: the handle is ours alone.
    let array = unsafe { Array::from_ptr(handle) };
    check(status).map(|()| array)
}

/// Calls an operation of the C API whose first argument is the result and whose last is the stream.
macro_rules! op {
    ($function:ident($($argument:expr),* $(,)?)) => {
        $crate::mlx::op::produce(|out, stream| {
            // SAFETY: `out` and `stream` are live, array handles are borrowed from live arrays for
            // the length of the call, and pointers come with the length of the slice they were
            // taken from.
            unsafe { mlx_sys::$function(out, $($argument,)* stream) }
        })
    };
}
pub(super) use op;
