//! Checkpoints: safetensors files, seen as a tree of named tensors that models take from.
//!
//! Loading is strict. A tensor that is missing, has another shape or an unexpected type, or that
//! nobody took, is an error that names it and its file.

mod adaptable;
mod checkpoint;
mod file;
mod folder;
mod formats;
mod plan;
mod sites;
mod view;

pub use checkpoint::{Checkpoint, Outline};
pub use file::TensorOutline;
pub use formats::{Foreign, Refusal, e8m0};
pub use plan::LoadPlan;
pub use sites::{LinearSite, Place, Site, Sites, Trainer};
pub use view::{Adjustments, Float8, Quantization, Weights};
