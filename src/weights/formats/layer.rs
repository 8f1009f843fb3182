//! A layer of a checkpoint, as its format sees it.

use super::source::Source;
use crate::error::{Error, Result};
use crate::weights::{Checkpoint, LoadPlan};

/// The tensors of one layer.
pub(super) struct Layer<'a> {
    pub(super) checkpoint: &'a Checkpoint,
    /// The layer's path.
    pub(super) path: &'a str,
    pub(super) plan: LoadPlan,
}

impl Layer<'_> {
    /// A tensor that the layer may have.
    pub(super) fn optional(&self, ending: &str) -> Option<Source> {
        self.checkpoint.source(&format!("{}.{ending}", self.path))
    }

    /// A tensor that the layer must have beside `other`.
    ///
    /// # Errors
    /// [`Error::Weights`] with its name and the file of the other if it is missing.
    pub(super) fn source(&self, ending: &str, other: &str) -> Result<Source> {
        self.optional(ending).ok_or_else(|| {
            let path = self.checkpoint.path_of(&format!("{}.{other}", self.path));
            let message = format!(
                "tensor \"{0}.{ending}\" is missing, which \"{0}.{other}\" needs",
                self.path
            );
            Error::weights(path, message)
        })
    }
}
