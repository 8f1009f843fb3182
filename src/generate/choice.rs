//! A token that is chosen on the device, and what is read of it on the host.

use std::cell::OnceCell;
use std::rc::Rc;

use super::dry::Dry;
use super::processors::Processors;
use super::sampler::Sampler;
use crate::error::{Error, Result};
use crate::fused::Device;
use crate::fused::sampling::{DrawnTokens, RowDraw, draw_tokens, log_probabilities};
use crate::mlx::{self, Array, ops};

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

/// Tokens that were drawn together, and may not be computed yet.
#[derive(Debug)]
pub(super) struct Drawn {
    all: DrawnTokens,
    /// Once they were read.
    read: OnceCell<Vec<(u32, f32)>>,
}

impl Drawn {
    fn new(all: DrawnTokens) -> Rc<Self> {
        Rc::new(Self { all, read: OnceCell::new() })
    }

    /// The tokens of all `choices`, `[choices]`, if they are those of one draw in its order.
    pub fn of_all<'a>(mut choices: impl Iterator<Item = Option<&'a Choice>>) -> Option<Array> {
        let first = choices.next()??;
        let drawn = &first.drawn;
        let mut count = 1;
        for choice in choices {
            let choice = choice?;
            if !Rc::ptr_eq(&choice.drawn, drawn) || choice.row != count {
                return None;
            }
            count += 1;
        }
        (first.row == 0 && drawn.all.tokens.dim(0) == count).then(|| drawn.all.tokens.clone())
    }

    /// The token of row number `row`, and what is said of its logits. Waits for it.
    fn read(&self, row: i32) -> Result<(u32, f32)> {
        let all = match self.read.get() {
            Some(all) => all,
            None => {
                let all = self.all.read()?;
                self.read.get_or_init(|| all)
            }
        };
        let row = all.get(row as usize);
        row.copied().ok_or_else(|| Error::Mlx("a row without a drawn token".to_owned()))
    }
}

/// A token that may not be computed yet.
#[derive(Debug, Clone)]
pub(super) struct Choice {
    drawn: Rc<Drawn>,
    /// Which of them it is.
    row: i32,
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

#[derive(Debug, Clone)]
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

    /// How token number `index` of a sequence is drawn, if nothing changes its logits and nothing
    /// else is to be known of it.
    pub fn plain_row(&self, index: u64) -> Option<RowDraw<'_>> {
        let is_plain = self.processors.is_empty() && self.dry.is_none() && self.logprobs.is_none();
        if is_plain { self.sampler.row(index) } else { None }
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
        let (drawn, surprise) = self.sampler.draw(&logits, index)?;
        let token = &drawn.tokens;
        self.processors.push(token)?;
        let logprobs = self.logprobs.map(|count| Logprobs::of(self.device, &logits, token, count));
        let logprobs = logprobs.transpose()?;
        Ok(Choice { drawn: Drawn::new(drawn), row: 0, surprise, logprobs })
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
    /// The choices of all `rows`, by logits `[rows, vocabulary]`.
    pub fn together(device: Device, logits: &Array, rows: &[RowDraw]) -> Result<Vec<Self>> {
        let drawn = Drawn::new(draw_tokens(device, logits, rows)?);
        let choice = |row| Self { drawn: Rc::clone(&drawn), row, surprise: None, logprobs: None };
        Ok((0..rows.len() as i32).map(choice).collect())
    }

    /// Its token, `[1]`, `uint32`.
    pub fn token(&self) -> Result<Array> {
        match self.drawn.all.tokens.dim(0) {
            1 => Ok(self.drawn.all.tokens.clone()),
            _ => ops::slice_axis(&self.drawn.all.tokens, 0, self.row, self.row + 1),
        }
    }

    /// What is to be computed.
    pub fn outputs(&self) -> impl Iterator<Item = &Array> {
        let logprobs = self.logprobs.iter().flat_map(|logprobs| {
            let top = logprobs.top.iter().flat_map(|(ids, values)| [ids, values]);
            std::iter::once(&logprobs.chosen).chain(top)
        });
        let all = &self.drawn.all;
        std::iter::once(&all.tokens).chain(&all.told).chain(&self.surprise).chain(logprobs)
    }

    /// What was chosen. Waits for it.
    pub fn read(&self) -> Result<ReadChoice> {
        let (token, largest_logit) = self.drawn.read(self.row)?;
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
            largest_logit,
            surprise: self.surprise.as_ref().map(mlx::item_f32).transpose()?,
        })
    }
}
