//! Decoding: one forward pass for the next tokens of all sequences, one token ahead.

use super::choice::TokenOutput;
use super::sequence::{Pending, Sequence};
use crate::error::{Error, Result};
use crate::mlx::primitive::Failure;
use crate::mlx::{self, Array, ops};
use crate::models::LanguageModel;
use crate::nn::Step;

/// Freed buffers are given back after this many tokens, as caches leave sizes behind that never
/// recur.
const CLEAR_EVERY: usize = 256;

/// How a sequence goes on.
enum Next {
    /// Its step runs on the device.
    Chosen(Pending),
    /// The same, but for the choice by these logits, `[1, vocabulary]`, which waits for a mask.
    Waits { logits: Array, failure: Failure, is_shared: bool },
    /// Its step could not be queued, by itself or with others.
    Failed { error: Option<Error> },
}

/// Gives the next token of each of `sequences`, in their order, or `None` for one that has just
/// begun, whose first token comes with the next call. The step after a token is queued before the
/// token is waited for.
///
/// A failure is that sequence's alone: if a step fails that has several rows, its sequences go back
/// to where they were, and their next steps have one row each. What fails then ends with the error;
/// the others go on together.
///
/// # Panics
/// If a prompt has not been processed.
pub fn decode(
    model: &dyn LanguageModel,
    sequences: &mut [&mut Sequence],
) -> Vec<Result<Option<TokenOutput>>> {
    let mut next: Vec<Option<Next>> = sequences.iter().map(|_| None).collect();
    let mut groups = vec![Vec::new()];
    for (index, sequence) in sequences.iter().enumerate().filter(|(_, it)| it.goes_on()) {
        match sequence.shares_steps() {
            true => groups[0].push(index),
            false => groups.push(vec![index]),
        }
    }
    for group in groups.into_iter().filter(|group| !group.is_empty()) {
        let rows = sequences.iter_mut().enumerate().filter(|(index, _)| group.contains(index));
        let mut rows: Vec<&mut Sequence> = rows.map(|(_, sequence)| &mut **sequence).collect();
        match queue(model, &mut rows) {
            Ok(queued) => group.iter().zip(queued).for_each(|(&at, row)| next[at] = Some(row)),
            Err(error) if group.len() == 1 => {
                next[group[0]] = Some(Next::Failed { error: Some(error) });
            }
            Err(_) => group.iter().for_each(|&at| next[at] = Some(Next::Failed { error: None })),
        }
    }
    let rows = sequences.iter_mut().zip(next);
    rows.map(|(sequence, next)| advance(model, sequence, next)).collect()
}

/// Starts the next step of all `rows`.
fn queue(model: &dyn LanguageModel, rows: &mut [&mut Sequence]) -> Result<Vec<Next>> {
    let failure = Failure::default();
    let next = failure.scope(|| build(model, rows, &failure))?;
    let mut outputs = Vec::new();
    for row in &next {
        match row {
            Next::Chosen(pending) => outputs.extend(pending.choice.outputs()),
            Next::Waits { logits, .. } => outputs.push(logits),
            Next::Failed { .. } => {}
        }
    }
    mlx::async_eval(&outputs)?;
    if rows[0].tokens_read().is_multiple_of(CLEAR_EVERY) {
        mlx::memory::clear_cache()?;
    }
    Ok(next)
}

/// The graph of the next step of all `rows`; nothing is computed.
fn build(
    model: &dyn LanguageModel,
    rows: &mut [&mut Sequence],
    failure: &Failure,
) -> Result<Vec<Next>> {
    let (count, is_shared) = (rows.len() as i32, rows.len() > 1);
    let inputs: Vec<_> = rows.iter_mut().map(|row| row.next_input()).collect();
    let tokens = match &*inputs {
        [token] => token.clone(),
        tokens => ops::concatenate(&tokens.iter().collect::<Vec<_>>(), 0)?,
    };
    let tokens = ops::reshape(&tokens, &[1, count])?;
    let mut caches: Vec<_> = rows.iter_mut().map(|row| row.caches_mut()).collect();
    let logits = model.forward(&Step::decode(&tokens), &mut caches)?;
    let row = |(index, sequence): (i32, &mut &mut Sequence)| {
        let logits = match is_shared {
            true => ops::slice_axis(&logits, 1, index, index + 1)?,
            false => logits.clone(),
        };
        let logits = ops::reshape(&logits, &[1, logits.dim(-1)])?;
        let failure = failure.clone();
        Ok(match sequence.waits_for_mask() {
            true => Next::Waits { logits, failure, is_shared },
            false => {
                let choice = sequence.choose(&logits)?;
                Next::Chosen(Pending { choice, failure, is_shared })
            }
        })
    };
    (0..).zip(rows).map(row).collect()
}

/// Reads the step in flight, and lets the next one be in flight.
fn advance(
    model: &dyn LanguageModel,
    sequence: &mut Sequence,
    next: Option<Next>,
) -> Result<Option<TokenOutput>> {
    let output = match sequence.take_pending()? {
        None => None,
        Some(pending) => match sequence.read(&pending) {
            Ok(output) => Some(output),
            Err(error) => {
                let is_its_own = !pending.is_shared || matches!(error, Error::Logits(_));
                if !is_its_own {
                    // Where MLX has told it, the other rows hear of it here.
                    pending.failure.report(error.to_string());
                }
                let failed = sequence.settle_failure(Err(error));
                return if is_its_own { failed } else { recover(model, sequence).map(|()| None) };
            }
        },
    };
    let going_on = match next {
        None => Ok(()),
        Some(Next::Chosen(pending)) => {
            sequence.set_pending(pending);
            Ok(())
        }
        Some(Next::Waits { .. }) if !sequence.goes_on() => Ok(()),
        Some(Next::Waits { logits, failure, is_shared }) => {
            let chosen = failure.scope(|| sequence.choose(&logits)).and_then(|choice| {
                mlx::async_eval(&choice.outputs().collect::<Vec<_>>())?;
                Ok(Pending { choice, failure, is_shared })
            });
            chosen.map(|pending| sequence.set_pending(pending))
        }
        Some(Next::Failed { error: Some(error) }) => sequence.settle_failure(Err(error)),
        Some(Next::Failed { error: None }) => recover(model, sequence.lose_caches()),
    };
    match (output, going_on) {
        (None, going_on) => going_on.map(|()| None),
        (output, Ok(())) => Ok(output),
        (output, Err(error)) => {
            // The token that is there comes first.
            sequence.end(error);
            Ok(output)
        }
    }
}

/// Lets a sequence go back to the last token that was read. What its caches have lost is read anew.
fn recover(model: &dyn LanguageModel, sequence: &mut Sequence) -> Result<()> {
    sequence.go_back(model, sequence.tokens_read() - 1);
    while !sequence.progress().done {
        sequence.prefill(model)?;
    }
    // Its next step shows whether it is the one that failed.
    sequence.suspect();
    Ok(())
}

impl Sequence {
    /// [`decode`] of this sequence alone, up to its next token.
    ///
    /// # Panics
    /// As [`decode`].
    pub fn step(&mut self, model: &dyn LanguageModel) -> Result<TokenOutput> {
        loop {
            if let Some(output) = decode(model, &mut [self]).remove(0)? {
                return Ok(output);
            }
        }
    }
}
