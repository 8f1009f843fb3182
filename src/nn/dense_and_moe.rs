//! Experts beside an MLP that sees every token, with norms of their own (Gemma 4).

use super::mlp::{FeedForward, Mlp};
use super::moe::{ExpertNames, Experts};
use super::moe_config::MoeConfig;
use super::norm::Norm;
use super::residual::Input;
use super::router::Router;
use crate::error::Result;
use crate::fused::math::scaled;
use crate::fused::norm::NormParams;
use crate::mlx::{Array, eval, ops};
use crate::weights::Weights;

/// norm(mlp(norm(x))) + norm(experts(norm(x))), with a norm each. The router has another one, and a
/// factor for each expert.
#[derive(Debug)]
pub struct DenseAndMoe {
    mlp: Mlp,
    before_mlp: Norm,
    after_mlp: Norm,
    experts: Experts,
    before_experts: Norm,
    after_experts: Norm,
    router: Router,
    before_router: Norm,
    /// `[experts]`.
    factors: Array,
}

impl DenseAndMoe {
    /// Takes `router`, `experts` and the norms of a layer, whose MLP was taken before.
    pub fn new(w: &Weights, config: MoeConfig, mlp: Mlp, eps: f32) -> Result<Self> {
        let MoeConfig { dims, experts, .. } = config;
        let norm = |name: &str| Norm::rms(&w.at(name), dims, eps);
        let stacked = [
            "experts.switch_glu.gate_proj",
            "experts.switch_glu.up_proj",
            "experts.switch_glu.down_proj",
        ];
        let names = ExpertNames { stacked, ..ExpertNames::default() };
        let router = w.at("router");
        let weight = scaled(&router.take("scale", &[dims])?, (dims as f32).sqrt().recip())?;
        eval(&[&weight])?;
        Ok(Self {
            mlp,
            before_mlp: norm("pre_feedforward_layernorm")?,
            after_mlp: norm("post_feedforward_layernorm_1")?,
            experts: Experts::gated(Experts::take(w, config, names)?, config.activation),
            before_experts: norm("pre_feedforward_layernorm_2")?,
            after_experts: norm("post_feedforward_layernorm_2")?,
            router: Router::new(&router.at("proj"), config, false)?,
            before_router: Norm::of(w, NormParams::Rms { weight: Some(weight), eps }),
            factors: router.take("per_expert_scale", &[experts])?,
        })
    }
}

impl FeedForward for DenseAndMoe {
    fn forward(&self, x: &Input) -> Result<Array> {
        let x = x.array()?;
        let dense = self.mlp.forward(&self.before_mlp.forward(x)?.into())?;
        let [chosen, scores] = self.router.forward(&self.before_router.forward(x)?)?;
        let scores = ops::multiply(&scores, &ops::take(&self.factors, &chosen, 0)?)?;
        let normed = self.before_experts.forward(x)?;
        let sparse = self.experts.forward(self.router.device(), &normed, &chosen, &scores)?;
        ops::add(&self.after_mlp.forward(&dense)?, &self.after_experts.forward(&sparse)?)
    }
}
