//! Slices of the float types that weights and caches come in.

use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};

use super::simd::Simd;

/// A float type that MLX stores.
pub trait Element: Copy + Send {
    /// Reads a vector.
    ///
    /// # Safety
    /// There are so many elements, and the machine has the instructions of `S`.
    unsafe fn load<S: Simd>(from: *const Self) -> S::F;
    /// The element as f32.
    fn value(self) -> f32;
    /// Converts as many elements, to the nearest.
    ///
    /// # Panics
    /// When the lengths differ.
    fn store(from: &[f32], to: &mut [Self]);
}

impl Element for f32 {
    #[inline(always)]
    unsafe fn load<S: Simd>(from: *const Self) -> S::F {
        // SAFETY: as the caller promises.
        unsafe { S::load(from) }
    }
    fn value(self) -> f32 {
        self
    }
    fn store(from: &[f32], to: &mut [Self]) {
        to.copy_from_slice(from);
    }
}

macro_rules! half_element {
    ($($half:ty => $load:ident),*) => {$(
        impl Element for $half {
            #[inline(always)]
            unsafe fn load<S: Simd>(from: *const Self) -> S::F {
                // SAFETY: as the caller promises.
                unsafe { S::$load(from.cast()) }
            }
            fn value(self) -> f32 {
                self.to_f32()
            }
            fn store(from: &[f32], to: &mut [Self]) {
                to.convert_from_f32_slice(from);
            }
        }
    )*};
}

half_element!(f16 => load_f16, bf16 => load_bf16);

/// A slice of floats of one of the types that MLX stores, to be written.
#[derive(Debug)]
pub enum FloatsMut<'a> {
    /// Single precision.
    F32(&'a mut [f32]),
    /// Half precision.
    F16(&'a mut [f16]),
    /// bfloat16.
    Bf16(&'a mut [bf16]),
}

impl FloatsMut<'_> {
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

    /// The same, for a while.
    pub fn reborrow(&mut self) -> FloatsMut<'_> {
        match self {
            Self::F32(s) => FloatsMut::F32(s),
            Self::F16(s) => FloatsMut::F16(s),
            Self::Bf16(s) => FloatsMut::Bf16(s),
        }
    }

    /// The same, to be read.
    pub fn as_floats(&self) -> Floats<'_> {
        match self {
            Self::F32(s) => Floats::F32(s),
            Self::F16(s) => Floats::F16(s),
            Self::Bf16(s) => Floats::Bf16(s),
        }
    }
}

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
        // SAFETY: as the caller promises.
        unsafe {
            match self {
                Self::F32(s) => std::ptr::copy_nonoverlapping(s.as_ptr().add(from), to, n),
                Self::F16(s) => convert::<S, _>(s.as_ptr().add(from), n, to),
                Self::Bf16(s) => convert::<S, _>(s.as_ptr().add(from), n, to),
            }
        }
    }
}

/// Converts `n` elements.
///
/// # Safety
/// As for [`Floats::read`].
#[inline(always)]
unsafe fn convert<S: Simd, E: Element>(from: *const E, n: usize, to: *mut f32) {
    // SAFETY: as the caller promises; vectors stay below `n`.
    unsafe {
        let whole = n - n % S::LANES;
        for i in (0..whole).step_by(S::LANES) {
            S::store(to.add(i), E::load::<S>(from.add(i)));
        }
        for i in whole..n {
            *to.add(i) = (*from.add(i)).value();
        }
    }
}
