//! What one forward pass computes: new positions of one or several sequences.
//!
//! The sequences are the *rows* of the step. Their new positions lie one behind the other along the
//! length, so rows may be of unequal length and nothing is padded. What works on each position by
//! itself sees one long sequence; what mixes positions goes through [`super::Rows`].

use std::ops::Range;

use super::residual::Residual;
use crate::error::{Error, Result};
use crate::mlx::{Array, Dtype, ops};

/// The new positions of a sequence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StepRow {
    /// How many they are.
    pub length: i32,
    /// For how many of the last of them logits are wanted.
    pub logits: i32,
}

/// New positions of one or several sequences.
#[derive(Debug)]
pub struct Step<'a> {
    tokens: &'a Array,
    segments: Option<&'a Array>,
    rows: Vec<StepRow>,
}

impl<'a> Step<'a> {
    /// Tokens `[batch, length]` (`uint32`): those of each row, one after the other.
    /// More than one in a batch share their row's offset and cache.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for rows that are not as long as the tokens, or are empty.
    pub fn new(tokens: &'a Array, rows: Vec<StepRow>) -> Result<Self> {
        let length: i32 = rows.iter().map(|row| row.length).sum();
        let sound = |row: &StepRow| row.length > 0 && (0..=row.length).contains(&row.logits);
        if tokens.ndim() != 2 || tokens.dim(1) != length || !rows.iter().all(sound) {
            let message = format!("are {:?}, and not as long as {rows:?}", tokens.shape());
            return Err(Error::argument("tokens", message));
        }
        Ok(Self { tokens, segments: None, rows })
    }

    /// The next positions of one sequence, with the logits of all of them.
    pub fn of_one(tokens: &'a Array) -> Self {
        let length = tokens.dim(1);
        Self { tokens, segments: None, rows: vec![StepRow { length, logits: length }] }
    }

    /// The next position of each of several sequences, `[1, rows]`, with its logits.
    pub fn decode(tokens: &'a Array) -> Self {
        let rows = vec![StepRow { length: 1, logits: 1 }; tokens.dim(1) as usize];
        Self { tokens, segments: None, rows }
    }

    /// The same without logits: only the caches take the positions.
    pub fn without_logits(mut self) -> Self {
        self.rows.iter_mut().for_each(|row| row.logits = 0);
        self
    }

    /// The same with the segment of its text that each token is of, `[batch, length]` (`uint32`):
    /// in a pair of texts 0 in the first and 1 in the second.
    pub fn with_segments(self, segments: &'a Array) -> Self {
        Self { segments: Some(segments), ..self }
    }

    /// See [`Step::with_segments`]; `None` where all tokens are of one.
    pub fn segments(&self) -> Option<&'a Array> {
        self.segments
    }

    /// `[batch, length]`.
    pub fn tokens(&self) -> &'a Array {
        self.tokens
    }

    /// The new positions of each sequence.
    pub fn rows(&self) -> &[StepRow] {
        &self.rows
    }

    /// The logits that are wanted, `[batch, wanted, vocabulary]`, row by row: `head` gives those of
    /// a stream, `[batch, positions, vocabulary]`.
    pub fn logits(
        &self,
        stream: &Residual,
        vocabulary: usize,
        head: impl FnOnce(&Residual) -> Result<Array>,
    ) -> Result<Array> {
        if self.rows.iter().all(|row| row.logits == 0) {
            return ops::zeros(&[self.tokens.dim(0), 0, vocabulary as i32], Dtype::Float32);
        }
        match self.some_wanted() {
            Some(wanted) => head(&stream.positions(&wanted)?),
            None => head(stream),
        }
    }

    /// Where the positions are whose logits are wanted, if those are some of all.
    pub fn some_wanted(&self) -> Option<Vec<Range<i32>>> {
        if self.rows.iter().all(|row| row.logits == row.length) {
            return None;
        }
        let mut end = 0;
        let of_row = |row: &StepRow| {
            end += row.length;
            end - row.logits..end
        };
        let wanted: Vec<_> =
            self.rows.iter().map(of_row).filter(|wanted| !wanted.is_empty()).collect();
        (!wanted.is_empty()).then_some(wanted)
    }
}
