//! The memory of inputs and outputs while a kernel runs.

use std::borrow::Cow;
use std::ffi::c_void;

use half::{bf16, f16};
use mlx_sys as sys;

use crate::error::{Error, Result};
use crate::mlx::Dtype;

/// `nodemlx_view` of native/primitives/custom.h.
#[repr(C)]
pub struct RawView {
    data: *mut c_void,
    shape: *const i32,
    strides: *const i64,
    dims: usize,
    dtype: sys::mlx_dtype,
    contiguous: bool,
}

/// The types of elements that kernels read and write.
///
/// # Safety
/// [`Element::DTYPE`] is the type's data type in MLX, and all of its bit patterns are valid.
pub unsafe trait Element: Copy + 'static {
    /// The data type.
    const DTYPE: Dtype;
}

macro_rules! element {
    ($($rust:ty => $dtype:ident),*) => {$(
        // SAFETY: the same size and meaning, and any bits are a number.
        unsafe impl Element for $rust {
            const DTYPE: Dtype = Dtype::$dtype;
        }
    )*};
}
element!(f32 => Float32, f16 => Float16, bf16 => Bfloat16, u8 => Uint8, u32 => Uint32, i32 => Int32);

/// An input's memory while a kernel runs.
pub struct Input<'a>(pub(super) &'a RawView);

impl<'a> Input<'a> {
    /// The length of each axis.
    pub fn shape(&self) -> &'a [i32] {
        part(self.0.shape, self.0.dims)
    }

    /// The distance, in elements, of neighbours along each axis.
    pub fn strides(&self) -> &'a [i64] {
        part(self.0.strides, self.0.dims)
    }

    /// The data type.
    pub fn dtype(&self) -> Dtype {
        dtype(self.0)
    }

    /// Whether the elements follow one another without gaps, the last axis fastest.
    pub fn contiguous(&self) -> bool {
        self.0.contiguous
    }

    /// The memory from the first to the last element that the shape and strides lead to.
    ///
    /// # Errors
    /// [`Error::Mlx`] for another type, or a stride that is negative.
    pub fn span<T: Element>(&self) -> Result<&'a [T]> {
        if self.dtype() != T::DTYPE {
            return Err(Error::Mlx(format!("{:?} instead of {:?}", self.dtype(), T::DTYPE)));
        }
        self.extent().map(|len| part(self.0.data.cast::<T>().cast_const(), len))
    }

    /// The elements.
    ///
    /// # Errors
    /// [`Error::Mlx`] for another type, or if they are not [`Input::contiguous`].
    pub fn slice<T: Element>(&self) -> Result<&'a [T]> {
        if !self.contiguous() {
            return Err(Error::Mlx("a contiguous array was expected".to_owned()));
        }
        self.span()
    }
}

impl<'a> Input<'a> {
    /// [`Input::span`] of an array of booleans: bytes that are 0 or 1.
    ///
    /// # Errors
    /// As for [`Input::span`].
    pub fn booleans(&self) -> Result<&'a [u8]> {
        if self.dtype() != Dtype::Bool {
            return Err(Error::Mlx(format!("{:?} instead of booleans", self.dtype())));
        }
        self.extent().map(|len| part(self.0.data.cast::<u8>().cast_const(), len))
    }

    /// The bytes of a contiguous array of `uint32`.
    ///
    /// # Errors
    /// As for [`Input::slice`].
    pub fn words_as_bytes(&self) -> Result<&'a [u8]> {
        let words = self.slice::<u32>()?;
        // SAFETY: every byte of a word is a byte.
        Ok(unsafe { std::slice::from_raw_parts(words.as_ptr().cast(), size_of_val(words)) })
    }

    /// The number of elements from the first to the last that the shape and strides lead to.
    fn extent(&self) -> Result<usize> {
        let mut len = 1;
        for (&dim, &stride) in self.shape().iter().zip(self.strides()) {
            if dim == 0 {
                return Ok(0);
            }
            let stride = usize::try_from(stride)
                .map_err(|_| Error::Mlx("a negative stride is not supported".to_owned()))?;
            len += (dim as usize - 1) * stride;
        }
        Ok(len)
    }

    /// The elements of an array of `f32`, in order; copied where they do not lie so.
    ///
    /// # Errors
    /// [`Error::Mlx`] for another type.
    pub fn values(&self) -> Result<Cow<'a, [f32]>> {
        self.elements()
    }

    /// The elements, in order; copied where they do not lie so.
    ///
    /// # Errors
    /// [`Error::Mlx`] for another type.
    pub fn elements<T: Element>(&self) -> Result<Cow<'a, [T]>> {
        let span = self.span::<T>()?;
        if self.contiguous() {
            return Ok(Cow::Borrowed(span));
        }
        let mut values = vec![];
        gather(span, self.shape(), self.strides(), &mut values);
        Ok(Cow::Owned(values))
    }
}

/// Appends the elements at the given strides.
fn gather<T: Element>(from: &[T], shape: &[i32], strides: &[i64], to: &mut Vec<T>) {
    match (shape, strides) {
        ([], _) | (_, []) => to.extend(from.first()),
        ([len], [1]) => to.extend_from_slice(&from[..*len as usize]),
        ([len, shape @ ..], [stride, strides @ ..]) => {
            for i in 0..*len as usize {
                gather(&from[i * *stride as usize..], shape, strides, to);
            }
        }
    }
}

/// An output's memory while a kernel runs: contiguous; not initialized, unless it is an update.
pub struct Output<'a>(pub(super) &'a RawView);

impl Output<'_> {
    /// The length of each axis.
    pub fn shape(&self) -> &[i32] {
        part(self.0.shape, self.0.dims)
    }

    /// The type of the elements.
    pub fn dtype(&self) -> Dtype {
        dtype(self.0)
    }

    /// The elements, to be written.
    ///
    /// # Errors
    /// [`Error::Mlx`] for another type.
    pub fn slice<T: Element>(&mut self) -> Result<&mut [T]> {
        if dtype(self.0) != T::DTYPE {
            return Err(Error::Mlx(format!("{:?} instead of {:?}", dtype(self.0), T::DTYPE)));
        }
        let len = self.shape().iter().map(|&dim| dim as usize).product();
        if len == 0 {
            return Ok(&mut []);
        }
        // SAFETY: MLX allocated the output with its shape and type for this run; nobody else uses
        // it before the run has ended; any bits are valid.
        Ok(unsafe { std::slice::from_raw_parts_mut(self.0.data.cast(), len) })
    }

    /// Writes zeros over all elements, of whatever type.
    pub(super) fn clear(&mut self) {
        let len: usize = self.shape().iter().map(|&dim| dim as usize).product();
        // SAFETY: takes a type of MLX, as every view has one.
        let bytes = len * unsafe { sys::mlx_dtype_size(self.0.dtype) };
        if bytes > 0 {
            // SAFETY: as for `slice`; zeros are a value of every type.
            unsafe { std::ptr::write_bytes(self.0.data.cast::<u8>(), 0, bytes) };
        }
    }
}

pub(super) fn part<'a, T>(data: *const T, len: usize) -> &'a [T] {
    if len == 0 {
        return &[];
    }
    // SAFETY: `RawView` comes from MLX, which keeps shape, strides and memory for the run; the
    // views' lifetimes end with it.
    unsafe { std::slice::from_raw_parts(data, len) }
}

fn dtype(view: &RawView) -> Dtype {
    // Arrays have no other types than those which both sides know.
    Dtype::try_from(view.dtype).unwrap_or(Dtype::Bool)
}
