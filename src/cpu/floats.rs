//! Slices of the float types that weights and caches come in.

use half::{bf16, f16};

use super::simd::Simd;

/// A slice of floats of one of the types that MLX stores.
#[derive(Clone, Copy, Debug)]
pub enum Floats<'a> {
    /// Single precision.
    F32(&'a [f32]),
    /// Half precision.
    F16(&'a [f16]),
    /// bfloat16.
    Bf16(&'a [bf16]),
}

impl<'a> Floats<'a> {
    /// Number of elements.
    pub fn len(&self) -> usize {
        match self {
            Self::F32(s) => s.len(),
            Self::F16(s) => s.len(),
            Self::Bf16(s) => s.len(),
        }
    }

    /// Whether there are no elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Where they begin.
    pub fn as_ptr(&self) -> *const u8 {
        match self {
            Self::F32(s) => s.as_ptr().cast(),
            Self::F16(s) => s.as_ptr().cast(),
            Self::Bf16(s) => s.as_ptr().cast(),
        }
    }

    /// Bytes of one element.
    pub fn element_size(&self) -> usize {
        if matches!(self, Self::F32(_)) { 4 } else { 2 }
    }

    /// The `len` elements from `from`.
    ///
    /// # Panics
    /// When they are not all there.
    pub fn part(&self, from: usize, len: usize) -> Floats<'a> {
        match self {
            Self::F32(s) => Self::F32(&s[from..from + len]),
            Self::F16(s) => Self::F16(&s[from..from + len]),
            Self::Bf16(s) => Self::Bf16(&s[from..from + len]),
        }
    }

    /// Element `i`.
    pub fn get(&self, i: usize) -> f32 {
        match self {
            Self::F32(s) => s[i],
            Self::F16(s) => s[i].to_f32(),
            Self::Bf16(s) => s[i].to_f32(),
        }
    }

    /// Converts the `n` elements from `from`.
    ///
    /// # Safety
    /// The elements are there, `to` has room for them, and the machine has the instructions of `S`.
    #[inline(always)]
    pub unsafe fn read<S: Simd>(&self, from: usize, n: usize, to: *mut f32) {
        // SAFETY: as the caller promises; vectors stay below `n`.
        unsafe {
            match self {
                Self::F32(s) => std::ptr::copy_nonoverlapping(s.as_ptr().add(from), to, n),
                Self::F16(s) => {
                    let source = s.as_ptr().add(from);
                    let whole = n - n % S::LANES;
                    for i in (0..whole).step_by(S::LANES) {
                        S::store(to.add(i), S::load_f16(source.add(i).cast()));
                    }
                    for i in whole..n {
                        *to.add(i) = (*source.add(i)).to_f32();
                    }
                }
                Self::Bf16(s) => {
                    let source = s.as_ptr().add(from);
                    let whole = n - n % S::LANES;
                    for i in (0..whole).step_by(S::LANES) {
                        S::store(to.add(i), S::load_bf16(source.add(i).cast()));
                    }
                    for i in whole..n {
                        *to.add(i) = (*source.add(i)).to_f32();
                    }
                }
            }
        }
    }
}
