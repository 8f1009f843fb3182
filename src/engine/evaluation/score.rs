//! How likely texts are behind the same beginning.
//!
//! The beginning is read once. Its last logits tell how likely the first token of each continuation
//! is; of those that are longer, several are then read in one pass, each behind its own copy of the
//! caches.

use super::{AbortFlag, Advance, OwnAdapter};
use crate::engine::backend::Backend;
use crate::error::Result;
use crate::generate::{Likelihood, ScoredRow, Target};

/// How many continuations are read in one pass, each of which has its own copy of the caches.
const MOST_COPIES: usize = 8;

/// What to score, as tokens.
pub struct ScoreTask {
    /// What all continuations have in common; not empty.
    pub prompt: Vec<u32>,
    /// The rest of each; none is empty.
    pub continuations: Vec<Vec<u32>>,
    /// How many of the likeliest tokens are given for each place.
    pub top: usize,
    /// What the model runs with.
    pub adapter: OwnAdapter,
    /// Whether somebody waits for it.
    pub aborted: AbortFlag,
}

/// The tokens of a continuation, and how likely each is behind those before it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Scored {
    /// The tokens.
    pub tokens: Vec<u32>,
    /// The natural logarithms of their probabilities.
    pub logprobs: Vec<f32>,
    /// The likeliest tokens in the place of each and their log-probabilities, likeliest first.
    pub top: Vec<Vec<(u32, f32)>>,
}

/// A task that has begun.
pub(super) struct Running<C> {
    pub(super) task: ScoreTask,
    /// How much of the prompt has been read.
    position: usize,
    /// Those of the prompt, until the last continuation has them.
    caches: Option<C>,
    scores: Vec<Vec<Likelihood>>,
    /// A continuation that has been read in part, and its caches.
    partial: Option<(usize, C)>,
}

impl<C: Clone> Running<C> {
    pub(super) fn new(task: ScoreTask, caches: C) -> Self {
        let scores = task.continuations.iter().map(|_| Vec::new()).collect();
        Self { task, position: 0, caches: Some(caches), scores, partial: None }
    }

    /// Reads on by up to `count` tokens.
    pub(super) fn advance<B: Backend<Caches = C>>(
        &mut self,
        backend: &B,
        count: usize,
    ) -> Result<Advance> {
        let tokens = match self.reads_prompt() {
            true => self.read_prompt(backend, count)?,
            false => self.read_continuations(backend, count)?,
        };
        Ok(Advance { tokens, done: !self.reads_prompt() && self.first_unread().is_none() })
    }

    fn read_prompt<B: Backend<Caches = C>>(&mut self, backend: &B, count: usize) -> Result<usize> {
        let (start, all) = (self.position, self.task.prompt.len());
        let end = all.min(start + count);
        let first = |rest: &Vec<u32>| Target { after: end - start - 1, token: rest[0] };
        let targets = match end == all {
            true => self.task.continuations.iter().map(first).collect(),
            false => Vec::new(),
        };
        let tokens = &self.task.prompt[start..end];
        let Some(caches) = &mut self.caches else { return Ok(0) };
        let row = ScoredRow { tokens, targets, caches };
        let scores = backend.logprobs(&mut [row], self.task.top)?;
        for (all, score) in self.scores.iter_mut().zip(scores.into_iter().flatten()) {
            all.push(score);
        }
        self.position = end;
        Ok(end - start)
    }

    fn read_continuations<B: Backend<Caches = C>>(
        &mut self,
        backend: &B,
        count: usize,
    ) -> Result<usize> {
        // The continuation, the first token to read, and how many.
        let mut shares: Vec<(usize, usize, usize)> = Vec::new();
        let mut left = count;
        for (index, rest) in self.task.continuations.iter().enumerate() {
            // The last token is not read: nothing behind it is wanted.
            let start = self.scores[index].len() - 1;
            let unread = rest.len() - 1 - start;
            if unread == 0 {
                continue;
            }
            if left == 0 || shares.len() == MOST_COPIES {
                break;
            }
            shares.push((index, start, unread.min(left)));
            left -= unread.min(left);
        }
        let mut pairs = self.task.continuations.iter().zip(&self.scores);
        let last_unread = pairs.rposition(|(rest, scores)| scores.len() < rest.len());
        let mut caches: Vec<C> = Vec::with_capacity(shares.len());
        for &(index, ..) in &shares {
            caches.extend(match self.partial.take() {
                Some((begun, own)) if begun == index => Some(own),
                _ if Some(index) == last_unread => self.caches.take(),
                _ => self.caches.clone(),
            });
        }
        let mut rows: Vec<ScoredRow<C>> = Vec::with_capacity(shares.len());
        for (&(index, start, length), caches) in shares.iter().zip(&mut caches) {
            let rest = &self.task.continuations[index];
            let target = |after: usize| Target { after, token: rest[start + after + 1] };
            rows.push(ScoredRow {
                tokens: &rest[start..start + length],
                targets: (0..length).map(target).collect(),
                caches,
            });
        }
        let scores = backend.logprobs(&mut rows, self.task.top)?;
        for (&(index, ..), scores) in shares.iter().zip(scores) {
            self.scores[index].extend(scores);
        }
        let last = shares.last().map(|&(index, ..)| index);
        if last == self.first_unread() {
            self.partial = last.zip(caches.pop());
        }
        Ok(count - left)
    }
}

impl<C> Running<C> {
    /// Whether the prompt has not been read to its end.
    pub(super) fn reads_prompt(&self) -> bool {
        self.position < self.task.prompt.len()
    }

    /// The first continuation of which tokens have no score.
    fn first_unread(&self) -> Option<usize> {
        let pairs = self.task.continuations.iter().zip(&self.scores);
        pairs.into_iter().position(|(rest, scores)| scores.len() < rest.len())
    }

    /// The scores; everything else is given back.
    pub(super) fn into_scored(self) -> Vec<Scored> {
        let pairs = self.task.continuations.into_iter().zip(self.scores);
        let scored = |(tokens, scores): (Vec<u32>, Vec<Likelihood>)| {
            let (logprobs, top) = scores.into_iter().map(|it| (it.logprob, it.top)).unzip();
            Scored { tokens, logprobs, top }
        };
        pairs.map(scored).collect()
    }
}
