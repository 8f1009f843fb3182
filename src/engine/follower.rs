//! A constraint as a sequence sees it, and as its generation does.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::constraint::{Constraint, Masks, TokenSet};
use crate::error::Result;
use crate::generate::TokenMask;

/// What a generation knows of the constraint that its sequence follows.
#[derive(Debug, Clone, Default)]
pub struct Following {
    has_ended: Arc<AtomicBool>,
    /// What is not enforced, or differently.
    pub warnings: Vec<String>,
}

impl Following {
    /// Whether the answer is complete with its last token, and nothing can follow.
    pub fn has_ended(&self) -> bool {
        self.has_ended.load(Ordering::Relaxed)
    }
}

/// Lets a sequence follow `constraint`.
pub fn follow(constraint: &Constraint) -> Result<(Box<dyn TokenMask>, Following)> {
    let following =
        Following { has_ended: Arc::default(), warnings: constraint.warnings().to_vec() };
    let follower = Follower {
        masks: Masks::start(constraint)?,
        has_ended: Arc::clone(&following.has_ended),
        allowed: None,
    };
    Ok((Box::new(follower), following))
}

#[derive(Debug)]
struct Follower {
    masks: Masks,
    has_ended: Arc<AtomicBool>,
    allowed: Option<TokenSet>,
}

impl TokenMask for Follower {
    fn accept(&mut self, token: u32) -> Result<()> {
        if self.masks.accept(token)? {
            self.has_ended.store(true, Ordering::Relaxed);
        }
        Ok(())
    }

    fn allowed(&mut self) -> Result<Option<&[u32]>> {
        // What is chosen behind the end is seen by nobody.
        if self.has_ended.load(Ordering::Relaxed) {
            return Ok(None);
        }
        self.allowed = Some(self.masks.allowed()?);
        Ok(self.allowed.as_ref().map(TokenSet::words))
    }
}
