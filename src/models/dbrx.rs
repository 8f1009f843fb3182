//! DBRX (Databricks 2024): layer norms, bounded queries, keys and values, and experts in every
//! layer, which are published as one matrix for each projection.

use serde_json::{Map, Value, json};

use crate::error::Result;
use crate::mlx::{Array, ops};
use crate::models::config::{ConfigFile, RopeDefaults};
use crate::models::{Architecture, LanguageModel};
use crate::nn::{
    Activation, DecoderNames, ExpertLinear, ExpertMatrix, ExpertNames, Experts, Moe, MoeConfig,
    Norm, NormLayout, Routing,
};
use crate::weights::Weights;

pub(super) const ARCHITECTURE: Architecture = Architecture::new(&["dbrx"], build);

fn build(file: &ConfigFile, w: &Weights) -> Result<Box<dyn LanguageModel>> {
    let file = &with_parts(file)?;
    let mut decoder = file.decoder(&RopeDefaults::base(10_000.0))?;
    decoder.norm = Norm::layer;
    decoder.layout = NormLayout::pre(["norm_attn_norm.norm_1", "norm_attn_norm.norm_2"]);
    decoder.names = DecoderNames {
        model: "transformer",
        embedding: "wte",
        layers: "blocks",
        attention: "norm_attn_norm.attn",
        norm: "norm_f",
        head: "lm_head",
    };
    decoder.tied = Some(false);
    decoder.attention.qkv = &["Wqkv"];
    decoder.attention.output = "out_proj";
    decoder.attention.clip_qkv = file.optional("clip_qkv")?;
    let experts = file.size("num_experts")?;
    let config = MoeConfig {
        dims: decoder.attention.dims,
        hidden: file.size("intermediate_size")?,
        experts,
        active: file.active_experts(experts, None)?,
        activation: Activation::Silu,
        routing: Routing::softmax(file.flag("norm_topk_prob")?),
    };
    let names = ExpertNames {
        router: "router.layer",
        single: ["w1", "v1", "w2"],
        ..ExpertNames::default()
    };
    Ok(Box::new(decoder.build(w, |_, w| {
        let w = w.at("ffn");
        let experts = if w.has("experts.mlp.w1") {
            joined(&w, config)?
        } else {
            Experts::new(&w, config, names)?
        };
        Ok(Box::new(Moe::of(names.router(&w, config)?, experts)))
    })?))
}

/// The fields of `attn_config` and `ffn_config` beside the others.
fn with_parts(file: &ConfigFile) -> Result<ConfigFile> {
    let part = |field: &str| -> Result<Map<String, Value>> {
        Ok(file.optional(field)?.unwrap_or_default())
    };
    let (attention, ffn) = (part("attn_config")?, part("ffn_config")?);
    let or = |part: &Map<String, Value>, field: &str, default: Value| {
        part.get(field).cloned().filter(|value| !value.is_null()).unwrap_or(default)
    };
    let activation = ffn.get("ffn_act_fn").and_then(|activation| activation.get("name"));
    if activation.is_some_and(|name| name != "silu") {
        return Err(file.error("\"ffn_act_fn\" is not \"silu\""));
    }
    // The weights of the chosen experts are divided by this norm of theirs.
    let normalized = match ffn.get("moe_normalize_expert_weights") {
        Some(Value::Null) => false,
        None => true,
        Some(norm) if norm.as_f64() == Some(1.0) => true,
        Some(norm) => {
            let message = format!("\"moe_normalize_expert_weights\" is {norm}, expected 1");
            return Err(file.error(message));
        }
    };
    let base = file.optional("rope_theta")?.unwrap_or(Value::Null);
    let file = file.renamed(&[
        ("hidden_size", "d_model"),
        ("num_attention_heads", "n_heads"),
        ("num_hidden_layers", "n_layers"),
    ]);
    let clip = match or(&attention, "clip_qkv", Value::Null) {
        // Which counts as 1 in Python.
        Value::Bool(true) => json!(1),
        clip => clip,
    };
    Ok(file.with([
        ("num_key_value_heads", or(&attention, "kv_n_heads", json!(1))),
        ("clip_qkv", clip),
        ("rope_theta", or(&attention, "rope_theta", base)),
        ("intermediate_size", or(&ffn, "ffn_hidden_size", json!(3584))),
        ("num_experts", or(&ffn, "moe_num_experts", json!(4))),
        ("num_experts_per_tok", or(&ffn, "moe_top_k", json!(1))),
        ("norm_topk_prob", json!(normalized)),
    ]))
}

/// Takes the experts as they are published, one below the other, with down's inputs before its
/// outputs.
fn joined(w: &Weights, config: MoeConfig) -> Result<Experts> {
    let MoeConfig { dims, hidden, experts, .. } = config;
    let stacked = |name: &str| -> Result<Array> {
        let joined = w.take_matrix(&format!("experts.mlp.{name}"), &[experts * hidden, dims])?;
        ops::reshape(&joined, &[experts, hidden, dims])
    };
    let matrices = [
        ExpertMatrix::dense(&stacked("w1")?)?,
        ExpertMatrix::dense(&stacked("v1")?)?,
        ExpertMatrix::transposed(&stacked("w2")?)?,
    ];
    let linears = matrices.map(|matrix| ExpertLinear::new(matrix, None));
    let names = ["experts.w1", "experts.v1", "experts.w2"];
    Ok(Experts::gated(Experts::adaptable(w, names, config, linears), Activation::Silu))
}
