//! The router of a mixture of experts: which experts a token is sent to, and how they are weighted.

use super::linear::Linear;
use super::moe_config::MoeConfig;
use crate::error::Result;
use crate::fused::Device;
use crate::fused::linear::LinearWeights;
pub use crate::fused::router::{ExpertGroups, Routing, Score};
use crate::fused::router::{RouterParams, route_top_k};
use crate::mlx::Array;
use crate::weights::Weights;

/// Scores every expert for a token.
#[derive(Debug)]
pub struct Router {
    linear: Linear,
    params: RouterParams,
    dims: i32,
    device: Device,
}

impl Router {
    /// Takes `weight` `[experts, dims]`, and with `bias` also `bias`.
    pub fn new(w: &Weights, config: MoeConfig, bias: bool) -> Result<Self> {
        let MoeConfig { dims, experts, active, routing, .. } = config;
        let linear = Linear::new(w, dims, experts, bias)?;
        let (correction, logit_scale, logit_cap) = (None, 1.0, None);
        let params = RouterParams { experts, active, routing, correction, logit_scale, logit_cap };
        Ok(Self { linear, params, dims, device: w.device() })
    }

    /// The same that adds a correction, `[experts]` in `f32`, to the scores where it chooses.
    pub fn with_correction(mut self, correction: Array) -> Self {
        self.params.correction = Some(correction);
        self
    }

    /// The same whose logits are multiplied.
    pub fn with_logit_scale(mut self, factor: f32) -> Self {
        self.params.logit_scale = factor;
        self
    }

    /// The same that bounds its logits.
    pub fn with_logit_cap(mut self, cap: f32) -> Self {
        self.params.logit_cap = Some(cap);
        self
    }

    /// Whether its weights are for what the experts see, and not for what they give.
    pub(super) fn weighs_inputs(&self) -> bool {
        self.params.routing == Routing::SigmoidOfInput
    }

    /// Input features.
    pub(super) fn dims(&self) -> i32 {
        self.dims
    }

    /// What it runs with.
    pub(super) fn device(&self) -> Device {
        self.device
    }

    /// What scores, and how the scores choose.
    pub(super) fn parts(&self) -> (&LinearWeights, &RouterParams) {
        (self.linear.weights(), &self.params)
    }

    /// `[batch, length, dims]` to the chosen experts of each token and their weights,
    /// `[batch, length, active]`.
    pub(super) fn forward(&self, x: &Array) -> Result<[Array; 2]> {
        route_top_k(self.device, &self.linear.forward(x)?, &self.params)
    }
}
