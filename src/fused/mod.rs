//! The vocabulary of fused operations: what the blocks of a model ask for.
//!
//! Each file is one operation: its parameters, its plain composition out of MLX's operations, and
//! its table of devices, a `match` over [`Device::backend`]. The plain composition reads like
//! mlx-lm's forward; it is the operation's documentation, its reference in tests, its fallback, and
//! what can be differentiated. Every function is total: a block says *what* it wants and never asks
//! *where* it runs.
//!
//! A new kernel changes its operation's table and nothing above it. Implementations lie below this
//! module, in [`cpu`] for the CPU and in [`cuda`] for NVIDIA cards.

pub mod activation;
pub mod adapter;
pub mod attention;
pub mod conv;
mod cpu;
mod cuda;
pub mod delta_rule;
mod device;
pub mod dplr;
pub mod embedding;
pub mod experts;
pub mod gated_delta;
pub mod kv;
pub mod latent_attention;
pub mod linear;
pub mod math;
pub mod mlp;
pub mod norm;
pub mod rope;
pub mod router;
pub mod sampling;
pub mod selective_scan;
pub mod ssm;

pub use device::{Device, Precision};
