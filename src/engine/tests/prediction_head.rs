//! Sequences that speculate with a head of their model.

use std::cell::Cell;
use std::rc::Rc;

use super::failures::{BAD, counting, greedy, options, sequence_options, start_with};
use super::speculation::{fixed, make, tokens};
use crate::cache::Cache;
use crate::engine::core::CoreBackend;
use crate::error::{Error, Result};
use crate::generate::{GenerationOptions, SequenceOptions, SpeculationOptions};
use crate::mlx::{Array, Dtype, ops, scalar};
use crate::models::{LanguageModel, MultiTokenPredictor};
use crate::nn::{Embedding, Step};

/// What the head of a model has done, and is to do.
#[derive(Default)]
pub(super) struct Head {
    /// The positions that it has read.
    pub(super) read: Cell<usize>,
    /// The most of them in a pass.
    longest: Cell<usize>,
    /// How many passes it makes before all fail.
    passes: Cell<usize>,
    /// Whether it predicts another token than the next.
    is_wrong: bool,
}

/// A model that counts on, with a head that does, too.
struct WithHead(Box<dyn LanguageModel>, Rc<Head>);

impl WithHead {
    fn states_of(logits: &Array) -> Result<Array> {
        ops::zeros(&[1, logits.dim(1), 8], Dtype::Float32)
    }
}

impl LanguageModel for WithHead {
    fn forward(&self, step: &Step, caches: &mut [&mut [Cache]]) -> Result<Array> {
        self.0.forward(step, caches)
    }

    fn states(&self, step: &Step, caches: &mut [&mut [Cache]]) -> Result<Array> {
        Self::states_of(&self.0.forward(step, caches)?)
    }

    fn make_caches(&self) -> Vec<Cache> {
        self.0.make_caches()
    }

    fn multi_token_predictor(&self) -> Option<&dyn MultiTokenPredictor> {
        Some(self)
    }

    fn layers(&self) -> usize {
        self.0.layers()
    }

    fn embedding(&self) -> &Embedding {
        self.0.embedding()
    }

    fn vocabulary(&self) -> usize {
        self.0.vocabulary()
    }
}

impl MultiTokenPredictor for WithHead {
    fn forward_with_states(&self, step: &Step, caches: &mut [&mut [Cache]]) -> Result<[Array; 2]> {
        let logits = self.0.forward(step, caches)?;
        let states = Self::states_of(&logits)?;
        Ok([logits, states])
    }

    fn predict(
        &self,
        step: &Step,
        states: &Array,
        caches: &mut [&mut [Cache]],
    ) -> Result<[Array; 2]> {
        assert_eq!(states.shape(), [1, step.tokens().dim(1), 8]);
        let head = &self.1;
        match head.passes.get().checked_sub(1) {
            Some(passes) => head.passes.set(passes),
            None => return Err(Error::Mlx("the head is broken".to_owned())),
        }
        let length = step.tokens().dim(1) as usize;
        head.read.set(head.read.get() + length);
        head.longest.set(head.longest.get().max(length));
        let [logits, states] = self.forward_with_states(step, caches)?;
        let logits = if head.is_wrong { ops::multiply(&logits, &scalar(-1.0))? } else { logits };
        Ok([logits, states])
    }

    fn make_prediction_caches(&self) -> Vec<Cache> {
        self.0.make_caches()
    }
}

pub(super) fn backend(passes: usize, is_wrong: bool) -> (CoreBackend, Rc<Head>) {
    let head = Rc::new(Head { passes: Cell::new(passes), is_wrong, ..Head::default() });
    let model = WithHead(counting(), Rc::clone(&head));
    (CoreBackend::new(Box::new(model), "counting".to_owned()), head)
}

fn by_head(draft_tokens: Option<usize>) -> SequenceOptions {
    let speculation = Some(SpeculationOptions { draft_tokens, lookup: false });
    SequenceOptions { speculation, ..options() }
}

#[test]
fn each_right_draft_saves_a_step() {
    let (backend, head) = backend(usize::MAX, false);
    let mut sequence = start_with(&backend, 0, None, by_head(Some(3)));
    let outputs = make(&backend, &mut sequence, 40);
    assert_eq!(tokens(&outputs)[..40], (5..45).collect::<Vec<_>>());
    let speculated = sequence.speculated().unwrap();
    assert_eq!((speculated.drafted, speculated.accepted, speculated.steps), (30, 30, 10));
    // Each position once by what the model says of it, and two of each draft by what it guessed;
    // the draft behind the last token is in flight.
    assert_eq!(head.read.get(), 4 + 40 + 2 * 11);
}

#[test]
fn a_head_that_fails_is_nobodys_failure() {
    for passes in [0, 1, 2, 5, 12] {
        let (backend, _) = backend(passes, false);
        let [mut first, mut second] =
            [0, 3].map(|from| start_with(&backend, from, None, by_head(Some(3))));
        let mut made = [Vec::new(), Vec::new()];
        while made.iter().any(|made| made.len() < 30) {
            for (made, outputs) in
                made.iter_mut().zip(backend.decode(&mut [&mut first, &mut second]))
            {
                made.extend(tokens(&outputs.unwrap()));
            }
        }
        assert_eq!(made[0][..30], (5..35).collect::<Vec<_>>(), "{passes}");
        assert_eq!(made[1][..30], (8..38).collect::<Vec<_>>(), "{passes}");
    }
}

#[test]
fn the_failure_of_a_sequence_is_its_own() {
    let (backend, _) = backend(usize::MAX, false);
    let start = |first| {
        let options = sequence_options(GenerationOptions { max_tokens: Some(60), ..greedy() });
        let options = SequenceOptions { speculation: fixed(4), ..options };
        start_with(&backend, first, None, options)
    };
    let (mut failing, mut sound) = (start(BAD - 20), start(0));
    let (mut made, mut error) = ([Vec::new(), Vec::new()], None);
    while made[1].len() < 40 {
        let mut outputs = match error {
            None => backend.decode(&mut [&mut failing, &mut sound]),
            Some(_) => backend.decode(&mut [&mut sound]),
        };
        made[1].extend(tokens(&outputs.pop().unwrap().unwrap()));
        match outputs.pop() {
            Some(Ok(outputs)) => made[0].extend(tokens(&outputs)),
            Some(Err(failure)) => error = Some(failure),
            None => {}
        }
    }
    assert_eq!(made[0], (BAD - 15..=BAD).collect::<Vec<_>>(), "all before the failure");
    assert_eq!(made[1][..40], (5..45).collect::<Vec<_>>());
    assert!(error.unwrap().to_string().contains("met a bad token"));
}

/// What is wrong rests, and is read in between, so that a later draft sees the whole text.
#[test]
fn a_head_that_rests_keeps_up() {
    // Whether it pays is measured, and the first steps may have taken long for another reason. One
    // that never rests drafts more than a token for each that is made.
    assert!((0..5).any(|_| drafts_of_a_wrong_head() < 200), "it did not rest");
}

/// How many tokens a head drafts beside 400 that are made, where it is always wrong.
fn drafts_of_a_wrong_head() -> usize {
    let (backend, head) = backend(usize::MAX, true);
    let options = by_head(None);
    // The likeliest token after 49 is then 0, as after any by the head.
    let generation =
        GenerationOptions { logit_bias: vec![(BAD, -100.0)], ..options.generation.clone() };
    let mut sequence = start_with(&backend, 0, None, SequenceOptions { generation, ..options });
    let outputs = make(&backend, &mut sequence, 400);
    assert_eq!(tokens(&outputs)[..400], (5..405).map(|it| it % BAD).collect::<Vec<_>>());
    assert!(head.read.get() > 335, "{} positions were read", head.read.get());
    assert!(head.longest.get() < 68, "{} positions were unread", head.longest.get());
    sequence.speculated().unwrap().drafted
}
