//! Language models on Apple's MLX, for Node.js. This file is the map of the modules; see `docs/`.

pub mod cache;
pub mod cpu;
pub mod engine;
pub mod error;
pub mod fused;
pub mod generate;
pub mod hub;
mod json;
pub mod mlx;
pub mod models;
// Unit tests run outside of Node.js, where nothing calls the bindings.
#[cfg(all(feature = "napi", not(test)))]
mod napi;
pub mod nn;
pub mod text;
pub mod weights;
