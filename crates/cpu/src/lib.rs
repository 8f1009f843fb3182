//! CPU kernels: plain Rust over slices, without MLX types.
//!
//! Every kernel is written once, generic over [`simd::Simd`], and compiled for each instruction set
//! that it may meet; the machine's best one is chosen at run time ([`Isa::best`]), and tests go
//! through all that the machine has ([`Isa::available`]). Work is spread over the threads of
//! [`pool`].
#![allow(
    unsafe_code,
    reason = "vector instructions and parallel writes; every block says why it is sound"
)]
#![allow(
    clippy::needless_range_loop,
    reason = "kernels walk several rows by one index; iterators over one of them hide the pattern"
)]

pub mod activation;
pub mod attention;
pub mod conv;
pub mod dense;
mod error;
pub mod experts;
mod floats;
mod gemm;
pub mod heads;
mod math;
pub mod norm;
pub mod pool;
pub mod prepare;
pub mod quant;
pub mod recurrence;
pub mod rope;
mod routes;
pub mod sampling;
pub mod scratch;
mod simd;

pub use error::{Error, Result};
pub use floats::{Floats, FloatsMut};
pub use routes::Route;
pub use simd::Isa;

/// How a product of activations with weights may be computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Precision {
    /// In f32 throughout.
    Exact,
    /// Activations may be rounded to 16 bits per group where that is faster.
    Fast,
    /// Where many rows share a matrix, as those of a prompt do, activations may be rounded to
    /// 8 bits per group; otherwise as [`Self::Fast`].
    Fastest,
}

/// What a kernel is run with.
#[derive(Clone, Copy, Debug)]
pub struct ExecOptions {
    /// The instruction set.
    pub isa: Isa,
    /// The precision of products.
    pub precision: Precision,
}

impl Default for ExecOptions {
    fn default() -> Self {
        Self { isa: Isa::best(), precision: Precision::Fast }
    }
}

#[cfg(test)]
mod testing;
