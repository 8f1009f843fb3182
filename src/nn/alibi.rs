//! Attention with linear biases (Press et al. 2022): in place of a rotation, what lies further back
//! scores less.

use crate::cache::Cache;
use crate::error::Result;
use crate::fused::attention::masked;
use crate::mlx::fast::Mask;
use crate::mlx::{Array, Dtype, eval, from_f32, ops, scalar};

/// What varies between architectures.
#[derive(Debug, Clone, Copy)]
pub struct AlibiConfig {
    /// The exponent of the steepest slope's inverse, mostly 8.
    pub max: f32,
    /// How slopes are rounded.
    pub rounded: fn(f32) -> f32,
    /// Whether the scale of the scores multiplies the biases, too.
    pub scaled: bool,
}

/// For head h, −slopeₕ · distance is added to the scores.
#[derive(Debug)]
pub struct Alibi {
    /// `[heads, 1, 1]`, `f32`.
    slopes: Array,
}

impl AlibiConfig {
    /// The slopes of the paper as they are.
    pub const PLAIN: Self = Self { max: 8.0, rounded: |slope| slope, scaled: false };
}

impl Alibi {
    /// The biases of so many heads, whose scores are multiplied by `scale`.
    pub fn new(config: AlibiConfig, heads: i32, scale: f32) -> Result<Self> {
        let AlibiConfig { max, rounded, scaled } = config;
        let factor = if scaled { scale } else { 1.0 };
        let slopes = slopes(heads.unsigned_abs(), f64::from(max));
        let slopes: Vec<f32> = slopes.into_iter().map(|it| rounded(it as f32) * factor).collect();
        let slopes = from_f32(&slopes, &[heads, 1, 1]);
        eval(&[&slopes])?;
        Ok(Self { slopes })
    }

    /// The mask with the biases of `length` new positions, `[1, heads, length, seen]`. To be asked
    /// before the cache is updated.
    pub fn added_to(&self, mask: &Mask, length: i32, cache: &Cache, dtype: Dtype) -> Result<Mask> {
        let end = cache.offset() + length;
        let keys = cache.positions(length)?;
        // The soft-max does not see what all keys of a query have in common, so the distance may
        // as well be the one to the last position.
        let distance = ops::subtract(&keys, &scalar((end - 1) as f32))?;
        let bias = ops::multiply(&self.slopes, &distance)?;
        let shape = [1, self.slopes.dim(0), length, keys.dim(0)];
        let bias = masked(&ops::broadcast_to(&bias, &shape)?, mask)?;
        ops::contiguous(&ops::astype(&bias, dtype)?).map(Mask::Array)
    }
}

/// 2^(−max · i / n) for the i-th of n heads, from 1; where n is no power of two, those of the power
/// of two below it, and then every second of those of the power above it.
pub(super) fn slopes(heads: u32, max: f64) -> Vec<f64> {
    let of_power = |n: u32| (1..=n).map(move |i| (-max * f64::from(i) / f64::from(n)).exp2());
    let below = if heads.is_power_of_two() { heads } else { heads.next_power_of_two() / 2 };
    of_power(below).chain(of_power(2 * below).step_by(2)).take(heads as usize).collect()
}

#[cfg(test)]
mod tests {
    use super::slopes;

    #[test]
    fn slopes_of_other_numbers_go_on_with_every_second_of_twice_as_many() {
        assert_eq!(slopes(2, 8.0), [0.0625, 0.003_906_25]);
        assert_eq!(slopes(3, 8.0), [0.0625, 0.003_906_25, 0.25]);
        assert_eq!(slopes(1, 4.0), [0.0625]);
    }
}
