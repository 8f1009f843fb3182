//! A constraint as a sequence sees it, and as its generation does.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::constraint::{Constraint, Masks, TokenSet};
use crate::error::Result;
use crate::generate::TokenMask;

/// What a generation knows of the constraint that its sequence follows.
#[derive(Debug, Clone, Default)]
pub struct Following {
    /// After how many tokens the answer is complete, and nothing can follow; 0 for not yet.
    end: Arc<AtomicUsize>,
    /// What is not enforced, or differently.
    pub warnings: Vec<String>,
    /// What of the answer the prompt has begun.
    pub open: String,
}

impl Following {
    /// Whether the answer is complete with its first `tokens`, and nothing can follow. The sequence
    /// may be ahead.
    pub fn has_ended(&self, tokens: usize) -> bool {
        (1..=tokens).contains(&self.end.load(Ordering::Relaxed))
    }
}

/// Lets a sequence follow `constraint`.
pub fn follow(constraint: &Constraint) -> Result<(Box<dyn TokenMask>, Following)> {
    let warnings = constraint.warnings().to_vec();
    let following = Following { end: Arc::default(), warnings, open: String::new() };
    let follower = Follower {
        masks: Masks::start(constraint)?,
        end: Arc::clone(&following.end),
        accepted: 0,
        allowed: None,
        forced: Vec::new(),
    };
    Ok((Box::new(follower), following))
}

#[derive(Debug)]
struct Follower {
    masks: Masks,
    end: Arc<AtomicUsize>,
    accepted: usize,
    allowed: Option<TokenSet>,
    forced: Vec<u32>,
}

impl Follower {
    fn has_ended(&self) -> bool {
        self.end.load(Ordering::Relaxed) > 0
    }
}

impl TokenMask for Follower {
    fn accept(&mut self, token: u32) -> Result<()> {
        self.accepted += 1;
        match self.forced.first() {
            Some(&first) if first == token => _ = self.forced.remove(0),
            _ => self.forced.clear(),
        }
        if !self.has_ended() && self.masks.accept(token)? {
            self.end.store(self.accepted, Ordering::Relaxed);
        }
        Ok(())
    }

    fn allowed(&mut self) -> Result<Option<&[u32]>> {
        // What is chosen behind the end is seen by nobody.
        if self.has_ended() {
            return Ok(None);
        }
        self.allowed = Some(self.masks.allowed()?);
        self.masks.forced().clone_into(&mut self.forced);
        Ok(self.allowed.as_ref().map(TokenSet::words))
    }

    fn forced(&self) -> &[u32] {
        &self.forced
    }
}
