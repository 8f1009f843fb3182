//! Speculative decoding: tokens are guessed and looked at in one step.
//!
//! A step of a few positions takes hardly longer than one of a single position, because each reads
//! every matrix once. So the next tokens are drafted, by looking up what followed the last ones
//! before ([`lookup`]), by a smaller model ([`draft`]), by a head of the model itself ([`head`]), or
//! because a grammar leaves no choice, and the step computes the logits behind each of them. At each
//! position the sequence chooses as it always does, by its own logits, penalties, mask and random
//! numbers. As long as it chooses what was drafted, the logits of the next position are those that
//! it would have had. So not only the distribution is the model's, as with the rejection of
//! Leviathan et al. (2023), but each text is the one that the seed would give without drafts.
//!
//! How much is drafted follows from how often drafts are right ([`acceptance`]) and from how long
//! steps take ([`costs`]).

pub(super) mod acceptance;
pub(super) mod costs;
pub(super) mod draft;
pub(super) mod head;
mod lookup;

use super::choice::Choice;
use crate::cache::Checkpoint;
use crate::mlx::Array;
use acceptance::{DraftAcceptance, LookupAcceptance};
use costs::{Costs, Others, Pays};
use draft::DraftSequence;
use head::{HeadSequence, StepStates};
use lookup::Lookup;

/// The most tokens that are drafted at once, where the caller does not say how many.
const MOST_DRAFTED: usize = 16;

/// After how many tokens a draft model that did not pay is tried again, the first time; each time
/// that it does not, it rests for twice as long.
const FIRST_REST: usize = 64;

/// The longest such rest.
const LONGEST_REST: usize = 1024;

/// How many drafts are made, and of how many tokens, to see whether it pays again.
const TRIES: usize = 2;
const TRIED_LENGTH: usize = 3;

/// How often a good draft model is right. One that takes too long even then is not tried.
const HOPED: f64 = 0.9;

/// How a sequence speculates.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SpeculationOptions {
    /// How many tokens are drafted at once; `None` for as many as pay, and none where it does not.
    pub draft_tokens: Option<usize>,
    /// Whether what followed the last tokens before is proposed.
    pub lookup: bool,
}

/// What came of speculation.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Speculated {
    /// Tokens that were drafted.
    pub drafted: usize,
    /// Those of them that were right.
    pub accepted: usize,
    /// Steps that made tokens.
    pub steps: usize,
}

/// Who drafts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Source {
    /// The sequence's mask.
    Mask,
    Lookup,
    /// The draft model, or without one the model's own head.
    Model,
}

/// What was drafted for a step.
#[derive(Debug)]
pub(super) struct Proposal {
    pub source: Source,
    pub tokens: Vec<u32>,
}

/// Drafted tokens in a step.
#[derive(Debug)]
pub(super) struct Trial {
    pub proposal: Proposal,
    /// The caches before the step.
    pub checkpoint: Checkpoint,
    /// How many positions the step has.
    pub positions: usize,
    /// What was chosen behind each of the drafted tokens.
    pub choices: Vec<Choice>,
    /// The logits behind each of them, `[1, vocabulary]`, where a choice waits for the token before
    /// it.
    pub logits: Vec<Array>,
}

/// What a sequence has room for in its next step.
#[derive(Debug, Clone, Copy)]
pub(super) struct Room {
    /// How many tokens are in flight: the plan is for after them.
    pub in_flight: usize,
    /// The positions that it has to read in any case.
    pub own: usize,
    /// The most tokens that may be drafted.
    pub most: usize,
    /// How many tokens behind those in flight its mask leaves no choice about.
    pub forced: usize,
}

/// What there is to plan with.
#[derive(Debug, Clone, Copy)]
pub(super) struct Prospects<'a> {
    /// How long steps take; `None` while that is being measured.
    pub costs: Option<&'a Costs>,
    /// Whether there is a draft model.
    pub has_model: bool,
}

/// What a sequence is to draft.
#[derive(Debug, Clone, Copy)]
pub(super) struct Plan {
    pub source: Source,
    pub length: usize,
    /// How many of them are expected to be right.
    pub expected: f64,
}

/// What a sequence speculates with.
#[derive(Debug)]
pub(super) struct Speculation {
    options: SpeculationOptions,
    /// Whether more is drafted than what a mask leaves no choice about.
    is_wanted: bool,
    /// Tokens behind which nothing is drafted.
    end_tokens: Vec<u32>,
    /// Tokens of this number and above are none.
    vocabulary: usize,
    /// What was drafted for the next step.
    pub proposal: Option<Proposal>,
    lookup: Lookup,
    of_lookup: LookupAcceptance,
    of_model: DraftAcceptance,
    /// How many tokens the last draft of a model had, and how many of these were right, until other
    /// sequences learn of it.
    untold: Option<(usize, usize)>,
    /// What the draft model knows of the sequence.
    pub draft: Option<DraftSequence>,
    /// What the model's own head knows of it, where there is one.
    pub head: Option<HeadSequence>,
    /// Whether the draft model or the head has failed, or cannot go on.
    lost_model: bool,
    /// For how many tokens that one rests, because it does not pay, and the next time.
    rest: usize,
    next_rest: usize,
    /// How many drafts are left to be tried after a rest.
    tries: usize,
    speculated: Speculated,
}

impl Speculation {
    /// For a sequence that has not begun, of a model with this `vocabulary`; without `options`
    /// nothing is drafted but what the sequence's mask leaves no choice about.
    pub fn new(
        options: Option<SpeculationOptions>,
        end_tokens: Vec<u32>,
        vocabulary: usize,
    ) -> Self {
        Self {
            is_wanted: options.is_some(),
            lost_model: options.is_none(),
            options: options.unwrap_or_default(),
            end_tokens,
            vocabulary,
            proposal: None,
            lookup: Lookup::default(),
            of_lookup: LookupAcceptance::default(),
            of_model: DraftAcceptance::default(),
            untold: None,
            draft: None,
            head: None,
            rest: 0,
            next_rest: FIRST_REST,
            tries: 0,
            speculated: Speculated::default(),
        }
    }

    /// The same of a model with a head of its own, for which `make` makes the sequence.
    pub fn with_head(self, make: impl FnOnce() -> Option<HeadSequence>) -> Self {
        Self { head: if self.is_wanted { make() } else { None }, ..self }
    }

    /// What came of it; `None` where it was not asked for.
    pub fn speculated(&self) -> Option<Speculated> {
        self.is_wanted.then_some(self.speculated)
    }

    /// See [`Speculation`].
    pub fn vocabulary(&self) -> usize {
        self.vocabulary
    }

    /// Reads the prompt, before the first step.
    pub fn begin(&mut self, tokens: &[u32]) {
        if self.options.lookup && self.speculated.steps == 0 {
            self.lookup.read(tokens);
        }
    }

    /// Assumes of a draft model, before the first step, what came of its drafts for `all`
    /// sequences, and tells these of the last one.
    pub fn learn(&mut self, all: &mut DraftAcceptance) {
        if self.speculated.steps == 0 {
            self.of_model = DraftAcceptance::assumed(all.of_token());
        }
        if let Some((drafted, accepted)) = self.untold.take() {
            all.add(drafted, accepted);
        }
    }

    /// Takes the tokens of a step, which are the last `count` of all. If they were drafted, all of
    /// them but the last were right.
    pub fn read(&mut self, tokens: &[u32], count: usize, proposal: Option<&Proposal>) {
        let accepted = count.saturating_sub(1);
        self.speculated.steps += 1;
        if let Some(Proposal { source, tokens: drafted }) = proposal
            && *source != Source::Mask
        {
            self.speculated.drafted += drafted.len();
            self.speculated.accepted += accepted;
            if *source == Source::Model {
                self.of_model.add(drafted.len(), accepted);
                self.untold = Some((drafted.len(), accepted));
                self.tries = self.tries.saturating_sub(1);
            }
        }
        self.settle_draft(accepted);
        self.rest = self.rest.saturating_sub(count);
        if !self.options.lookup {
            return;
        }
        for end in tokens.len() - count..tokens.len() {
            if let Some(found) = self.lookup.found() {
                self.of_lookup.add(found.length, tokens[found.next] == tokens[end]);
            }
            self.lookup.read(&tokens[..=end]);
        }
    }

    /// Takes back what was drafted and not looked at.
    pub fn forget_draft(&mut self) {
        self.proposal = None;
        self.settle_draft(0);
    }

    fn settle_draft(&mut self, accepted: usize) {
        if self.draft.as_mut().is_some_and(|draft| !draft.settle(accepted)) {
            self.lose_model();
        }
    }

    /// Goes on without the draft model and the head.
    pub fn lose_model(&mut self) {
        (self.draft, self.head, self.lost_model) = (None, None, true);
    }

    /// Forgets the states that the head has read, and those that it is to read.
    pub fn forget_states(&mut self) {
        if let Some(head) = &mut self.head {
            head.forget();
        }
    }

    /// Takes the first `count` hidden states of a step for the head.
    pub fn take_states(&mut self, step: &StepStates, count: usize) {
        if self.head.as_mut().is_some_and(|head| head.take(step, count).is_err()) {
            self.lose_model();
        }
    }

    /// Whether the head is to read what is known though nothing is drafted.
    pub fn is_head_behind(&self) -> bool {
        self.head.as_ref().is_some_and(HeadSequence::is_behind)
    }

    /// Whether a draft model with this `vocabulary` has all `tokens`; goes on without it otherwise.
    pub fn is_known_to_model(&mut self, tokens: &[u32], vocabulary: usize) -> bool {
        let unread = self.draft.as_ref().map_or(tokens, |draft| draft.unread(tokens));
        let is_known = unread.iter().all(|&token| (token as usize) < vocabulary);
        if !is_known {
            self.lose_model();
        }
        is_known
    }

    /// Who is to draft now, and how much.
    pub fn plan(&mut self, prospects: Prospects, others: Others, room: Room) -> Option<Plan> {
        if room.most == 0 {
            return None;
        }
        if room.forced > 0 {
            let length = room.forced.min(room.most).min(MOST_DRAFTED);
            return Some(Plan { source: Source::Mask, length, expected: length as f64 });
        }
        let has_model = (prospects.has_model || self.head.is_some()) && !self.lost_model;
        match self.options.draft_tokens {
            Some(length) => self.plan_fixed(length.min(room.most), has_model, room.in_flight),
            None => self.plan_what_pays(prospects.costs?, has_model, others, room),
        }
    }

    fn plan_fixed(&self, length: usize, has_model: bool, in_flight: usize) -> Option<Plan> {
        let found = self.lookup.found();
        let of_lookup = found.map(|found| self.of_lookup.behind(found.length + in_flight));
        let source = match of_lookup {
            Some(of_lookup) if !has_model || of_lookup > self.of_model.of_token() => Source::Lookup,
            _ if has_model => Source::Model,
            _ => return None,
        };
        Some(Plan { source, length, expected: 0.0 })
    }

    fn plan_what_pays(
        &mut self,
        costs: &Costs,
        has_model: bool,
        others: Others,
        room: Room,
    ) -> Option<Plan> {
        let Room { in_flight, own, most, .. } = room;
        let most = most.min(MOST_DRAFTED);
        let (of_lookup, of_model) = (&self.of_lookup, self.of_model.of_token());
        let lookup = self.lookup.found().and_then(|found| {
            let matched = found.length + in_flight;
            costs.what_pays(others, own, most, false, |index| of_lookup.behind(matched + index))
        });
        let model = match has_model && self.rest == 0 {
            true => costs.what_pays(others, own, most, true, |_| of_model),
            false => None,
        };
        let plan = |source, Pays { length, expected, .. }| Plan { source, length, expected };
        match (lookup, model) {
            (Some(lookup), Some(model)) if model.rate > lookup.rate => {
                Some(plan(Source::Model, model))
            }
            (Some(lookup), _) => Some(plan(Source::Lookup, lookup)),
            (None, Some(model)) => {
                self.next_rest = FIRST_REST;
                Some(plan(Source::Model, model))
            }
            (None, None) if !has_model || self.rest > 0 => None,
            (None, None) if costs.what_pays(others, own, most, true, |_| HOPED).is_none() => None,
            (None, None) if self.tries > 0 => {
                Some(Plan { source: Source::Model, length: TRIED_LENGTH.min(most), expected: 0.0 })
            }
            (None, None) => {
                (self.rest, self.tries) = (self.next_rest, TRIES);
                self.next_rest = LONGEST_REST.min(2 * self.next_rest);
                None
            }
        }
    }

    /// Proposes what followed the end of `tokens` at an earlier place.
    pub fn look_up(&mut self, tokens: &[u32], length: usize) {
        let tokens = self.lookup.proposal(tokens, length);
        self.propose(Source::Lookup, tokens);
    }

    /// Proposes `tokens`, but for what is none, or an end, and what is behind it: there is no step
    /// after an end to save.
    pub fn propose(&mut self, source: Source, mut tokens: Vec<u32>) {
        let is_last =
            |token: &u32| *token as usize >= self.vocabulary || self.end_tokens.contains(token);
        let end = tokens.iter().position(is_last);
        tokens.truncate(end.unwrap_or(tokens.len()));
        self.proposal = (!tokens.is_empty()).then_some(Proposal { source, tokens });
    }

    /// The draft model's sequence, which `make` makes, and the tokens that nothing follows.
    pub fn draft_sequence(
        &mut self,
        make: impl FnOnce() -> DraftSequence,
    ) -> (&mut DraftSequence, &[u32]) {
        (self.draft.get_or_insert_with(make), &self.end_tokens)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// Where a step takes 10 ms, and a draft model so long for a token.
    fn costs(draft: Duration) -> Costs {
        let mut costs = Costs::default();
        for positions in [1, 2, 4, 8, 16] {
            for _ in 0..5 {
                costs.add(positions, true, Duration::from_millis(10));
                costs.add(positions, false, Duration::from_millis(11));
            }
        }
        (0..5).for_each(|_| costs.add_draft(draft));
        costs
    }

    /// In which of so many steps of a new sequence something is drafted, of which as many tokens
    /// are right as `accepted` says of the step's number.
    fn drafts(
        costs: &Costs,
        all: &mut DraftAcceptance,
        steps: usize,
        accepted: impl Fn(usize) -> usize,
    ) -> Vec<usize> {
        let mut sequence = Speculation::new(Some(SpeculationOptions::default()), Vec::new(), 100);
        let room = Room { in_flight: 1, own: 1, most: 100, forced: 0 };
        let mut tokens = vec![0];
        let mut planned = |step: &usize| {
            sequence.learn(all);
            let prospects = Prospects { costs: Some(costs), has_model: true };
            let plan = sequence.plan(prospects, Others::default(), room);
            let proposal =
                plan.map(|plan| Proposal { source: plan.source, tokens: vec![1; plan.length] });
            let accepted = proposal.as_ref().map_or(0, |it| accepted(*step).min(it.tokens.len()));
            tokens.extend(vec![1; 1 + accepted]);
            sequence.read(&tokens, 1 + accepted, proposal.as_ref());
            plan.is_some()
        };
        (0..steps).filter(|step| planned(step)).collect()
    }

    #[test]
    fn a_draft_model_is_tried_again_only_where_it_could_pay() {
        let tried = |draft| {
            let few = |step: usize| usize::from(step.is_multiple_of(10));
            drafts(&costs(draft), &mut DraftAcceptance::default(), 2000, few).len()
        };
        let cheap = tried(Duration::from_millis(1));
        assert!((4..100).contains(&cheap), "{cheap}");
        assert_eq!(tried(Duration::from_millis(9)), 0);
    }

    #[test]
    fn a_text_begins_with_what_was_learnt_of_those_before() {
        // With seven tokens of ten right this draft model would not pay.
        let (costs, mut all) = (costs(Duration::from_millis(6)), DraftAcceptance::default());
        let mut begun = |accepted: usize| {
            let drafts = drafts(&costs, &mut all, 130, |_| accepted);
            drafts.first().copied().unwrap_or(usize::MAX)
        };
        assert!(begun(9) > 50);
        (0..5).for_each(|_| _ = begun(9));
        assert_eq!(begun(9), 0, "drafts are right");
        (0..5).for_each(|_| _ = begun(0));
        assert!(begun(0) > 50, "they are wrong now");
    }
}
