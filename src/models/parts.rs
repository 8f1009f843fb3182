//! Checkpoints with other parts than a language model: those that see or hear.

use crate::nn::NESTED;
use crate::weights::{Checkpoint, Weights};

/// Where the language model's tensors lie.
pub(super) struct Parts {
    /// What stands in front of the names that they would have by themselves, as converters write
    /// them.
    converted: bool,
    /// Whether a view within `model` holds all but the head.
    nested: Option<&'static str>,
}

/// The names of other parts in checkpoints whose language model has the names that it would have by
/// itself.
const OTHERS: [&str; 7] = [
    "visual.",
    "vision_tower.",
    "vision_model.",
    "vision_embed_tokens.",
    "audio_tower.",
    "multi_modal_projector.",
    "image_newline",
];

impl Parts {
    /// The parts of a checkpoint, by the names of its tensors.
    pub(super) fn of(checkpoint: &Checkpoint) -> Self {
        let begins = |prefix: &str| checkpoint.names().any(|name| name.starts_with(prefix));
        let nested = NESTED.into_iter().find(|part| begins(&format!("model.{part}.")));
        Self { converted: begins("language_model."), nested }
    }

    /// The view of the language model, with its head.
    pub(super) fn language_model<'a>(&self, w: &Weights<'a>) -> Weights<'a> {
        if self.converted { w.at("language_model") } else { w.clone() }
    }

    /// The name that a tensor of the language model would have by itself; `None` for one of another
    /// part.
    pub(super) fn without_prefix(&self, tensor: &str) -> Option<String> {
        if self.converted {
            return tensor.strip_prefix("language_model.").map(str::to_owned);
        }
        if let Some(nested) = self.nested {
            return match tensor.strip_prefix("model.") {
                Some(inner) => {
                    let rest = inner.strip_prefix(nested)?.strip_prefix('.')?;
                    Some(format!("model.{rest}"))
                }
                None => tensor.starts_with("lm_head.").then(|| tensor.to_owned()),
            };
        }
        let inner = tensor.strip_prefix("model.").unwrap_or(tensor);
        (!OTHERS.iter().any(|other| inner.starts_with(other))).then(|| tensor.to_owned())
    }
}
