//! Experts as DeepSeek V3's configurations describe them, which others took up.

use serde::Deserialize;
use serde_json::Value;

use super::ConfigFile;
use crate::error::Result;
use crate::nn::{
    Activation, ExpertGroups, ExpertNames, FeedForward, Mlp, Moe, MoeConfig, Routing, Score,
};
use crate::weights::Weights;

#[derive(PartialEq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum MlpKind {
    Dense,
    Sparse,
}

/// The feed-forward blocks of a model whose layers, but for some, have experts.
pub(in crate::models) struct SparseLayers {
    pub(in crate::models) dims: i32,
    /// Features inside the MLP of layers without experts.
    pub(in crate::models) dense: i32,
    /// `None` where no layer has experts.
    pub(in crate::models) experts: Option<MoeConfig>,
    /// Features inside the experts that see every token.
    pub(in crate::models) shared: Option<i32>,
    /// The name of these below the block's.
    pub(in crate::models) shared_name: &'static str,
    /// Which layers have experts.
    pub(in crate::models) sparse: Vec<bool>,
    /// Whether the configuration leaves to the architecture's defaults which layers have experts,
    /// so that the tensors decide.
    pub(in crate::models) by_tensors: bool,
    /// The same of the experts that see every token.
    pub(in crate::models) shared_by_tensors: bool,
    /// That of every gate.
    pub(in crate::models) activation: Activation,
    /// Whether every projection has a bias.
    pub(in crate::models) bias: bool,
    /// Bounds the logits of the router.
    pub(in crate::models) logit_cap: Option<f32>,
    /// The names of the router and the experts below the block's.
    pub(in crate::models) names: ExpertNames,
    /// The name of the block.
    pub(in crate::models) block: &'static str,
}

impl SparseLayers {
    /// The block of a layer.
    pub(in crate::models) fn build(
        &self,
        layer: usize,
        w: &Weights,
    ) -> Result<Box<dyn FeedForward>> {
        self.build_in(layer, &w.at(self.block))
    }

    /// The same of the block's own view.
    pub(in crate::models) fn build_in(
        &self,
        layer: usize,
        w: &Weights,
    ) -> Result<Box<dyn FeedForward>> {
        match self.experts {
            Some(config) if self.is_sparse(layer, w) => {
                let mut moe = Moe::new(w, config, self.names)?;
                if let Some(cap) = self.logit_cap {
                    moe = moe.with_logit_cap(cap);
                }
                Ok(Box::new(match self.shared_features(w) {
                    Some(hidden) => {
                        moe.with_shared_mlp(&w.at(self.shared_name), hidden, self.bias)?
                    }
                    None => moe,
                }))
            }
            _ => {
                let Self { dims, dense, bias, activation, .. } = *self;
                Ok(Box::new(Mlp::new(w, dims, dense, bias, activation)?))
            }
        }
    }

    /// Whether a layer has experts.
    pub(in crate::models) fn is_sparse(&self, layer: usize, w: &Weights) -> bool {
        let named = self.sparse[layer];
        if self.by_tensors { w.at(self.names.router).has("weight") } else { named }
    }

    /// Features inside the experts of a layer that see every token.
    pub(in crate::models) fn shared_features(&self, w: &Weights) -> Option<i32> {
        if !self.shared_by_tensors {
            return self.shared;
        }
        w.at(self.shared_name).at("gate_proj").shape("weight")?.first().copied()
    }
}

impl ConfigFile {
    /// `n_routed_experts` of which each token is sent to `num_experts_per_tok`, and
    /// `n_shared_experts`, with DeepSeek V3's routing and names.
    pub(in crate::models) fn sparse_layers(&self, dims: i32) -> Result<SparseLayers> {
        let correction: &[&str] = &["gate.e_score_correction_bias"];
        let mut layers = SparseLayers {
            dims,
            dense: self.size("intermediate_size")?,
            experts: None,
            shared: None,
            shared_name: "shared_experts",
            sparse: self.layers_with_experts()?,
            by_tensors: self.leaves_experts_open(),
            shared_by_tensors: !self.says("n_shared_experts"),
            activation: self.activation()?,
            bias: false,
            logit_cap: None,
            names: ExpertNames { correction, ..ExpertNames::default() },
            block: "mlp",
        };
        if self.optional::<i64>("n_routed_experts")?.is_none() {
            return Ok(layers);
        }
        let config = self.routed_experts(dims)?;
        layers.experts = Some(config);
        if let Some(count @ 1..) = self.optional::<i64>("n_shared_experts")? {
            let shared = i64::from(config.hidden).saturating_mul(count);
            layers.shared = Some(self.bounded("n_shared_experts", shared, 1 << 24)?);
        }
        Ok(layers)
    }

    /// Whether the configuration does not say how many experts there are, or where.
    fn leaves_experts_open(&self) -> bool {
        let mut places = ["mlp_layer_types", "is_moe_layer", "first_k_dense_replace"].into_iter();
        let listed = self.value("moe_layer_freq").is_some_and(Value::is_array);
        let is_placed = listed || places.any(|field| self.says(field));
        !(is_placed && self.says("n_routed_experts"))
    }

    /// Which layers have experts: those that `mlp_layer_types`, `is_moe_layer` or a list of
    /// `moe_layer_freq` says so of, or from `first_k_dense_replace` on every `moe_layer_freq`-th.
    pub(in crate::models) fn layers_with_experts(&self) -> Result<Vec<bool>> {
        if let Some(kinds) = self.of_each_layer::<MlpKind>("mlp_layer_types")? {
            return Ok(kinds.into_iter().map(|kind| kind == MlpKind::Sparse).collect());
        }
        if let Some(sparse) = self.of_each_layer("is_moe_layer")? {
            return Ok(sparse);
        }
        if self.value("moe_layer_freq").is_some_and(Value::is_array) {
            let sparse = self.of_each_layer::<u8>("moe_layer_freq")?.unwrap_or_default();
            return Ok(sparse.into_iter().map(|sparse| sparse != 0).collect());
        }
        let first: usize = self.optional("first_k_dense_replace")?.unwrap_or(0);
        let step = self.size_or("moe_layer_freq", 1)?.unsigned_abs() as usize;
        Ok((0..self.layers()?).map(|layer| layer >= first && layer.is_multiple_of(step)).collect())
    }

    /// `n_routed_experts` of which each token is sent to `num_experts_per_tok`.
    pub(in crate::models) fn routed_experts(&self, dims: i32) -> Result<MoeConfig> {
        let experts = self.size("n_routed_experts")?;
        Ok(MoeConfig {
            dims,
            hidden: self.size("moe_intermediate_size")?,
            experts,
            active: self.active_experts(experts, None)?,
            activation: self.activation()?,
            routing: Routing::ScoresThenTop {
                score: Score::Sigmoid,
                groups: self.expert_groups(experts, 2)?,
                normalize: self.flag_on("norm_topk_prob")?,
                scale: self.optional("routed_scaling_factor")?.unwrap_or(1.0),
            },
        })
    }

    /// `num_experts_per_tok`, of `experts`; where it is not said and there are fewer experts than
    /// an architecture is used to choose, one of them.
    pub(in crate::models) fn active_experts(
        &self,
        experts: i32,
        default: Option<i64>,
    ) -> Result<i32> {
        let field = "num_experts_per_tok";
        if self.says(field) {
            return self.bounded(field, self.require(field)?, experts.into());
        }
        let usual: Option<i64> = self.optional(field)?.or(default);
        let usual = usual.map_or_else(|| self.require(field), Ok)?;
        Ok(if usual > experts.into() { 1 } else { self.bounded(field, usual, experts.into())? })
    }

    /// `n_group` groups of experts, of which `topk_group` are kept, each `judged_by` so many of its
    /// experts; `None` where there is one.
    pub(in crate::models) fn expert_groups(
        &self,
        experts: i32,
        judged_by: i32,
    ) -> Result<Option<ExpertGroups>> {
        let count = self.size_or("n_group", 1)?;
        if count == 1 {
            return Ok(None);
        }
        if experts % count != 0 || experts / count < judged_by {
            return Err(self.error(format!(
                "\"n_group\" {count} does not divide {experts} experts into groups of {judged_by} \
                 or more"
            )));
        }
        let kept =
            self.bounded("topk_group", self.optional("topk_group")?.unwrap_or(1), count.into())?;
        let active = self.active_experts(experts, None)?;
        if kept * (experts / count) < active {
            return Err(self.error(format!(
                "\"topk_group\" {kept} leaves fewer experts than \"num_experts_per_tok\" {active}"
            )));
        }
        Ok(Some(ExpertGroups { count, kept, judged_by }))
    }
}
