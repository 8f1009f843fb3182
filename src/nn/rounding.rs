//! Rounding to numbers of 8 and 4 bits with a scale for each block of features, as models do to
//! what they were trained to read so (Rouhani et al. 2023, "Microscaling data formats").

use crate::error::Result;
use crate::mlx::{Array, Dtype, ops, scalar};

/// The largest float8 of e4m3.
const FLOAT8_MAX: f32 = 448.0;
/// The largest float4 of e2m1.
const FLOAT4_MAX: f32 = 6.0;

/// How the scale of a block of float4 is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BlockScale {
    /// The next power of two.
    Power,
    /// The nearest float8.
    Float8,
}

/// `[…, features]` as float8 times the power of two of its block; as they are where blocks do not
/// divide the features.
pub(super) fn in_float8(x: &Array, block: i32) -> Result<Array> {
    in_blocks(x, block, 1e-4, |blocks, largest| {
        let scale = power_of_two(largest, FLOAT8_MAX)?;
        let scaled = bounded(&ops::divide(blocks, &scale)?, FLOAT8_MAX)?;
        ops::multiply(&float8(&scaled)?, &scale)
    })
}

/// The same as float4.
pub(super) fn in_float4(x: &Array, block: i32, kind: BlockScale) -> Result<Array> {
    let least = match kind {
        BlockScale::Power => FLOAT4_MAX * 2.0_f32.powi(-126),
        BlockScale::Float8 => FLOAT4_MAX * 2.0_f32.powi(-9),
    };
    in_blocks(x, block, least, |blocks, largest| {
        let scale = match kind {
            BlockScale::Power => power_of_two(largest, FLOAT4_MAX)?,
            BlockScale::Float8 => float8(&ops::divide(largest, &scalar(FLOAT4_MAX))?)?,
        };
        let scaled = bounded(&ops::divide(blocks, &scale)?, FLOAT4_MAX)?;
        ops::multiply(&float4(&scaled)?, &scale)
    })
}

/// Rounds blocks `[…, blocks, block]` by their largest magnitudes `[…, blocks, 1]`, which are at
/// least `least`.
fn in_blocks(
    x: &Array,
    block: i32,
    least: f32,
    round: impl Fn(&Array, &Array) -> Result<Array>,
) -> Result<Array> {
    let features = x.dim(-1);
    if features % block != 0 {
        return Ok(x.clone());
    }
    let mut shape = x.shape().to_vec();
    shape.pop();
    shape.extend([features / block, block]);
    let blocks = ops::reshape(&ops::astype(x, Dtype::Float32)?, &shape)?;
    let largest = ops::maximum(&ops::max(&ops::abs(&blocks)?, -1)?, &scalar(least))?;
    let rounded = ops::reshape(&round(&blocks, &largest)?, x.shape())?;
    ops::astype(&rounded, x.dtype())
}

/// The least power of two that is not below largest / most.
fn power_of_two(largest: &Array, most: f32) -> Result<Array> {
    let exponent = ops::ceil(&ops::log2(&ops::divide(largest, &scalar(most))?)?)?;
    ops::power(&scalar(2.0), &exponent)
}

fn bounded(x: &Array, limit: f32) -> Result<Array> {
    ops::maximum(&ops::minimum(x, &scalar(limit))?, &scalar(-limit))
}

/// The nearest float8 of e4m3.
fn float8(x: &Array) -> Result<Array> {
    ops::from_fp8(&ops::to_fp8(x)?, Dtype::Float32)
}

/// The nearest float4 of e2m1, of two that are as near the one whose last bit is 0.
fn float4(x: &Array) -> Result<Array> {
    // Where a magnitude reaches the next value, by how much that is larger, and whether the middle
    // itself belongs to it.
    const STEPS: [(f32, f32, bool); 7] = [
        (0.25, 0.5, false),
        (0.75, 0.5, true),
        (1.25, 0.5, false),
        (1.75, 0.5, true),
        (2.5, 1.0, false),
        (3.5, 1.0, true),
        (5.0, 2.0, false),
    ];
    let magnitude = ops::abs(x)?;
    let mut sum = ops::multiply(&magnitude, &scalar(0.0))?;
    for (middle, step, inclusive) in STEPS {
        let middle = scalar(middle);
        let reached = match inclusive {
            true => ops::greater_equal(&magnitude, &middle)?,
            false => ops::less(&middle, &magnitude)?,
        };
        let reached = ops::astype(&reached, Dtype::Float32)?;
        sum = ops::add(&sum, &ops::multiply(&reached, &scalar(step))?)?;
    }
    ops::select(&ops::less(x, &scalar(0.0))?, &ops::negative(&sum)?, &sum)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::mlx::{DeviceKind, enter, from_f32, to_f32_vec};

    #[test]
    fn middles_go_to_the_even_number() {
        enter(DeviceKind::Cpu).unwrap();
        let x = [6.0, 0.25, 0.75, 1.25, 1.75, -2.5, -3.5, 5.0];
        let rounded = in_float4(&from_f32(&x, &[1, 8]), 8, BlockScale::Power).unwrap();
        let expected = [6.0, 0.0, 1.0, 1.0, 2.0, -2.0, -4.0, 4.0];
        assert_eq!(to_f32_vec(&rounded).unwrap(), expected);
    }

    #[test]
    fn each_block_has_a_scale_of_its_own() {
        enter(DeviceKind::Cpu).unwrap();
        let x = from_f32(&[448.0, 1.0, 1000.0, 33.0], &[1, 4]);
        let rounded = in_float8(&x, 2).unwrap();
        // Steps are 1/8 of a power of two, times the block's 4 in the second.
        assert_eq!(to_f32_vec(&rounded).unwrap(), [448.0, 1.0, 1024.0, 32.0]);
        let whole = in_float8(&x, 3).unwrap();
        assert_eq!(to_f32_vec(&whole).unwrap(), to_f32_vec(&x).unwrap());
    }
}
