//! Reading prompts, in chunks: one forward pass for those of several sequences.

use super::choice::Choice;
use super::decode::choose_first;
use super::sequence::{Pending, Prefill, Sequence};
use super::speculation::head::{self, StepStates};
use crate::cache::Cache;
use crate::error::Result;
use crate::mlx::primitive::Failure;
use crate::mlx::{self, Array, ops};
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
/// pass. Behind the last token of each its first one is chosen, or the last one is left to its first
/// step. If the first one has its steps to itself, it is read alone, in chunks of its own size.
///
/// Who is `alone`, with nobody who reads or decodes beside it, gets its first step with its prompt,
/// too; others had better share that step.
///
/// A failure is that sequence's alone, as in [`super::decode`].
pub fn prefill(
    model: &dyn LanguageModel,
    sequences: &mut [&mut Sequence],
    count: usize,
    alone: bool,
) -> Reading {
    let Some(first) = sequences.first() else {
        return Reading { progress: Vec::new(), tokens: 0 };
    };
    let (mut left, is_read_alone) = match first.shares_steps() {
        true => (count, false),
        false => (first.chunk_size(), true),
    };
    // Where a head reads hidden states there are no logits.
    let can_follow = !sequences.iter().any(|sequence| sequence.has_head());
    let mut shares = vec![0; sequences.len()];
    let readers = if is_read_alone { 1 } else { sequences.len() };
    for (share, sequence) in shares.iter_mut().zip(sequences.iter()).take(readers) {
        if is_read_alone || sequence.shares_steps() {
            *share = sequence.next_chunk(left, can_follow);
            left -= *share;
        }
    }
    let mut rows: Vec<(&mut Sequence, usize)> = Vec::new();
    for (sequence, &share) in sequences.iter_mut().zip(&shares).filter(|(_, share)| **share > 0) {
        rows.push((sequence, share));
    }
    let is_shared = rows.len() > 1;
    let mut results = read(model, &mut rows, alone).into_iter();
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

/// Lets each of `rows` read so many tokens, and one that is `alone` its last one, too.
fn read(
    model: &dyn LanguageModel,
    rows: &mut [(&mut Sequence, usize)],
    alone: bool,
) -> Vec<Result<()>> {
    if rows.is_empty() {
        return Vec::new();
    }
    let failure = Failure::default();
    let firsts = match failure.scope(|| run(model, rows, alone)) {
        Ok(firsts) => firsts,
        Err(error) => return rows.iter().map(|_| Err(error.clone())).collect(),
    };
    let is_shared = rows.len() > 1;
    let processed = |((row, count), first): (&mut (&mut Sequence, usize), Option<Choice>)| {
        row.processed_chunk(*count, &failure)?;
        if let Some(choice) = first {
            let failure = failure.clone();
            let (trial, states, is_computed) = (None, None, true);
            row.set_pending(Pending { choice, trial, states, failure, is_shared, is_computed });
        }
        Ok(())
    };
    let results = rows.iter_mut().zip(firsts).map(processed).collect();
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

/// Computes the caches, the hidden states that a head is to read, and what follows the prompts that
/// end here. One that is `alone` ends here if all but its last token is read.
fn run(
    model: &dyn LanguageModel,
    rows: &mut [(&mut Sequence, usize)],
    alone: bool,
) -> Result<Vec<Option<Choice>>> {
    let has_head = rows.iter().any(|(row, _)| row.has_head());
    let mut tokens = Vec::new();
    let mut lengths = Vec::new();
    for (row, count) in rows.iter() {
        tokens.extend(row.next_tokens(*count));
        let length = *count as i32;
        let logits = if row.has_head() { length } else { i32::from(row.ends_with(*count)) };
        lengths.push(StepRow { length, logits });
    }
    let tokens = mlx::from_u32(&tokens, &[1, tokens.len() as i32]);
    let step = Step::new(&tokens, lengths)?;
    let mut caches: Vec<_> = rows.iter_mut().map(|(row, _)| row.caches_mut()).collect();
    let (states, logits) = match has_head {
        true => (Some(model.states(&step, &mut caches)?), None),
        false => (None, Some(model.forward(&step, &mut caches)?)),
    };
    let mut cached: Vec<Array> =
        caches.iter().flat_map(|it| it.iter()).flat_map(Cache::arrays).cloned().collect();
    let logits = match (logits, &mut *rows) {
        (Some(none), [row]) if alone && row.0.may_step_behind(row.1) => {
            // They are of no position, but hold the last layer's caches, which would be copied.
            drop(none);
            Some(step_behind(model, row, &mut cached)?)
        }
        (logits, _) => logits,
    };
    let firsts = match logits {
        Some(logits) => choose_behind(model, rows, &logits, &cached)?,
        None => rows.iter().map(|_| None).collect(),
    };
    let chosen = firsts.iter().flatten().flat_map(Choice::outputs);
    mlx::eval(&cached.iter().chain(&states).chain(chosen).collect::<Vec<_>>())?;
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
    if is_long {
        mlx::memory::limit_cache()?;
    }
    Ok(firsts)
}

/// The step of the last token of a prompt, built while the device reads what is before it; gives
/// its logits, and in `cached`, which was what is before it, all that it computes besides.
fn step_behind(
    model: &dyn LanguageModel,
    (row, count): &mut (&mut Sequence, usize),
    cached: &mut Vec<Array>,
) -> Result<Array> {
    mlx::async_eval(&cached.iter().collect::<Vec<_>>())?;
    *cached = row.leave_behind()?;
    let token = mlx::from_u32(&row.next_tokens(*count + 1)[*count..], &[1, 1]);
    *count += 1;
    let step = Step::new(&token, vec![StepRow { length: 1, logits: 1 }])?;
    let logits = model.forward(&step, &mut [row.caches_mut()])?;
    cached.extend(row.caches().iter().flat_map(Cache::arrays).cloned());
    Ok(logits)
}

/// The first tokens of the rows that end here, by the logits behind them, `[1, rows, vocabulary]`;
/// `cached` is what the pass computes besides.
fn choose_behind(
    model: &dyn LanguageModel,
    rows: &mut [(&mut Sequence, usize)],
    logits: &Array,
    cached: &[Array],
) -> Result<Vec<Option<Choice>>> {
    let ends: Vec<bool> = rows.iter().map(|(row, count)| row.ends_with(*count)).collect();
    let ending = rows.iter_mut().zip(&ends).filter(|(_, ends)| **ends);
    let mut ending: Vec<&mut Sequence> = ending.map(|((row, _), _)| &mut **row).collect();
    let mut chosen = Vec::new();
    if !ending.is_empty() {
        let logits = ops::reshape(logits, &[-1, logits.dim(-1)])?;
        chosen = choose_first(model, &mut ending, &logits, &cached.iter().collect::<Vec<_>>())?;
    }
    let mut chosen = chosen.into_iter();
    Ok(ends.into_iter().map(|ends| if ends { chosen.next() } else { None }).collect())
}

impl Sequence {
    /// Lets the model's own head read what is known of it, for whoever begins alike.
    pub fn catch_up(&mut self, model: &dyn LanguageModel) {
        if let Some(predictor) = model.multi_token_predictor() {
            read_by_head(predictor, &mut [(self, 0)]);
        }
    }

    /// [`prefill`] of this sequence, for which there is no other, in a chunk of its own size.
    pub fn prefill(&mut self, model: &dyn LanguageModel) -> Result<Prefill> {
        self.read_chunk(model, true)
    }

    /// [`prefill`] of this sequence in a chunk of its own size.
    pub(super) fn read_chunk(&mut self, model: &dyn LanguageModel, alone: bool) -> Result<Prefill> {
        let count = self.chunk_size();
        let mut progress = prefill(model, &mut [&mut *self], count, alone).progress;
        progress.pop().unwrap_or_else(|| Ok(self.progress()))
    }
}
