//! A second, smaller model that proposes tokens (Leviathan et al. 2023), for all sequences at once.

use crate::cache::{Cache, CacheLimits, Checkpoint};
use crate::error::Result;
use crate::generate::processors::Processors;
use crate::generate::sampler::Sampler;
use crate::mlx::primitive::Failure;
use crate::mlx::{self, Array, ops};
use crate::models::LanguageModel;
use crate::nn::{Step, StepRow};

/// How many tokens it reads at once: others wait for that.
const CHUNK: usize = 128;

/// Reading this many takes about as long as reading one.
pub(super) const NEAR: usize = 4;

/// A sequence as the draft model sees it.
#[derive(Debug)]
pub struct DraftSequence {
    caches: Vec<Cache>,
    /// How many of the tokens that are certain it has read.
    processed: usize,
    /// What takes back the drafted tokens that it has read, and how many these are.
    trial: Option<(Checkpoint, usize)>,
}

/// How drafted tokens are drawn.
#[derive(Debug)]
pub struct DraftChooser {
    /// How the sequence draws. A draft that draws with the same random numbers is right more often
    /// than one that does not, and what is right is for the sequence to say.
    pub sampler: Sampler,
    /// What changes the logits before, where the two models have the same tokens.
    pub processors: Option<Processors>,
    /// The number of the next token in the answer.
    pub index: u64,
}

impl DraftChooser {
    /// Draws token `number` of the draft by logits `[1, vocabulary]`: `[1]`, `uint32`.
    pub fn choose(&mut self, mut logits: Array, number: usize) -> Result<Array> {
        if let Some(processors) = &self.processors {
            logits = processors.apply(&logits)?;
        }
        let token = self.sampler.sample(&logits, self.index + number as u64)?;
        if let Some(processors) = &mut self.processors {
            processors.push(&token)?;
        }
        Ok(token)
    }
}

/// What is to be drafted for a sequence.
#[derive(Debug)]
pub struct DraftRow<'a> {
    /// What the draft model knows of it.
    pub sequence: &'a mut DraftSequence,
    /// What is certain.
    pub tokens: &'a [u32],
    /// How its tokens are drawn.
    pub chooser: DraftChooser,
    /// The most tokens to draft.
    pub count: usize,
    /// Tokens of this number and above are none.
    pub vocabulary: usize,
    /// What nothing follows.
    pub end_tokens: &'a [u32],
    /// What was drafted.
    pub drafted: Vec<u32>,
}

impl DraftSequence {
    /// A sequence that has read nothing.
    pub fn new(model: &dyn LanguageModel, limits: &CacheLimits) -> Self {
        let caches = model.make_caches().into_iter().map(|cache| cache.limited(limits)).collect();
        Self { caches, processed: 0, trial: None }
    }

    /// The same that goes on from `caches`, which hold so many tokens.
    pub fn behind(caches: Vec<Cache>, processed: usize) -> Self {
        Self { caches, processed, trial: None }
    }

    /// How many tokens it has read, and its caches; `None` where these hold something else.
    pub fn into_caches(mut self) -> Option<(usize, Vec<Cache>)> {
        self.settle(0).then_some((self.processed, self.caches))
    }

    /// The tokens that it has not read.
    pub fn unread<'a>(&self, tokens: &'a [u32]) -> &'a [u32] {
        &tokens[self.processed..]
    }

    /// Takes how many of the drafted tokens were right; whether it can go on.
    pub fn settle(&mut self, accepted: usize) -> bool {
        let Some((checkpoint, read)) = self.trial.take() else { return true };
        let surplus = read.saturating_sub(accepted);
        match checkpoint.take_back(&mut self.caches, surplus as i32, read as i32) {
            Some(taken) => {
                self.processed += read - taken as usize;
                true
            }
            None => false,
        }
    }
}

impl DraftRow<'_> {
    /// What it reads in the next step, and whether its logits are wanted.
    fn input(&self) -> Option<(&[u32], bool)> {
        let unread = self.sequence.unread(self.tokens);
        match self.drafted.split_last() {
            _ if !self.is_wanted() => None,
            None if unread.len() > CHUNK => Some((&unread[..CHUNK], false)),
            None => Some((unread, true)),
            Some((last, _)) => Some((std::slice::from_ref(last), true)),
        }
    }

    /// Whether it has read nearly all that is certain.
    pub fn is_near(&self) -> bool {
        self.sequence.unread(self.tokens).len() <= NEAR
    }

    fn is_wanted(&self) -> bool {
        let ends = self.drafted.last().is_some_and(|last| self.end_tokens.contains(last));
        self.drafted.len() < self.count && !ends
    }
}

/// Drafts for all `rows`, as far as they have read what is certain; those that have not read on.
pub fn draft(model: &dyn LanguageModel, rows: &mut [DraftRow]) -> Result<()> {
    let failure = Failure::default();
    failure.scope(|| run(model, rows))?;
    failure.check()
}

fn run(model: &dyn LanguageModel, rows: &mut [DraftRow]) -> Result<()> {
    let mut active: Vec<&mut DraftRow> = rows.iter_mut().collect();
    loop {
        active.retain(|row| row.input().is_some());
        if active.is_empty() {
            return Ok(());
        }
        let (mut tokens, mut lengths) = (Vec::new(), Vec::new());
        for row in &mut active {
            if !row.drafted.is_empty() && row.sequence.trial.is_none() {
                row.sequence.trial = Some((Checkpoint::of(&row.sequence.caches), 0));
            }
            if let Some((input, is_last)) = row.input() {
                tokens.extend(input);
                let (length, logits) = (input.len() as i32, i32::from(is_last));
                lengths.push(StepRow { length, logits });
            }
        }
        let tokens = mlx::from_u32(&tokens, &[1, tokens.len() as i32]);
        let step = Step::new(&tokens, lengths.clone())?;
        let mut caches: Vec<_> = active.iter_mut().map(|row| &mut *row.sequence.caches).collect();
        let logits = model.forward(&step, &mut caches)?;
        let mut at = 0;
        let mut choices = Vec::with_capacity(active.len());
        for (row, length) in active.iter_mut().zip(&lengths) {
            let read = length.length as usize;
            match &mut row.sequence.trial {
                Some((_, drafted)) => *drafted += read,
                None => row.sequence.processed += read,
            }
            choices.push(if length.logits == 0 {
                None
            } else {
                let own = ops::slice_axis(&logits, 1, at, at + 1)?;
                at += 1;
                let own = ops::reshape(&own, &[1, own.dim(-1)])?;
                Some(row.chooser.choose(own, row.drafted.len())?)
            });
        }
        let states =
            active.iter().flat_map(|row| row.sequence.caches.iter()).flat_map(Cache::arrays);
        let outputs: Vec<&Array> = choices.iter().flatten().chain(states).collect();
        mlx::eval(&outputs)?;
        for (row, choice) in active.iter_mut().zip(&choices) {
            match choice.as_ref().map(mlx::item_u32).transpose()? {
                Some(token) if (token as usize) < row.vocabulary => row.drafted.push(token),
                // It waits for its next chunk, or has a token that the sequence has not.
                _ => row.count = 0,
            }
        }
    }
}
