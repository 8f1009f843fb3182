//! Evaluation, and the ways between arrays and the host's memory.

use std::cell::Cell;
use std::marker::PhantomData;

use mlx_rs::ArrayElement;
use mlx_sys as sys;

use super::call::{Arrays, check};
use super::{Array, Dtype, ops};
use crate::error::{Error, Result};

thread_local! {
    /// Whether this thread builds graphs that are never computed.
    static GRAPHS_ONLY: Cell<bool> = const { Cell::new(false) };
}

/// While it lives, its thread builds graphs and computes none but those whose values are read: what
/// they would take is known by their shapes and types alone.
#[derive(Debug)]
pub struct GraphsOnly {
    before: bool,
    _of_this_thread: PhantomData<*const ()>,
}

impl GraphsOnly {
    /// Begins.
    #[expect(clippy::new_without_default, reason = "it does something")]
    pub fn new() -> Self {
        Self { before: GRAPHS_ONLY.replace(true), _of_this_thread: PhantomData }
    }
}

impl Drop for GraphsOnly {
    fn drop(&mut self) {
        GRAPHS_ONLY.set(self.before);
    }
}

/// Computes `arrays` and waits for them.
pub fn eval(arrays: &[&Array]) -> Result<()> {
    if GRAPHS_ONLY.get() { Ok(()) } else { compute(arrays) }
}

fn compute(arrays: &[&Array]) -> Result<()> {
    // SAFETY: the vector is live for the call.
    check(unsafe { sys::mlx_eval(Arrays::of(arrays).handle()) })
}

/// Queues the computation of `arrays` without waiting for it (on the CPU it may still wait).
pub fn async_eval(arrays: &[&Array]) -> Result<()> {
    if GRAPHS_ONLY.get() {
        return Ok(());
    }
    // SAFETY: the vector is live for the call.
    check(unsafe { sys::mlx_async_eval(Arrays::of(arrays).handle()) })
}

/// A scalar `f32`. In an operation with a half-precision array it would promote the result; cast it
/// to that array's type first.
pub fn scalar(value: f32) -> Array {
    Array::from_f32(value)
}

/// An array of token ids or indices; copies `data`.
///
/// # Panics
/// If `shape` does not hold exactly `data.len()` elements.
pub fn from_u32(data: &[u32], shape: &[i32]) -> Array {
    Array::from_slice(data, shape)
}

/// An array of `f32`; copies `data`.
///
/// # Panics
/// If `shape` does not hold exactly `data.len()` elements.
pub fn from_f32(data: &[f32], shape: &[i32]) -> Array {
    Array::from_slice(data, shape)
}

/// An array of elements of type `dtype` whose bytes are given; copies them.
///
/// # Errors
/// [`Error::Mlx`] if they are not as many as `shape` says.
pub fn from_bytes(bytes: &[u8], shape: &[i32], dtype: Dtype) -> Result<Array> {
    let elements =
        shape.iter().try_fold(1_usize, |n, &dim| n.checked_mul(usize::try_from(dim).ok()?));
    // SAFETY: reads a constant of the data type.
    let size = unsafe { sys::mlx_dtype_size(dtype.into()) };
    if elements.and_then(|n| n.checked_mul(size)) != Some(bytes.len()) {
        return Err(Error::Mlx(format!("{} bytes for {shape:?} of {dtype:?}", bytes.len())));
    }
    // SAFETY: the bytes are as many as the shape and type say.
    Ok(unsafe { Array::from_raw_data(bytes.as_ptr().cast(), shape, dtype) })
}

/// The value of an array of one `u32`; waits for it.
pub fn item_u32(array: &Array) -> Result<u32> {
    let mut value = 0;
    // SAFETY: `array` is live; MLX checks the size and reports other types as errors.
    check(unsafe { sys::mlx_array_item_uint32(&mut value, array.as_ptr()) })?;
    Ok(value)
}

/// The value of an array of one `f32`; waits for it.
pub fn item_f32(array: &Array) -> Result<f32> {
    let mut value = 0.0;
    // SAFETY: `array` is live; MLX checks the size.
    check(unsafe { sys::mlx_array_item_float32(&mut value, array.as_ptr()) })?;
    Ok(value)
}

fn contiguous(array: &Array, dtype: Dtype) -> Result<Array> {
    let array = ops::contiguous(&ops::astype(array, dtype)?)?;
    compute(&[&array])?;
    Ok(array)
}

/// The elements in row-major order as `f32`; waits for them.
pub fn to_f32_vec(array: &Array) -> Result<Vec<f32>> {
    let array = contiguous(array, Dtype::Float32)?;
    array.try_as_slice::<f32>().map(<[f32]>::to_vec).or_else(|error| empty_or(&array, error))
}

/// The elements in row-major order as `u32`; waits for them.
pub fn to_u32_vec(array: &Array) -> Result<Vec<u32>> {
    let array = contiguous(array, Dtype::Uint32)?;
    array.try_as_slice::<u32>().map(<[u32]>::to_vec).or_else(|error| empty_or(&array, error))
}

/// The elements of an array that lies in row-major order. Waits for it, and, where it was queued, for
/// nothing that was queued behind it.
pub fn queued_elements<T: ArrayElement + Clone>(array: &Array) -> Result<Vec<T>> {
    // SAFETY: `array` is live.
    check(unsafe { sys::mlx_array_eval(array.as_ptr()) })?;
    array.try_as_slice::<T>().map(<[T]>::to_vec).or_else(|error| empty_or(array, error))
}

/// The elements in row-major order as they lie in memory; waits for them.
pub fn to_bytes(array: &Array) -> Result<Vec<u8>> {
    let bytes = ops::view(&ops::contiguous(array)?, Dtype::Uint8)?;
    compute(&[&bytes])?;
    bytes.try_as_slice::<u8>().map(<[u8]>::to_vec).or_else(|error| empty_or(&bytes, error))
}

fn empty_or<T>(array: &Array, error: impl std::fmt::Display) -> Result<Vec<T>> {
    if array.size() == 0 { Ok(Vec::new()) } else { Err(Error::Mlx(error.to_string())) }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::mlx::{DeviceKind, enter, memory};

    #[test]
    fn what_there_is_no_memory_for_fails_and_nothing_else() {
        enter(DeviceKind::Cpu).unwrap();
        // More than a process can address.
        let huge = ops::zeros(&[1 << 30, 1 << 20], Dtype::Float32).unwrap();
        let error = eval(&[&huge]).unwrap_err();
        assert!(error.to_string().contains("out of memory"), "{error}");
        assert!(memory::active().unwrap() < 1 << 40);
        let small = ops::zeros(&[3], Dtype::Float32).unwrap();
        assert_eq!(to_f32_vec(&small).unwrap(), [0.0; 3]);
    }
}
