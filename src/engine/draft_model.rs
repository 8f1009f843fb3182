//! The draft model beside a model.

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use super::text::Text;
use crate::cache::prefix_store::stamp;
use crate::error::{Error, Result};
use crate::models::{self, LanguageModel, LoadOptions, Loaded};
use crate::text::Tokenizer;

/// Loads the draft model of `folder`, for a model that reads and writes `text`; and what tells it
/// from others.
///
/// # Errors
/// [`Error::InvalidArgument`] for one with another tokenizer, [`Error::Aborted`] once `aborted` is
/// set, and those of loading.
pub fn load_draft(
    folder: &Path,
    options: &LoadOptions,
    vocabulary: usize,
    text: &Text,
    aborted: &AtomicBool,
) -> Result<(Box<dyn LanguageModel>, String)> {
    let loaded = models::load(folder, options, &mut |_| match aborted.load(Ordering::Relaxed) {
        true => ControlFlow::Break(()),
        false => ControlFlow::Continue(()),
    })?;
    if !loaded.model.abilities().writes {
        let message = format!("{} writes no texts: it embeds or judges them", folder.display());
        return Err(Error::argument("draftModel", message));
    }
    let of_draft = Tokenizer::from_dir(folder)?;
    let other = |message: String| {
        let hint = "a draft model must have the tokenizer of the model that it drafts for";
        Error::argument("draftModel", format!("{} {message}: {hint}", folder.display()))
    };
    match (text.tokenizer(), &of_draft) {
        (Ok(tokenizer), Some(of_draft)) => {
            let both = vocabulary.min(loaded.info.vocabulary_size) as u32;
            for id in 0..both {
                let [own, drafts] = [tokenizer, of_draft].map(|it| it.id_to_token(id));
                // Versions of a family differ in their special tokens; drafts of these are wrong,
                // no more.
                if let (Some(own), Some(drafts)) = (own, drafts)
                    && own != drafts
                    && !tokenizer.is_special(id)
                {
                    let message = format!("has the token {drafts:?} for {own:?} (number {id})");
                    return Err(other(message));
                }
            }
        }
        // Without tokenizers only the numbers can be compared.
        _ if loaded.info.vocabulary_size != vocabulary => {
            let size = loaded.info.vocabulary_size;
            return Err(other(format!("has {size} tokens, not {vocabulary}")));
        }
        _ => {}
    }
    let Loaded { model, info, .. } = loaded;
    Ok((model, format!("{} {}", info.fingerprint, stamp(folder))))
}
