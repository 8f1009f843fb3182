//! Gated activations.
#![allow(unsafe_op_in_unsafe_fn, reason = "pure vector code with the conditions of `Simd`")]

use super::math::{erf, sigmoid, tanh};
use super::pool::{DisjointSliceMut, parallel_for};
use super::simd::{Isa, Kernel, Simd};
use crate::error::{Error, Result};

/// What is done to the gate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// x σ(x).
    Silu,
    /// x Φ(x), with the error function.
    Gelu,
    /// x Φ(x), by ½ x (1 + tanh(√(2/π) (x + 0.044715 x³))).
    GeluTanh,
    /// max(x, 0).
    Relu,
}

/// Elements that one task computes.
const CHUNK: usize = 16 * 1024;

/// `y[i] = activation(gate[i]) · up[i]`.
///
/// # Errors
/// `INVALID_ARGUMENT` when the lengths differ.
pub fn gated(
    activation: Activation,
    gate: &[f32],
    up: &[f32],
    y: &mut [f32],
    isa: Isa,
) -> Result<()> {
    if gate.len() != y.len() || up.len() != y.len() {
        let message = format!("{} and {} elements for {}", gate.len(), up.len(), y.len());
        return Err(Error::argument("gate and up", message));
    }
    let len = y.len();
    let y = DisjointSliceMut::new(y);
    parallel_for(len.div_ceil(CHUNK), |i| {
        let (from, to) = (i * CHUNK, ((i + 1) * CHUNK).min(len));
        // SAFETY: every element is in one chunk.
        let y = unsafe { y.slice(from, to - from) };
        isa.run(Gated { activation, gate: &gate[from..to], up: &up[from..to], y });
    });
    Ok(())
}

struct Gated<'a> {
    activation: Activation,
    gate: &'a [f32],
    up: &'a [f32],
    y: &'a mut [f32],
}

impl Kernel for Gated<'_> {
    type Output = ();
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let Self { activation, gate, up, y } = self;
        let whole = y.len() - y.len() % S::LANES;
        for i in (0..whole).step_by(S::LANES) {
            let gate = apply::<S>(activation, S::load(gate.as_ptr().add(i)));
            S::store(y.as_mut_ptr().add(i), S::mul(gate, S::load(up.as_ptr().add(i))));
        }
        let mut last = [0.0; 16];
        last[..y.len() - whole].copy_from_slice(&gate[whole..]);
        if whole < y.len() {
            let gate = apply::<S>(activation, S::load(last.as_ptr()));
            S::store(last.as_mut_ptr(), gate);
            for i in whole..y.len() {
                y[i] = last[i - whole] * up[i];
            }
        }
    }
}

#[inline(always)]
unsafe fn apply<S: Simd>(activation: Activation, x: S::F) -> S::F {
    let (one, half_x) = (S::splat(1.0), S::mul(S::splat(0.5), x));
    match activation {
        Activation::Silu => S::mul(x, sigmoid::<S>(x)),
        Activation::Gelu => {
            let erf = erf::<S>(S::mul(x, S::splat(std::f32::consts::FRAC_1_SQRT_2)));
            S::mul(half_x, S::add(one, erf))
        }
        Activation::GeluTanh => {
            let cube = S::mul(S::mul(x, x), S::mul(x, S::splat(0.044_715)));
            let inner = S::mul(S::splat(0.797_884_6), S::add(x, cube));
            S::mul(half_x, S::add(one, tanh::<S>(inner)))
        }
        Activation::Relu => S::max(S::splat(0.0), x),
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::Random;
    use super::*;

    #[test]
    fn activations_match_their_formulas() {
        let mut random = Random::new(21);
        for len in [1, 15, 16, 17, 100, CHUNK + 3] {
            let gate: Vec<_> = random.normals(len).iter().map(|x| 3.0 * x).collect();
            let up = random.normals(len);
            for isa in Isa::available() {
                for activation in
                    [Activation::Silu, Activation::Gelu, Activation::GeluTanh, Activation::Relu]
                {
                    let mut y = vec![f32::NAN; len];
                    gated(activation, &gate, &up, &mut y, isa).unwrap();
                    for i in 0..len.min(200) {
                        let x = f64::from(gate[i]);
                        let tanh = (0.797_884_560_8 * (x + 0.044_715 * x.powi(3))).tanh();
                        let expected = match activation {
                            Activation::Silu => x / (1.0 + (-x).exp()),
                            // Within 1e-3 of the one with tanh; `math` tests the error function
                            // itself.
                            Activation::Gelu | Activation::GeluTanh => 0.5 * x * (1.0 + tanh),
                            Activation::Relu => x.max(0.0),
                        } * f64::from(up[i]);
                        let bound = if activation == Activation::Gelu { 2e-3 } else { 2e-6 };
                        let error = (f64::from(y[i]) - expected).abs();
                        assert!(
                            error <= bound * (1.0 + expected.abs()),
                            "{activation:?} {isa:?} {x}: {} for {expected}",
                            y[i]
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn nan_passes_through() {
        for isa in Isa::available() {
            for activation in
                [Activation::Silu, Activation::Gelu, Activation::GeluTanh, Activation::Relu]
            {
                let mut y = [0.0];
                gated(activation, &[f32::NAN], &[1.0], &mut y, isa).unwrap();
                assert!(y[0].is_nan(), "{activation:?} {isa:?}");
            }
        }
    }

    #[test]
    fn different_lengths_are_refused() {
        let outcome = gated(Activation::Silu, &[1.0], &[1.0, 2.0], &mut [0.0], Isa::best());
        assert!(outcome.is_err());
    }
}
