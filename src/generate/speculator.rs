//! What the sequences of a model share to speculate: the draft model, and how long steps take.

use std::time::{Duration, Instant};

use super::prefix_owner::Drafter;
use super::sequence::Sequence;
use super::speculation::acceptance::DraftAcceptance;
use super::speculation::costs::{Costs, Others};
use super::speculation::draft::{self, DraftRow};
use super::speculation::head::{self, HeadRow};
use super::speculation::{Plan, Prospects, Room, Source};
use crate::error::Result;
use crate::mlx;
use crate::models::{LanguageModel, MultiTokenPredictor};

/// After so many steps that waited for drafts, some do not, to see how long these take now.
const REMEASURE: usize = 160;

/// How many steps these are.
const MEASURED: usize = 4;

/// What decides on drafts, and makes them, for all sequences of a model.
#[derive(Default)]
pub struct Speculator {
    model: Option<Box<dyn LanguageModel>>,
    /// What tells that model from others.
    name: String,
    costs: Costs,
    /// How often its drafts, or those of the model's own head, are right.
    acceptance: DraftAcceptance,
    /// How many steps in a row have waited.
    waited: usize,
    /// For how many steps nothing is drafted, to see how long these take.
    measuring: usize,
    in_flight: Option<InFlight>,
    watch: Watch,
}

/// A step on the device whose time is measured.
#[derive(Debug, Clone, Copy)]
struct InFlight {
    positions: usize,
    /// Whether it was queued before the token before it was read.
    is_ahead: bool,
}

/// The time that was spent on decoding since the last tokens were read.
#[derive(Default)]
struct Watch {
    since: Option<Instant>,
    spent: Duration,
}

impl Watch {
    fn go(&mut self) {
        self.since = Some(Instant::now());
    }

    fn stop(&mut self) {
        self.spent += self.since.take().map_or(Duration::ZERO, |since| since.elapsed());
    }
}

impl std::fmt::Debug for Speculator {
    fn fmt(&self, formatter: &mut std::fmt::Formatter) -> std::fmt::Result {
        formatter.debug_struct("Speculator").field("costs", &self.costs).finish_non_exhaustive()
    }
}

impl Speculator {
    /// With a draft model and its name, or without one.
    pub fn new(draft: Option<(Box<dyn LanguageModel>, String)>) -> Self {
        let (model, name) = draft.unzip();
        Self { model, name: name.unwrap_or_default(), ..Self::default() }
    }

    /// Who drafts for `model`, if anybody does.
    pub fn drafter<'a>(&'a self, model: &'a dyn LanguageModel) -> Option<Drafter<'a>> {
        match &self.model {
            Some(draft) => Some(Drafter::Model(&**draft, &self.name)),
            None => Some(Drafter::Head(model, model.multi_token_predictor()?)),
        }
    }

    /// Notes that the device does something else before the step in flight is read.
    pub fn interrupt(&mut self) {
        self.in_flight = None;
    }

    fn prospects(&self) -> Prospects<'_> {
        let is_known = self.measuring == 0 && self.costs.is_known();
        Prospects { costs: is_known.then_some(&self.costs), has_model: self.model.is_some() }
    }

    /// Whether the next step of `sequences` must wait until the one in flight is read: because that
    /// may be taken back in part, or because something is to be drafted.
    pub(super) fn waits(&mut self, sequences: &mut [&mut Sequence]) -> bool {
        if sequences.iter().all(|sequence| sequence.speculation.is_none()) {
            (self.in_flight, self.watch) = (None, Watch::default());
            return false;
        }
        self.watch.go();
        let others = sequences.len() - 1;
        let others = Others { rows: others, positions: others, tokens: others as f64 };
        let mut waits = false;
        for sequence in sequences {
            let room = sequence.room();
            waits |= sequence.is_on_trial();
            if let (Some(room), Some(speculation)) = (room, &mut sequence.speculation) {
                speculation.begin(&sequence.tokens);
                speculation.learn(&mut self.acceptance);
                waits |= speculation.is_head_behind();
                waits |= speculation.plan(self.prospects(), others, room).is_some();
            }
        }
        self.waited = if waits { self.waited + 1 } else { 0 };
        self.measuring = self.measuring.saturating_sub(1);
        if self.waited >= REMEASURE {
            (self.waited, self.measuring) = (0, MEASURED);
        }
        waits
    }

    /// Notes that the step in flight was read.
    pub(super) fn note_read(&mut self) {
        if self.watch.since.is_none() {
            return;
        }
        self.watch.stop();
        let took = std::mem::take(&mut self.watch.spent);
        if let Some(InFlight { positions, is_ahead }) = self.in_flight.take() {
            self.costs.add(positions, is_ahead, took);
        }
        self.watch.go();
    }

    /// Takes what was queued: the positions of a step, if it is one of all sequences.
    pub(super) fn note_queued(&mut self, positions: Option<usize>, is_ahead: bool) {
        if self.watch.since.is_some() {
            self.in_flight = positions.map(|positions| InFlight { positions, is_ahead });
            self.watch.stop();
        }
    }

    /// Drafts for `sequences` of `model`, nothing of which is in flight.
    pub(super) fn propose(&mut self, model: &dyn LanguageModel, sequences: &mut [&mut Sequence]) {
        let rooms: Vec<_> = sequences.iter().map(|sequence| sequence.room()).collect();
        let own = |room: &Option<Room>| room.map_or(1, |room| room.own);
        let mut all = Others {
            rows: sequences.len(),
            positions: rooms.iter().map(own).sum(),
            tokens: sequences.len() as f64,
        };
        let (mut of_model, mut of_head) = (Vec::new(), Vec::new());
        for (sequence, room) in sequences.iter_mut().zip(rooms) {
            let (Some(room), Some(speculation)) = (room, &mut sequence.speculation) else {
                continue;
            };
            let others = Others {
                rows: all.rows - 1,
                positions: all.positions - room.own,
                tokens: all.tokens - 1.0,
            };
            let is_behind = speculation.is_head_behind();
            let Some(plan) = speculation.plan(self.prospects(), others, room) else {
                if is_behind {
                    of_head.push((&mut **sequence, 0));
                }
                continue;
            };
            let Plan { source, length, expected } = plan;
            all.positions += length;
            all.tokens += expected;
            match source {
                Source::Mask => {
                    let forced = sequence.forced(0)[..length].to_vec();
                    if let Some(speculation) = &mut sequence.speculation {
                        speculation.propose(source, forced);
                    }
                }
                Source::Lookup => speculation.look_up(&sequence.tokens, length),
                Source::Model => {
                    let Some(draft) = &self.model else {
                        of_head.push((&mut **sequence, length));
                        continue;
                    };
                    if speculation.is_known_to_model(&sequence.tokens, draft.vocabulary()) {
                        of_model.push((&mut **sequence, length));
                    }
                    continue;
                }
            }
            if is_behind {
                of_head.push((&mut **sequence, 0));
            }
        }
        self.watch.stop();
        if !of_model.is_empty() {
            self.draft(of_model);
        }
        if let Some(predictor) = model.multi_token_predictor()
            && !of_head.is_empty()
        {
            self.draft_by_head(predictor, of_head);
        }
        self.watch.go();
    }

    /// Lets the draft model draft so many tokens for each of `sequences`.
    fn draft(&mut self, mut sequences: Vec<(&mut Sequence, usize)>) {
        let Some(model) = self.model.as_deref() else { return };
        let started = Instant::now();
        let mut rows: Vec<DraftRow> = sequences
            .iter_mut()
            .filter_map(|(sequence, length)| sequence.draft_row(model, *length))
            .collect();
        let are_near = rows.iter().all(DraftRow::is_near);
        let done = draft::draft(model, &mut rows);
        let drafted = rows.into_iter().map(|row| row.drafted).collect();
        let took = are_near.then(|| started.elapsed());
        self.take_drafts(sequences, done.map(|()| drafted), took);
    }

    /// Takes what was drafted for each of `sequences`, and how long that took where it says what a
    /// draft costs.
    fn take_drafts(
        &mut self,
        mut sequences: Vec<(&mut Sequence, usize)>,
        drafted: Result<Vec<Vec<u32>>>,
        took: Option<Duration>,
    ) {
        let speculations = sequences.iter_mut().filter_map(|(it, _)| it.speculation.as_mut());
        let Ok(drafted) = drafted else {
            // It is nobody's failure: the sequences go on without drafts.
            let _ = mlx::settle();
            speculations.for_each(|speculation| speculation.lose_model());
            return;
        };
        let most = drafted.iter().map(Vec::len).max().unwrap_or(0);
        if let Some(took) = took
            && most > 0
        {
            self.costs.add_draft(took / most as u32);
        }
        // Where a head has only read, what another source proposes stays.
        for (speculation, tokens) in speculations.zip(drafted).filter(|(_, it)| !it.is_empty()) {
            speculation.propose(Source::Model, tokens);
        }
    }

    /// Lets the model's own head draft so many tokens for each of `sequences`, and read what is
    /// known of them.
    fn draft_by_head(
        &mut self,
        predictor: &dyn MultiTokenPredictor,
        mut sequences: Vec<(&mut Sequence, usize)>,
    ) {
        let started = Instant::now();
        let mut rows: Vec<HeadRow> =
            sequences.iter_mut().filter_map(|(it, length)| it.head_row(*length)).collect();
        let are_near = rows.iter().all(HeadRow::is_near);
        let done = head::draft(predictor, &mut rows);
        let drafted = rows.into_iter().map(|row| row.drafted).collect();
        let took = are_near.then(|| started.elapsed());
        self.take_drafts(sequences, done.map(|()| drafted), took);
    }
}
