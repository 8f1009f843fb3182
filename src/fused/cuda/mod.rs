//! Kernels for NVIDIA cards: the CUDA column of the operations' tables.
//!
//! They take over where rows are few, so that the memory which holds the weights is what counts;
//! MLX does the rest. Every function gives `None` for what its kernels do not do.

pub mod activation;
pub mod attention;
mod few_rows;
mod many_rows;
pub mod norm;
pub mod product;
pub mod products;
pub mod recurrence;
pub mod router;
pub mod sampling;
pub mod unpack;

#[cfg(test)]
mod tests;
