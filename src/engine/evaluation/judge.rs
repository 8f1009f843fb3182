//! The labels of texts or of pairs of texts, several of which are read in one pass.

use super::{AbortFlag, Advance, MOST_TEXTS, OwnAdapter};
use crate::engine::backend::Backend;
use crate::error::Result;
use crate::generate::Segmented;

/// What to judge, as tokens.
pub struct JudgeTask {
    /// The texts; none is empty.
    pub texts: Vec<Segmented>,
    /// What the model runs with.
    pub adapter: OwnAdapter,
    /// Whether somebody waits for it.
    pub aborted: AbortFlag,
}

/// A task that has begun.
pub(super) struct Running {
    pub(super) task: JudgeTask,
    /// The logits of the labels of those that were read.
    pub(super) labels: Vec<Vec<f32>>,
}

impl Running {
    pub(super) fn new(task: JudgeTask) -> Self {
        Self { task, labels: Vec::new() }
    }

    /// Reads on by about `count` tokens: each text is read at once.
    pub(super) fn advance<B: Backend>(&mut self, backend: &B, count: usize) -> Result<Advance> {
        let unread = &self.task.texts[self.labels.len()..];
        let (mut texts, mut tokens) = (0, 0);
        for text in unread.iter().take(MOST_TEXTS) {
            if texts > 0 && tokens + text.tokens.len() > count {
                break;
            }
            texts += 1;
            tokens += text.tokens.len();
        }
        if texts == 0 {
            return Ok(Advance { tokens, done: true });
        }
        self.labels.extend(backend.classify(&unread[..texts], self.task.adapter)?);
        Ok(Advance { tokens, done: self.labels.len() == self.task.texts.len() })
    }
}
