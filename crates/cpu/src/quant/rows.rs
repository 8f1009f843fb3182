//! Single rows of a quantized matrix, as numbers.

use super::codes::{FP4, e4m3, e8m0};
use super::{Format, Scales, Weights};
use crate::error::{Error, Result};
use crate::pool::{DisjointSliceMut, parallel_for};

/// Rows that one task unpacks.
const ROWS: usize = 16;

/// Unpacks the given rows of a matrix into `y`, `[chosen.len(), cols]`.
///
/// # Errors
/// `INVALID_ARGUMENT` when the lengths do not fit, and for a row that there is not.
pub fn rows(w: &Weights, chosen: &[u32], y: &mut [f32]) -> Result<()> {
    w.validate()?;
    let cols = w.cols;
    if chosen.len().checked_mul(cols) != Some(y.len()) || w.slabs != 1 {
        let message = format!("{} elements for {} rows of {cols}", y.len(), chosen.len());
        return Err(Error::argument("y", message));
    }
    if let Some(row) = chosen.iter().find(|&&row| row as usize >= w.rows) {
        return Err(Error::argument("rows", format!("there is no row {row} of {}", w.rows)));
    }
    let y = DisjointSliceMut::new(y);
    parallel_for(chosen.len().div_ceil(ROWS), |task| {
        let tasks = chosen.iter().enumerate().skip(task * ROWS).take(ROWS);
        for (i, &row) in tasks {
            // SAFETY: every row of `y` is written by one task.
            unpack(w, row as usize, unsafe { y.slice(i * cols, cols) });
        }
    });
    Ok(())
}

fn unpack(w: &Weights, row: usize, y: &mut [f32]) {
    let (bits, group) = (w.format.bits(), w.format.group());
    let packed = &w.packed[row * w.row_bytes()..][..w.row_bytes()];
    // The last code may lie in the last byte, or reach into it.
    let code = |i: usize| {
        let byte = i * bits / 8;
        let next = packed.get(byte + 1).copied().unwrap_or_default();
        let window = u16::from_le_bytes([packed[byte], next]);
        (window >> (i * bits % 8)) as u8 & (u8::MAX >> (8 - bits))
    };
    for (g, y) in y.chunks_exact_mut(group).enumerate() {
        let at = row * w.groups() + g;
        let (scale, bias) = match w.scales {
            Scales::Floats(scales) => (scales.get(at), w.biases.map_or(0.0, |b| b.get(at))),
            Scales::E8m0(scales) => (e8m0(scales[at]), 0.0),
            Scales::E4m3(scales) => (e4m3(scales[at]), 0.0),
        };
        for (i, y) in y.iter_mut().enumerate() {
            let code = code(g * group + i);
            let value = match w.format {
                Format::Affine { .. } => f32::from(code),
                Format::Mxfp4 | Format::Nvfp4 => 0.5 * (f32::from(FP4[usize::from(code)]) - 12.0),
                Format::Mxfp8 => e4m3(code),
            };
            *y = scale * value + bias;
        }
    }
}
