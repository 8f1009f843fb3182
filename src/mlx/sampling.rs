//! From logits to a token, by one kernel each on the CPU. Where there is none, `None` says that operations of MLX must do it.

use std::sync::Arc;

use super::{Array, kernels, ops};
use crate::cpu::sampling::{Penalties, SamplingOptions};
use crate::error::Result;

/// The most likely tokens of logits `[…, vocabulary]`: `[…]`, `uint32`.
pub fn most_likely(logits: &Array) -> Result<Array> {
    if kernels::take(logits) { kernels::most_likely(logits) } else { ops::argmax(logits, -1) }
}

/// Draws a token from logits `[1, vocabulary]`, which need not be normalized, with two numbers from [0, 1), one for the token and one for XTC: `[1]`, `uint32`.
pub fn draw(logits: &Array, options: &SamplingOptions, uniform: [f64; 2]) -> Result<Option<Array>> {
    kernels::take(logits).then(|| kernels::draw(logits, options, uniform)).transpose()
}

/// Logits `[1, vocabulary]` with penalties for the `recent` tokens `[1, n]`.
pub fn penalize(
    logits: &Array,
    recent: Option<&Array>,
    penalties: &Arc<Penalties>,
) -> Result<Option<Array>> {
    kernels::take(logits).then(|| kernels::penalize(logits, recent, penalties)).transpose()
}

/// The log-probability of `token` `[1]` by logits `[1, vocabulary]`, `[1]`, and the `count` most likely tokens with theirs, `[count]` each.
pub fn log_probabilities(logits: &Array, token: &Array, count: i32) -> Result<Option<[Array; 3]>> {
    kernels::take(logits).then(|| kernels::log_probabilities(logits, token, count)).transpose()
}
