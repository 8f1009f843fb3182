//! Short causal convolutions of each channel by itself.
#![allow(unsafe_op_in_unsafe_fn, reason = "pure vector code with the conditions of `Simd`")]

use super::math::sigmoid;
use super::pool::{DisjointSliceMut, parallel_for};
use super::simd::{Isa, Kernel, Simd};
use crate::error::{Error, Result};

/// Elements that one task computes, about.
const CHUNK: usize = 8 * 1024;

/// y\[t, c\] = act(Σₖ w\[k, c\] · x\[t + k, c\] + b\[c\]), where x begins `kernel − 1` positions
/// before y.
#[derive(Clone, Copy, Debug)]
pub struct CausalConv<'a> {
    /// `[batch, kernel − 1 + length, channels]`.
    pub x: &'a [f32],
    /// `[kernel, channels]`.
    pub weight: &'a [f32],
    /// `[channels]`.
    pub bias: Option<&'a [f32]>,
    /// Whether act is x σ(x), not x.
    pub silu: bool,
    /// The lengths of these axes: batch, length, channels, kernel.
    pub shape: [usize; 4],
}

impl CausalConv<'_> {
    /// Writes y, `[batch, length, channels]`.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` when the lengths do not fit.
    pub fn run(&self, y: &mut [f32], isa: Isa) -> Result<()> {
        let [batch, length, channels, kernel] = self.shape;
        let fits = kernel > 0
            && channels > 0
            && self.x.len() == batch * (kernel - 1 + length) * channels
            && self.weight.len() == kernel * channels
            && self.bias.is_none_or(|bias| bias.len() == channels)
            && y.len() == batch * length * channels;
        if !fits {
            return Err(Error::argument("convolution", format!("does not fit {:?}", self.shape)));
        }
        let rows = batch * length;
        let each = (CHUNK / channels).max(1);
        let y = DisjointSliceMut::new(y);
        parallel_for(rows.div_ceil(each), |i| {
            for row in i * each..((i + 1) * each).min(rows) {
                // SAFETY: every row is in one chunk.
                let y = unsafe { y.slice(row * channels, channels) };
                // Every earlier row of the batch has `kernel − 1` positions more.
                let first = row + row / length * (kernel - 1);
                let x = &self.x[first * channels..(first + kernel) * channels];
                isa.run(Row { conv: self, x, y });
            }
        });
        Ok(())
    }
}

struct Row<'a> {
    conv: &'a CausalConv<'a>,
    /// `[kernel, channels]`.
    x: &'a [f32],
    y: &'a mut [f32],
}

impl Kernel for Row<'_> {
    type Output = ();
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let Self { conv, x, y } = self;
        let [_, _, channels, kernel] = conv.shape;
        let whole = channels - channels % S::LANES;
        for c in (0..whole).step_by(S::LANES) {
            let mut sum = match conv.bias {
                Some(bias) => S::load(bias.as_ptr().add(c)),
                None => S::splat(0.0),
            };
            for at in (0..kernel).map(|k| k * channels + c) {
                sum =
                    S::fma(S::load(x.as_ptr().add(at)), S::load(conv.weight.as_ptr().add(at)), sum);
            }
            let sum = if conv.silu { S::mul(sum, sigmoid::<S>(sum)) } else { sum };
            S::store(y.as_mut_ptr().add(c), sum);
        }
        for c in whole..channels {
            let taps = (0..kernel).map(|k| x[k * channels + c] * conv.weight[k * channels + c]);
            let sum = taps.sum::<f32>() + conv.bias.map_or(0.0, |bias| bias[c]);
            y[c] = if conv.silu { sum / (1.0 + (-sum).exp()) } else { sum };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Random, assert_close};
    use super::*;

    #[test]
    fn every_position_sees_itself_and_those_before() {
        let mut random = Random::new(11);
        for shape in [[1, 1, 1, 1], [2, 5, 7, 3], [1, 3, 40, 4], [3, 1, 16, 2], [1, 40, 600, 4]] {
            let [batch, length, channels, kernel] = shape;
            let before = kernel - 1;
            let x = random.normals(batch * (before + length) * channels);
            let weight = random.normals(kernel * channels);
            let bias = random.normals(channels);
            for (bias, silu) in [(None, false), (Some(&bias[..]), true), (Some(&bias[..]), false)] {
                let mut expected = Vec::new();
                for (b, t) in (0..batch).flat_map(|b| (0..length).map(move |t| (b, t))) {
                    for c in 0..channels {
                        let mut sum = bias.map_or(0.0, |bias| f64::from(bias[c]));
                        for k in 0..kernel {
                            let at = (b * (before + length) + t + k) * channels + c;
                            sum += f64::from(x[at]) * f64::from(weight[k * channels + c]);
                        }
                        expected.push(if silu { sum / (1.0 + (-sum).exp()) } else { sum });
                    }
                }
                let conv = CausalConv { x: &x, weight: &weight, bias, silu, shape };
                for isa in Isa::available() {
                    let mut y = vec![f32::NAN; expected.len()];
                    conv.run(&mut y, isa).unwrap();
                    assert_close(&y, &expected, 1.0, 1e-5, &(shape, isa, silu));
                }
            }
        }
    }

    #[test]
    fn wrong_lengths_are_refused() {
        let conv = CausalConv {
            x: &[0.0; 6],
            weight: &[0.0; 4],
            bias: None,
            silu: false,
            shape: [1, 2, 2, 2],
        };
        let run = |conv: CausalConv, len: usize| conv.run(&mut vec![0.0; len], Isa::best());
        assert!(run(conv, 4).is_ok());
        assert!(run(conv, 3).is_err());
        let short = CausalConv { x: &[0.0; 5], ..conv };
        assert!(run(short, 4).is_err());
        let none = CausalConv { weight: &[], shape: [1, 2, 2, 0], ..conv };
        assert!(run(none, 4).is_err());
    }
}
