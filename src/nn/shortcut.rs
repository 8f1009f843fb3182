//! Experts beside several layers (Cai et al. 2024, "Shortcut-connected Expert Parallelism"): they
//! read what the feed-forward block of one layer reads, and what they give is added behind a later
//! one.

use std::cell::RefCell;
use std::rc::Rc;

use super::mlp::FeedForward;
use super::residual::Input;
use crate::error::Result;
use crate::mlx::{Array, ops};

/// What the experts gave in this step, until it is added.
#[derive(Debug, Clone, Default)]
pub struct Shortcut(Rc<RefCell<Option<Array>>>);

impl Shortcut {
    /// The block of the layer that the experts begin at: `block` beside them.
    pub fn from(&self, block: Box<dyn FeedForward>, experts: Box<dyn FeedForward>) -> ShortcutFrom {
        ShortcutFrom { block, experts, given: self.clone() }
    }

    /// The block of the layer behind which their outputs are added.
    pub fn to(&self, block: Box<dyn FeedForward>) -> ShortcutTo {
        ShortcutTo { block, given: self.clone() }
    }
}

/// See [`Shortcut::from`].
#[derive(Debug)]
pub struct ShortcutFrom {
    block: Box<dyn FeedForward>,
    experts: Box<dyn FeedForward>,
    given: Shortcut,
}

impl FeedForward for ShortcutFrom {
    fn forward(&self, x: &Input) -> Result<Array> {
        // Both read it.
        x.array()?;
        *self.given.0.borrow_mut() = Some(self.experts.forward(x)?);
        self.block.forward(x)
    }
}

/// See [`Shortcut::to`].
#[derive(Debug)]
pub struct ShortcutTo {
    block: Box<dyn FeedForward>,
    given: Shortcut,
}

impl FeedForward for ShortcutTo {
    fn forward(&self, x: &Input) -> Result<Array> {
        let output = self.block.forward(x)?;
        match self.given.0.borrow_mut().take() {
            Some(given) => ops::add(&output, &given),
            None => Ok(output),
        }
    }

    fn is_of_one_layer(&self) -> bool {
        false
    }
}
