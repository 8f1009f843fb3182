//! From logits to a token: penalties, filters in the order and with the formulas of mlx-lm's
//! `sample_utils.py` (top-p, min-p, XTC, top-k, and the temperature last), behind top-nσ and
//! typical sampling, which it does not have, and the draw.

use std::cell::OnceCell;
use std::sync::Arc;

use super::device::{Backend, Device};
use super::{cpu, cuda};
pub use crate::cpu::sampling::{COLDEST, Penalties, SamplingOptions, WHOLE_ANSWER};
use crate::error::{Error, Result};
use crate::mlx::{Array, Dtype, from_f32, from_u32, ops, queued_elements, random, scalar};

/// The random numbers of one token: they depend on the sequence's seed and the token's number
/// alone.
#[derive(Debug, Clone, Copy)]
pub struct Draw {
    /// Of the sequence.
    pub seed: u64,
    /// The number of the token in its sequence.
    pub index: u64,
}

impl Draw {
    /// The numbers of the two draws: one for the token, one for XTC.
    pub(super) fn numbers(self) -> [u64; 2] {
        [2 * self.index, 2 * self.index + 1]
    }
}

/// Options of an answer, and what a card's kernel reads of them.
#[derive(Debug, Clone)]
pub struct Sampling {
    /// The filters and the temperature.
    pub options: SamplingOptions,
    settings: OnceCell<Option<Array>>,
}

impl Sampling {
    /// With these options.
    pub fn new(options: SamplingOptions) -> Self {
        Self { options, settings: OnceCell::new() }
    }

    /// See [`cuda::sampling::settings`].
    pub(super) fn settings(&self) -> Option<&Array> {
        self.settings.get_or_init(|| cuda::sampling::settings(&self.options)).as_ref()
    }
}

/// How a token is drawn from a row of logits.
#[derive(Debug, Clone, Copy)]
pub struct RowDraw<'a> {
    /// The filters and the temperature.
    pub sampling: &'a Sampling,
    /// The random numbers.
    pub draw: Draw,
}

/// Tokens that were drawn from rows of logits.
#[derive(Debug)]
pub struct DrawnTokens {
    /// `[rows]`, `uint32`.
    pub tokens: Array,
    /// What the host reads of them: of all rows what [`largest_logit`] says of their logits,
    /// `[rows]`; or, from a card, whose memory is far, for each row an array `[2]`, `uint32`, of its
    /// token and the bits of that number.
    pub told: Vec<Array>,
}

impl DrawnTokens {
    /// The tokens, and what [`largest_logit`] says of their rows. Waits for them, and for nothing
    /// that was queued behind them.
    pub fn read(&self) -> Result<Vec<(u32, f32)>> {
        match &*self.told {
            [largest] if largest.dtype() == Dtype::Float32 => {
                let tokens = queued_elements::<u32>(&self.tokens)?;
                Ok(tokens.into_iter().zip(queued_elements::<f32>(largest)?).collect())
            }
            told => told
                .iter()
                .map(|row| match queued_elements::<u32>(row)?[..] {
                    [token, largest] => Ok((token, f32::from_bits(largest))),
                    _ => Err(Error::Mlx("a drawn token is not two numbers".to_owned())),
                })
                .collect(),
        }
    }
}

/// Draws a token from each of the `rows` of logits, `[rows, vocabulary]`, which need not be
/// normalized.
pub fn draw_tokens(device: Device, logits: &Array, rows: &[RowDraw]) -> Result<DrawnTokens> {
    if device.cuda().is_some()
        && let Some(drawn) = cuda::sampling::draw(logits, rows)?
    {
        return Ok(drawn);
    }
    match device.backend(logits) {
        Backend::Cpu(node) => {
            let [tokens, largest] = cpu::sampling::draw(node, logits, rows)?;
            Ok(DrawnTokens { tokens, told: vec![largest] })
        }
        Backend::Mlx | Backend::Plain => draw_tokens_plain(logits, rows),
    }
}

/// [`draw_tokens`], composed.
pub fn draw_tokens_plain(logits: &Array, rows: &[RowDraw]) -> Result<DrawnTokens> {
    let tokens = match rows {
        [row] => sample_plain(logits, row)?,
        _ if rows.iter().all(|row| row.sampling.options.temperature == 0.0) => {
            ops::argmax(logits, -1)?
        }
        _ => {
            let token = |(at, row): (i32, &RowDraw)| {
                sample_plain(&ops::slice_axis(logits, 0, at, at + 1)?, row)
            };
            let tokens = (0..).zip(rows).map(token).collect::<Result<Vec<_>>>()?;
            ops::concatenate(&tokens.iter().collect::<Vec<_>>(), 0)?
        }
    };
    Ok(DrawnTokens { tokens, told: vec![largest_logit_plain(logits)?] })
}

/// A token drawn from logits `[1, vocabulary]`: `[1]`.
fn sample_plain(logits: &Array, row: &RowDraw) -> Result<Array> {
    let RowDraw { sampling: Sampling { options, .. }, draw } = *row;
    if options.temperature == 0.0 {
        return ops::argmax(logits, -1);
    }
    let [token, xtc] = draw.numbers().map(|number| random::key(draw.seed, number));
    let filtered = filter(&log_softmax(logits)?, options, |probability| {
        ops::greater(&random::uniform(&xtc)?, &scalar(probability))
    })?;
    let scaled = ops::divide(&filtered, &temperature(&filtered, options)?)?;
    random::categorical(&scaled, -1, &token)
}

/// The temperature for filtered log-probabilities; see
/// [`crate::cpu::sampling::dynamic_temperature`].
pub fn temperature(filtered: &Array, options: &SamplingOptions) -> Result<Array> {
    let SamplingOptions { temperature, dynamic_temperature_range: range, .. } = *options;
    if range == 0.0 {
        return Ok(scalar(temperature));
    }
    let logprobs = log_softmax(filtered)?;
    let probs = ops::exp(&logprobs)?;
    let is_possible = ops::greater(&probs, &scalar(0.0))?;
    let count = ops::sum(&ops::astype(&is_possible, Dtype::Float32)?, -1)?;
    let (low, high) = ((temperature - range).max(0.0), temperature + range);
    // 0 to the power of the exponent is e to the power of −∞.
    let part = ops::divide(&entropy(&logprobs, &probs)?, &ops::log(&count)?)?;
    let part = ops::minimum(&ops::maximum(&part, &scalar(0.0))?, &scalar(1.0))?;
    let exponent = scalar(options.dynamic_temperature_exponent);
    let part = ops::exp(&ops::multiply(&ops::log(&part)?, &exponent)?)?;
    let dynamic = ops::add(&scalar(low), &ops::multiply(&scalar(high - low), &part)?)?;
    let dynamic = ops::maximum(&dynamic, &scalar(COLDEST))?;
    ops::select(&ops::greater(&count, &scalar(1.0))?, &dynamic, &scalar(temperature))
}

/// H = −Σ p·ln p.
fn entropy(logprobs: &Array, probs: &Array) -> Result<Array> {
    let is_possible = ops::greater(probs, &scalar(0.0))?;
    let surprise = ops::select(&is_possible, &ops::negative(logprobs)?, &scalar(0.0))?;
    ops::sum(&ops::multiply(probs, &surprise)?, -1)
}

/// Draws a token by mirostat 2 (Basu et al. 2021, "Mirostat: A Neural Text Decoding Algorithm that
/// Directly Controls Perplexity", algorithm 2; llama.cpp's `mirostat_v2`): of the tokens whose
/// surprise −log₂ p is not above `most_surprise`, or of the likeliest if there are none. The token,
/// `[1]`, and its surprise among them, `[1, 1]`, by which the next limit is found.
pub fn sample_by_surprise(
    logits: &Array,
    temperature: f32,
    most_surprise: f32,
    draw: Draw,
) -> Result<[Array; 2]> {
    let [token, _] = draw.numbers().map(|number| random::key(draw.seed, number));
    let scaled = ops::divide(&ops::astype(logits, Dtype::Float32)?, &scalar(temperature))?;
    let logprobs = log_softmax(&scaled)?;
    let least = scalar(-most_surprise * std::f32::consts::LN_2);
    let least = ops::minimum(&least, &ops::max(&logprobs, -1)?)?;
    let kept = log_softmax(&without(&logprobs, &ops::less(&logprobs, &least)?)?)?;
    let token = random::categorical(&kept, -1, &token)?;
    let logprob = ops::take_along(&kept, &ops::reshape(&token, &[1, 1])?, -1)?;
    let surprise = ops::multiply(&logprob, &scalar(-std::f32::consts::LN_2.recip()))?;
    Ok([token, surprise])
}

/// Log-probabilities with −∞ for the tokens that the options leave out. `skip_xtc` draws, for the
/// chance of XTC, whether it is skipped.
pub fn filter(
    logprobs: &Array,
    options: &SamplingOptions,
    skip_xtc: impl FnOnce(f32) -> Result<Array>,
) -> Result<Array> {
    let mut logprobs = logprobs.clone();
    if options.top_n_sigma > 0.0 {
        logprobs = top_n_sigma(&logprobs, options.top_n_sigma)?;
    }
    if options.typical_p < 1.0 {
        logprobs = typical(&logprobs, options.typical_p)?;
    }
    if options.top_p > 0.0 && options.top_p < 1.0 {
        logprobs = top_p(&logprobs, options.top_p)?;
    }
    if options.min_p > 0.0 {
        logprobs = min_p(&logprobs, options.min_p, options.min_tokens_to_keep)?;
    }
    if options.xtc_probability > 0.0 {
        let cut = xtc(&logprobs, options.xtc_threshold, &options.xtc_special_tokens)?;
        logprobs = ops::select(&skip_xtc(options.xtc_probability)?, &logprobs, &cut)?;
    }
    if options.top_k > 0 && options.top_k < logprobs.dim(-1).unsigned_abs() {
        logprobs = top_k(&logprobs, options.top_k)?;
    }
    Ok(logprobs)
}

fn without(logprobs: &Array, removed: &Array) -> Result<Array> {
    let nothing = ops::astype(&scalar(f32::NEG_INFINITY), logprobs.dtype())?;
    ops::select(removed, &nothing, logprobs)
}

/// Top-nσ; see [`crate::cpu::sampling::Logits::near_the_largest`].
fn top_n_sigma(logprobs: &Array, n: f32) -> Result<Array> {
    let is_possible = ops::greater(logprobs, &scalar(f32::NEG_INFINITY))?;
    let count = ops::sum(&ops::astype(&is_possible, Dtype::Float32)?, -1)?;
    let mean_of = |values: &Array| {
        let sum = ops::sum(&ops::select(&is_possible, values, &scalar(0.0))?, -1)?;
        ops::divide(&sum, &count)
    };
    let mean = mean_of(logprobs)?;
    let variance = mean_of(&ops::square(&ops::subtract(logprobs, &mean)?)?)?;
    let below = ops::multiply(&ops::sqrt(&variance)?, &scalar(n))?;
    let threshold = ops::subtract(&ops::max(logprobs, -1)?, &below)?;
    log_softmax(&without(logprobs, &ops::less(logprobs, &threshold)?)?)
}

/// Typical sampling; see [`crate::cpu::sampling::Logits::typical`].
fn typical(logprobs: &Array, mass: f32) -> Result<Array> {
    let logprobs = log_softmax(logprobs)?;
    let probs = ops::exp(&logprobs)?;
    let surprise = ops::negative(&logprobs)?;
    let distance = ops::abs(&ops::subtract(&surprise, &entropy(&logprobs, &probs)?)?)?;
    let order = ops::argsort(&distance, -1)?;
    let up_to = ops::cumsum(&ops::take_along(&probs, &order, -1)?, -1, false, true)?;
    let before = ops::astype(&ops::less(&up_to, &scalar(mass))?, Dtype::Int32)?;
    // Rounding may keep the sum of all below what is wanted.
    let last = Array::from_slice(&[logprobs.dim(-1) - 1], &[1]);
    let place = ops::minimum(&ops::sum(&before, -1)?, &last)?;
    let farthest = ops::take_along(&ops::take_along(&distance, &order, -1)?, &place, -1)?;
    log_softmax(&without(&logprobs, &ops::greater(&distance, &farthest)?)?)
}

/// Nucleus sampling (Holtzman et al. 2020); tokens as likely as the last one kept stay too.
fn top_p(logprobs: &Array, p: f32) -> Result<Array> {
    let sorted = ops::sort(logprobs, -1)?;
    let probs = ops::exp(&ops::astype(&sorted, Dtype::Float32)?)?;
    let above = ops::cumsum(&probs, -1, true, false)?;
    // Floating-point sums of the whole distribution are not exactly 1.
    let first = |a: &Array| ops::slice_axis(a, 1, 0, 1);
    let total = ops::add(&first(&above)?, &first(&probs)?)?;
    let dropped = ops::greater_equal(&above, &ops::multiply(&total, &scalar(p))?)?;
    let dropped = ops::sum(&ops::astype(&dropped, Dtype::Int32)?, -1)?;
    let threshold = ops::take_along(&sorted, &dropped, -1)?;
    without(logprobs, &ops::less(logprobs, &threshold)?)
}

/// Min-p sampling (Nguyen et al. 2024).
fn min_p(logprobs: &Array, p: f32, keep: u32) -> Result<Array> {
    let threshold = ops::add(&ops::max(logprobs, -1)?, &scalar(p.ln()))?;
    let cut = without(logprobs, &ops::less(logprobs, &threshold)?)?;
    if keep <= 1 {
        return Ok(cut);
    }
    let best = top_indices(logprobs, keep)?;
    ops::put_along(&cut, &best, &ops::take_along(logprobs, &best, -1)?, -1)
}

/// The indices of the `count` most likely tokens of `[rows, vocabulary]`, unordered.
pub fn top_indices(logprobs: &Array, count: u32) -> Result<Array> {
    let count = i32::try_from(count).unwrap_or(i32::MAX).min(logprobs.dim(-1));
    let order = ops::argpartition(&ops::negative(logprobs)?, count - 1, -1)?;
    ops::slice_axis(&order, 1, 0, count)
}

/// Exclude top choices: of the tokens above the threshold only the least likely stays.
fn xtc(logprobs: &Array, threshold: f32, special: &[u32]) -> Result<Array> {
    let probs = ops::softmax(logprobs, -1, true)?;
    let above = ops::greater(&probs, &scalar(threshold))?;
    let least = ops::min(&ops::select(&above, &probs, &scalar(f32::INFINITY))?, -1)?;
    let cut = without(logprobs, &ops::greater(&probs, &least)?)?;
    if special.is_empty() {
        return Ok(cut);
    }
    let special = from_u32(special, &[1, special.len() as i32]);
    ops::put_along(&cut, &special, &ops::take_along(logprobs, &special, -1)?, -1)
}

fn top_k(logprobs: &Array, k: u32) -> Result<Array> {
    let vocabulary = logprobs.dim(-1);
    let k = k.min(vocabulary.unsigned_abs()) as i32;
    let order = ops::argpartition(&ops::negative(logprobs)?, k - 1, -1)?;
    let removed = ops::slice_axis(&order, 1, k, vocabulary)?;
    let nothing = ops::astype(&scalar(f32::NEG_INFINITY), logprobs.dtype())?;
    ops::put_along(logprobs, &removed, &nothing, -1)
}

/// The log-probabilities that logits stand for, in `f32`.
pub fn log_softmax(logits: &Array) -> Result<Array> {
    let logits = ops::astype(logits, Dtype::Float32)?;
    ops::subtract(&logits, &ops::logsumexp(&logits, -1)?)
}

/// What changes the logits before a token is drawn.
#[derive(Debug, Clone, Copy)]
pub struct PenaltyInputs<'a> {
    /// The penalties.
    pub penalties: &'a Arc<Penalties>,
    /// The tokens of the logit bias and its values, `[1, n]` each, if there is one.
    pub bias: Option<&'a (Array, Array)>,
    /// The last tokens, `[1, n]`, if a penalty looks at them.
    pub recent: Option<&'a Array>,
}

impl PenaltyInputs<'_> {
    /// The last `context` tokens, `[1, ≤ context]`; `None` where there are none.
    fn last(&self, context: usize) -> Result<Option<Array>> {
        let Some(recent) = self.recent.filter(|recent| recent.size() > 0) else {
            return Ok(None);
        };
        let length = recent.dim(1);
        let context = i32::try_from(context).unwrap_or(i32::MAX);
        if context == 0 {
            Ok(None)
        } else if context < length {
            ops::slice_axis(recent, 1, length - context, length).map(Some)
        } else {
            Ok(Some(recent.clone()))
        }
    }
}

/// Logits `[1, vocabulary]`, `f32`, with penalties in mlx-lm's order: logit bias, repetition,
/// presence, frequency.
pub fn penalize(device: Device, logits: &Array, inputs: &PenaltyInputs) -> Result<Array> {
    match device.backend(logits) {
        Backend::Cpu(options) => {
            cpu::sampling::penalize(options, logits, inputs.recent, inputs.penalties)
        }
        Backend::Mlx | Backend::Plain => penalize_plain(logits, inputs),
    }
}

/// [`penalize`], composed.
pub fn penalize_plain(logits: &Array, inputs: &PenaltyInputs) -> Result<Array> {
    let mut logits = logits.clone();
    if let Some((tokens, values)) = inputs.bias {
        logits = ops::scatter_add(&logits, tokens, values, -1)?;
    }
    let penalties = inputs.penalties;
    if penalties.repetition != 1.0
        && let Some(recent) = inputs.last(penalties.repetition_context)?
    {
        let seen = ops::take_along(&logits, &recent, -1)?;
        let penalty = scalar(penalties.repetition);
        let penalized = ops::select(
            &ops::less(&seen, &scalar(0.0))?,
            &ops::multiply(&seen, &penalty)?,
            &ops::divide(&seen, &penalty)?,
        )?;
        logits = ops::put_along(&logits, &recent, &penalized, -1)?;
    }
    if penalties.presence != 0.0
        && let Some(recent) = inputs.last(penalties.presence_context)?
    {
        let seen = ops::take_along(&logits, &recent, -1)?;
        let penalized = ops::subtract(&seen, &scalar(penalties.presence))?;
        logits = ops::put_along(&logits, &recent, &penalized, -1)?;
    }
    if penalties.frequency != 0.0
        && let Some(recent) = inputs.last(penalties.frequency_context)?
    {
        let minus = ops::broadcast_to(&scalar(-penalties.frequency), recent.shape())?;
        logits = ops::scatter_add(&logits, &recent, &minus, -1)?;
    }
    Ok(logits)
}

/// A number that is finite where logits `[…, vocabulary]` can be drawn from, `[…]`: NaN where any of
/// them is NaN, +∞ where any is, −∞ where all are.
pub fn largest_logit(device: Device, logits: &Array) -> Result<Array> {
    match device.backend(logits) {
        Backend::Cpu(options) => cpu::sampling::largest_logit(options, logits),
        Backend::Mlx | Backend::Plain => largest_logit_plain(logits),
    }
}

/// [`largest_logit`], composed: one operation, which is not the largest logit and tells the same.
pub fn largest_logit_plain(logits: &Array) -> Result<Array> {
    let sum = ops::logsumexp(&ops::astype(logits, Dtype::Float32)?, -1)?;
    ops::squeeze(&sum, -1)
}

/// The log-probability of `token` `[1]` by logits `[1, vocabulary]`, `[1]`, and the `count` most
/// likely tokens with theirs, `[count]` each, in no order.
pub fn log_probabilities(
    device: Device,
    logits: &Array,
    token: &Array,
    count: i32,
) -> Result<[Array; 3]> {
    match device.backend(logits) {
        Backend::Cpu(options) => cpu::sampling::log_probabilities(options, logits, token, count),
        Backend::Mlx | Backend::Plain => log_probabilities_plain(logits, token, count),
    }
}

/// [`log_probabilities`], composed.
pub fn log_probabilities_plain(logits: &Array, token: &Array, count: i32) -> Result<[Array; 3]> {
    let logprobs = log_softmax(logits)?;
    let chosen = ops::take_along(&logprobs, &ops::reshape(token, &[1, 1])?, -1)?;
    if count == 0 {
        return Ok([chosen, from_u32(&[], &[0]), from_f32(&[], &[0])]);
    }
    let ids = top_indices(&logprobs, count.unsigned_abs())?;
    let values = ops::take_along(&logprobs, &ids, -1)?;
    Ok([chosen, ids, values])
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::mlx::{DeviceKind, enter};

    #[test]
    fn rows_are_drawn_together_as_each_by_itself() {
        enter(DeviceKind::Cpu).unwrap();
        let values: Vec<f32> = (0..4 * 500).map(|i| (i as f32 * 0.7311).sin() * 4.0).collect();
        let logits = from_f32(&values, &[4, 500]);
        let warm = |top_k| SamplingOptions { top_k, ..SamplingOptions::default() };
        let greedy = SamplingOptions { temperature: 0.0, ..SamplingOptions::default() };
        let options = [greedy, warm(0), warm(20), warm(1)].map(Sampling::new);
        for device in [Device::default(), Device::default().plain()] {
            for all in [&options, &[7, 7, 9, 0].map(|top_k| Sampling::new(warm(top_k)))] {
                let row = |(index, sampling)| RowDraw { sampling, draw: Draw { seed: 3, index } };
                let rows: Vec<_> = (5..).zip(all).map(row).collect();
                let all = draw_tokens(device, &logits, &rows).unwrap().read().unwrap();
                for (at, row) in rows.iter().enumerate() {
                    let own = ops::slice_axis(&logits, 0, at as i32, at as i32 + 1).unwrap();
                    let alone = draw_tokens(device, &own, &[*row]).unwrap().read().unwrap();
                    assert_eq!(alone, [all[at]]);
                }
            }
        }
    }
}
