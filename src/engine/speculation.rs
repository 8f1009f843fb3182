//! Whether and how a generation speculates.

use crate::error::{Error, Result};
use crate::generate::SpeculationOptions;

/// Whether and how a generation speculates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SpeculationRequest {
    /// Not at all.
    Off,
    /// With the draft model or the model's own head, where there is one, and more.
    On {
        /// How many tokens are drafted at once; `None` for as many as pay.
        draft_tokens: Option<usize>,
        /// Whether what followed the last tokens before is proposed.
        lookup: bool,
    },
}

impl SpeculationRequest {
    /// With all there is, as far as it pays.
    pub const AUTO: Self = Self::On { draft_tokens: None, lookup: true };

    /// Whether a generation speculates.
    pub fn is_on(self) -> bool {
        self != Self::Off
    }

    /// How a sequence speculates on a model that has something to draft with, a draft model or a head
    /// of its own, or not.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] where nothing is left to speculate with.
    pub fn options(self, has_drafter: bool) -> Result<Option<SpeculationOptions>> {
        let Self::On { draft_tokens, lookup } = self else { return Ok(None) };
        if !lookup && !has_drafter {
            let message = "leaves nothing to draft with: the model was loaded without a \
                           draftModel and has no prediction head of its own, so lookup must not \
                           be false";
            return Err(Error::argument("speculation", message));
        }
        Ok(Some(SpeculationOptions { draft_tokens, lookup }))
    }
}
