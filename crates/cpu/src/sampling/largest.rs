//! The largest logit, in which NaN shows.

use super::super::simd::{Isa, Kernel, Simd};

/// Logits that are compared at a time: the compiler makes vectors of them.
const AT_A_TIME: usize = 64;

/// The largest of `logits`, or NaN where any of them is; −∞ for none.
pub fn largest(logits: &[f32], isa: Isa) -> f32 {
    isa.run(Largest { logits })
}

struct Largest<'a> {
    logits: &'a [f32],
}

impl Kernel for Largest<'_> {
    type Output = f32;
    #[inline(always)]
    unsafe fn run<S: Simd>(self) -> f32 {
        let mut most = [f32::NEG_INFINITY; AT_A_TIME];
        let mut unordered = [0_u32; AT_A_TIME];
        let (chunks, rest) = self.logits.as_chunks::<AT_A_TIME>();
        for chunk in chunks {
            for i in 0..AT_A_TIME {
                most[i] = if chunk[i] > most[i] { chunk[i] } else { most[i] };
                unordered[i] |= u32::from(chunk[i].is_nan());
            }
        }
        if unordered.iter().any(|&found| found != 0) || rest.iter().any(|logit| logit.is_nan()) {
            return f32::NAN;
        }
        most.iter().chain(rest).copied().fold(f32::NEG_INFINITY, f32::max)
    }
}
