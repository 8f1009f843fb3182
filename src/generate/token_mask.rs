//! What limits the tokens that a sequence may draw, such as a grammar.

use std::fmt::Debug;

use crate::error::Result;
use crate::mlx::{Array, Dtype, ops, scalar};

/// A limit on the next token that depends on the tokens before. It is asked on the engine's thread,
/// while the device computes the logits that it is for.
pub trait TokenMask: Debug + Send {
    /// Takes a token that was drawn.
    ///
    /// # Errors
    /// They end the sequence, after this token.
    fn accept(&mut self, token: u32) -> Result<()>;

    /// Which tokens may come next: bit `t % 32` of word `t / 32` for token `t`, and none of those
    /// behind the last word; `None` for all tokens.
    ///
    /// # Errors
    /// As those of [`TokenMask::accept`].
    fn allowed(&mut self) -> Result<Option<&[u32]>>;
}

/// Logits `[1, vocabulary]` with −∞ for what is not `allowed`.
pub fn masked(logits: &Array, allowed: &[u32]) -> Result<Array> {
    let count = logits.dim(-1);
    let is_allowed = |token: usize| {
        let word = allowed.get(token / 32).copied().unwrap_or_default();
        word >> (token % 32) & 1 == 1
    };
    let mask: Vec<bool> = (0..count as usize).map(is_allowed).collect();
    let mask = Array::from_slice(&mask, &[1, count]);
    let logits = ops::astype(logits, Dtype::Float32)?;
    ops::select(&mask, &logits, &scalar(f32::NEG_INFINITY))
}
