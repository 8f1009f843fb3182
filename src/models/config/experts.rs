//! Experts as DeepSeek V3's configurations describe them, which others took up.

use super::ConfigFile;
use crate::error::Result;
use crate::nn::{Activation, ExpertGroups, ExpertNames, FeedForward, Mlp, Moe, MoeConfig, Routing};
use crate::weights::Weights;

/// The feed-forward blocks of a model whose layers, but for some, have experts.
pub(in crate::models) struct SparseLayers {
    dims: i32,
    /// Features inside the MLP of layers without experts.
    dense: i32,
    /// `None` where no layer has experts.
    experts: Option<MoeConfig>,
    /// Features inside the experts that see every token.
    shared: Option<i32>,
    /// The first layer with experts, and how many layers it is from one to the next.
    first: usize,
    step: usize,
}

impl SparseLayers {
    /// The block of a layer, whose tensors lie below `mlp`.
    pub(in crate::models) fn build(
        &self,
        layer: usize,
        w: &Weights,
    ) -> Result<Box<dyn FeedForward>> {
        let w = w.at("mlp");
        match self.experts {
            Some(config) if layer >= self.first && layer.is_multiple_of(self.step) => {
                let moe = Moe::new(&w, config, ExpertNames::default())?;
                Ok(Box::new(match self.shared {
                    Some(hidden) => moe.with_shared_mlp(&w.at("shared_experts"), hidden)?,
                    None => moe,
                }))
            }
            _ => Ok(Box::new(Mlp::new(&w, self.dims, self.dense, false, Activation::Silu)?)),
        }
    }
}

impl ConfigFile {
    /// `n_routed_experts` of which each token is sent to `num_experts_per_tok`, `n_shared_experts`,
    /// and the layers that have them: from `first_k_dense_replace` on every `moe_layer_freq`-th.
    pub(in crate::models) fn sparse_layers(&self, dims: i32) -> Result<SparseLayers> {
        let count = |field, default| Ok(self.size_or(field, default)?.unsigned_abs() as usize);
        let mut layers = SparseLayers {
            dims,
            dense: self.size("intermediate_size")?,
            experts: None,
            shared: None,
            first: self.optional("first_k_dense_replace")?.unwrap_or(0),
            step: count("moe_layer_freq", 1)?,
        };
        if self.optional::<i64>("n_routed_experts")?.is_none() {
            return Ok(layers);
        }
        let config = self.routed_experts(dims)?;
        layers.experts = Some(config);
        if self.optional::<i64>("n_shared_experts")?.is_some() {
            let shared = i64::from(config.hidden) * i64::from(self.size("n_shared_experts")?);
            layers.shared = Some(self.bounded("n_shared_experts", shared, 1 << 24)?);
        }
        Ok(layers)
    }

    /// `n_routed_experts` of which each token is sent to `num_experts_per_tok`.
    pub(in crate::models) fn routed_experts(&self, dims: i32) -> Result<MoeConfig> {
        let experts = self.size("n_routed_experts")?;
        Ok(MoeConfig {
            dims,
            hidden: self.size("moe_intermediate_size")?,
            experts,
            active: self.active_experts(experts, None)?,
            routing: Routing::SigmoidThenTop {
                groups: self.expert_groups(experts)?,
                normalize: self.optional("norm_topk_prob")?.unwrap_or(true),
                scale: self.optional("routed_scaling_factor")?.unwrap_or(1.0),
            },
        })
    }

    /// `num_experts_per_tok`, of `experts`.
    pub(in crate::models) fn active_experts(
        &self,
        experts: i32,
        default: Option<i64>,
    ) -> Result<i32> {
        let field = "num_experts_per_tok";
        let active = match default {
            Some(default) => self.optional(field)?.unwrap_or(default),
            None => self.require(field)?,
        };
        self.bounded(field, active, experts.into())
    }

    /// `n_group` groups of experts, of which `topk_group` are kept; `None` where there is one.
    fn expert_groups(&self, experts: i32) -> Result<Option<ExpertGroups>> {
        let count = self.size_or("n_group", 1)?;
        if count == 1 {
            return Ok(None);
        }
        // A group is judged by its two best experts.
        if experts % count != 0 || experts / count < 2 {
            return Err(self.error(format!(
                "\"n_group\" {count} does not divide {experts} experts into groups of 2 or more"
            )));
        }
        let kept = self.bounded("topk_group", self.require("topk_group")?, count.into())?;
        let active = self.active_experts(experts, None)?;
        if kept * (experts / count) < active {
            return Err(self.error(format!(
                "\"topk_group\" {kept} leaves fewer experts than \"num_experts_per_tok\" {active}"
            )));
        }
        Ok(Some(ExpertGroups { count, kept }))
    }
}
