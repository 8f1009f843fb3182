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

/// Gives the memory kept for reuse back to the system.
pub fn clear_cache() -> Result<()> {
    metal::check()?;
    // SAFETY: no arguments.
    check(unsafe { sys::mlx_clear_cache() })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::mlx::{DeviceKind, Dtype, enter, eval, ops, to_f32_vec};

    #[test]
    fn what_there_is_no_memory_for_fails_and_nothing_else() {
        enter(DeviceKind::Cpu).unwrap();
        // More than a process can address.
        let huge = ops::zeros(&[1 << 30, 1 << 20], Dtype::Float32).unwrap();
        let error = eval(&[&huge]).unwrap_err();
        assert!(error.to_string().contains("out of memory"), "{error}");
        assert!(active().unwrap() < 1 << 40);
        let small = ops::zeros(&[3], Dtype::Float32).unwrap();
        assert_eq!(to_f32_vec(&small).unwrap(), [0.0; 3]);
    }
}
