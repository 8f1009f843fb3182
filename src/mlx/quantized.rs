//! Products with quantized matrices.

use std::ffi::CStr;

use super::call::{Arrays, check, op, optional};
use super::{Array, Dtype, device, fast, kernels, on_gpu, ops};
use crate::error::{Error, Result};

/// How a matrix is packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Format {
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

impl Format {
    fn group_size(self) -> mlx_sys::mlx_optional_int {
        mlx_sys::mlx_optional_int { value: self.group_size, has_value: true }
    }

    fn bits(self) -> mlx_sys::mlx_optional_int {
        mlx_sys::mlx_optional_int { value: self.bits, has_value: true }
    }
}

/// A packed matrix, or several stacked along further axes in front.
#[derive(Debug, Clone)]
pub struct Packed {
    /// `[outputs, inputs · bits / 32]`, `uint32`.
    pub weight: Array,
    /// `[outputs, inputs / group_size]`: floating-point numbers of an affine format, else bytes.
    pub scales: Array,
    /// As `scales`; of affine formats only.
    pub biases: Option<Array>,
    /// The packing.
    pub format: Format,
    /// The type of activations, to which [`dequantize`] unpacks.
    pub dtype: Dtype,
}

impl Packed {
    /// The codes, the scales and, of affine formats, the biases.
    pub fn arrays(&self) -> impl Iterator<Item = &Array> {
        [&self.weight, &self.scales].into_iter().chain(&self.biases)
    }
}

/// x · wᵀ for `x` `[…, inputs]` with each of several matrices: `[…, outputs]` of each.
pub fn matmuls(x: &Array, matrices: &[&Packed]) -> Result<Vec<Array>> {
    if kernels::take(x) {
        return kernels::quantized_matmuls(x, matrices);
    }
    matrices.iter().map(|w| batched_matmul(x, w, true)).collect()
}

/// The sum, and [`matmuls`] of its norm; `None` where no fused kernel does that.
pub fn normed_matmuls(
    rows: &fast::NormedSum,
    matrices: &[&Packed],
) -> Result<Option<(Array, Vec<Array>)>> {
    if rows.fits_kernels() { kernels::normed_matmuls(rows, matrices) } else { Ok(None) }
}

/// activation(x · gateᵀ) · (x · upᵀ); `None` where no fused kernel does that.
pub fn gated_matmuls(
    x: &Array,
    gate_up: [&Packed; 2],
    activation: fast::Activation,
) -> Result<Option<Array>> {
    if kernels::take(x) { kernels::gated_products(x, gate_up, activation) } else { Ok(None) }
}

/// The sum, and of its norm x down(activation(x · gateᵀ) · (x · upᵀ)); `None` where no fused kernel does that.
pub fn normed_mlp(
    rows: &fast::NormedSum,
    gate_up: [&Packed; 2],
    down: &Packed,
    activation: fast::Activation,
) -> Result<Option<(Array, Array)>> {
    if !rows.fits_kernels() {
        return Ok(None);
    }
    kernels::normed_mlp(rows, gate_up, down, activation)
}

/// down(activation(gate(x)) · up(x)) of the `chosen` experts of the stacked `gate`, `up` and `down`, added up with their weights: `x` is `[…, dims]`,
/// the choice and the weights `[…, active]`; `None` where no fused kernel does that.
pub fn weighted_experts(
    x: &Array,
    choice: [&Array; 2],
    gate_up_down: [&Packed; 3],
    activation: fast::Activation,
) -> Result<Option<Array>> {
    if kernels::take(x) && kernels::take(choice[1]) && choice[0].dtype() == Dtype::Uint32 {
        return kernels::weighted_experts(x, choice, gate_up_down, activation).map(Some);
    }
    Ok(None)
}

/// x · wᵀ with a matrix for each of `x`'s axes in front, which broadcast; without `transposed`, x · w
/// for `x` `[…, outputs]`: `[…, inputs]`.
pub fn batched_matmul(x: &Array, w: &Packed, transposed: bool) -> Result<Array> {
    op!(mlx_quantized_matmul(
        x.as_ptr(),
        w.weight.as_ptr(),
        w.scales.as_ptr(),
        optional(w.biases.as_ref()),
        transposed,
        w.format.group_size(),
        w.format.bits(),
        w.format.mode.c_name().as_ptr()
    ))
}

/// Packs the last axis of an array of numbers, in an affine format.
pub fn quantize(x: &Array, format: Format) -> Result<Packed> {
    let stream = device::current_stream()?;
    let mut parts = Arrays::empty();
    // SAFETY: `parts` is a live vector to fill, `x` and the stream are live for the call, and no
    // global scale is given.
    check(unsafe {
        mlx_sys::mlx_quantize(
            parts.handle_mut(),
            x.as_ptr(),
            format.group_size(),
            format.bits(),
            format.mode.c_name().as_ptr(),
            optional(None),
            stream,
        )
    })?;
    let mut parts = parts.into_vec()?.into_iter();
    let (Some(weight), Some(scales)) = (parts.next(), parts.next()) else {
        return Err(Error::Mlx("a packed array without scales".to_owned()));
    };
    Ok(Packed { weight, scales, biases: parts.next(), format, dtype: x.dtype() })
}

/// x · wᵀ with one of several stacked matrices for each row block of `x`, as `experts` says;
/// `sorted` promises that `experts` ascends.
pub fn gather_matmul(x: &Array, w: &Packed, experts: &Array, sorted: bool) -> Result<Array> {
    if kernels::take(x) {
        return kernels::gather_quantized_matmul(x, w, experts);
    }
    op!(mlx_gather_qmm(
        x.as_ptr(),
        w.weight.as_ptr(),
        w.scales.as_ptr(),
        optional(w.biases.as_ref()),
        optional(None),
        experts.as_ptr(),
        true,
        w.format.group_size(),
        w.format.bits(),
        w.format.mode.c_name().as_ptr(),
        sorted
    ))
}

/// The rows of a matrix that `chosen`, `uint32`, names, as floating-point numbers: `[…]` to `[…, inputs]`.
pub fn rows(w: &Packed, chosen: &Array) -> Result<Array> {
    if !on_gpu() && w.dtype == Dtype::Float32 {
        return kernels::quantized_rows(w, chosen);
    }
    let rows = |table: &Array| ops::take(table, chosen, 0);
    dequantize(&Packed {
        weight: rows(&w.weight)?,
        scales: rows(&w.scales)?,
        biases: w.biases.as_ref().map(rows).transpose()?,
        ..*w
    })
}

/// The matrix as floating-point numbers.
pub fn dequantize(w: &Packed) -> Result<Array> {
    // Of an affine format MLX computes in the type of the scales, whatever it is asked for.
    let (scales, biases) = match &w.biases {
        Some(biases) => (ops::astype(&w.scales, w.dtype)?, Some(ops::astype(biases, w.dtype)?)),
        None => (w.scales.clone(), None),
    };
    op!(mlx_dequantize(
        w.weight.as_ptr(),
        scales.as_ptr(),
        optional(biases.as_ref()),
        w.format.group_size(),
        w.format.bits(),
        w.format.mode.c_name().as_ptr(),
        optional(None),
        mlx_sys::mlx_optional_dtype { value: w.dtype.into(), has_value: true }
    ))
}
