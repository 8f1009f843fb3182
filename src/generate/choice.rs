//! A token that is chosen on the device, and what is read of it on the host.

use super::dry::Dry;
use super::processors::Processors;
use super::sampler::Sampler;
use crate::error::{Error, Result};
use crate::fused::Device;
use crate::fused::sampling::{largest_logit, log_probabilities};
use crate::mlx::{self, Array};

/// A generated token.
#[derive(Debug, Clone, PartialEq)]
pub struct TokenOutput {
    /// Its id.
    pub token: u32,
    /// Its log-probability, if that was asked for. Penalties, biases and masks are included, the
    /// temperature and the filters are not.
    pub logprob: Option<f32>,
    /// The most likely tokens and their log-probabilities, most likely first.
    pub top: Vec<(u32, f32)>,
}

/// A token that may not be computed yet.
#[derive(Debug)]
pub(super) struct Choice {
    /// `[1]`, `uint32`.
    pub token: Array,
    /// See [`largest_logit`].
    largest_logit: Array,
    /// See [`Sampler::draw`].
    surprise: Option<Array>,
    logprobs: Option<Logprobs>,
}

/// What is read of a choice.
#[derive(Debug)]
pub(super) struct ReadChoice {
    pub output: TokenOutput,
    /// The largest of the logits that it was chosen by.
    pub largest_logit: f32,
    /// How surprising it was, where that changes what follows.
    pub surprise: Option<f32>,
}

#[derive(Debug)]
struct Logprobs {
    chosen: Array,
    /// Ids and log-probabilities, unordered.
    top: Option<(Array, Array)>,
}

/// How a sequence chooses.
#[derive(Debug)]
pub(super) struct Chooser {
    pub sampler: Sampler,
    pub processors: Processors,
    /// The penalty for repetitions.
    pub dry: Option<Dry>,
    /// Of how many of the likeliest tokens log-probabilities are reported, if of any.
    pub logprobs: Option<usize>,
    pub device: Device,
}

impl Chooser {
    /// Whether a choice needs the tokens before it.
    pub fn waits(&self) -> bool {
        self.dry.is_some() || self.sampler.is_adaptive()
    }

    /// Chooses token number `index` of a sequence by logits `[1, vocabulary]`, which `mask` limits;
    /// where it [waits](Self::waits), `tokens` are all before it.
    pub fn choose(
        &mut self,
        logits: &Array,
        index: u64,
        tokens: &[u32],
        mask: impl FnOnce(Array) -> Result<Array>,
    ) -> Result<Choice> {
        let logits = match self.processors.is_empty() {
            true => logits.clone(),
            false => self.processors.apply(logits)?,
        };
        let logits = match &mut self.dry {
            Some(dry) => dry.apply(&logits, tokens)?,
            None => logits,
        };
        let logits = mask(logits)?;
        let (token, surprise) = self.sampler.draw(&logits, index)?;
        self.processors.push(&token)?;
        let logprobs = self.logprobs.map(|count| Logprobs::of(self.device, &logits, &token, count));
        let largest_logit = largest_logit(self.device, &logits)?;
        Ok(Choice { token, largest_logit, surprise, logprobs: logprobs.transpose()? })
    }

    /// Refuses logits from which nothing can be drawn, of token `number` of the answer.
    pub fn check(&self, largest: f32, number: u64) -> Result<()> {
        let what = match largest {
            _ if largest.is_finite() => return Ok(()),
            f32::INFINITY => "are infinite",
            f32::NEG_INFINITY => "leave no token to choose: all are -Infinity",
            _ => "are not numbers (NaN)",
        };
        let cause = match self.processors.is_empty() && self.dry.is_none() {
            true => "",
            false => ", or the penalties and biases of the request lead there",
        };
        Err(Error::Logits(format!(
            "the logits for token {number} of the answer {what}: the model's weights are broken or \
             overflow in the type that they run in (load it with dtype \"float32\"){cause}"
        )))
    }
}

impl Logprobs {
    /// The log-probability of `token` by logits `[1, vocabulary]`, and those of the `count` most
    /// likely tokens, unordered.
    fn of(device: Device, logits: &Array, token: &Array, count: usize) -> Result<Self> {
        let count = i32::try_from(count).unwrap_or(i32::MAX).min(logits.dim(-1));
        let [chosen, ids, values] = log_probabilities(device, logits, token, count)?;
        Ok(Self { chosen, top: (count > 0).then_some((ids, values)) })
    }
}

impl Choice {
    /// What is to be computed.
    pub fn outputs(&self) -> impl Iterator<Item = &Array> {
        let logprobs = self.logprobs.iter().flat_map(|logprobs| {
            let top = logprobs.top.iter().flat_map(|(ids, values)| [ids, values]);
            std::iter::once(&logprobs.chosen).chain(top)
        });
        [&self.token, &self.largest_logit].into_iter().chain(&self.surprise).chain(logprobs)
    }

    /// What was chosen. Waits for it.
    pub fn read(&self) -> Result<ReadChoice> {
        let token = mlx::item_u32(&self.token)?;
        let (mut logprob, mut top) = (None, Vec::new());
        if let Some(logprobs) = &self.logprobs {
            if let Some((ids, values)) = &logprobs.top {
                top = mlx::to_u32_vec(ids)?.into_iter().zip(mlx::to_f32_vec(values)?).collect();
                top.sort_by(|a: &(u32, f32), b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
                // What a mask leaves out cannot come, however few remain.
                top.retain(|&(_, value)| value > f32::NEG_INFINITY);
            }
            logprob = Some(mlx::item_f32(&logprobs.chosen)?);
        }
        Ok(ReadChoice {
            output: TokenOutput { token, logprob, top },
            largest_logit: mlx::item_f32(&self.largest_logit)?,
            surprise: self.surprise.as_ref().map(mlx::item_f32).transpose()?,
        })
    }
}
