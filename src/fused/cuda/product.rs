//! What products on an NVIDIA card have in common: the matrices, and what of a product decides about
//! its kernel.

use crate::fused::activation::Activation;
use crate::mlx::quantized::{Mode, QuantizedTensor};
use crate::mlx::{Array, Dtype};

/// A matrix that the kernels multiply with, `[outputs, inputs]`, or one for each of many experts.
#[derive(Debug, Clone, Copy)]
pub enum Operand<'a> {
    /// Numbers.
    Dense(&'a Array),
    /// Codes and scales.
    Quantized(&'a QuantizedTensor),
}

impl<'a> Operand<'a> {
    /// The numbers or codes.
    pub(super) fn stored(self) -> &'a Array {
        match self {
            Self::Dense(weight) => weight,
            Self::Quantized(tensor) => &tensor.weight,
        }
    }

    /// All arrays, the numbers or codes first.
    pub(super) fn arrays(self) -> Vec<&'a Array> {
        match self {
            Self::Dense(weight) => vec![weight],
            Self::Quantized(tensor) => tensor.arrays().collect(),
        }
    }
}

/// What of a product decides about its kernel, as product.cuh and few_rows.cu call it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Product {
    pub(super) x: i32,
    pub(super) format: i32,
    pub(super) bits: usize,
    pub(super) group: usize,
    pub(super) entry_bytes: usize,
    pub(super) norm: i32,
    pub(super) norm_weight: bool,
    pub(super) gated: i32,
    pub(super) experts: ExpertAxis,
    /// Experts of a row, or 1.
    pub(super) active: usize,
    pub(super) rows: usize,
    /// Of a matrix.
    pub(super) inputs: usize,
    /// Of all matrices of a row.
    pub(super) outputs: usize,
}

/// What the matrices of a row's experts have in common, as few_rows.cu numbers it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ExpertAxis {
    /// There is one matrix.
    None = 0,
    /// Their inputs; outputs follow each other.
    Outputs = 1,
    /// Their outputs, which are added up; inputs follow each other.
    Inputs = 2,
}

impl Product {
    /// `None` for what the kernels do not do.
    pub(super) fn of(x: &Array, matrix: Operand) -> Option<Self> {
        let stored = matrix.stored();
        let inputs = x.dim(-1) as usize;
        let product = Self::with(x, matrix, x.size() / inputs.max(1), inputs, stored.dim(0))?;
        (stored.ndim() == 2).then_some(product)
    }

    /// A product of rows of the type of `x` with matrices of this many inputs, and outputs in all.
    pub(super) fn with(
        x: &Array,
        matrix: Operand,
        rows: usize,
        inputs: usize,
        outputs: i32,
    ) -> Option<Self> {
        let kind = match x.dtype() {
            Dtype::Bfloat16 => 0,
            Dtype::Float16 => 1,
            Dtype::Float32 => 2,
            _ => return None,
        };
        let (format, bits, group, entry_bytes) = match matrix {
            Operand::Dense(weight) if weight.dtype() == x.dtype() && kind != 2 => (0, 16, 128, 0),
            Operand::Dense(_) => return None,
            Operand::Quantized(tensor) => {
                let (bits, group) =
                    (tensor.params.bits as usize, tensor.params.group_size as usize);
                let (format, entry_bytes) = match tensor.params.mode {
                    Mode::Affine if tensor.scales.dtype() == x.dtype() => (1, x.item_size()),
                    Mode::Affine => return None,
                    Mode::Mxfp4 => (2, 1),
                    Mode::Mxfp8 => (3, 1),
                    Mode::Nvfp4 => (4, 1),
                };
                (format, bits, group, entry_bytes)
            }
        };
        let product = Self {
            x: kind,
            format,
            bits,
            group,
            entry_bytes,
            norm: 0,
            norm_weight: false,
            gated: 0,
            experts: ExpertAxis::None,
            active: 1,
            rows,
            inputs,
            outputs: outputs as usize,
        };
        // Rows of codes and of scales are copied in whole pieces.
        let stored = matrix.stored().dim(-1) as usize * if format == 0 { 1 } else { 32 };
        let fits = rows > 0
            && stored == inputs * if format == 0 { 1 } else { bits }
            && (inputs * bits / 8).is_multiple_of(16)
            && (format == 0 || inputs.is_multiple_of(group) && product.scale_bytes() >= 4);
        fits.then_some(product)
    }

    /// The same with a matrix for each of `active` experts of a row.
    pub(super) fn of_experts(self, experts: ExpertAxis, active: usize) -> Self {
        Self { experts, active, ..self }
    }

    /// Inputs of a chunk: KC of product.cuh.
    pub(super) fn chunk(&self) -> usize {
        if self.format == 0 { 128 } else { 256 }
    }

    /// Bytes from one row of a chunk of codes to the next: ROW_STRIDE of product.cuh.
    pub(super) fn row_stride(&self) -> usize {
        let bytes = self.chunk() * self.bits / 8;
        if bytes.is_multiple_of(128) { bytes } else { bytes + 16 }
    }

    /// Bytes of the scales and biases of a row of a chunk.
    pub(super) fn row_scales(&self) -> usize {
        let arrays = match self.format {
            0 => return 0,
            1 => 2,
            _ => 1,
        };
        arrays * self.chunk() / self.group * self.entry_bytes
    }

    /// Bytes of scales that are copied at once: as many as divide those of a row and of a chunk.
    pub(super) fn scale_bytes(&self) -> usize {
        let parts =
            [self.inputs / self.group * self.entry_bytes, 256 / self.group * self.entry_bytes];
        let largest = parts[0].trailing_zeros().min(parts[1].trailing_zeros()).min(4);
        1 << largest
    }
}

/// The activation of a gated product, as product.cuh calls it.
pub(super) fn gated(activation: Option<Activation>) -> Option<i32> {
    match activation {
        None => Some(0),
        Some(Activation::Silu) => Some(1),
        Some(Activation::Gelu) => Some(2),
        Some(Activation::GeluTanh) => Some(3),
        Some(Activation::Relu) => Some(4),
        Some(Activation::ReluSquared) => None,
    }
}
