//! The logits after each of some tokens.

use super::Advance;
use crate::engine::backend::Backend;
use crate::error::{Error, Result};

/// Logits that are being computed.
pub struct LogitsTask<C> {
    tokens: Vec<u32>,
    position: usize,
    caches: C,
    logits: Vec<f32>,
}

impl<C> LogitsTask<C> {
    /// Those of `tokens`, as wide as the vocabulary.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for more than the memory holds.
    pub fn new(tokens: Vec<u32>, caches: C, vocabulary: usize) -> Result<Self> {
        let mut logits = Vec::new();
        let count = tokens.len().saturating_mul(vocabulary);
        if logits.try_reserve_exact(count).is_err() {
            let message = format!("{} rows of logits do not fit the memory", tokens.len());
            return Err(Error::argument("tokens", message));
        }
        Ok(Self { tokens, position: 0, caches, logits })
    }

    /// Computes the next rows, `count` at most.
    pub(super) fn advance<B: Backend<Caches = C>>(
        &mut self,
        backend: &B,
        count: usize,
    ) -> Result<Advance> {
        let end = self.tokens.len().min(self.position + count);
        let rows = backend.logits(&self.tokens[self.position..end], &mut self.caches)?;
        self.logits.extend(rows);
        let tokens = end - std::mem::replace(&mut self.position, end);
        Ok(Advance { tokens, done: end == self.tokens.len() })
    }

    /// The rows; everything else is given back.
    pub fn into_rows(self) -> Vec<f32> {
        self.logits
    }
}
