//! Kimi Linear (Kimi Team 2025): layers of Kimi delta attention and, every few, latent attention
//! that does not look at positions; DeepSeek V3's experts.

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::config::ConfigFile;
use super::{Architecture, LanguageModel};
use crate::error::Result;
use crate::nn::{KimiDelta, KimiDeltaConfig, Routing, Score};
use crate::weights::Weights;

pub(super) const ARCHITECTURE: Architecture = Architecture::new(&["kimi_linear"], build)
    .ignoring(|_, tensor| tensor.starts_with("model.mtp"));

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
    if !file.optional("mla_use_nope")?.unwrap_or(true) {
        return Err(file.error("\"mla_use_nope\" is false, which is not supported"));
    }
    let file = &with_defaults(file)?;
    let mut latent = file.latent_decoder(10_000.0, false)?;
    latent.rope = None;
    let linear = linear_layers(file)?;
    let dims = latent.attention.dims;
    let delta = KimiDeltaConfig {
        dims,
        heads: file.bounded("linear_num_heads", file.require("linear_num_heads")?, 1 << 14)?,
        head_dim: file.bounded("linear_head_dim", file.require("linear_head_dim")?, 1 << 10)?,
        kernel: file.size("linear_conv_kernel_dim")?,
        eps: latent.decoder.eps,
        lower_bound: None,
    };
    let mut experts = file.sparse_layers(dims)?;
    if let Some(config) = &mut experts.experts
        && let Routing::ScoresThenTop { score, .. } = &mut config.routing
    {
        *score = match file.optional("moe_router_activation_func")? {
            None | Some(ScoreFunction::Sigmoid) => Score::Sigmoid,
            Some(ScoreFunction::Softmax) => Score::Softmax,
        };
    }
    experts.names.correction = &["gate.e_score_correction_bias", "e_score_correction_bias"];
    experts.names.single = ["w1", "w3", "w2"];
    Ok(Box::new(latent.decoder.build_hybrid(
        w,
        |index, w| match linear[index] {
            true => Ok(Box::new(KimiDelta::new(&w.at("self_attn"), delta)?)),
            false => latent.attention(w),
        },
        |index, w| {
            let published = w.at("block_sparse_moe");
            let is_published = published.at("gate").has("weight");
            experts.build_in(index, &if is_published { published } else { w.at("mlp") })
        },
    )?))
}

/// The names and defaults of fields, with those of `linear_attn_config` beside the others.
fn with_defaults(file: &ConfigFile) -> Result<ConfigFile> {
    let own: Map<String, Value> = file.optional("linear_attn_config")?.unwrap_or_default();
    let own = |field: &str, default: i32| own.get(field).cloned().unwrap_or(json!(default));
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
