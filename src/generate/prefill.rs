//! Reading prompts, in chunks: one forward pass for those of several sequences.

use super::sequence::{Prefill, Sequence};
use super::speculation::head::{self, StepStates};
use crate::cache::Cache;
use crate::error::Result;
use crate::mlx::primitive::Failure;
use crate::mlx::{self, ops};
use crate::models::{LanguageModel, MultiTokenPredictor};
use crate::nn::{Step, StepRow};

/// What a pass over prompts has done.
#[derive(Debug)]
pub struct Reading {
    /// How far each prompt has been processed.
    pub progress: Vec<Result<Prefill>>,
    /// How many tokens were.
    pub tokens: usize,
}

/// Processes up to `count` tokens of the prompts of `sequences`, of the first ones first, in one
/// pass; the last token of each is left to its first step. If the first one has its steps to
/// itself, it is read alone, in chunks of its own size.
///
/// A failure is that sequence's alone, as in [`super::decode`].
pub fn prefill(
    model: &dyn LanguageModel,
    sequences: &mut [&mut Sequence],
    count: usize,
) -> Reading {
    let Some(first) = sequences.first() else {
        return Reading { progress: Vec::new(), tokens: 0 };
    };
    let (mut left, alone) = match first.shares_steps() {
        true => (count, false),
        false => (first.chunk_size(), true),
    };
    let mut shares = vec![0; sequences.len()];
    let readers = if alone { 1 } else { sequences.len() };
    for (share, sequence) in shares.iter_mut().zip(sequences.iter()).take(readers) {
        if alone || sequence.shares_steps() {
            *share = sequence.next_chunk(left).len();
            left -= *share;
        }
    }
    let mut rows: Vec<(&mut Sequence, usize)> = Vec::new();
    for (sequence, &share) in sequences.iter_mut().zip(&shares).filter(|(_, share)| **share > 0) {
        rows.push((sequence, share));
    }
    let is_shared = rows.len() > 1;
    let mut results = read(model, &mut rows).into_iter();
    let mut progress = Vec::with_capacity(sequences.len());
    for (sequence, &share) in sequences.iter_mut().zip(&shares) {
        let read = if share > 0 { results.next().unwrap_or(Ok(())) } else { Ok(()) };
        let before = sequence.progress().processed;
        progress.push(match sequence.settle_failure(read) {
            Err(_) if is_shared => {
                sequence.go_back(model, before);
                Ok(sequence.progress())
            }
            read => read.map(|()| sequence.progress()),
        });
    }
    Reading { progress, tokens: shares.iter().sum() }
}

/// Lets each of `rows` read so many tokens.
fn read(model: &dyn LanguageModel, rows: &mut [(&mut Sequence, usize)]) -> Vec<Result<()>> {
    if rows.is_empty() {
        return Vec::new();
    }
    let failure = Failure::default();
    if let Err(error) = failure.scope(|| run(model, rows)) {
        return rows.iter().map(|_| Err(error.clone())).collect();
    }
    let results =
        rows.iter_mut().map(|(row, count)| row.processed_chunk(*count, &failure)).collect();
    if let Some(predictor) = model.multi_token_predictor() {
        read_by_head(predictor, rows);
    }
    results
}

/// Lets the model's own head read the hidden states of the prompts that it is to draft for.
fn read_by_head(predictor: &dyn MultiTokenPredictor, rows: &mut [(&mut Sequence, usize)]) {
    let mut read: Vec<_> = rows.iter_mut().filter_map(|(row, _)| row.head_row(0)).collect();
    if !read.is_empty() && head::draft(predictor, &mut read).is_err() {
        // It is nobody's failure: the sequences go on without the head.
        let _ = mlx::settle();
        rows.iter_mut().filter_map(|(row, _)| row.speculation.as_mut()).for_each(|it| {
            it.lose_model();
        });
    }
}

/// Only the caches are computed, no logits, and the hidden states that a head is to read.
fn run(model: &dyn LanguageModel, rows: &mut [(&mut Sequence, usize)]) -> Result<()> {
    let mut tokens = Vec::new();
    let mut lengths = Vec::new();
    for (row, count) in rows.iter() {
        tokens.extend(row.next_chunk(*count));
        let length = *count as i32;
        lengths.push(StepRow { length, logits: if row.has_head() { length } else { 0 } });
    }
    let tokens = mlx::from_u32(&tokens, &[1, tokens.len() as i32]);
    let step = Step::new(&tokens, lengths)?;
    let mut caches: Vec<_> = rows.iter_mut().map(|(row, _)| row.caches_mut()).collect();
    let states = match step.rows().iter().any(|row| row.logits > 0) {
        true => Some(model.states(&step, &mut caches)?),
        false => {
            model.forward(&step, &mut caches)?;
            None
        }
    };
    let cached = caches.iter().flat_map(|it| it.iter()).flat_map(Cache::arrays);
    mlx::eval(&cached.chain(&states).collect::<Vec<_>>())?;
    if let Some(states) = states {
        let mut at = 0;
        for ((row, count), wanted) in rows.iter_mut().zip(step.rows()) {
            let end = at + wanted.logits;
            if let Some(speculation) = row.speculation.as_mut().filter(|_| end > at) {
                let states = ops::slice_axis(&states, 1, at, end)?;
                speculation.take_states(&StepStates { first: row.processed, states }, *count);
            }
            at = end;
        }
    }
    // Where decoding goes on in between, short chunks find their buffers again; giving them back
    // takes a GPU longer than such a chunk.
    let is_long = rows.first().is_some_and(|(row, _)| 2 * tokens.size() >= row.chunk_size());
    if is_long { mlx::memory::clear_cache() } else { Ok(()) }
}

impl Sequence {
    /// Lets the model's own head read what is known of it, for whoever begins alike.
    pub fn catch_up(&mut self, model: &dyn LanguageModel) {
        if let Some(predictor) = model.multi_token_predictor() {
            read_by_head(predictor, &mut [(self, 0)]);
        }
    }

    /// [`prefill`] of this sequence alone, in a chunk of its own size.
    pub fn prefill(&mut self, model: &dyn LanguageModel) -> Result<Prefill> {
        let count = self.chunk_size();
        let mut progress = prefill(model, &mut [&mut *self], count).progress;
        progress.pop().unwrap_or_else(|| Ok(self.progress()))
    }
}
