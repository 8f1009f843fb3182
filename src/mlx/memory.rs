//! MLX's memory statistics, in bytes, for the whole process.

use mlx_sys as sys;

use super::call::check;
use super::mapped::bytes_in_place;
use super::metal;
use crate::error::Result;

unsafe extern "C" {
    /// Of native/primitives/memory.h.
    fn nodemlx_fail_without_memory();
}

/// Lets operations on the CPU fail where there is no memory for their results, instead of the
/// process; once, before any other call.
pub(super) fn fail_without_memory() {
    // SAFETY: called once, while no other thread can allocate.
    unsafe { nodemlx_fail_without_memory() };
}

fn read(f: impl FnOnce(*mut usize) -> i32) -> Result<usize> {
    metal::check()?;
    let mut bytes = 0;
    check(f(&mut bytes)).map(|()| bytes)
}

/// Bytes held by live arrays, those that lie in mapped files included.
pub fn active() -> Result<usize> {
    // SAFETY: writes one number.
    read(|out| unsafe { sys::mlx_get_active_memory(out) }).map(|bytes| bytes + bytes_in_place())
}

/// Bytes kept for reuse by later arrays.
pub fn cache() -> Result<usize> {
    // SAFETY: writes one number.
    read(|out| unsafe { sys::mlx_get_cache_memory(out) })
}

/// The largest value of [`active`] since the last [`reset_peak`], as far as MLX's own memory goes,
/// and what lies in mapped files now.
pub fn peak() -> Result<usize> {
    // SAFETY: writes one number.
    read(|out| unsafe { sys::mlx_get_peak_memory(out) }).map(|bytes| bytes + bytes_in_place())
}

/// Starts [`peak`] anew.
pub fn reset_peak() -> Result<()> {
    metal::check()?;
    // SAFETY: no arguments.
    check(unsafe { sys::mlx_reset_peak_memory() })
}

/// Gives the memory kept for reuse back to the system where it is more than an eighth of what is in
/// use: what comes next asks for the same sizes, and a GPU takes longer to give memory out anew
/// than to compute a short prompt.
pub fn limit_cache() -> Result<()> {
    if cache()? > active()? / 8 { clear_cache() } else { Ok(()) }
}

/// Gives the memory kept for reuse back to the system.
pub fn clear_cache() -> Result<()> {
    metal::check()?;
    // SAFETY: no arguments.
    check(unsafe { sys::mlx_clear_cache() })
}
