//! How likely given tokens are, without sampling.

use super::reading::guarded;
use crate::cache::Cache;
use crate::error::{Error, Result};
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

/// Reads the tokens of all rows in one pass; gives the log-probabilities of each row's targets.
///
/// Logits are there for the positions from a row's first target on, and no others.
///
/// # Errors
/// [`Error::Logits`] for those that are no numbers.
pub fn logprobs(
    model: &dyn LanguageModel,
    rows: &mut [ScoredRow<Vec<Cache>>],
) -> Result<Vec<Vec<f32>>> {
    let mut all = guarded(|| run(model, rows))?.into_iter();
    let scores: Vec<Vec<f32>> =
        rows.iter().map(|row| all.by_ref().take(row.targets.len()).collect()).collect();
    if scores.iter().flatten().any(|logprob| logprob.is_nan()) {
        return Err(Error::Logits("the model's logits are no numbers".to_owned()));
    }
    Ok(scores)
}

fn run(model: &dyn LanguageModel, rows: &mut [ScoredRow<Vec<Cache>>]) -> Result<Vec<f32>> {
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
        false => Some(log_softmax_at(&logits, &places, &wanted)?),
    };
    let states = caches.iter().flat_map(|it| it.iter()).flat_map(Cache::arrays);
    mlx::eval(&states.chain(&scores).collect::<Vec<_>>())?;
    let scores = scores.map_or(Ok(Vec::new()), |scores| mlx::to_f32_vec(&scores));
    mlx::memory::clear_cache()?;
    scores
}

/// log softmax(logits)[place, token] = logit − log Σ exp(logits), in single precision: `logits` are
/// `[1, rows, vocabulary]`.
fn log_softmax_at(logits: &Array, places: &[u32], tokens: &[u32]) -> Result<Array> {
    let (rows, vocabulary) = (logits.dim(1), logits.dim(2));
    let logits = ops::astype(&ops::reshape(logits, &[rows, vocabulary])?, Dtype::Float32)?;
    let sums = ops::reshape(&ops::logsumexp(&logits, -1)?, &[rows])?;
    let flat = ops::reshape(&logits, &[rows * vocabulary])?;
    let width = vocabulary.unsigned_abs();
    let at: Vec<u32> = places.iter().zip(tokens).map(|(row, token)| row * width + token).collect();
    let count = [at.len() as i32];
    let picked = ops::take(&flat, &mlx::from_u32(&at, &count), 0)?;
    ops::subtract(&picked, &ops::take(&sums, &mlx::from_u32(places, &count), 0)?)
}
