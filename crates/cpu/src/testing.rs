//! What the kernels' tests share: a small random generator, and comparison with a reference in f64.

use std::fmt::Debug;

use super::simd::Isa;
use super::{ExecOptions, Precision};

/// xorshift64*: the tests need many numbers, the same in every run.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// Below `n`.
    pub fn below(&mut self, n: usize) -> usize {
        (self.next() >> 33) as usize % n
    }

    /// Roughly normal, mean 0, deviation 1.
    pub fn normal(&mut self) -> f32 {
        let uniform = |x: u64| (x >> 40) as f32 / (1u64 << 24) as f32;
        let sum: f32 = (0..12).map(|_| uniform(self.next())).sum();
        sum - 6.0
    }

    pub fn normals(&mut self, n: usize) -> Vec<f32> {
        (0..n).map(|_| self.normal()).collect()
    }

    pub fn bytes(&mut self, n: usize) -> Vec<u8> {
        (0..n).map(|_| (self.next() >> 32) as u8).collect()
    }
}

/// Every way to run a kernel on this machine.
pub fn execs() -> Vec<ExecOptions> {
    let with =
        |precision| Isa::available().into_iter().map(move |isa| ExecOptions { isa, precision });
    [Precision::Exact, Precision::Fast, Precision::Fastest].into_iter().flat_map(with).collect()
}

/// Asserts that no element of `got` is further than `bound * size` from `expected`.
#[track_caller]
pub fn assert_close(got: &[f32], expected: &[f64], size: f64, bound: f64, what: &dyn Debug) {
    assert_eq!(got.len(), expected.len(), "{what:?}");
    for (i, (&g, &e)) in got.iter().zip(expected).enumerate() {
        let error = (f64::from(g) - e).abs();
        assert!(error <= bound * size, "{what:?}: [{i}] is {g}, not {e} (bound {})", bound * size);
    }
}
