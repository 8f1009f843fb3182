//! How likely given tokens are, without sampling.

use super::reading::guarded;
use crate::cache::Cache;
use crate::error::{Error, Result};
use crate::fused::sampling::top_indices;
use crate::mlx::{self, Array, Dtype, ops};
use crate::models::LanguageModel;
use crate::nn::{Step, StepRow};

/// A token whose log-probability is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Target {
    /// The index of the token before it among those that its row reads.
    pub after: usize,
    /// The token itself.
    pub token: u32,
}

/// How likely a target is.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Likelihood {
    /// Its log-probability.
    pub logprob: f32,
    /// The likeliest tokens at its place and their log-probabilities, likeliest first.
    pub top: Vec<(u32, f32)>,
}

/// The next tokens of a sequence, and what is wanted of the distributions behind them.
#[derive(Debug)]
pub struct ScoredRow<'a, C> {
    /// The tokens to read; not empty.
    pub tokens: &'a [u32],
    /// In the order of their places.
    pub targets: Vec<Target>,
    /// Those of the tokens before.
    pub caches: &'a mut C,
}

/// Reads the tokens of all rows in one pass; gives the log-probabilities of each row's targets, and
/// those of the `top` likeliest tokens in their places.
///
/// Logits are there for the positions from a row's first target on, and no others.
///
/// # Errors
/// [`Error::Logits`] for those that are no numbers.
pub fn logprobs(
    model: &dyn LanguageModel,
    rows: &mut [ScoredRow<Vec<Cache>>],
    top: usize,
) -> Result<Vec<Vec<Likelihood>>> {
    let mut all = guarded(|| run(model, rows, top))?.into_iter();
    let scores: Vec<Vec<Likelihood>> =
        rows.iter().map(|row| all.by_ref().take(row.targets.len()).collect()).collect();
    if scores.iter().flatten().any(|it| it.logprob.is_nan()) {
        return Err(Error::Logits("the model's logits are no numbers".to_owned()));
    }
    Ok(scores)
}

fn run(
    model: &dyn LanguageModel,
    rows: &mut [ScoredRow<Vec<Cache>>],
    top: usize,
) -> Result<Vec<Likelihood>> {
    let (mut tokens, mut lengths) = (Vec::new(), Vec::new());
    // The targets' rows of logits, of all rows one behind the other, and their tokens.
    let (mut places, mut wanted) = (Vec::new(), Vec::new());
    let mut count = 0;
    for ScoredRow { tokens: own, targets, .. } in rows.iter() {
        tokens.extend_from_slice(own);
        let first = targets.first().map_or(own.len(), |target| target.after);
        let logits = own.len() - first;
        for target in targets {
            places.push((count + target.after - first) as u32);
            wanted.push(target.token);
        }
        count += logits;
        lengths.push(StepRow { length: own.len() as i32, logits: logits as i32 });
    }
    let tokens = mlx::from_u32(&tokens, &[1, tokens.len() as i32]);
    let mut caches: Vec<&mut [Cache]> =
        rows.iter_mut().map(|row| row.caches.as_mut_slice()).collect();
    let logits = model.forward(&Step::new(&tokens, lengths)?, &mut caches)?;
    let scores = match wanted.is_empty() {
        true => None,
        false => Some(Scores::of(&logits, &places, &wanted, top)?),
    };
    let states = caches.iter().flat_map(|it| it.iter()).flat_map(Cache::arrays);
    let wanted = scores.iter().flat_map(Scores::arrays);
    mlx::eval(&states.chain(wanted).collect::<Vec<_>>())?;
    let scores = scores.map_or(Ok(Vec::new()), |scores| scores.read());
    mlx::memory::limit_cache()?;
    scores
}

/// Likelihoods that may not be computed yet.
struct Scores {
    /// `[targets]`
    targets: Array,
    /// Ids and log-probabilities, `[targets, count]` each, unordered.
    top: Option<(Array, Array)>,
}

impl Scores {
    /// log softmax(logits)[place, token] = logit − log Σ exp(logits), in single precision: `logits`
    /// are `[1, rows, vocabulary]`.
    fn of(logits: &Array, places: &[u32], tokens: &[u32], top: usize) -> Result<Self> {
        let (rows, vocabulary) = (logits.dim(1), logits.dim(2));
        let logits = ops::astype(&ops::reshape(logits, &[rows, vocabulary])?, Dtype::Float32)?;
        let count = places.len() as i32;
        let places = mlx::from_u32(places, &[count]);
        let logits = ops::take(&logits, &places, 0)?;
        let sums = ops::reshape(&ops::logsumexp(&logits, -1)?, &[count, 1])?;
        let tokens = mlx::from_u32(tokens, &[count, 1]);
        let picked = ops::subtract(&ops::take_along(&logits, &tokens, -1)?, &sums)?;
        let targets = ops::reshape(&picked, &[count])?;
        if top == 0 {
            return Ok(Self { targets, top: None });
        }
        let ids = top_indices(&logits, u32::try_from(top).unwrap_or(u32::MAX))?;
        let values = ops::subtract(&ops::take_along(&logits, &ids, -1)?, &sums)?;
        Ok(Self { targets, top: Some((ids, values)) })
    }

    fn arrays(&self) -> impl Iterator<Item = &Array> {
        let top = self.top.iter().flat_map(|(ids, values)| [ids, values]);
        std::iter::once(&self.targets).chain(top)
    }

    fn read(&self) -> Result<Vec<Likelihood>> {
        let targets = mlx::to_f32_vec(&self.targets)?;
        let Some((ids, values)) = &self.top else {
            let alone = |logprob| Likelihood { logprob, top: Vec::new() };
            return Ok(targets.into_iter().map(alone).collect());
        };
        let width = ids.dim(-1).unsigned_abs() as usize;
        let (ids, values) = (mlx::to_u32_vec(ids)?, mlx::to_f32_vec(values)?);
        let rows = ids.chunks(width).zip(values.chunks(width));
        let read = |(logprob, (ids, values)): (f32, (&[u32], &[f32]))| {
            let mut top: Vec<_> = ids.iter().copied().zip(values.iter().copied()).collect();
            top.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
            Likelihood { logprob, top }
        };
        Ok(targets.into_iter().zip(rows).map(read).collect())
    }
}
