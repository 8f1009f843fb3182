//! Checkpoints: safetensors files, seen as a tree of named tensors that models take from.
//!
//! Loading is strict. A tensor that is missing, has another shape or an unexpected type, or that
//! nobody took, is an error that names it and its file.

mod checkpoint;
mod file;
mod folder;
mod fp8;
mod plan;
mod view;

pub use checkpoint::Checkpoint;
pub use plan::LoadPlan;
pub use view::{Float8, Quantization, Weights};
