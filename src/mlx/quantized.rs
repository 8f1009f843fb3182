//! Quantized matrices and MLX's products with them.

use std::ffi::CStr;

use super::call::{Arrays, check, optional};
use super::op::op;
use super::{Array, Dtype, device, ops};
use crate::error::{Error, Result};

/// How a matrix is quantized.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct QuantizationParams {
    /// The kind of codes and scales.
    pub mode: Mode,
    /// Consecutive input features that share a scale.
    pub group_size: i32,
    /// Bits per element.
    pub bits: i32,
}

/// The kind of codes and scales.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Mode {
    /// scale · q + bias with whole numbers q.
    Affine,
    /// 4-bit floats, 32 of them with a power of two (OCP Microscaling).
    Mxfp4,
    /// 8-bit floats, 32 of them with a power of two (OCP Microscaling).
    Mxfp8,
    /// 4-bit floats, 16 of them with an 8-bit float (NVIDIA).
    Nvfp4,
}

impl Mode {
    /// Every mode.
    pub const ALL: [Self; 4] = [Self::Affine, Self::Mxfp4, Self::Mxfp8, Self::Nvfp4];

    /// The name in configurations.
    pub fn name(self) -> &'static str {
        match self {
            Self::Affine => "affine",
            Self::Mxfp4 => "mxfp4",
            Self::Mxfp8 => "mxfp8",
            Self::Nvfp4 => "nvfp4",
        }
    }

    /// The group size and bits where a configuration does not say.
    pub fn defaults(self) -> (i32, i32) {
        match self {
            Self::Affine => (64, 4),
            Self::Mxfp4 => (32, 4),
            Self::Mxfp8 => (32, 8),
            Self::Nvfp4 => (16, 4),
        }
    }

    fn c_name(self) -> &'static CStr {
        match self {
            Self::Affine => c"affine",
            Self::Mxfp4 => c"mxfp4",
            Self::Mxfp8 => c"mxfp8",
            Self::Nvfp4 => c"nvfp4",
        }
    }
}

impl QuantizationParams {
    fn group_size(self) -> mlx_sys::mlx_optional_int {
        mlx_sys::mlx_optional_int { value: self.group_size, has_value: true }
    }

    fn bits(self) -> mlx_sys::mlx_optional_int {
        mlx_sys::mlx_optional_int { value: self.bits, has_value: true }
    }
}

/// A quantized matrix, or several stacked along further axes in front.
#[derive(Debug, Clone)]
pub struct QuantizedTensor {
    /// The codes, `[outputs, inputs · bits / 32]`, `uint32`.
    pub weight: Array,
    /// `[outputs, inputs / group_size]`: floating-point numbers of affine quantization, else bytes.
    pub scales: Array,
    /// As `scales`; of affine quantization only.
    pub biases: Option<Array>,
    /// How it is quantized.
    pub params: QuantizationParams,
    /// The type of activations, and of what [`dequantize`] gives.
    pub dtype: Dtype,
}

impl QuantizedTensor {
    /// The codes, the scales and, of affine quantization, the biases.
    pub fn arrays(&self) -> impl Iterator<Item = &Array> {
        [&self.weight, &self.scales].into_iter().chain(&self.biases)
    }
}

/// MLX's products on a CUDA card take rows that follow one another alone; on a Mac any.
fn in_order(x: &Array) -> Result<Array> {
    if cfg!(target_os = "macos") { Ok(x.clone()) } else { ops::contiguous(x) }
}

/// x · wᵀ with a matrix for each of `x`'s axes in front, which broadcast; without `transposed`, x ·
/// w for `x` `[…, outputs]`: `[…, inputs]`.
pub fn matmul(x: &Array, w: &QuantizedTensor, transposed: bool) -> Result<Array> {
    let x = in_order(x)?;
    op!(mlx_quantized_matmul(
        x.as_ptr(),
        w.weight.as_ptr(),
        w.scales.as_ptr(),
        optional(w.biases.as_ref()),
        transposed,
        w.params.group_size(),
        w.params.bits(),
        w.params.mode.c_name().as_ptr()
    ))
}

/// x · wᵀ with one of several stacked matrices for each row block of `x`, as `experts` says;
/// `sorted` promises that `experts` ascends.
pub fn gather_matmul(
    x: &Array,
    w: &QuantizedTensor,
    experts: &Array,
    sorted: bool,
) -> Result<Array> {
    let x = in_order(x)?;
    op!(mlx_gather_qmm(
        x.as_ptr(),
        w.weight.as_ptr(),
        w.scales.as_ptr(),
        optional(w.biases.as_ref()),
        optional(None),
        experts.as_ptr(),
        true,
        w.params.group_size(),
        w.params.bits(),
        w.params.mode.c_name().as_ptr(),
        sorted
    ))
}

/// Quantizes the last axis of an array of numbers.
pub fn quantize(x: &Array, params: QuantizationParams) -> Result<QuantizedTensor> {
    let stream = device::current_stream()?;
    let mut parts = Arrays::empty();
    // SAFETY: `parts` is a live vector to fill, `x` and the stream are live for the call, and no
    // global scale is given.
    check(unsafe {
        mlx_sys::mlx_quantize(
            parts.handle_mut(),
            x.as_ptr(),
            params.group_size(),
            params.bits(),
            params.mode.c_name().as_ptr(),
            optional(None),
            stream,
        )
    })?;
    let mut parts = parts.into_vec()?.into_iter();
    let (Some(weight), Some(scales)) = (parts.next(), parts.next()) else {
        return Err(Error::Mlx("a quantized array without scales".to_owned()));
    };
    Ok(QuantizedTensor { weight, scales, biases: parts.next(), params, dtype: x.dtype() })
}

/// The matrix as floating-point numbers.
pub fn dequantize(w: &QuantizedTensor) -> Result<Array> {
    // With affine quantization MLX computes in the type of the scales, whatever it is asked for.
    let (scales, biases) = match &w.biases {
        Some(biases) => (ops::astype(&w.scales, w.dtype)?, Some(ops::astype(biases, w.dtype)?)),
        None => (w.scales.clone(), None),
    };
    op!(mlx_dequantize(
        w.weight.as_ptr(),
        scales.as_ptr(),
        optional(biases.as_ref()),
        w.params.group_size(),
        w.params.bits(),
        w.params.mode.c_name().as_ptr(),
        optional(None),
        mlx_sys::mlx_optional_dtype { value: w.dtype.into(), has_value: true }
    ))
}
