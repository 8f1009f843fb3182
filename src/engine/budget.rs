//! A limit on reasoning: when its tokens are used up, the tokens that end it come next.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::error::Result;
use crate::generate::TokenMask;
use crate::text::{Detokenizer, OutputParser, Tokenizer};

/// Ends reasoning that takes more than its budget. What else limits the tokens comes before and
/// behind it.
#[derive(Debug)]
pub struct ReasoningBudget {
    /// Tokens that are left.
    left: usize,
    /// Tells reasoning from text.
    parser: OutputParser,
    detokenizer: Detokenizer,
    /// The tokens that end reasoning.
    ending: Vec<u32>,
    /// Those of them that come next.
    coming: VecDeque<u32>,
    /// Whether they were of no use.
    failed: bool,
    inner: Option<Box<dyn TokenMask>>,
    only: Vec<u32>,
}

impl ReasoningBudget {
    /// At most `budget` tokens of what `parser` says is reasoning, which `ending` ends.
    pub fn new(
        budget: usize,
        parser: OutputParser,
        tokenizer: Arc<Tokenizer>,
        ending: Vec<u32>,
        inner: Option<Box<dyn TokenMask>>,
    ) -> Self {
        Self {
            left: budget,
            parser,
            detokenizer: Detokenizer::new(tokenizer),
            ending,
            coming: VecDeque::new(),
            failed: false,
            inner,
            only: Vec::new(),
        }
    }
}

impl TokenMask for ReasoningBudget {
    fn accept(&mut self, token: u32) -> Result<()> {
        if let Some(inner) = &mut self.inner {
            inner.accept(token)?;
        }
        let piece = self.detokenizer.piece(token)?;
        self.parser.push(&piece.text, piece.special);
        if self.coming.pop_front().is_some() {
            self.failed |= self.coming.is_empty() && self.parser.reasons();
        } else if self.parser.reasons() && !self.failed {
            self.left = self.left.saturating_sub(1);
            // Reasoning that begins again behind that ends at once.
            if self.left == 0 {
                self.coming.extend(&self.ending);
            }
        }
        Ok(())
    }

    fn allowed(&mut self) -> Result<Option<&[u32]>> {
        let Some(&token) = self.coming.front() else {
            return match &mut self.inner {
                Some(inner) => inner.allowed(),
                None => Ok(None),
            };
        };
        self.only.clear();
        self.only.resize(token as usize / 32 + 1, 0);
        self.only[token as usize / 32] = 1 << (token % 32);
        Ok(Some(&self.only))
    }

    fn forced(&self) -> &[u32] {
        match &self.inner {
            _ if !self.coming.is_empty() => self.coming.as_slices().0,
            Some(inner) => inner.forced(),
            None => &[],
        }
    }
}
