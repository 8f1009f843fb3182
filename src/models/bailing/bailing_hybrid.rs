//! Ring 2.5 and Ling 3 (Inclusion AI 2026): Ling with latent attention in some layers and a
//! recurrence in the others, which is lightning attention or Kimi delta attention.

use serde_json::json;

use super::bailing_moe::parts;
use super::bailing_moe_linear::lightning_groups;
use crate::error::Result;
use crate::models::config::ConfigFile;
use crate::models::{Architecture, LanguageModel, is_prediction_layer};
use crate::nn::{
    GatePlace, KimiDelta, KimiDeltaConfig, LightningAttention, LightningConfig, Mla, MlaConfig,
    MoeConfig, PredictionConfig, PredictionNames, Routing,
};
use crate::weights::Weights;

pub(super) const ARCHITECTURE: Architecture =
    Architecture::new(&["bailing_hybrid", "bailing_moe_v3"], build)
        .with_eps(1e-6)
        .ignoring(is_prediction_layer);

fn build(file: &ConfigFile, w: &Weights) -> Result<Box<dyn LanguageModel>> {
    let layer = |index: usize| w.at("model.layers").at(index).at("attention");
    let has =
        |name: &str| (0..file.layers().unwrap_or(0)).any(|it| layer(it).at(name).has("weight"));
    // Both have one `model_type`. What is not known of a layer is asked of its tensors: counted by
    // `layer_group_size`, the last layers differ between implementations.
    let is_latent = |it: usize| layer(it).at("kv_a_proj_with_mqa").has("weight");
    let is_delta = has("f_proj")
        || has("f_a_proj")
        || (0..file.layers()?).any(|it| is_latent(it) && layer(it).at("g_proj").has("weight"));
    let file = &with_defaults(file, is_delta, has("q_a_proj"));
    // Every head has keys and values of its own.
    let file = &file.with([("num_key_value_heads", json!(file.size("num_attention_heads")?))]);
    let (mut decoder, mut experts) = parts(file, w)?;
    let dims = decoder.attention.dims;
    let latent = file.latent_attention(dims)?;
    let mla = MlaConfig {
        bias: latent.bias || file.flag("use_qkv_bias")?,
        eps: if is_delta { MlaConfig::EPS } else { decoder.eps },
        output: "dense",
        output_gate: is_delta.then_some(GatePlace::EachHead),
        ..latent
    };
    let interleaved = file.flag_on("rope_interleave")?;
    let rope = file.rope(mla.qk_rope_head_dim, Some(6_000_000.0), interleaved)?;
    let attention = decoder.attention;
    let delta = KimiDeltaConfig {
        dims,
        heads: attention.heads,
        head_dim: attention.head_dim,
        kernel: file.size_or("short_conv_kernel_size", 4)?,
        eps: decoder.eps,
        lower_bound: match file.flag_on("kda_safe_gate")? {
            true => Some(file.optional("kda_lower_bound")?.unwrap_or(-5.0)),
            false => None,
        },
        joint_conv: false,
    };
    if let (false, Some(_), Some(_)) =
        (is_delta, experts.shared, file.optional::<i64>(SHARED_WIDTH)?)
    {
        experts.shared = Some(file.size(SHARED_WIDTH)?);
    }
    if let (true, Some(MoeConfig { routing: Routing::ScoresThenTop { normalize, .. }, .. })) =
        (is_delta, &mut experts.experts)
    {
        // That of a single expert, too.
        *normalize = file.flag("norm_topk_prob")?;
    }
    let layers = decoder.layers.len();
    // The layer of the prediction head has latent attention and experts, too.
    let mut head = PredictionConfig::next_layer(layers);
    if w.at("model.layers").at(layers).at("final_layernorm").has("weight") {
        head.names = PredictionNames::FINAL_NORM;
    }
    decoder.prediction = Some(head);
    Ok(Box::new(decoder.build_hybrid(
        w,
        |index, w| {
            let w = w.at("attention");
            if w.at("query_key_value").has("weight") {
                let norm_groups = lightning_groups(file, &attention)?;
                let (eps, before) = (decoder.eps, index);
                let config = LightningConfig { attention, norm_groups, eps, before, layers };
                let layer = decoder.layers[index].clone();
                return Ok(Box::new(LightningAttention::new(&w, &config, layer)?));
            }
            Ok(match w.has("A_log") {
                true => {
                    // The activation of the MLPs is that of the convolutions, too.
                    file.expect_silu("hidden_act")?;
                    Box::new(KimiDelta::new(&w, delta)?)
                }
                false => Box::new(Mla::new(&w, mla, Some(rope.clone()))?),
            })
        },
        |index, w| experts.build(index, w),
    )?))
}

const SHARED_WIDTH: &str = "moe_shared_expert_intermediate_size";

/// The names and defaults of fields of Ling 3 (`is_delta`), or of Ring 2.5.
fn with_defaults(file: &ConfigFile, is_delta: bool, compresses_queries: bool) -> ConfigFile {
    let file = file.with_defaults([
        ("use_qk_norm", json!(true)),
        ("score_function", json!("sigmoid")),
        ("norm_topk_prob", json!(true)),
        ("moe_router_enable_expert_bias", json!(true)),
        ("partial_rotary_factor", json!(0.5)),
    ]);
    if !is_delta {
        return file;
    }
    file.renamed(&[
        ("max_position_embeddings", "model_max_length"),
        ("norm_topk_prob", "moe_renormalize"),
        ("n_group", "num_expert_group"),
        ("num_experts_per_tok", "num_experts_per_token"),
    ])
    .with_defaults([
        ("q_lora_rank", if compresses_queries { json!(256) } else { json!(null) }),
        ("num_experts_per_tok", json!(8)),
        ("num_shared_experts", json!(1)),
        ("first_k_dense_replace", json!(2)),
        ("n_group", json!(8)),
        ("topk_group", json!(4)),
        ("routed_scaling_factor", json!(2.5)),
        ("head_dim", json!(128)),
        ("kv_lora_rank", json!(512)),
        ("qk_nope_head_dim", json!(128)),
        ("qk_rope_head_dim", json!(64)),
        ("v_head_dim", json!(128)),
        ("rope_theta", json!(6_000_000.0)),
    ])
}
