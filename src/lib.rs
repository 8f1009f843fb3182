//! Language models on Apple's MLX, for Node.js. `docs/architecture.md` is the map of the modules.
//!
//! # Terms
//!
//! - **prefill, decode**: reading a prompt in chunks, and the steps of a token each after it.
//! - **KV cache**: what attention keeps of each position ([`cache`]): every position (standard),
//!   the last ones (rotating: a sliding window), the current chunk (chunked); recurrent layers keep
//!   a state in its place (arrays). Its first positions are attention sinks (Xiao et al. 2023).
//! - **mixer, feed-forward block**: the two halves of a layer: what lets positions see each other,
//!   and what works on each by itself ([`nn`]).
//! - **fused operation**: what a block asks for as one ([`fused`]); its *plain composition* is the
//!   same out of MLX's operations.
//! - **quantized**: codes with a scale, and in affine quantization a bias, for each group of input
//!   features ([`mlx::quantized`]).
//! - **router, experts, top-k**: of a mixture of experts.
//! - **step, row**: one forward pass, and a sequence in it. Rows are packed along the length and not
//!   padded ([`nn::Step`]). In kernels a row of `x` is a token's activations, and a row of `w` an
//!   output.
//! - **take**: to load a tensor of the checkpoint and mark it as used ([`weights`]).
//! - **site**: a layer that an adapter (LoRA) can add to.
//! - **draft, trial**: tokens guessed for speculative decoding, and those in the step that verifies
//!   them.
//!
//! Shapes are in brackets: `[batch, length, dims]`, where `length` is the sum of the new positions
//! of all rows, and `batch` is 1 if there are several; `heads` (of keys and values `kv_heads`) of
//! `head_dim` features; `seen` positions in the cache.

pub mod adapters;
pub mod cache;
pub mod constraint;
pub mod convert;
pub use nodemlx_cpu as cpu;
pub mod engine;
pub mod error;
mod files;
pub mod foreign;
pub mod fused;
pub mod generate;
mod json;
pub mod mlx;
pub mod models;
// Unit tests run outside of Node.js, where nothing calls the bindings.
#[cfg(all(feature = "napi", not(test)))]
mod napi;
pub mod nn;
mod panics;
pub mod ranges;
pub mod text;
pub mod warning;
pub mod weights;
