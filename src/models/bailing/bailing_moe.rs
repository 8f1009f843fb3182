//! Ling (Inclusion AI 2025): fused projections, and experts chosen by a soft-max or corrected
//! logistic scores; and Sarvam's smaller model (Sarvam AI 2026), which says less of itself.

use serde::Deserialize;
use serde_json::json;

use crate::error::Result;
use crate::models::config::{ConfigFile, RopeDefaults, SparseLayers};
use crate::models::{Architecture, LanguageModel};
use crate::nn::{DecoderNames, Linear, Norm, QkNorm, Routing, Score, StandardDecoder};
use crate::weights::Weights;

pub(super) const ARCHITECTURE: Architecture =
    Architecture::new(&["bailing_moe", "sarvam_moe"], build).with_eps(1e-6);

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum ScoreFunction {
    Softmax,
    Sigmoid,
}

fn build(file: &ConfigFile, w: &Weights) -> Result<Box<dyn LanguageModel>> {
    let file = match file.model_type()?.starts_with("sarvam_moe") {
        true => &file.with_defaults([
            ("first_k_dense_replace", json!(1)),
            ("moe_router_enable_expert_bias", json!(true)),
            ("norm_topk_prob", json!(true)),
            ("num_shared_experts", json!(1)),
            ("rope_theta", json!(8_000_000.0)),
            ("routed_scaling_factor", json!(2.5)),
            ("score_function", json!("sigmoid")),
            ("topk_group", json!(1)),
            ("use_qk_norm", json!(true)),
            ("use_qkv_bias", json!(file.flag("attention_bias")?)),
        ]),
        false => file,
    };
    let (decoder, layers) = parts(file, w)?;
    Ok(Box::new(decoder.build(w, |index, w| layers.build(index, w))?))
}

/// The decoder and its feed-forward blocks.
pub(super) fn parts(file: &ConfigFile, w: &Weights) -> Result<(StandardDecoder, SparseLayers)> {
    let file = &file.with_defaults([("topk_group", json!(4))]);
    let share = Some(1.0);
    let rope = RopeDefaults { base: Some(10_000.0), traditional: false, share };
    let mut decoder = file.decoder(&rope)?;
    decoder.names = DecoderNames {
        embedding: "word_embeddings",
        attention: "attention",
        ..DecoderNames::default()
    };
    if file.flag("norm_head")? {
        decoder.head = Linear::with_unit_columns;
    }
    decoder.attention.qkv = &["query_key_value"];
    decoder.attention.qkv_bias = file.flag("use_qkv_bias")?;
    decoder.attention.output = "dense";
    let bias = file.flag("use_bias")?;
    decoder.attention.output_bias = bias;
    if file.flag("use_qk_norm")? {
        let norm = QkNorm::each_head(Norm::rms, decoder.eps);
        decoder.attention.qk_norm = Some(norm.named(["query_layernorm", "key_layernorm"]));
    }
    let mut layers = file.sparse_layers(decoder.attention.dims)?;
    layers.bias = bias;
    let corrected = file.flag("moe_router_enable_expert_bias")?;
    layers.names.correction = if corrected { &["gate.expert_bias"] } else { &[] };
    if (0..decoder.layers.len())
        .any(|layer| w.at("model.layers").at(layer).at("mlp.gate.gate_proj").has("weight"))
    {
        layers.names.router = "gate.gate_proj";
    }
    if let Some(config) = &mut layers.experts {
        config.routing = Routing::ScoresThenTop {
            score: match file.optional("score_function")? {
                Some(ScoreFunction::Sigmoid) => Score::Sigmoid,
                Some(ScoreFunction::Softmax) | None => Score::Softmax,
            },
            groups: file.expert_groups(config.experts, 2)?,
            // The score of a single expert stays.
            normalize: config.active > 1 && file.flag("norm_topk_prob")?,
            scale: file.optional("routed_scaling_factor")?.unwrap_or(1.0),
        };
    }
    let width = "moe_shared_expert_intermediate_size";
    if !file.flag_on("moe_router_enable_shared_expert")? {
        layers.shared = None;
    } else if let (Some(_), Some(width)) = (layers.shared, file.optional::<i64>(width)?) {
        let count: i64 = file.require("num_shared_experts")?;
        layers.shared = Some(file.bounded(
            "moe_shared_expert_intermediate_size",
            width.saturating_mul(count),
            1 << 24,
        )?);
    }
    Ok((decoder, layers))
}
