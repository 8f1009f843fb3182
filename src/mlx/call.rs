//! Status codes, error messages and handles of the C API.

use std::cell::RefCell;
use std::ffi::{CStr, c_char, c_int, c_void};

use mlx_sys as sys;

use super::Array;
use crate::error::{Error, Result};
use crate::panics;

thread_local! {
    static LAST_ERROR: RefCell<Option<String>> = const { RefCell::new(None) };
}

unsafe extern "C" {
    // Defined by mlx-rs; it feeds the messages of mlx-rs's own calls.
    fn default_mlx_error_handler(message: *const c_char, data: *mut c_void);
}

extern "C" fn on_error(message: *const c_char, data: *mut c_void) {
    // SAFETY: MLX passes a NUL-terminated string that lives for the duration of this call.
    let text = unsafe { CStr::from_ptr(message) }.to_string_lossy();
    let text = panics::without_places(&text);
    // A failure while thread-locals are being destroyed has nobody left to read it.
    let _ = LAST_ERROR.try_with(|last| *last.borrow_mut() = Some(text));
    // SAFETY: the same arguments that MLX passed to us; mlx-rs copies the message.
    unsafe { default_mlx_error_handler(message, data) };
}

/// Replaces MLX's default error handler, which ends the process, with one that keeps the message.
pub(super) fn install_error_handler() {
    // mlx-rs installs its own handler with its first guarded call, once; ours must come after it.
    let _ = mlx_rs::Device::try_default();
    // SAFETY: `on_error` is a plain function without state.
    unsafe { sys::mlx_set_error_handler(Some(on_error), std::ptr::null_mut(), None) };
}

/// The message of the calling thread's last failure.
fn last_error() -> Error {
    let message = LAST_ERROR.with(|last| last.borrow_mut().take());
    Error::Mlx(message.map_or("an operation failed without a message".to_owned(), plain))
}

/// The message in place of a compiler's log about a header that is missing: MLX compiles some of its
/// CUDA kernels when they are needed.
fn plain(message: String) -> String {
    let missing = |log: &str| {
        let name = log.split_once("cannot open source file \"")?.1.split_once('"')?.0;
        Some(format!(
            "a kernel of MLX does not compile, because the header {name} of CUDA is missing: \
             \"nodemlx setup cuda\" brings it, \"nodemlx doctor\" says what else is missing"
        ))
    };
    missing(&message).unwrap_or(message)
}

/// Turns a status of the C API into a result.
pub(super) fn check(status: c_int) -> Result<()> {
    if status == 0 { Ok(()) } else { Err(last_error()) }
}

/// An owned `mlx_vector_array`.
pub(super) struct Arrays(sys::mlx_vector_array);

impl Arrays {
    /// An empty vector for an operation to fill.
    pub(super) fn empty() -> Self {
        // SAFETY: makes an empty vector, freed on drop.
        Self(unsafe { sys::mlx_vector_array_new() })
    }

    /// A vector that shares ownership of `arrays`.
    pub(super) fn of(arrays: &[&Array]) -> Self {
        let handles: Vec<_> = arrays.iter().map(|array| array.as_ptr()).collect();
        // SAFETY: the handles are live for the call, which copies (reference-counts) them.
        Self(unsafe { sys::mlx_vector_array_new_data(handles.as_ptr(), handles.len()) })
    }

    pub(super) fn handle(&self) -> sys::mlx_vector_array {
        self.0
    }

    pub(super) fn handle_mut(&mut self) -> *mut sys::mlx_vector_array {
        &mut self.0
    }

    /// The arrays, in order.
    pub(super) fn into_vec(self) -> Result<Vec<Array>> {
        // SAFETY: the vector is live.
        let length = unsafe { sys::mlx_vector_array_size(self.0) };
        (0..length)
            .map(|index| {
                // SAFETY: an empty handle, filled by the call below.
                let mut handle = unsafe { sys::mlx_array_new() };
                // SAFETY: the vector is live and `index` is in range.
                let status = unsafe { sys::mlx_vector_array_get(&mut handle, self.0, index) };
                // SAFETY: the handle is ours alone.
                let array = unsafe { Array::from_ptr(handle) };
                check(status).map(|()| array)
            })
            .collect()
    }
}

impl Drop for Arrays {
    fn drop(&mut self) {
        // SAFETY: the vector is ours and freed once.
        unsafe { sys::mlx_vector_array_free(self.0) };
    }
}

/// The handle of an optional array; an absent one is a null handle, as the C API wants it.
pub(super) fn optional(array: Option<&Array>) -> sys::mlx_array {
    array.map_or(sys::mlx_array { ctx: std::ptr::null_mut() }, Array::as_ptr)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_header_is_named_and_said_how_to_get() {
        let log = "Failed to compile kernel: mlx.cu(3): catastrophic error: cannot open source \
                   file \"cuda_bf16.h\"\n  #include <cuda_bf16.h>\n";
        let text = plain(log.to_owned());
        assert!(text.contains("the header cuda_bf16.h of CUDA is missing"), "{text}");
        assert!(text.contains("nodemlx setup cuda"), "{text}");
        assert_eq!(plain("out of memory".to_owned()), "out of memory");
        let cut = "cannot open source file \"cuda";
        assert_eq!(plain(cut.to_owned()), cut);
    }
}
