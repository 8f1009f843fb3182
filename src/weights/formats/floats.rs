//! Matrices of small floats with scales: float8 (e4m3) by tensors, channels and blocks, and float4
//! (e2m1) by groups, as MLX's mxfp8, mxfp4 and nvfp4 hold them.

use std::sync::Arc;

use super::layer::Layer;
use super::made::{Converted, Made};
use super::numbers::{E2M1, e4m3_values, split_power};
use super::source::Source;
use crate::error::Result;
use crate::mlx::quantized::Mode;
use crate::mlx::{Dtype, from_bytes};

/// Inputs that share a power of two in mxfp8 and mxfp4.
const MX_GROUP: usize = 32;
/// Inputs that share a scale in nvfp4.
const NVFP4_GROUP: usize = 16;

/// The rows and columns of blocks that have a scale each.
struct Grid {
    block: [usize; 2],
    /// Blocks in a row of them.
    across: usize,
    scales: Vec<f32>,
}

impl Grid {
    /// Scales of a matrix of this shape; `block` is what the configuration says of blocks, whose
    /// last ones may be smaller.
    fn of(scale: &Source, [rows, columns]: [usize; 2], block: Option<[usize; 2]>) -> Result<Self> {
        let dims = scale.dims();
        let [down, across] = match *dims {
            [] | [1] => [1, 1],
            [down] => [down, 1],
            [down, across] => [down, across],
            // Of modelopt: blocks with the place of each element between them.
            [down, 1, across, 1] => [down, across],
            _ => [0, 0],
        };
        let whole = |size: usize, count: usize| {
            (count > 0 && size.is_multiple_of(count)).then(|| size / count)
        };
        let block = match block {
            // Of a matrix that has but one in spite of it.
            Some(_) if dims.len() < 2 && [down, across] == [1, 1] => Some([rows, columns]),
            Some(block) => {
                let count = [rows.div_ceil(block[0]), columns.div_ceil(block[1])];
                (count == [down, across]).then_some(block)
            }
            None => whole(rows, down).zip(whole(columns, across)).map(|(a, b)| [a, b]),
        };
        let Some(block) = block else {
            let message = format!(
                "has shape {dims:?}, which is no grid of blocks over a matrix of {rows} × {columns}"
            );
            return Err(scale.error(message));
        };
        Ok(Self { block, across, scales: scale.floats()? })
    }

    fn at(&self, row: usize, column: usize) -> f32 {
        self.scales[row / self.block[0] * self.across + column / self.block[1]]
    }
}

/// A matrix of float8 and scales that it is multiplied by.
///
/// Scales that are powers of two are those of mxfp8. So are the powers of scales of whole rows,
/// whose products are multiplied by what is left of them. A matrix with other blocks has no packed
/// form.
pub(super) fn float8(
    layer: &Layer,
    weight: &Source,
    scale: &Source,
    block: Option<[usize; 2]>,
) -> Result<Converted> {
    if weight.stored() != safetensors::Dtype::F8_E4M3 {
        return Err(weight.wrong_type("8-bit floats of e4m3"));
    }
    let [rows, columns] = weight.matrix()?;
    let grid = Grid::of(scale, [rows, columns], block)?;
    let are_powers = grid.scales.iter().all(|&scale| scale > 0.0 && split_power(scale).1 == 1.0);
    let groups = columns / MX_GROUP;
    let aligned = grid.across == 1 || grid.block[1].is_multiple_of(MX_GROUP);
    if !columns.is_multiple_of(MX_GROUP) || !aligned || (grid.across > 1 && !are_powers) {
        return Ok(dense(layer, weight, grid, [rows, columns]));
    }
    let factors: Vec<f32> = grid.scales.iter().map(|&scale| split_power(scale).1).collect();
    let factors = match factors.len() {
        _ if are_powers => Vec::new(),
        1 => factors,
        _ => (0..rows).map(|row| factors[row / grid.block[0]]).collect(),
    };
    let powers = Made::power_codes(scale, &[rows, groups], move |row, codes| {
        for (group, code) in codes.iter_mut().enumerate() {
            *code = split_power(grid.at(row, group * MX_GROUP)).0;
        }
    });
    let words = Made::renamed(weight, &[rows, columns / 4], Dtype::Uint32);
    Ok(Converted::packed(Mode::Mxfp8, words, powers).times(scale, factors))
}

fn dense(layer: &Layer, weight: &Source, grid: Grid, shape: [usize; 2]) -> Converted {
    let (bytes, grid, columns) = (weight.clone(), Arc::new(grid), shape[1]);
    Converted::dense(layer.plan, weight, shape, Dtype::Bfloat16, move || {
        let (values, bytes, grid) = (e4m3_values(), bytes.clone(), Arc::clone(&grid));
        Ok(Box::new(move |row, numbers| {
            let codes = &bytes.bytes()[row * columns..][..columns];
            let blocks = numbers.chunks_mut(grid.block[1]).zip(codes.chunks(grid.block[1]));
            for (block, (numbers, codes)) in blocks.enumerate() {
                let scale = grid.at(row, block * grid.block[1]);
                for (number, &code) in numbers.iter_mut().zip(codes) {
                    *number = values[usize::from(code)] * scale;
                }
            }
        }))
    })
}

/// A matrix of float8 with a power of two for each 32 of a row, which is what mxfp8 is.
pub(super) fn mxfp8(weight: &Source, scale: &Source) -> Result<Converted> {
    let [rows, columns] = weight.matrix()?;
    if weight.stored() != safetensors::Dtype::F8_E4M3 {
        return Err(weight.wrong_type("8-bit floats of e4m3"));
    }
    scale.expect([rows, columns.div_ceil(MX_GROUP)])?;
    let words = Made::renamed(weight, &[rows, columns / 4], Dtype::Uint32);
    let scales = Made::renamed(scale, &[rows, columns / MX_GROUP], Dtype::Uint8);
    Ok(Converted::packed(Mode::Mxfp8, words, scales))
}

/// A matrix of float4, two to a byte with the first one low, with powers of two (mxfp4) or with
/// float8 that all are multiplied by `factor` (nvfp4).
pub(super) fn float4(
    layer: &Layer,
    weight: &Source,
    scale: &Source,
    factor: Option<(Source, f32)>,
) -> Result<Converted> {
    use safetensors::Dtype::{F8_E4M3, F8_E8M0, I8, U8};
    let [rows, bytes] = weight.matrix()?;
    if !matches!(weight.stored(), U8 | I8) {
        return Err(weight.wrong_type("packed bytes"));
    }
    let columns = 2 * bytes;
    let (mode, group) = match scale.stored() {
        F8_E4M3 => (Mode::Nvfp4, NVFP4_GROUP),
        U8 | F8_E8M0 => (Mode::Mxfp4, MX_GROUP),
        _ => return Err(scale.wrong_type("8-bit floats of e4m3 or e8m0")),
    };
    scale.expect([rows, columns.div_ceil(group)])?;
    if columns.is_multiple_of(MX_GROUP) {
        let words = Made::renamed(weight, &[rows, columns / 8], Dtype::Uint32);
        let scales = Made::renamed(scale, &[rows, columns / group], Dtype::Uint8);
        let converted = Converted::packed(mode, words, scales);
        return Ok(match factor {
            Some((source, factor)) => converted.times(&source, vec![factor]),
            None => converted,
        });
    }
    let (packed, scale, shape) = (weight.clone(), scale.clone(), [rows, columns]);
    let factor = factor.map_or(1.0, |(_, factor)| factor);
    Ok(Converted::dense(layer.plan, weight, shape, Dtype::Bfloat16, move || {
        let (packed, scales) = (packed.clone(), scale.floats()?);
        Ok(Box::new(move |row, numbers| {
            let codes = &packed.bytes()[row * bytes..][..bytes];
            let scales = &scales[row * columns.div_ceil(group)..];
            for (i, number) in numbers.iter_mut().enumerate() {
                let code = codes[i / 2] >> (4 * (i % 2)) & 15;
                *number = E2M1[usize::from(code)] * (scales[i / group] * factor);
            }
        }))
    }))
}

/// The number of a tensor that holds just one.
pub(super) fn only_number(source: &Source) -> Result<f32> {
    match *source.floats()? {
        [number] if number.is_finite() => Ok(number),
        [_] => Err(source.error("is no finite number")),
        _ => Err(source.error(format!("has shape {:?}, expected one number", source.dims()))),
    }
}

impl Made {
    /// Codes of powers of two, whose rows `fill` writes.
    fn power_codes(
        source: &Source,
        shape: &[usize; 2],
        fill: impl Fn(usize, &mut [u8]) + Send + Sync + 'static,
    ) -> Self {
        let [rows, columns] = *shape;
        let mut made = Self::new(source, shape, Dtype::Uint8, move |shape| {
            let mut codes = vec![0; rows * columns];
            super::numbers::fill_rows(&mut codes, columns, &fill);
            from_bytes(&codes, shape, Dtype::Uint8)
        });
        made.entry.stored = safetensors::Dtype::F8_E8M0;
        made
    }
}
