//! The choices of loading: what a model runs with, and in which types and layouts its weights lie.

use crate::fused::{Device, Precision};
use crate::mlx::{DeviceKind, Dtype};

/// The choices of loading. Layers read them off [`super::Weights::plan`]; nobody asks again later.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LoadPlan {
    /// What the model runs with.
    pub device: Device,
    /// The type of activations, norms, biases and scales; `None` keeps what the checkpoint has.
    pub activations: Option<Dtype>,
    /// Whether attention keeps keys and values of checkpoints whose own type has 16 bits in 16
    /// bits, whatever activations have: half as much to be read again for each token.
    pub half_caches: bool,
    /// Whether matrices of products stay in the type in which they are stored, and where the file
    /// is mapped.
    pub stored_matrices: bool,
    /// Whether matrices that other programs have quantized and MLX cannot hold as they are become
    /// numbers of 32 bits, which loses nothing, and not those of 16 that their programs compute
    /// with.
    pub exact_matrices: bool,
    /// Whether projections of the same input are stacked into one matrix: on a GPU small models are
    /// limited by the number of kernels.
    pub stacked_projections: bool,
    /// Whether the matrices of single heads are dequantized.
    pub dense_head_matrices: bool,
    /// Whether those are whose rows have one scale each.
    pub dense_heads_of_one_group: bool,
    /// Whether heads that predict more tokens than the next are loaded.
    pub prediction_heads: bool,
}

impl LoadPlan {
    /// The choices for a device, with activations of type `dtype`; `None` chooses: what the
    /// checkpoint has on a GPU, `float32` on the CPU, where MLX's half-precision operations are
    /// slow and inexact.
    pub fn new(device: Device, dtype: Option<Dtype>) -> Self {
        let cpu = device.kind == DeviceKind::Cpu;
        let activations = dtype.or_else(|| cpu.then_some(Dtype::Float32));
        Self {
            device,
            activations,
            half_caches: cpu && dtype.is_none() && device.precision != Precision::Exact,
            // The CPU's kernels read matrices of any type for activations in `f32`.
            stored_matrices: cpu && activations == Some(Dtype::Float32),
            exact_matrices: dtype == Some(Dtype::Float32),
            stacked_projections: !cpu,
            // The CPU multiplies a stack of quantized matrices much more slowly than one of
            // numbers.
            dense_head_matrices: cpu,
            // MLX's products on a CUDA card refuse stacks of them.
            dense_heads_of_one_group: cpu || cfg!(not(target_os = "macos")),
            prediction_heads: false,
        }
    }

    /// The type of a matrix that another program has quantized and that becomes one of numbers;
    /// `recorded` is the one that its program computes in.
    pub(super) fn dense_type(&self, recorded: Dtype) -> Dtype {
        match self.activations {
            _ if self.exact_matrices => Dtype::Float32,
            Some(dtype @ (Dtype::Float16 | Dtype::Bfloat16)) => dtype,
            _ => recorded,
        }
    }
}
