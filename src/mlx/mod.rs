//! MLX's C API and nothing else: arrays and data types from mlx-rs, operations from `mlx-sys`.
//!
//! mlx-rs makes a stream handle for every operation and knows only one quantization mode, so
//! operations here go to the C API with the engine thread's own stream ([`enter`]). All `unsafe`
//! towards MLX lives in this module. Kernels of our own are nodes that [`crate::fused`] hangs into
//! MLX's graph through [`primitive`].
#![allow(unsafe_code, reason = "this module is the boundary to MLX's C API")]

mod call;
mod device;
pub mod fast;
pub mod gpu;
mod kernel_images;
mod mapped;
pub mod memory;
mod metal;
mod op;
pub mod ops;
pub mod primitive;
pub mod process;
pub mod quantized;
pub mod random;
mod transfer;

pub use device::{
    DeviceKind, device_memory, device_name, enter, gpu_available, init, settle, version,
};
pub use mapped::MappedFile;
pub use metal::check as check_machine;
pub use mlx_rs::{Array, Dtype};
pub use transfer::{
    GraphsOnly, async_eval, eval, from_bytes, from_f32, from_u32, item_f32, item_u32,
    queued_elements, scalar, to_bytes, to_f32_vec, to_u32_vec,
};

/// The name of a data type as checkpoints and users write it.
pub fn dtype_name(dtype: Dtype) -> &'static str {
    match dtype {
        Dtype::Bool => "bool",
        Dtype::Uint8 => "uint8",
        Dtype::Uint16 => "uint16",
        Dtype::Uint32 => "uint32",
        Dtype::Uint64 => "uint64",
        Dtype::Int8 => "int8",
        Dtype::Int16 => "int16",
        Dtype::Int32 => "int32",
        Dtype::Int64 => "int64",
        Dtype::Float16 => "float16",
        Dtype::Float32 => "float32",
        Dtype::Float64 => "float64",
        Dtype::Bfloat16 => "bfloat16",
        Dtype::Complex64 => "complex64",
    }
}

/// Whether `dtype` is one of the real floating-point types.
pub fn is_float(dtype: Dtype) -> bool {
    matches!(dtype, Dtype::Float16 | Dtype::Float32 | Dtype::Float64 | Dtype::Bfloat16)
}
