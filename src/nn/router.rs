//! The router of a mixture of experts: which experts a token is sent to, and how they are weighted.

use super::decoder::scaled;
use super::linear::Linear;
use super::moe::MoeConfig;
use crate::error::Result;
use crate::mlx::fast::{self, Choice, Scoring};
use crate::mlx::{Array, Dtype, ops, scalar};
use crate::weights::Weights;

/// How experts are chosen and weighted.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Routing {
    /// Soft-max over all experts; the largest are taken, and with `normalize` they sum up to 1.
    SoftmaxThenTop {
        /// Whether the weights of those taken are divided by their sum.
        normalize: bool,
    },
    /// The largest logits are taken; soft-max over them.
    TopThenSoftmax,
    /// The largest logit is taken; its logistic function multiplies what the expert sees, not what it
    /// gives (Meta 2025, "Llama 4").
    SigmoidOfInput,
    /// The logistic function of each logit. Taken are those that are largest with a correction added
    /// (`e_score_correction_bias`, which balances the load; Wang et al. 2024), within the best groups;
    /// weights are without it.
    SigmoidThenTop {
        /// The groups that the choice is limited to; `None` for all experts.
        groups: Option<ExpertGroups>,
        /// Whether the weights of those taken are divided by their sum.
        normalize: bool,
        /// Multiplies the weights.
        scale: f32,
    },
}

/// Neighbouring experts of one group, of which the best are kept (DeepSeek-AI 2024, "DeepSeek-V3"): a
/// group is as good as its two best experts together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExpertGroups {
    /// How many there are; divides the number of experts into groups of at least 2.
    pub count: i32,
    /// How many are kept for each token.
    pub kept: i32,
}

/// Scores every expert for a token.
#[derive(Debug)]
pub struct Router {
    linear: Linear,
    /// `[experts]`, `f32`.
    correction: Option<Array>,
    config: MoeConfig,
}

impl Router {
    /// Takes `weight` `[experts, dims]`, with `bias` also `bias`, and where the routing asks for it
    /// `e_score_correction_bias`.
    pub fn new(w: &Weights, config: MoeConfig, bias: bool) -> Result<Self> {
        let linear = Linear::new(w, config.dims, config.experts, bias)?;
        let correction = match config.routing {
            Routing::SigmoidThenTop { .. } => {
                Some(w.take_f32("e_score_correction_bias", &[config.experts])?)
            }
            _ => None,
        };
        Ok(Self { linear, correction, config })
    }

    /// Whether its weights are for what the experts see, and not for what they give.
    pub(super) fn weighs_inputs(&self) -> bool {
        self.config.routing == Routing::SigmoidOfInput
    }

    /// Input features.
    pub(super) fn dims(&self) -> i32 {
        self.config.dims
    }

    /// `[batch, length, dims]` to the chosen experts of each token and their weights,
    /// `[batch, length, active]`.
    pub(super) fn forward(&self, x: &Array) -> Result<(Array, Array)> {
        let logits = self.linear.forward(x)?;
        if let Some(choice) = self.choice()
            && let Some([chosen, weights]) =
                fast::choose_experts(&logits, self.correction.as_ref(), choice)?
        {
            return Ok((chosen, weights));
        }
        match self.config.routing {
            Routing::SoftmaxThenTop { normalize } => {
                let scores = ops::softmax(&logits, -1, true)?;
                let chosen = self.top(&scores)?;
                let scores = ops::take_along(&scores, &chosen, -1)?;
                Ok((chosen, if normalize { normalized(&scores)? } else { scores }))
            }
            Routing::TopThenSoftmax => {
                let chosen = self.top(&logits)?;
                let scores = ops::softmax(&ops::take_along(&logits, &chosen, -1)?, -1, true)?;
                Ok((chosen, scores))
            }
            Routing::SigmoidOfInput => {
                let chosen = self.top(&logits)?;
                let scores = ops::astype(&ops::take_along(&logits, &chosen, -1)?, Dtype::Float32)?;
                Ok((chosen, ops::astype(&ops::sigmoid(&scores)?, x.dtype())?))
            }
            Routing::SigmoidThenTop { groups, normalize, scale } => {
                let scores = ops::sigmoid(&ops::astype(&logits, Dtype::Float32)?)?;
                let mut corrected = match &self.correction {
                    Some(correction) => ops::add(&scores, correction)?,
                    None => scores.clone(),
                };
                if let Some(groups) = groups {
                    corrected = groups.limit(&corrected)?;
                }
                let chosen = self.top(&corrected)?;
                let mut scores = ops::take_along(&scores, &chosen, -1)?;
                if normalize && self.config.active > 1 {
                    scores = normalized(&scores)?;
                }
                Ok((chosen, if scale == 1.0 { scores } else { scaled(&scores, scale)? }))
            }
        }
    }

    /// What the fused kernel is told; `None` for what it does not do.
    fn choice(&self) -> Option<Choice> {
        let MoeConfig { active, experts, routing, .. } = self.config;
        if !(1..=experts).contains(&active) {
            return None;
        }
        let active = active as usize;
        let of = |scoring, normalize, scale| Some(Choice { active, scoring, normalize, scale });
        match routing {
            Routing::SoftmaxThenTop { normalize } => of(Scoring::Softmax, normalize, 1.0),
            Routing::TopThenSoftmax => of(Scoring::SoftmaxOfChosen, false, 1.0),
            Routing::SigmoidThenTop { groups: None, normalize, scale } => {
                of(Scoring::Sigmoid, normalize && active > 1, scale)
            }
            Routing::SigmoidThenTop { groups: Some(_), .. } | Routing::SigmoidOfInput => None,
        }
    }

    /// The experts with the largest scores, in no order.
    fn top(&self, scores: &Array) -> Result<Array> {
        let MoeConfig { active, experts, .. } = self.config;
        let order = ops::argpartition(&ops::negative(scores)?, active - 1, -1)?;
        if active < experts {
            ops::slice_axis(&order, order.ndim() - 1, 0, active)
        } else {
            Ok(order)
        }
    }
}

/// Scores divided by their sum.
fn normalized(scores: &Array) -> Result<Array> {
    ops::divide(scores, &ops::sum(scores, -1)?)
}

impl ExpertGroups {
    /// `[batch, length, experts]` with −∞ for the experts of groups that are not kept.
    fn limit(self, scores: &Array) -> Result<Array> {
        let Self { count, kept } = self;
        if kept >= count {
            return Ok(scores.clone());
        }
        let (batch, length, experts) = (scores.dim(0), scores.dim(1), scores.dim(2));
        let size = experts / count;
        let grouped = ops::reshape(scores, &[batch, length, count, size])?;
        let best = ops::slice_axis(&ops::sort(&grouped, -1)?, 3, size - 2, size)?;
        let worst = ops::argpartition(&ops::sum(&best, -1)?, count - kept - 1, -2)?;
        let worst = ops::slice_axis(&worst, 2, 0, count - kept)?;
        let limited = ops::put_along(&grouped, &worst, &scalar(f32::NEG_INFINITY), -2)?;
        ops::reshape(&limited, &[batch, length, experts])
    }
}
