//! Decoding: one forward pass for the next tokens of all sequences, one token ahead.

use super::choice::{Choice, Drawn, TokenOutput};
use super::sequence::{Pending, Sequence, StepInput};
use super::speculation::Trial;
use super::speculation::head::StepStates;
use super::speculator::Speculator;
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
    /// The same, but for the choice by these logits, `[1, vocabulary]`, which waits for the token
    /// before.
    Waits {
        logits: Array,
        trial: Option<Trial>,
        states: Option<StepStates>,
        failure: Failure,
        is_shared: bool,
    },
    /// Its step could not be queued, by itself or with others.
    Failed { error: Option<Error> },
}

/// What was read of a sequence.
enum Made {
    /// Tokens: none if nothing was in flight.
    Tokens(Vec<TokenOutput>),
    /// Its error.
    Failed(Error),
    /// The error of a step that it shared: it has gone back to the last token.
    WentBack,
}

/// The next steps of all sequences.
struct Queued {
    /// In the order of the sequences; `None` for one that does not go on.
    next: Vec<Option<Next>>,
    /// The positions of the step, if it is one of all.
    positions: Option<usize>,
}

/// Gives the next tokens of each of `sequences`, in their order: one, or none for one that has just
/// begun, whose first token comes with the next call, or several where drafts were right. The step
/// after a token is queued before the token is waited for, but where something is to be drafted.
///
/// A failure is that sequence's alone: if a step fails that has several rows, its sequences go back
/// to where they were, and their next steps have one row each. What fails then ends with the error;
/// the others go on together.
///
/// # Panics
/// If a prompt has not been processed.
pub fn decode(
    model: &dyn LanguageModel,
    speculator: &mut Speculator,
    sequences: &mut [&mut Sequence],
) -> Vec<Result<Vec<TokenOutput>>> {
    let waits = speculator.waits(sequences);
    let (made, queued) = if waits {
        let made = read_all(model, speculator, sequences);
        let going_on =
            sequences.iter_mut().zip(&made).filter(|(it, made)| goes_on(it, Some(*made)));
        speculator.propose(model, &mut going_on.map(|(it, _)| &mut **it).collect::<Vec<_>>());
        let queued = queue_all(model, sequences, &made);
        (made, queued)
    } else {
        let queued = queue_all(model, sequences, &[]);
        (read_all(model, speculator, sequences), queued)
    };
    let rows = sequences.iter_mut().zip(made).zip(queued.next);
    let outputs = rows.map(|((sequence, made), next)| advance(model, sequence, made, next));
    let outputs = outputs.collect();
    speculator.note_queued(queued.positions, !waits);
    outputs
}

/// Whether a step of a sequence is to be queued, of which this was read already.
fn goes_on(sequence: &Sequence, made: Option<&Made>) -> bool {
    let is_wanted = match made {
        None => true,
        Some(Made::Tokens(tokens)) => tokens.is_empty() || sequence.left() > 0,
        Some(Made::Failed(_) | Made::WentBack) => false,
    };
    is_wanted && sequence.goes_on()
}

/// Starts the next steps of all `sequences` that go on, of which this was `made` already: one step
/// for all those that share it.
fn queue_all(model: &dyn LanguageModel, sequences: &mut [&mut Sequence], made: &[Made]) -> Queued {
    let mut next: Vec<Option<Next>> = sequences.iter().map(|_| None).collect();
    let mut groups = vec![Vec::new()];
    for (index, sequence) in sequences.iter().enumerate() {
        match sequence.shares_steps() {
            _ if !goes_on(sequence, made.get(index)) => {}
            true => groups[0].push(index),
            false => groups.push(vec![index]),
        }
    }
    groups.retain(|group| !group.is_empty());
    let mut positions = 0;
    for group in &groups {
        let rows = sequences.iter_mut().enumerate().filter(|(index, _)| group.contains(index));
        let mut rows: Vec<&mut Sequence> = rows.map(|(_, sequence)| &mut **sequence).collect();
        let is_its_own = rows.len() == 1 && !rows[0].has_proposal();
        match queue(model, &mut rows, &mut positions) {
            Ok(queued) => group.iter().zip(queued).for_each(|(&at, row)| next[at] = Some(row)),
            Err(error) if is_its_own => {
                next[group[0]] = Some(Next::Failed { error: Some(error) });
            }
            Err(_) => group.iter().for_each(|&at| next[at] = Some(Next::Failed { error: None })),
        }
    }
    Queued { next, positions: (groups.len() == 1).then_some(positions) }
}

/// Starts the next step of all `rows`; adds how many positions it has.
fn queue(
    model: &dyn LanguageModel,
    rows: &mut [&mut Sequence],
    positions: &mut usize,
) -> Result<Vec<Next>> {
    let failure = Failure::default();
    let next = failure.scope(|| build(model, rows, &failure, positions))?;
    let mut outputs = Vec::new();
    for row in &next {
        match row {
            Next::Chosen(pending) => outputs.extend(pending.outputs()),
            Next::Waits { logits, trial, states, .. } => {
                outputs.push(logits);
                outputs.extend(states.iter().map(|step| &step.states));
                outputs.extend(trial.iter().flat_map(|trial| &trial.logits));
            }
            Next::Failed { .. } => {}
        }
    }
    mlx::async_eval(&outputs)?;
    if rows[0].tokens_read().is_multiple_of(CLEAR_EVERY) {
        mlx::memory::limit_cache()?;
    }
    Ok(next)
}

/// The graph of the next step of all `rows`. The device may have begun with it.
fn build(
    model: &dyn LanguageModel,
    rows: &mut [&mut Sequence],
    failure: &Failure,
    positions: &mut usize,
) -> Result<Vec<Next>> {
    let is_shared = rows.len() > 1;
    let inputs: Vec<_> = rows.iter_mut().map(|row| row.next_input()).collect();
    let tokens = all_tokens(&inputs)?;
    *positions += tokens.dim(0) as usize;
    let tokens = ops::reshape(&tokens, &[1, tokens.dim(0)])?;
    let step = Step::new(&tokens, inputs.iter().map(|input| input.row).collect())?;
    let (logits, states) = forward(model, rows, &step)?;
    let logits = ops::reshape(&logits, &[-1, logits.dim(-1)])?;
    let wanted = inputs.iter().map(|input| input.row.logits);
    let plain = choose_plainly(model, rows, wanted, &logits)?;
    let of_position = |at: i32| row_of(&logits, at);
    let mut at = 0;
    let row = |(sequence, input): (&mut &mut Sequence, StepInput)| {
        let behind = at + 1..at + input.row.logits;
        let own = at;
        let states = match states.as_ref().filter(|_| sequence.has_head()) {
            Some(states) => Some(StepStates {
                first: sequence.processed - input.row.logits as usize,
                states: ops::slice_axis(states, 1, own, behind.end)?,
            }),
            None => None,
        };
        at = behind.end;
        let (mut trial, failure) = (input.trial, failure.clone());
        let is_shared = is_shared || trial.is_some();
        if let Some(choices) = &plain {
            sequence.count_choices(input.row.logits);
            if let Some(trial) = &mut trial {
                trial.choices = choices[behind.start as usize..behind.end as usize].to_vec();
            }
            let choice = choices[own as usize].clone();
            return Ok(Next::Chosen(Pending {
                choice,
                trial,
                states,
                failure,
                is_shared,
                is_computed: false,
            }));
        }
        let logits = of_position(own)?;
        let waits = sequence.waits_for_token();
        let choice = if waits { None } else { Some(sequence.choose(&logits)?) };
        if let Some(trial) = &mut trial {
            sequence.choose_behind(trial, behind.map(of_position).collect::<Result<_>>()?)?;
        }
        Ok(match choice {
            Some(choice) => Next::Chosen(Pending {
                choice,
                trial,
                states,
                failure,
                is_shared,
                is_computed: false,
            }),
            None => Next::Waits { logits, trial, states, failure, is_shared },
        })
    };
    rows.iter_mut().zip(inputs).map(row).collect()
}

/// The logits that the step of `rows` wants, and the hidden states where a head reads those.
fn forward(
    model: &dyn LanguageModel,
    rows: &mut [&mut Sequence],
    step: &Step,
) -> Result<(Array, Option<Array>)> {
    let predictor = model.multi_token_predictor();
    let predictor = predictor.filter(|_| rows.iter().any(|row| row.has_head()));
    let mut caches: Vec<_> = rows.iter_mut().map(|row| row.caches_mut()).collect();
    match predictor {
        Some(predictor) => {
            let [logits, states] = predictor.forward_with_states(step, &mut caches)?;
            Ok((logits, Some(states)))
        }
        None => Ok((model.forward(step, &mut caches)?, None)),
    }
}

/// The tokens of all inputs, one after the other.
fn all_tokens(inputs: &[StepInput]) -> Result<Array> {
    if let Some(tokens) = Drawn::of_all(inputs.iter().map(|input| input.tokens.choice())) {
        return Ok(tokens);
    }
    let tokens = inputs.iter().map(|input| input.tokens.array()).collect::<Result<Vec<_>>>()?;
    match &*tokens {
        [tokens] => Ok(tokens.clone()),
        tokens => ops::concatenate(&tokens.iter().collect::<Vec<_>>(), 0),
    }
}

/// `[1, vocabulary]` of `[positions, vocabulary]`.
fn row_of(logits: &Array, at: i32) -> Result<Array> {
    if logits.dim(0) == 1 { Ok(logits.clone()) } else { ops::slice_axis(logits, 0, at, at + 1) }
}

/// What follows each position of `logits`, `[positions, vocabulary]`, of which each row has so many
/// as are `wanted`, if nothing but these decides: all of them are drawn at once then.
fn choose_plainly(
    model: &dyn LanguageModel,
    rows: &[&mut Sequence],
    wanted: impl Iterator<Item = i32>,
    logits: &Array,
) -> Result<Option<Vec<Choice>>> {
    let plain = rows.iter().zip(wanted).map(|(row, count)| row.plain_rows(count));
    let plain: Option<Vec<_>> = plain.collect();
    plain.map(|rows| Choice::together(model.device(), logits, &rows.concat())).transpose()
}

/// What follows the prompts of `rows`, by logits `[rows, vocabulary]`, which are handed to the
/// device together with `others`, or before a choice is waited for that something else decides.
pub(super) fn choose_first(
    model: &dyn LanguageModel,
    rows: &mut [&mut Sequence],
    logits: &Array,
    others: &[&Array],
) -> Result<Vec<Choice>> {
    let one_each = std::iter::repeat_n(1, rows.len());
    if let Some(choices) = choose_plainly(model, rows, one_each, logits)? {
        rows.iter_mut().for_each(|row| row.count_choices(1));
        return Ok(choices);
    }
    mlx::async_eval(&others.iter().copied().chain([logits]).collect::<Vec<_>>())?;
    let choose = |(at, row): (i32, &mut &mut Sequence)| row.choose(&row_of(logits, at)?);
    (0..).zip(rows.iter_mut()).map(choose).collect()
}

/// Reads the steps in flight of all `sequences`.
fn read_all(
    model: &dyn LanguageModel,
    speculator: &mut Speculator,
    sequences: &mut [&mut Sequence],
) -> Vec<Made> {
    let made = sequences.iter_mut().map(|sequence| read(model, sequence)).collect();
    speculator.note_read();
    made
}

/// Reads the step in flight.
fn read(model: &dyn LanguageModel, sequence: &mut Sequence) -> Made {
    let pending = match sequence.take_pending() {
        Ok(Some(pending)) => pending,
        Ok(None) => return Made::Tokens(Vec::new()),
        Err(error) => return Made::Failed(error),
    };
    let (is_shared, failure) = (pending.is_shared, pending.failure.clone());
    let (tokens, result) = sequence.read_all(pending);
    let result = match result {
        // The drafted positions could not be taken back.
        Ok(()) if !sequence.is_sound() && !sequence.has_ended() => recover(model, sequence),
        result => result,
    };
    let Err(error) = result else { return Made::Tokens(tokens) };
    let is_its_own = !is_shared || matches!(error, Error::Logits(_));
    if !is_its_own {
        // Where MLX has told it, the other rows hear of it here.
        failure.report(error.to_string());
    }
    match sequence.settle_failure::<()>(Err(error)) {
        Err(error) if !tokens.is_empty() => {
            // The tokens that are there come first.
            sequence.end(error);
            Made::Tokens(tokens)
        }
        Err(error) if is_its_own => Made::Failed(error),
        _ => recover(model, sequence).map_or_else(Made::Failed, |()| Made::WentBack),
    }
}

/// Lets the step in flight be the one that was queued.
fn advance(
    model: &dyn LanguageModel,
    sequence: &mut Sequence,
    made: Made,
    next: Option<Next>,
) -> Result<Vec<TokenOutput>> {
    let tokens = match made {
        Made::Tokens(tokens) => tokens,
        Made::Failed(error) => return Err(error),
        Made::WentBack => return Ok(Vec::new()),
    };
    let going_on = match next {
        None => Ok(()),
        Some(Next::Chosen(pending)) => {
            sequence.set_pending(pending);
            Ok(())
        }
        Some(Next::Waits { .. }) if !sequence.goes_on() => Ok(()),
        Some(Next::Waits { logits, trial, states, failure, is_shared }) => {
            let chosen = failure.scope(|| sequence.choose(&logits)).and_then(|choice| {
                mlx::async_eval(&choice.outputs().collect::<Vec<_>>())?;
                Ok(Pending { choice, trial, states, failure, is_shared, is_computed: false })
            });
            chosen.map(|pending| sequence.set_pending(pending))
        }
        Some(Next::Failed { error: Some(error) }) => sequence.settle_failure(Err(error)),
        Some(Next::Failed { error: None }) => recover(model, sequence.lose_caches()),
    };
    match going_on {
        Err(error) if tokens.is_empty() => Err(error),
        Err(error) => {
            // The tokens that are there come first.
            sequence.end(error);
            Ok(tokens)
        }
        Ok(()) => Ok(tokens),
    }
}

/// Lets a sequence go back to the last token that was read. What its caches have lost is read anew.
fn recover(model: &dyn LanguageModel, sequence: &mut Sequence) -> Result<()> {
    sequence.go_back(model, sequence.tokens_read() - 1);
    while !sequence.progress().done {
        sequence.read_chunk(model, false)?;
    }
    // Its next step shows whether it is the one that failed.
    sequence.suspect();
    Ok(())
}

impl Sequence {
    /// [`decode`] of this sequence alone, without speculation, up to its next token.
    ///
    /// # Panics
    /// As [`decode`].
    pub fn step(&mut self, model: &dyn LanguageModel) -> Result<TokenOutput> {
        self.speculation = None;
        loop {
            let outputs = decode(model, &mut Speculator::default(), &mut [self]).remove(0)?;
            if let Some(output) = outputs.into_iter().next() {
                return Ok(output);
            }
        }
    }
}
