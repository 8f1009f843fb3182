//! Random numbers with explicit keys: the same key gives the same numbers, whatever else runs.

use mlx_sys as sys;

use super::op::op;
use super::{Array, Dtype, scalar};
use crate::error::Result;

/// 64 bits for draw number `index` of the stream that `seed` names: SplitMix64 (Steele, Lea and
/// Flood 2014) of the pair, so that no draw depends on the one before.
pub fn bits(seed: u64, index: u64) -> u64 {
    let mut z = seed ^ index.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    for multiplier in [0xBF58_476D_1CE4_E5B9, 0x94D0_49BB_1331_11EB] {
        z = (z ^ (z >> 30)).wrapping_mul(multiplier);
    }
    z ^ (z >> 31)
}

/// A key, an array of two `u32`, for draw number `index` of the stream that `seed` names.
pub fn key(seed: u64, index: u64) -> Array {
    let bits = bits(seed, index);
    super::from_u32(&[(bits >> 32) as u32, bits as u32], &[2])
}

/// A number uniform in [0, 1) for draw number `index` of the stream that `seed` names.
pub fn host_uniform(seed: u64, index: u64) -> f64 {
    // As many bits as an f64 holds.
    (bits(seed, index) >> 11) as f64 * 2f64.powi(-53)
}

/// One draw per row from the soft-max of `logits` along `axis`.
pub fn categorical(logits: &Array, axis: i32, key: &Array) -> Result<Array> {
    op!(mlx_random_categorical(logits.as_ptr(), axis, key.as_ptr()))
}

/// A scalar `f32` uniform in `[0, 1)`.
pub fn uniform(key: &Array) -> Result<Array> {
    let (low, high) = (scalar(0.0), scalar(1.0));
    let dtype: sys::mlx_dtype = Dtype::Float32.into();
    op!(mlx_random_uniform(low.as_ptr(), high.as_ptr(), std::ptr::null(), 0, dtype, key.as_ptr()))
}

/// Normal numbers of mean 0 and deviation 1.
pub fn normal(shape: &[i32], dtype: Dtype, key: &Array) -> Result<Array> {
    op!(mlx_random_normal(shape.as_ptr(), shape.len(), dtype.into(), 0.0, 1.0, key.as_ptr()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mlx::{DeviceKind, enter, to_u32_vec};

    #[test]
    fn keys_differ_by_seed_and_by_index() {
        enter(DeviceKind::Cpu).unwrap();
        let words = |seed, index| to_u32_vec(&key(seed, index)).unwrap();
        assert_eq!(words(1, 2), words(1, 2));
        assert_ne!(words(1, 2), words(1, 3));
        assert_ne!(words(1, 2), words(2, 2));
        assert_ne!(words(0, 0), vec![0, 0]);
    }
}
