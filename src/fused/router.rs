//! Routing: which experts a token is sent to, and how they are weighted.

use super::cpu;
use super::cuda;
use super::device::{Backend, Device};
use super::math::{scaled, soft_cap, softplus};
use crate::error::Result;
use crate::mlx::{Array, Dtype, ops, scalar};

/// How experts are chosen and weighted.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Routing {
    /// The largest logits are taken; soft-max over them.
    TopThenSoftmax,
    /// The largest logits are taken, with the correction added; weights are the logistic functions
    /// of those without it (Aleph Alpha 2026, "Kolibri").
    TopThenSigmoid {
        /// Whether the weights are divided by their sum.
        normalize: bool,
    },
    /// The largest logit is taken; its logistic function multiplies what the expert sees, not what
    /// it gives (Meta 2025, "Llama 4").
    SigmoidOfInput,
    /// A score of each expert. Taken are those that are largest with a correction added
    /// (`e_score_correction_bias`, which balances the load; Wang et al. 2024), within the best
    /// groups; weights are without it.
    ScoresThenTop {
        /// How logits become scores.
        score: Score,
        /// The groups that the choice is limited to; `None` for all experts.
        groups: Option<ExpertGroups>,
        /// Whether the weights of those taken are divided by their sum.
        normalize: bool,
        /// Multiplies the weights.
        scale: f32,
    },
    /// The largest logit is taken, and then the largest of the others. The weight of each is that
    /// of a soft-max over the logits that are not taken yet, but for those far below it: whose
    /// distance, in shares of the larger of the two, is more than twice this (Liu et al. 2023,
    /// "SparseMixer").
    SparseMixer(f32),
}

/// How a router's logits become scores.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Score {
    /// Soft-max over all experts.
    Softmax,
    /// The logistic function of each.
    Sigmoid,
    /// √log(1 + eˣ) of each.
    SqrtSoftplus,
}

impl Routing {
    /// Soft-max over all experts; the largest are taken, and with `normalize` they sum up to 1.
    pub const fn softmax(normalize: bool) -> Self {
        Self::ScoresThenTop { score: Score::Softmax, groups: None, normalize, scale: 1.0 }
    }
}

/// Neighbouring experts of one group, of which the best are kept (DeepSeek-AI 2024, "DeepSeek-V3").
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExpertGroups {
    /// How many there are; divides the number of experts into groups of at least `judged_by`.
    pub count: i32,
    /// How many are kept for each token.
    pub kept: i32,
    /// A group is as good as so many of its best experts together.
    pub judged_by: i32,
}

/// A router's choices.
#[derive(Debug)]
pub struct RouterParams {
    /// Number of experts.
    pub experts: i32,
    /// Experts that a token is sent to.
    pub active: i32,
    /// How they are chosen and weighted.
    pub routing: Routing,
    /// `[experts]`, `f32`: added for the choice only.
    pub correction: Option<Array>,
    /// Multiplies the logits.
    pub logit_scale: f32,
    /// Bounds the logits, c · tanh(x / c).
    pub logit_cap: Option<f32>,
}

/// The experts that `logits`, `[batch, length, experts]`, choose, and their weights,
/// `[batch, length, active]` each.
pub fn route_top_k(device: Device, logits: &Array, params: &RouterParams) -> Result<[Array; 2]> {
    if params.logit_scale != 1.0 {
        let logits = scaled(&ops::astype(logits, Dtype::Float32)?, params.logit_scale)?;
        let correction = params.correction.clone();
        return route_top_k(
            device,
            &logits,
            &RouterParams { correction, logit_scale: 1.0, ..*params },
        );
    }
    if device.cuda().is_some()
        && let Some(chosen) = cuda::router::route_top_k(logits, params)?
    {
        return Ok(chosen);
    }
    match (device.backend(logits), cpu::experts::top_k(params)) {
        (Backend::Cpu(options), Some(top_k)) => {
            cpu::experts::route_top_k(options, logits, params.correction.as_ref(), top_k)
        }
        _ => route_top_k_plain(logits, params),
    }
}

/// [`route_top_k`], composed.
pub fn route_top_k_plain(logits: &Array, params: &RouterParams) -> Result<[Array; 2]> {
    let capped = match params.logit_cap {
        Some(cap) => Some(soft_cap(&ops::astype(logits, Dtype::Float32)?, cap)?),
        None => None,
    };
    let logits = capped.as_ref().unwrap_or(logits);
    match params.routing {
        Routing::TopThenSoftmax => {
            let chosen = top(logits, params)?;
            let scores = ops::softmax(&ops::take_along(logits, &chosen, -1)?, -1, true)?;
            Ok([chosen, scores])
        }
        Routing::TopThenSigmoid { normalize } => {
            let logits = ops::astype(logits, Dtype::Float32)?;
            let chosen = match &params.correction {
                Some(correction) => top(&ops::add(&logits, correction)?, params)?,
                None => top(&logits, params)?,
            };
            let scores = ops::sigmoid(&ops::take_along(&logits, &chosen, -1)?)?;
            Ok([chosen, if normalize { normalized(&scores)? } else { scores }])
        }
        Routing::SigmoidOfInput => {
            let chosen = top(logits, params)?;
            let scores = ops::take_along(logits, &chosen, -1)?;
            Ok([chosen, ops::sigmoid(&ops::astype(&scores, Dtype::Float32)?)?])
        }
        Routing::ScoresThenTop { score, groups, normalize, scale } => {
            let scores = match score {
                Score::Softmax => ops::softmax(&ops::astype(logits, Dtype::Float32)?, -1, true)?,
                Score::Sigmoid => ops::sigmoid(&ops::astype(logits, Dtype::Float32)?)?,
                Score::SqrtSoftplus => {
                    ops::sqrt(&softplus(&ops::astype(logits, Dtype::Float32)?)?)?
                }
            };
            let mut corrected = match &params.correction {
                Some(correction) => ops::add(&scores, correction)?,
                None => scores.clone(),
            };
            if let Some(groups) = groups {
                corrected = groups.limit(&corrected)?;
            }
            let chosen = top(&corrected, params)?;
            let mut scores = ops::take_along(&scores, &chosen, -1)?;
            if normalize {
                scores = normalized(&scores)?;
            }
            Ok([chosen, if scale == 1.0 { scores } else { scaled(&scores, scale)? }])
        }
        Routing::SparseMixer(jitter) => sparse_mixer(logits, params, jitter),
    }
}

/// [`Routing::SparseMixer`].
fn sparse_mixer(logits: &Array, params: &RouterParams, jitter: f32) -> Result<[Array; 2]> {
    let logits = ops::astype(logits, Dtype::Float32)?;
    let (lowest, bound) = (scalar(f32::NEG_INFINITY), scalar(2.0 * jitter));
    let (mut rest, mut chosen, mut scores) = (logits.clone(), Vec::new(), Vec::new());
    for _ in 0..params.active {
        let best = ops::expand_dims(&ops::argmax(&rest, -1)?, -1)?;
        let largest = ops::take_along(&rest, &best, -1)?;
        let magnitude = ops::maximum(&logits, &ops::negative(&logits)?)?;
        let distance = ops::subtract(&largest, &logits)?;
        let share = ops::divide(&distance, &ops::maximum(&magnitude, &largest)?)?;
        let near = ops::select(&ops::less(&bound, &share)?, &lowest, &rest)?;
        scores.push(ops::take_along(&ops::softmax(&near, -1, true)?, &best, -1)?);
        rest = ops::put_along(&rest, &best, &lowest, -1)?;
        chosen.push(best);
    }
    let join = |parts: &[Array]| ops::concatenate(&parts.iter().collect::<Vec<_>>(), -1);
    Ok([join(&chosen)?, join(&scores)?])
}

/// The experts with the largest scores, in no order.
fn top(scores: &Array, params: &RouterParams) -> Result<Array> {
    let RouterParams { active, experts, .. } = *params;
    let order = ops::argpartition(&ops::negative(scores)?, active - 1, -1)?;
    if active < experts { ops::slice_axis(&order, order.ndim() - 1, 0, active) } else { Ok(order) }
}

/// Scores divided by their sum.
fn normalized(scores: &Array) -> Result<Array> {
    ops::divide(scores, &ops::sum(scores, -1)?)
}

impl ExpertGroups {
    /// `[batch, length, experts]` with −∞ for the experts of groups that are not kept.
    fn limit(self, scores: &Array) -> Result<Array> {
        let Self { count, kept, judged_by } = self;
        if kept >= count {
            return Ok(scores.clone());
        }
        let (batch, length, experts) = (scores.dim(0), scores.dim(1), scores.dim(2));
        let size = experts / count;
        let grouped = ops::reshape(scores, &[batch, length, count, size])?;
        let best = ops::slice_axis(&ops::sort(&grouped, -1)?, 3, size - judged_by, size)?;
        let worst = ops::argpartition(&ops::sum(&best, -1)?, count - kept - 1, -2)?;
        let worst = ops::slice_axis(&worst, 2, 0, count - kept)?;
        let limited = ops::put_along(&grouped, &worst, &scalar(f32::NEG_INFINITY), -2)?;
        ops::reshape(&limited, &[batch, length, experts])
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::mlx::{DeviceKind, enter, from_f32, to_f32_vec, to_u32_vec};

    #[test]
    fn a_correction_is_of_logits_or_of_their_scores() {
        enter(DeviceKind::Cpu).unwrap();
        // The logistic functions of both logits are nearly 1, so that a correction of scores
        // decides, and one of logits does not.
        let logits = from_f32(&[5.0, 4.0], &[1, 1, 2]);
        let chosen_by = |routing| {
            let correction = Some(from_f32(&[0.0, 0.5], &[2]));
            let (logit_scale, logit_cap) = (1.0, None);
            let params =
                RouterParams { experts: 2, active: 1, routing, correction, logit_scale, logit_cap };
            let device = Device::default();
            let [chosen, weights] = route_top_k(device, &logits, &params).unwrap();
            (to_u32_vec(&chosen).unwrap()[0], to_f32_vec(&weights).unwrap()[0])
        };
        let (chosen, weight) = chosen_by(Routing::TopThenSigmoid { normalize: false });
        assert_eq!(chosen, 0);
        assert!((weight - 1.0 / (1.0 + (-5.0_f32).exp())).abs() < 1e-6, "{weight}");
        assert_eq!(chosen_by(Routing::TopThenSigmoid { normalize: true }), (0, 1.0));
        let (score, groups, normalize, scale) = (Score::Sigmoid, None, false, 1.0);
        let of_scores = Routing::ScoresThenTop { score, groups, normalize, scale };
        assert_eq!(chosen_by(of_scores).0, 1);
    }
}
