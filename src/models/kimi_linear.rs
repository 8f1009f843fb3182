//! Kimi Linear (Kimi Team 2025): layers of Kimi delta attention and, every few, latent attention
//! that does not look at positions; DeepSeek V3's experts. Kimi K3 (Kimi Team 2026) is one with
//! bounded decays and activations, experts between projections to fewer features, and blocks that
//! read mixtures of the sums of earlier layers.

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::config::{ConfigFile, SparseLayers};
use super::{Architecture, LanguageModel, is_prediction_layer};
use crate::cache::Cache;
use crate::error::Result;
use crate::mlx::Array;
use crate::nn::{
    Activation, Combine, DepthDecoder, Embedding, Experts, FeedForward, GatePlace, KimiDelta,
    KimiDeltaConfig, Linear, Mlp, Moe, MoeConfig, Norm, Routing, Score, Step, language_model, situ,
};
use crate::weights::Weights;

pub(super) const ARCHITECTURE: Architecture = Architecture::new(&["kimi_linear", "kimi_k3"], build)
    .ignoring(|file, tensor| {
        tensor.starts_with("model.mtp")
            || tensor.starts_with("mtp")
            || is_prediction_layer(file, tensor)
    });

#[derive(PartialEq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Kind {
    LinearAttention,
    FullAttention,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum ScoreFunction {
    Sigmoid,
    Softmax,
}

fn build(file: &ConfigFile, w: &Weights) -> Result<Box<dyn LanguageModel>> {
    let file = &with_defaults(file)?;
    let situ = Situ::read(file)?;
    // Nothing is rotated, so that no rule of that scales the scores.
    let mut latent = file.without_rope_scaling().latent_decoder(10_000.0, false)?;
    latent.rope = None;
    if file.flag("mla_use_output_gate")? {
        latent.attention.output_gate = Some(GatePlace::EachFeature);
    }
    let linear = linear_layers(file)?;
    let dims = latent.attention.dims;
    let delta = KimiDeltaConfig {
        dims,
        heads: file.bounded("linear_num_heads", file.require("linear_num_heads")?, 1 << 14)?,
        head_dim: file.bounded("linear_head_dim", file.require("linear_head_dim")?, 1 << 10)?,
        kernel: file.size("linear_conv_kernel_dim")?,
        eps: latent.decoder.eps,
        lower_bound: file.optional("gate_lower_bound")?,
        joint_conv: situ.is_some(),
    };
    let mut experts = match situ {
        Some(_) => file.without("hidden_act").sparse_layers(dims)?,
        None => {
            // That of the convolutions, too.
            file.expect_silu("hidden_act")?;
            file.sparse_layers(dims)?
        }
    };
    if let Some(config) = &mut experts.experts
        && let Routing::ScoresThenTop { score, normalize, .. } = &mut config.routing
    {
        // Kimi K3 leaves the score of a single expert as it is.
        *normalize &= situ.is_none() || config.active > 1;
        *score = match file.optional("moe_router_activation_func")? {
            None | Some(ScoreFunction::Sigmoid) => Score::Sigmoid,
            Some(ScoreFunction::Softmax) => Score::Softmax,
        };
    }
    experts.names.correction = &["gate.e_score_correction_bias", "e_score_correction_bias"];
    experts.names.single = ["w1", "w3", "w2"];
    let decoder = latent.decoder.build_hybrid(
        w,
        |index, w| match linear[index] {
            true => Ok(Box::new(KimiDelta::new(&w.at("self_attn"), delta)?)),
            false => latent.attention(w),
        },
        |index, w| {
            let published = w.at("block_sparse_moe");
            let is_published = published.at("gate").has("weight");
            let w = if is_published { published } else { w.at("mlp") };
            match situ {
                Some(situ) => situ.feed_forward(&experts, index, &w),
                None => experts.build_in(index, &w),
            }
        },
    )?;
    let field = "attn_res_block_size";
    match file.optional(field)? {
        Some(group) => {
            let group = file.bounded(field, group, 10_000)?.unsigned_abs() as usize;
            let (w, eps) = (language_model(w), latent.decoder.eps);
            Ok(Box::new(DepthDecoder::new(&w, decoder, group, eps)?))
        }
        None => Ok(Box::new(decoder)),
    }
}

/// What Kimi K3 has for feed-forward blocks.
#[derive(Clone, Copy)]
struct Situ {
    combine: Combine,
    /// Features that the experts work on, and the epsilon of a norm behind them.
    latent: Option<(i32, Option<f32>)>,
}

impl Situ {
    /// What the configuration says, if its activation is this.
    fn read(file: &ConfigFile) -> Result<Option<Self>> {
        if file.optional::<String>("hidden_act")?.as_deref() != Some("situ") {
            return Ok(None);
        }
        let beta = file.optional::<f32>("activation_situ_beta")?.filter(|&beta| beta != 0.0);
        let linear = file.optional("activation_situ_linear_beta")?;
        let numbers = [beta.unwrap_or(1.0), linear.unwrap_or(f32::INFINITY)];
        let field = "routed_expert_hidden_size";
        let norm = file.flag("latent_moe_use_norm")?.then(|| file.eps()).transpose()?;
        let latent = match file.optional(field)? {
            Some(size) => Some((file.bounded(field, size, 1 << 24)?, norm)),
            None => None,
        };
        Ok(Some(Self { combine: Combine { function: situ, numbers }, latent }))
    }

    fn feed_forward(
        &self,
        layers: &SparseLayers,
        index: usize,
        w: &Weights,
    ) -> Result<Box<dyn FeedForward>> {
        let dims = layers.dims;
        let mlp = |w: &Weights, hidden: i32| -> Result<_> {
            Ok(Mlp::new(w, dims, hidden, false, Activation::Silu)?.combined(self.combine))
        };
        let Some(config) = layers.experts.filter(|_| layers.is_sparse(index, w)) else {
            return Ok(Box::new(mlp(w, layers.dense)?));
        };
        let inner = MoeConfig { dims: self.latent.map_or(dims, |(size, _)| size), ..config };
        let experts = Experts::combining(w, inner, layers.names, self.combine)?;
        let mut moe = Moe::of(layers.names.router(w, config)?, experts);
        if let Some((size, eps)) = self.latent {
            moe = moe.within(
                Linear::new(&w.at("routed_expert_down_proj"), dims, size, false)?,
                Linear::new(&w.at("routed_expert_up_proj"), size, dims, false)?,
            );
            if let Some(eps) = eps {
                moe = moe.with_latent_norm(Norm::rms(&w.at("routed_expert_norm"), size, eps)?);
            }
        }
        if let Some(hidden) = layers.shared_features(w) {
            moe = moe.with_shared(mlp(&w.at("shared_experts"), hidden)?);
        }
        Ok(Box::new(moe))
    }
}

impl LanguageModel for DepthDecoder {
    fn forward(&self, step: &Step, caches: &mut [&mut [Cache]]) -> Result<Array> {
        Self::forward(self, step, caches)
    }

    fn make_caches(&self) -> Vec<Cache> {
        self.decoder().make_caches()
    }

    fn layers(&self) -> usize {
        self.decoder().layers.len()
    }

    fn embedding(&self) -> &Embedding {
        &self.decoder().embedding
    }
}

/// The names and defaults of fields, with those of `linear_attn_config` beside the others.
fn with_defaults(file: &ConfigFile) -> Result<ConfigFile> {
    let own: Map<String, Value> = file.optional("linear_attn_config")?.unwrap_or_default();
    let bound = own.get("gate_lower_bound").cloned().unwrap_or_default();
    let own = |field: &str, default: i32| own.get(field).cloned().unwrap_or(json!(default));
    let file = match file.is_of("kimi_k3")? {
        true => &file.with_defaults([
            ("hidden_act", json!("situ")),
            ("hidden_size", json!(7168)),
            ("intermediate_size", json!(33_792)),
            ("num_hidden_layers", json!(93)),
            ("num_attention_heads", json!(96)),
        ]),
        false => file,
    };
    let file = match file.optional::<String>("hidden_act")?.as_deref() {
        Some("situ") => &file.with_defaults([
            ("num_experts_per_token", json!(16)),
            ("num_shared_experts", json!(0)),
            ("routed_scaling_factor", json!(1.0)),
            ("first_k_dense_replace", json!(0)),
        ]),
        _ => file,
    };
    Ok(file
        .renamed(&[
            ("num_experts_per_tok", "num_experts_per_token"),
            ("norm_topk_prob", "moe_renormalize"),
            ("n_group", "num_expert_group"),
        ])
        .with_defaults([
            ("hidden_size", json!(2304)),
            ("intermediate_size", json!(9216)),
            ("moe_intermediate_size", json!(1024)),
            ("num_hidden_layers", json!(27)),
            ("num_attention_heads", json!(32)),
            ("num_experts", json!(256)),
            ("vocab_size", json!(163_840)),
            ("gate_lower_bound", bound),
            ("linear_num_heads", own("num_heads", 32)),
            ("linear_head_dim", own("head_dim", 128)),
            ("linear_conv_kernel_dim", own("short_conv_kernel_size", 4)),
            ("num_experts_per_tok", json!(8)),
            ("n_shared_experts", json!(1)),
            ("routed_scaling_factor", json!(2.446)),
            ("first_k_dense_replace", json!(1)),
            ("kv_lora_rank", json!(512)),
            ("qk_nope_head_dim", json!(128)),
            ("qk_rope_head_dim", json!(64)),
            ("v_head_dim", json!(128)),
        ]))
}

/// Which layers have linear attention: those that `layer_types` or the lists of
/// `linear_attn_config`, which count from 1, say so of, or all but every fourth.
fn linear_layers(file: &ConfigFile) -> Result<Vec<bool>> {
    if let Some(kinds) = file.layer_kinds::<Kind>()? {
        return Ok(kinds.into_iter().map(|kind| kind == Kind::LinearAttention).collect());
    }
    #[derive(Default, Deserialize)]
    struct Lists {
        kda_layers: Option<Vec<usize>>,
    }
    let lists: Lists = file.optional("linear_attn_config")?.unwrap_or_default();
    let linear = |layer: usize| match &lists.kda_layers {
        Some(layers) => layers.contains(&(layer + 1)),
        None => layer == 0 || !layer.is_multiple_of(4),
    };
    Ok((0..file.layers()?).map(linear).collect())
}
