//! The embeddings of texts, several of which are read in one pass.

use super::{AbortFlag, Advance, MOST_TEXTS, OwnAdapter};
use crate::engine::backend::Backend;
use crate::error::Result;
use crate::generate::TextPart;
use crate::models::EmbedOptions;

/// What to embed, as tokens.
pub struct EmbedTask {
    /// The texts; none is empty.
    pub texts: Vec<Vec<u32>>,
    /// How.
    pub options: EmbedOptions,
    /// Whether each text is to be read at once.
    pub reads_whole: bool,
    /// What the model runs with.
    pub adapter: OwnAdapter,
    /// Whether somebody waits for it.
    pub aborted: AbortFlag,
}

/// A task that has begun.
pub(super) struct Running<T> {
    pub(super) task: EmbedTask,
    embeddings: Vec<Vec<f32>>,
    /// The next text, as far as it has been read.
    partial: Option<(T, usize)>,
}

impl<T> Running<T> {
    pub(super) fn new(task: EmbedTask) -> Self {
        Self { task, embeddings: Vec::new(), partial: None }
    }

    /// Reads on by about `count` tokens: a text that must be read at once may be longer.
    pub(super) fn advance<B: Backend<Text = T>>(
        &mut self,
        backend: &B,
        count: usize,
    ) -> Result<Advance> {
        let EmbedTask { texts, options, reads_whole, adapter, .. } = &self.task;
        let mut begun: Vec<(T, usize)> = Vec::new();
        let mut shares: Vec<usize> = Vec::new();
        let mut tokens = 0;
        for text in &texts[self.embeddings.len()..] {
            let start = self.partial.as_ref().map_or(0, |(_, read)| *read);
            let unread = text.len() - start;
            let left = count.saturating_sub(tokens);
            let is_full = left == 0 || *reads_whole && unread > left;
            if begun.len() == MOST_TEXTS || is_full && !begun.is_empty() {
                break;
            }
            let share = if *reads_whole { unread } else { unread.min(left.max(1)) };
            begun.push(match self.partial.take() {
                Some(partial) => partial,
                None => (backend.begin_text(*adapter, options)?, 0),
            });
            shares.push(share);
            tokens += share;
        }
        if begun.is_empty() {
            return Ok(Advance { tokens, done: true });
        }
        let mut parts: Vec<TextPart<T>> = Vec::new();
        let of_each = texts[self.embeddings.len()..].iter().zip(&mut begun).zip(&shares);
        for ((text, (own, read)), share) in of_each {
            let end = *read + share;
            let tokens = &text[*read..end];
            parts.push(TextPart { tokens, is_last: end == text.len(), text: own });
            *read = end;
        }
        let last_is_read = parts.last().is_none_or(|part| part.is_last);
        backend.read_texts(&mut parts)?;
        if !last_is_read {
            self.partial = begun.pop();
        }
        let complete: Vec<T> = begun.into_iter().map(|(text, _)| text).collect();
        if !complete.is_empty() {
            self.embeddings.extend(backend.embeddings(complete, options)?);
        }
        Ok(Advance { tokens, done: self.embeddings.len() == texts.len() })
    }

    /// The embeddings; everything else is given back.
    pub(super) fn into_embeddings(self) -> Vec<Vec<f32>> {
        self.embeddings
    }
}
