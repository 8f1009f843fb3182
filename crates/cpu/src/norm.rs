//! Root-mean-square norm.
#![allow(unsafe_op_in_unsafe_fn, reason = "pure vector code with the conditions of `Simd`")]

use super::floats::Floats;
use super::pool::{DisjointSliceMut, parallel_for};
use super::scratch::Scratch;
use super::simd::{Isa, Kernel, Simd};
use crate::error::{Error, Result};

/// Elements that one task computes, about.
const CHUNK: usize = 16 * 1024;

/// `y = x / √(mean(x²) + eps) · weight` for each of the rows `[any, dims]` (Zhang and Sennrich
/// 2019). With `residual`, x is first added to it, and the sum, which is normed, is kept there.
///
/// # Errors
/// `INVALID_ARGUMENT` when the lengths do not fit.
pub fn rms_norm(
    x: &[f32],
    residual: Option<&mut [f32]>,
    weight: Option<Floats>,
    dims: usize,
    eps: f32,
    y: &mut [f32],
    isa: Isa,
) -> Result<()> {
    let fits = dims > 0
        && x.len().is_multiple_of(dims)
        && y.len() == x.len()
        && residual.as_ref().is_none_or(|r| r.len() == x.len())
        && weight.is_none_or(|w| w.len() == dims);
    if !fits {
        let message = format!("{} elements do not fit {} of {dims}", x.len(), y.len());
        return Err(Error::argument("x", message));
    }
    let rows = x.len() / dims;
    let mut memory = Scratch::new(dims);
    let weights = read_weights(weight, &mut memory, isa);
    let each = (CHUNK / dims).max(1);
    let y = DisjointSliceMut::new(y);
    let residual = residual.map(DisjointSliceMut::new);
    parallel_for(rows.div_ceil(each), |i| {
        for row in i * each..((i + 1) * each).min(rows) {
            let from = row * dims;
            let x = &x[from..from + dims];
            // SAFETY: every row is in one chunk.
            let y = unsafe { y.slice(from, dims) };
            // SAFETY: as above.
            let residual = residual.map(|residual| unsafe { residual.slice(from, dims) });
            isa.run(Row { x, residual, weights, eps, y });
        }
    });
    Ok(())
}

/// The weights as f32; 1 where there are none.
pub(super) fn read_weights<'a>(
    weight: Option<Floats>,
    memory: &'a mut Scratch,
    isa: Isa,
) -> &'a [f32] {
    let weights = memory.floats();
    match weight {
        Some(weight) => isa.run(Read(weight, weights)),
        None => weights.fill(1.0),
    }
    weights
}

struct Read<'a>(Floats<'a>, &'a mut [f32]);

impl Kernel for Read<'_> {
    type Output = ();
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        self.0.read::<S>(0, self.1.len(), self.1.as_mut_ptr());
    }
}

struct Row<'a> {
    x: &'a [f32],
    residual: Option<&'a mut [f32]>,
    weights: &'a [f32],
    eps: f32,
    y: &'a mut [f32],
}

impl Kernel for Row<'_> {
    type Output = ();
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let Self { x, residual, weights, eps, y } = self;
        let x = match residual {
            Some(sum) => {
                let whole = x.len() - x.len() % S::LANES;
                for i in (0..whole).step_by(S::LANES) {
                    let to = sum.as_mut_ptr().add(i);
                    S::store(to, S::add(S::load(to), S::load(x.as_ptr().add(i))));
                }
                for i in whole..x.len() {
                    sum[i] += x[i];
                }
                &*sum
            }
            None => x,
        };
        y.copy_from_slice(x);
        norm_row::<S>(y, weights, eps);
    }
}

/// Norms a row in place; there is a weight for each element.
#[inline(always)]
pub(super) unsafe fn norm_row<S: Simd>(row: &mut [f32], weights: &[f32], eps: f32) {
    let whole = row.len() - row.len() % S::LANES;
    let mut squares = S::splat(0.0);
    for i in (0..whole).step_by(S::LANES) {
        let x = S::load(row.as_ptr().add(i));
        squares = S::fma(x, x, squares);
    }
    let square = S::sum(squares) + row[whole..].iter().map(|x| x * x).sum::<f32>();
    let factor = 1.0 / (square / row.len() as f32 + eps).sqrt();
    for i in (0..whole).step_by(S::LANES) {
        let to = row.as_mut_ptr().add(i);
        let normed = S::mul(S::load(to), S::splat(factor));
        S::store(to, S::mul(normed, S::load(weights.as_ptr().add(i))));
    }
    for i in whole..row.len() {
        row[i] *= factor * weights[i];
    }
}

#[cfg(test)]
mod tests {
    use half::bf16;

    use super::super::testing::{Random, assert_close};
    use super::*;

    #[test]
    fn rows_are_normed_after_the_residual_is_added() {
        let mut random = Random::new(31);
        for (rows, dims) in [(1, 1), (3, 7), (2, 16), (5, 33), (40, 2048)] {
            let x = random.normals(rows * dims);
            let rest = random.normals(rows * dims);
            let weight: Vec<_> = random.normals(dims).into_iter().map(bf16::from_f32).collect();
            for isa in Isa::available() {
                for with_residual in [false, true] {
                    let mut sum = rest.clone();
                    let mut y = vec![f32::NAN; rows * dims];
                    let residual = with_residual.then_some(&mut sum[..]);
                    let w = Some(Floats::Bf16(&weight));
                    rms_norm(&x, residual, w, dims, 1e-5, &mut y, isa).unwrap();
                    let mut expected = Vec::new();
                    for row in 0..rows {
                        let v: Vec<_> = (row * dims..(row + 1) * dims)
                            .map(|i| {
                                f64::from(x[i])
                                    + if with_residual { f64::from(rest[i]) } else { 0.0 }
                            })
                            .collect();
                        let mean = v.iter().map(|v| v * v).sum::<f64>() / dims as f64;
                        let factor = 1.0 / (mean + 1e-5).sqrt();
                        expected
                            .extend(v.iter().zip(&weight).map(|(v, w)| v * factor * w.to_f64()));
                    }
                    assert_close(&y, &expected, 1.0, 1e-5, &(rows, dims, isa, with_residual));
                }
            }
        }
    }

    #[test]
    fn wrong_lengths_are_refused() {
        let mut y = [0.0; 4];
        for (len, dims) in [(3, 2), (4, 0), (4, 3), (2, 2)] {
            let outcome = rms_norm(&[0.0; 8][..len], None, None, dims, 1e-5, &mut y, Isa::best());
            assert!(outcome.is_err());
        }
    }
}
