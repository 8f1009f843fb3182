//! What a sequence does to speculate: drafted positions go into a step on trial, and out of its
//! caches again if they were wrong.

use super::choice::TokenOutput;
use super::sequence::{InputTokens, Pending, Sequence, StepInput};
use super::speculation::draft::{DraftChooser, DraftRow, DraftSequence};
use super::speculation::head::HeadRow;
use super::speculation::{Room, Trial};
use crate::cache::{Cache, Checkpoint};
use crate::error::Result;
use crate::mlx::primitive::Failure;
use crate::mlx::{self, Array};
use crate::models::LanguageModel;
use crate::nn::StepRow;

impl Sequence {
    /// What its next step has room for; `None` where it does not speculate.
    pub(super) fn room(&self) -> Option<Room> {
        if self.speculation.is_none() || !self.shares_steps() || !self.goes_on() {
            return None;
        }
        let in_flight = usize::from(self.pending.is_some());
        let own = match in_flight {
            0 => self.tokens.len() - self.processed,
            _ => 1,
        };
        let forced = self.forced(in_flight).len();
        Some(Room { in_flight, own, most: self.left().saturating_sub(1), forced })
    }

    /// What its mask leaves no choice about behind so many tokens in flight.
    pub(super) fn forced(&self, in_flight: usize) -> &[u32] {
        let forced = self.mask().map_or(&[][..], |mask| mask.forced());
        forced.get(in_flight..).unwrap_or_default()
    }

    /// Whether the step in flight has drafted tokens.
    pub(super) fn is_on_trial(&self) -> bool {
        self.pending.as_ref().is_some_and(|pending| pending.trial.is_some())
    }

    /// Whether its next step has drafted tokens.
    pub(super) fn has_proposal(&self) -> bool {
        self.speculation.as_ref().is_some_and(|speculation| speculation.proposal.is_some())
    }

    /// What the draft model is to draft.
    pub(super) fn draft_row(
        &mut self,
        model: &dyn LanguageModel,
        count: usize,
    ) -> Option<DraftRow<'_>> {
        let speculation = self.speculation.as_mut()?;
        let (limits, processors) = (&self.limits, &self.chooser.processors);
        let vocabulary = speculation.vocabulary();
        let (sequence, end_tokens) =
            speculation.draft_sequence(|| DraftSequence::new(model, limits));
        Some(DraftRow {
            sequence,
            tokens: &self.tokens,
            chooser: DraftChooser {
                sampler: self.chooser.sampler.for_draft(),
                processors: (!processors.is_empty() && model.vocabulary() == vocabulary)
                    .then(|| processors.clone()),
                index: self.queued,
            },
            count,
            vocabulary,
            end_tokens,
            drafted: Vec::new(),
        })
    }

    /// What the model's own head is to draft.
    pub(super) fn head_row(&mut self, count: usize) -> Option<HeadRow<'_>> {
        let processors = &self.chooser.processors;
        Some(HeadRow {
            sequence: self.speculation.as_mut()?.head.as_mut()?,
            tokens: &self.tokens,
            chooser: DraftChooser {
                sampler: self.chooser.sampler.for_draft(),
                processors: (!processors.is_empty()).then(|| processors.clone()),
                index: self.queued,
            },
            count,
            drafted: Vec::new(),
        })
    }

    /// Lets who drafts for it go on from caches that hold so many of its first positions, if it
    /// speculates.
    pub fn begin_drafts(&mut self, caches: Vec<Cache>, positions: usize) {
        let Some(speculation) = &mut self.speculation else { return };
        match speculation.head.take() {
            Some(head) => speculation.head = Some(head.behind(caches, positions)),
            None => speculation.draft = Some(DraftSequence::behind(caches, positions)),
        }
    }

    /// How many of its tokens who drafts for it has read, and the caches that these are in.
    pub(super) fn take_drafts(&mut self) -> Option<(usize, Vec<Cache>)> {
        let speculation = self.speculation.as_mut()?;
        match (speculation.head.take(), speculation.draft.take()) {
            (Some(head), _) => head.into_caches(),
            (None, draft) => draft?.into_caches(),
        }
    }

    /// Whether it speculates by more than its mask.
    pub fn speculates(&self) -> bool {
        self.speculated().is_some()
    }

    /// Whether the model's own head reads its hidden states.
    pub(super) fn has_head(&self) -> bool {
        self.speculation.as_ref().is_some_and(|speculation| speculation.head.is_some())
    }

    /// The tokens that are certain and not read, and the drafted ones behind them.
    pub(super) fn certain_and_drafted(&mut self) -> StepInput {
        let mut tokens = self.tokens[self.processed..].to_vec();
        let proposal = self.speculation.as_mut().and_then(|it| it.proposal.take());
        let drafted = proposal.as_ref().map_or(&[][..], |proposal| &proposal.tokens);
        let row = StepRow {
            length: (tokens.len() + drafted.len()) as i32,
            logits: 1 + drafted.len() as i32,
        };
        tokens.extend(drafted);
        self.processed += tokens.len();
        let trial = proposal.map(|proposal| Trial {
            proposal,
            checkpoint: Checkpoint::of(&self.caches),
            positions: tokens.len(),
            choices: Vec::new(),
            logits: Vec::new(),
        });
        let tokens = InputTokens::Known(mlx::from_u32(&tokens, &[row.length]));
        StepInput { tokens, row, trial }
    }

    /// Chooses behind each of the drafted tokens, by `logits` of `[1, vocabulary]`, as if all of
    /// them were right; or lets that wait until it is known.
    pub(super) fn choose_behind(&mut self, trial: &mut Trial, logits: Vec<Array>) -> Result<()> {
        if self.waits_for_token() {
            trial.logits = logits;
            return Ok(());
        }
        trial.choices = logits.iter().map(|logits| self.choose(logits)).collect::<Result<_>>()?;
        Ok(())
    }

    /// Takes the tokens that a step has chosen: the next one, and those after it for as long as
    /// what was drafted is what is chosen. They are there even if an error comes after them.
    pub(super) fn read_all(&mut self, pending: Pending) -> (Vec<TokenOutput>, Result<()>) {
        let Pending { choice, trial, failure, states, .. } = pending;
        let mut outputs = Vec::with_capacity(1);
        let mut result = self.read(&choice, &failure).map(|output| outputs.push(output));
        if let Some(trial) = &trial
            && result.is_ok()
        {
            result = self.read_behind(trial, &failure, &mut outputs);
        }
        if !outputs.is_empty()
            && let Some(speculation) = &mut self.speculation
        {
            let proposal = trial.as_ref().map(|trial| &trial.proposal);
            speculation.read(&self.tokens, outputs.len(), proposal);
            if let Some(states) = &states {
                // A position is right if a token was read behind it.
                speculation.take_states(states, outputs.len());
            }
        }
        if let Some(trial) = trial
            && !self.take_back(trial, outputs.len().saturating_sub(1))
        {
            self.lose_caches();
        }
        (outputs, result)
    }

    /// Takes what was chosen behind the drafted tokens, up to the first wrong one.
    fn read_behind(
        &mut self,
        trial: &Trial,
        failure: &Failure,
        outputs: &mut Vec<TokenOutput>,
    ) -> Result<()> {
        for (index, &drafted) in trial.proposal.tokens.iter().enumerate() {
            let is_right = outputs.last().is_some_and(|output| output.token == drafted);
            if !is_right || self.has_ended() {
                break;
            }
            let output = match trial.logits.get(index) {
                Some(logits) => {
                    let choice = failure.scope(|| self.choose(logits))?;
                    self.read(&choice, failure)?
                }
                None => self.read(&trial.choices[index], failure)?,
            };
            outputs.push(output);
        }
        Ok(())
    }

    /// Takes the drafted positions back but for the first `right`; whether the caches could.
    pub(super) fn take_back(&mut self, trial: Trial, right: usize) -> bool {
        let wrong = trial.proposal.tokens.len() - right;
        if wrong == 0 {
            return true;
        }
        let (wrong, added) = (wrong as i32, trial.positions as i32);
        let taken = trial.checkpoint.take_back(&mut self.caches, wrong, added);
        self.processed -= taken.unwrap_or(0) as usize;
        self.restart_choices();
        taken.is_some()
    }
}
