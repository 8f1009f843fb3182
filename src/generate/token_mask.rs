//! What limits the tokens that a sequence may draw, such as a grammar.

use std::fmt::Debug;

use crate::error::Result;
use crate::mlx::{Array, Dtype, from_u32, ops, scalar};

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

    /// The tokens that come next in any case, as far as that was known when the mask was last asked
    /// for what is allowed. It is a guess: the same text can be cut into other tokens, too.
    fn forced(&self) -> &[u32] {
        &[]
    }
}

/// The tokens that end an answer, which do not come before its least length.
#[derive(Debug)]
pub(super) struct EndTokens {
    tokens: Vec<u32>,
    min_tokens: usize,
}

impl EndTokens {
    pub fn new(tokens: Vec<u32>, min_tokens: usize) -> Self {
        Self { tokens, min_tokens }
    }

    /// Whether there are any, and token number `index` of the answer may not be one of them.
    pub fn are_early(&self, index: u64) -> bool {
        !self.tokens.is_empty() && index < self.min_tokens as u64
    }

    /// Logits `[1, vocabulary]` for token number `index` of the answer, with −∞ for the ends that
    /// come too early. Where a mask allows nothing else, the answer is complete, and may end.
    pub fn left_out(&self, logits: Array, index: u64, allowed: Option<&[u32]>) -> Result<Array> {
        if !self.are_early(index) {
            return Ok(logits);
        }
        if allowed.is_some_and(|allowed| self.are_all_of(allowed)) {
            return Ok(logits);
        }
        let shape = [1, self.tokens.len() as i32];
        let logits = ops::astype(&logits, Dtype::Float32)?;
        let nothing = ops::broadcast_to(&scalar(f32::NEG_INFINITY), &shape)?;
        ops::put_along(&logits, &from_u32(&self.tokens, &shape), &nothing, -1)
    }

    fn are_all_of(&self, allowed: &[u32]) -> bool {
        let mut others = allowed.to_vec();
        for &token in &self.tokens {
            if let Some(word) = others.get_mut(token as usize / 32) {
                *word &= !(1 << (token % 32));
            }
        }
        others.iter().all(|&word| word == 0)
    }
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
