//! How long steps take, by how many positions they have, and for how many drafted tokens that pays.

use std::time::Duration;

/// Steps of more positions are taken for steps of this many.
const MOST: usize = 64;

/// What a position more costs, as a part of a step of one, before that is known. Decoding is bound
/// by the memory: a matrix is read once for all positions.
const POSITION: f64 = 0.05;

/// How much better than without it speculation must promise to be: estimates are a bit off.
const MARGIN: f64 = 1.03;

/// How many steps of a kind are measured before its mean is believed.
const ENOUGH: u32 = 3;

/// How much slower than expected, or than the second one, the first step of a kind is thought to be,
/// at most: one that has taken a second for kernels to be compiled would never be tried again.
const MOST_SURPRISE: f64 = 2.0;

/// After so many steps in a row without drafts, those with drafts, and the draft model, are thought
/// to take this part of what they took: they are tried again now and then, for a computer is not
/// always as busy.
const UNTRIED: u32 = 256;
const HOPE: f64 = 0.9;

/// A mean that follows what it is the mean of.
#[derive(Debug, Clone, Copy, Default)]
pub struct Mean {
    value: f64,
    count: u32,
}

impl Mean {
    /// Takes a measurement. One that is far off is believed only if it comes again and again: what
    /// else a computer does takes time as well. So does what comes before the first.
    pub fn add(&mut self, value: f64) {
        if self.count == 1 {
            self.value = self.value.min(MOST_SURPRISE * value);
        }
        let value = if self.count > 1 { value.min(2.0 * self.value) } else { value };
        self.count += 1;
        let weight = (1.0 / f64::from(self.count)).max(0.1);
        self.value += weight * (value - self.value);
    }

    /// Takes a measurement, of which the first is not believed to be far beyond what is `expected`.
    fn add_expected(&mut self, value: f64, expected: Option<f64>) {
        let most = expected.filter(|_| self.count == 0).map_or(f64::MAX, |it| MOST_SURPRISE * it);
        self.add(value.min(most));
    }

    /// `None` before the first.
    pub fn get(&self) -> Option<f64> {
        (self.count > 0).then_some(self.value)
    }
}

/// How long steps take.
#[derive(Debug)]
pub struct Costs {
    /// Steps that are queued before the token before is read, by their positions.
    ahead: [Mean; MOST + 1],
    /// Steps that wait for it, as drafts do.
    waiting: [Mean; MOST + 1],
    /// A token of the draft model.
    draft: Mean,
    /// How many steps in a row have not waited.
    untried: u32,
}

/// What a step has without the sequence that may speculate in it.
#[derive(Debug, Clone, Copy, Default)]
pub struct Others {
    /// The sequences.
    pub rows: usize,
    /// Their positions.
    pub positions: usize,
    /// The tokens that are expected of them.
    pub tokens: f64,
}

/// How many drafted tokens pay.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pays {
    /// The tokens.
    pub length: usize,
    /// How many of them are expected to be right.
    pub expected: f64,
    /// The tokens of a second, those of the others included.
    pub rate: f64,
}

impl Default for Costs {
    fn default() -> Self {
        let none = [Mean::default(); MOST + 1];
        Self { ahead: none, waiting: none, draft: Mean::default(), untried: 0 }
    }
}

impl Costs {
    /// Takes how long a step took.
    pub fn add(&mut self, positions: usize, is_ahead: bool, took: Duration) {
        let expected = match is_ahead {
            true => estimate(&self.ahead, positions),
            false => self.waiting(positions),
        };
        let table = if is_ahead { &mut self.ahead } else { &mut self.waiting };
        table[positions.min(MOST)].add_expected(took.as_secs_f64(), expected);
        self.untried = if is_ahead { self.untried + 1 } else { 0 };
        if self.untried == UNTRIED {
            self.untried = 0;
            let waiting = self.waiting.iter_mut().chain([&mut self.draft]);
            waiting.for_each(|mean| mean.value *= HOPE);
        }
    }

    /// Takes how long the draft model took for a token: the first time not much more than the model
    /// that it drafts for.
    pub fn add_draft(&mut self, took: Duration) {
        self.draft.add_expected(took.as_secs_f64(), self.ahead(1));
    }

    /// Whether it is known how long steps take that do not wait.
    pub fn is_known(&self) -> bool {
        self.ahead.iter().any(|mean| mean.count >= ENOUGH)
    }

    fn ahead(&self, rows: usize) -> Option<f64> {
        estimate(&self.ahead, rows).or(estimate(&self.waiting, rows))
    }

    fn waiting(&self, positions: usize) -> Option<f64> {
        estimate(&self.waiting, positions).or(estimate(&self.ahead, positions))
    }

    /// The most tokens that are to be drafted before it is known how long so many take: about
    /// twice as many as were tried.
    fn most_untried(&self, positions: usize) -> usize {
        let tried = (positions..=MOST).rev().find(|&at| self.waiting[at].count > 0);
        2 * tried.map_or(1, |at| at - positions) + 2
    }

    /// How much is best drafted for one sequence, which has `own` positions to read in any case,
    /// `most` tokens at most; `None` unless that is faster than to draft nothing. `acceptance` is
    /// the probability that token number `index` of the draft is right if those before it are.
    pub fn what_pays(
        &self,
        others: Others,
        own: usize,
        most: usize,
        uses_model: bool,
        acceptance: impl Fn(usize) -> f64,
    ) -> Option<Pays> {
        let positions = others.positions + own;
        let most = most.min(self.most_untried(positions)).min(MOST.saturating_sub(positions));
        let without = match positions > others.rows + 1 {
            // The step waits in any case: others speculate.
            true => self.waiting(positions),
            false => self.ahead(positions),
        };
        // Where nothing is known, all steps are thought to take the same time.
        let without = without.unwrap_or(1.0);
        let drafting = if uses_model { self.draft.get().unwrap_or(0.0) } else { 0.0 };
        let mut least = (others.tokens + 1.0) / without * MARGIN;
        let (mut best, mut expected, mut reached) = (None, 0.0, 1.0);
        for length in 1..=most {
            reached *= acceptance(length - 1);
            expected += reached;
            let step = self.waiting(positions + length).unwrap_or(1.0);
            let took = step + drafting * length as f64;
            let rate = (others.tokens + 1.0 + expected) / took;
            if rate > least {
                (best, least) = (Some(Pays { length, expected, rate }), rate);
            }
        }
        best
    }
}

/// What a step of so many positions takes, between those that were measured.
fn estimate(table: &[Mean; MOST + 1], positions: usize) -> Option<f64> {
    let positions = positions.min(MOST);
    let known = |at: usize| table[at].get().map(|cost| (at, cost));
    let below = (0..=positions).rev().find_map(known);
    let above = (positions..=MOST).find_map(known);
    Some(match (below, above) {
        (Some((from, low)), Some((to, high))) if to > from => {
            low + (high - low) * (positions - from) as f64 / (to - from) as f64
        }
        (Some((from, cost)), _) => {
            // Two points make a line.
            let before = (0..from).rev().find_map(known);
            let slope = before.map_or(0.0, |(at, low)| (cost - low) / (from - at) as f64);
            cost + (positions - from) as f64 * slope.max(POSITION * cost / from.max(1) as f64)
        }
        (None, Some((_, cost))) => cost,
        (None, None) => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALONE: Others = Others { rows: 0, positions: 0, tokens: 0.0 };

    /// The costs of a device on which a step takes `step` and a position more `position`.
    fn device(step: f64, position: f64) -> Costs {
        let mut costs = Costs::default();
        for positions in 1..=MOST {
            let took = Duration::from_secs_f64(step + position * (positions - 1) as f64);
            for _ in 0..ENOUGH {
                costs.add(positions, true, took);
                costs.add(positions, false, took);
            }
        }
        costs
    }

    fn length(costs: &Costs, others: Others, uses_model: bool, probability: f64) -> usize {
        let draft = costs.what_pays(others, 1, 16, uses_model, |_| probability);
        draft.map_or(0, |draft| draft.length)
    }

    #[test]
    fn more_is_drafted_the_cheaper_positions_are_and_the_likelier_tokens() {
        let length =
            |position, probability| length(&device(1.0, position), ALONE, false, probability);
        assert_eq!(length(0.0, 0.9), 16);
        assert_eq!(length(1.0, 0.9), 0, "a position that costs a step gains nothing");
        assert_eq!(length(0.1, 0.02), 0);
        assert!(length(0.1, 0.5) < length(0.1, 0.8));
        assert!(length(0.1, 0.8) < length(0.02, 0.8));
    }

    #[test]
    fn drafting_is_paid_for() {
        let mut costs = device(1.0, 0.02);
        assert!(length(&costs, ALONE, true, 0.7) > 2);
        costs.add_draft(Duration::from_secs(1));
        assert_eq!(length(&costs, ALONE, true, 0.7), 0);
        assert!(length(&costs, ALONE, false, 0.7) > 2);
    }

    #[test]
    fn beside_many_others_a_position_must_pay_for_all_of_them() {
        // Products of many rows are bound by arithmetic.
        let mut costs = device(1.0, 0.01);
        for positions in 8..=MOST {
            for _ in 0..100 {
                let took = Duration::from_secs_f64(positions as f64 / 7.0);
                costs.add(positions, false, took);
                costs.add(positions, true, took);
            }
        }
        let beside = |count: usize| Others { rows: count, positions: count, tokens: count as f64 };
        let length = |count| length(&costs, beside(count), false, 0.6);
        assert!(length(0) >= 3);
        assert_eq!(length(12), 0);
    }

    #[test]
    fn what_is_not_known_is_tried_step_by_step() {
        let mut costs = Costs::default();
        costs.add(1, true, Duration::from_millis(10));
        let first = length(&costs, ALONE, false, 0.95);
        assert!((1..=4).contains(&first), "{first}");
        costs.add(1 + first, false, Duration::from_millis(11));
        let second = length(&costs, ALONE, false, 0.95);
        assert!(second > first && second <= 2 * first + 2, "{second}");
    }

    #[test]
    fn what_was_slow_is_tried_again() {
        let mut costs = device(1.0, 0.05);
        let slow = Duration::from_secs(3);
        (0..50).for_each(|_| (2..=MOST).for_each(|positions| costs.add(positions, false, slow)));
        let length = |costs: &Costs| length(costs, ALONE, false, 0.6);
        assert_eq!(length(&costs), 0);
        let tries = (0..20 * UNTRIED).filter(|_| {
            costs.add(1, true, Duration::from_secs(1));
            let length = length(&costs);
            if length > 0 {
                costs.add(1 + length, false, Duration::from_secs_f64(1.1));
            }
            length > 0
        });
        assert!(tries.count() > 1000);
    }

    /// Its first steps touch its memory for the first time.
    #[test]
    fn a_draft_model_that_was_slow_is_tried_again() {
        let mut costs = device(1.0, 0.05);
        costs.add_draft(Duration::from_secs(3));
        assert_eq!(length(&costs, ALONE, true, 0.9), 0);
        (0..20 * UNTRIED).for_each(|_| costs.add(1, true, Duration::from_secs(1)));
        assert!(length(&costs, ALONE, true, 0.9) > 0);
    }

    /// Kernels for a number of positions are compiled as they are first needed.
    #[test]
    fn a_first_step_in_which_kernels_are_compiled_is_no_reason_to_stop() {
        let mut costs = Costs::default();
        (0..3).for_each(|_| costs.add(1, true, Duration::from_millis(2)));
        let first = length(&costs, ALONE, false, 0.9);
        costs.add(1 + first, false, Duration::from_secs(1));
        let second = length(&costs, ALONE, false, 0.9);
        assert!(first > 0 && second > 0, "{first}, {second}");
        costs.add(1 + second, false, Duration::from_millis(3));
        costs.add_draft(Duration::from_secs(1));
        (0..4).for_each(|_| costs.add_draft(Duration::from_micros(200)));
        assert!(length(&costs, ALONE, true, 0.9) > 0);
    }

    /// Nothing is expected of the first step of all.
    #[test]
    fn a_first_step_of_all_that_is_slow_is_soon_forgotten() {
        let mut costs = Costs::default();
        costs.add(1, true, Duration::from_secs(2));
        (0..3).for_each(|_| costs.add(1, true, Duration::from_millis(2)));
        for positions in [2, 3] {
            (0..3).for_each(|_| costs.add(positions, false, Duration::from_millis(4)));
        }
        assert_eq!(
            length(&costs, ALONE, false, 0.3),
            0,
            "a step with a draft takes as long as two"
        );
    }

    #[test]
    fn one_slow_step_is_no_reason_to_stop() {
        let mut costs = device(1.0, 0.05);
        let before = length(&costs, ALONE, false, 0.8);
        costs.add(1 + before, false, Duration::from_secs(60));
        assert!(length(&costs, ALONE, false, 0.8) > 0);
        (0..30).for_each(|_| costs.add(1, true, Duration::from_millis(20)));
        assert_eq!(length(&costs, ALONE, false, 0.8), 0, "steps are cheap now");
    }
}
