//! Elementary functions on vectors.
#![allow(unsafe_op_in_unsafe_fn, reason = "pure vector code with the conditions of `Simd`")]

use std::f32::consts::{LN_2, LOG2_E};

use super::simd::Simd;

/// eˣ with a relative error below 2e-7 (1e-6 for subnormal results); 0 and infinity beyond the
/// range, NaN for NaN.
///
/// x = n ln 2 + r with |r| ≤ ln 2 / 2; eʳ by its Taylor polynomial of degree 7, whose remainder is
/// below 1e-8.
#[inline(always)]
pub unsafe fn exp<S: Simd>(x: S::F) -> S::F {
    // ln 2 in two parts, the first of which has few enough bits that its product with n is exact.
    #[allow(clippy::excessive_precision, reason = "the exact value")]
    const HIGH: f32 = 0.693_359_375;
    const LOW: f32 = -2.121_944_4e-4;
    const { assert!(HIGH + LOW == LN_2) };
    let x = S::max(S::splat(-105.0), S::min(S::splat(89.0), x));
    let n = S::round(S::mul(x, S::splat(LOG2_E)));
    let r = S::fma(n, S::splat(-HIGH), x);
    let r = S::fma(n, S::splat(-LOW), r);
    let mut p = S::splat(1.0 / 5040.0);
    for c in [1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0] {
        p = S::fma(p, r, S::splat(c));
    }
    // 2ⁿ in two factors: n may lie beyond the exponents of normal numbers.
    let half = S::round(S::mul(n, S::splat(0.5)));
    S::mul(S::mul(p, S::exp2i(half)), S::exp2i(S::sub(n, half)))
}

/// 2ˣ for x ≤ 0, with a relative error below 3e-7; 0 below −126, NaN for NaN.
///
/// x = n + r with |r| ≤ ½; 2ʳ by its Taylor polynomial of degree 6, whose remainder is below
/// 1.3e-7.
#[inline(always)]
pub unsafe fn exp2_of_negative<S: Simd>(x: S::F) -> S::F {
    const LEAST: f32 = -126.0;
    // (ln 2)ᵏ / k!, those of the highest degrees first.
    const COEFFICIENTS: [f32; 7] = {
        let (mut all, mut term, mut k) = ([1.0; 7], 1.0, 1);
        while k <= 6 {
            term *= std::f64::consts::LN_2 / k as f64;
            all[6 - k] = term as f32;
            k += 1;
        }
        all
    };
    let least = S::splat(LEAST);
    let bounded = S::max(least, x);
    let n = S::round(bounded);
    let r = S::sub(bounded, n);
    let mut p = S::splat(COEFFICIENTS[0]);
    for k in 1..COEFFICIENTS.len() {
        p = S::fma(p, r, S::splat(COEFFICIENTS[k]));
    }
    S::select_gt(least, x, S::splat(0.0), S::mul(p, S::exp2i(n)))
}

/// 1 / (1 + e⁻ˣ).
#[inline(always)]
pub unsafe fn sigmoid<S: Simd>(x: S::F) -> S::F {
    let one = S::splat(1.0);
    S::div(one, S::add(one, exp::<S>(S::sub(S::splat(0.0), x))))
}

/// tanh x = 1 − 2 / (e²ˣ + 1), and for |x| < 0.3, where that cancels, its Taylor polynomial of
/// degree 11.
#[inline(always)]
pub unsafe fn tanh<S: Simd>(x: S::F) -> S::F {
    let one = S::splat(1.0);
    let square = S::mul(x, x);
    let mut p = S::splat(-1382.0 / 155_925.0);
    for c in [62.0 / 2835.0, -17.0 / 315.0, 2.0 / 15.0, -1.0 / 3.0] {
        p = S::fma(p, square, S::splat(c));
    }
    let small = S::fma(S::mul(p, square), x, x);
    let e = exp::<S>(S::add(x, x));
    let large = S::sub(one, S::div(S::splat(2.0), S::add(e, one)));
    S::select_gt(S::abs(x), S::splat(0.3), large, S::select_gt(S::splat(1.0), S::abs(x), small, x))
}

/// The error function: for |x| < 1 its Maclaurin series up to x¹⁹, beyond 1 − e^(−x²) · t (a₁ + … +
/// a₅ t⁴) with t = 1 / (1 + 0.3275911 |x|) (Abramowitz and Stegun 7.1.26). The error is below 2e-7.
#[inline(always)]
pub unsafe fn erf<S: Simd>(x: S::F) -> S::F {
    let one = S::splat(1.0);
    let (square, size) = (S::mul(x, x), S::abs(x));
    // (−1)ⁿ / (n! (2n + 1)), times 2 / √π.
    let mut p = S::splat(-1.0 / 6_894_720.0);
    for c in [
        1.0 / 685_440.0,
        -1.0 / 75_600.0,
        1.0 / 9360.0,
        -1.0 / 1320.0,
        1.0 / 216.0,
        -1.0 / 42.0,
        0.1,
        -1.0 / 3.0,
        1.0,
    ] {
        p = S::fma(p, square, S::splat(c));
    }
    let small = S::mul(S::mul(p, x), S::splat(std::f32::consts::FRAC_2_SQRT_PI));
    let t = S::div(one, S::fma(size, S::splat(0.327_591_1), one));
    let mut q = S::splat(1.061_405_4);
    for c in [-1.453_152, 1.421_413_7, -0.284_496_74, 0.254_829_6] {
        q = S::fma(q, t, S::splat(c));
    }
    let tail = S::mul(S::mul(q, t), exp::<S>(S::sub(S::splat(0.0), square)));
    let size_erf = S::sub(one, tail);
    let large = S::select_gt(x, S::splat(0.0), size_erf, S::sub(S::splat(0.0), size_erf));
    S::select_gt(size, one, large, small)
}

#[cfg(test)]
mod tests {
    use super::super::simd::{Isa, Kernel};
    use super::*;

    #[derive(Clone, Copy, Debug)]
    enum Function {
        Exp,
        Exp2OfNegative,
        Sigmoid,
        Tanh,
        Erf,
    }

    struct Apply<'a>(Function, &'a [f32], &'a mut [f32]);

    impl Kernel for Apply<'_> {
        type Output = ();
        #[inline(always)]
        unsafe fn run<S: Simd>(self) {
            for i in (0..self.1.len()).step_by(S::LANES) {
                let x = S::load(self.1.as_ptr().add(i));
                let y = match self.0 {
                    Function::Exp => exp::<S>(x),
                    Function::Exp2OfNegative => exp2_of_negative::<S>(x),
                    Function::Sigmoid => sigmoid::<S>(x),
                    Function::Tanh => tanh::<S>(x),
                    Function::Erf => erf::<S>(x),
                };
                S::store(self.2.as_mut_ptr().add(i), y);
            }
        }
    }

    fn apply(isa: Isa, function: Function, x: &[f32]) -> Vec<f32> {
        let mut padded = x.to_vec();
        padded.resize(x.len().next_multiple_of(16), 0.0);
        let mut y = vec![0.0; padded.len()];
        isa.run(Apply(function, &padded, &mut y));
        y.truncate(x.len());
        y
    }

    /// ∫ 2/√π e^(−t²) dt from 0 to x by Simpson's rule.
    fn erf64(x: f64) -> f64 {
        let steps = 2000;
        let h = x / f64::from(steps);
        let f = |i: i32| (-(h * f64::from(i)).powi(2)).exp();
        let sum: f64 = (1..steps).map(|i| f(i) * if i % 2 == 1 { 4.0 } else { 2.0 }).sum();
        (f(0) + sum + f(steps)) * h / 3.0 * std::f64::consts::FRAC_2_SQRT_PI
    }

    #[test]
    fn functions_are_as_precise_as_they_say() {
        let x: Vec<f32> = (-4000..4000).map(|i| i as f32 * 0.0217).collect();
        for isa in Isa::available() {
            for (&x, y) in x.iter().zip(apply(isa, Function::Exp, &x)) {
                let expected = f64::from(x).exp();
                let bound = if expected < f64::from(f32::MIN_POSITIVE) { 1e-6 } else { 2e-7 };
                let error = (f64::from(y) - expected).abs();
                assert!(error <= bound * expected + 1e-45, "{isa:?}: exp {x} = {y}");
            }
            let negative: Vec<_> = x.iter().map(|x| -x.abs()).collect();
            for (&x, y) in negative.iter().zip(apply(isa, Function::Exp2OfNegative, &negative)) {
                let error = (f64::from(y) / f64::from(x).exp2() - 1.0).abs();
                assert!(error <= 3e-7, "{isa:?}: 2^{x} = {y}");
            }
            for (&x, y) in x.iter().zip(apply(isa, Function::Sigmoid, &x)) {
                let expected = 1.0 / (1.0 + (-f64::from(x)).exp());
                assert!((f64::from(y) - expected).abs() <= 3e-7, "{isa:?}: sigmoid {x} = {y}");
            }
            for (&x, y) in x.iter().zip(apply(isa, Function::Tanh, &x)) {
                let error = (f64::from(y) - f64::from(x).tanh()).abs();
                assert!(error <= 3e-7, "{isa:?}: tanh {x} = {y}");
            }
            let x: Vec<f32> = (-500..500).map(|i| i as f32 * 0.011).collect();
            for (&x, y) in x.iter().zip(apply(isa, Function::Erf, &x)) {
                let error = (f64::from(y) - erf64(f64::from(x))).abs();
                assert!(error <= 3e-7, "{isa:?}: erf {x} = {y}");
            }
        }
    }

    #[test]
    fn the_ends_of_the_range_and_nan_come_out_right() {
        let x = [f32::NEG_INFINITY, -200.0, 0.0, 200.0, f32::INFINITY, f32::NAN];
        for isa in Isa::available() {
            let check = |function, expected: [f32; 5]| {
                let y = apply(isa, function, &x);
                assert_eq!(y[..5], expected, "{isa:?} {function:?}");
                assert!(y[5].is_nan(), "{isa:?} {function:?}");
            };
            check(Function::Exp, [0.0, 0.0, 1.0, f32::INFINITY, f32::INFINITY]);
            check(Function::Sigmoid, [0.0, 0.0, 0.5, 1.0, 1.0]);
            check(Function::Tanh, [-1.0, -1.0, 0.0, 1.0, 1.0]);
            check(Function::Erf, [-1.0, -1.0, 0.0, 1.0, 1.0]);
            let x = [f32::NEG_INFINITY, -200.0, -126.0, -1.0, 0.0, f32::NAN];
            let y = apply(isa, Function::Exp2OfNegative, &x);
            assert_eq!(y[..5], [0.0, 0.0, f32::MIN_POSITIVE, 0.5, 1.0], "{isa:?}");
            assert!(y[5].is_nan(), "{isa:?}");
        }
    }
}
