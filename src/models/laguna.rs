//! Laguna (Poolside 2026): norms over each query and key head, gates of each head, heads and
//! rotations that differ between layers, and experts as DeepSeek V3's.

use serde::Deserialize;
use serde_json::{Value, json};

use crate::error::Result;
use crate::models::config::{ConfigFile, RopeDefaults};
use crate::models::{Architecture, LanguageModel};
use crate::nn::{GatePlace, MoeConfig, Norm, OutputGate, QkNorm, Routing, Score};
use crate::weights::Weights;

pub(super) const ARCHITECTURE: Architecture = Architecture::new(&["laguna"], build).with_eps(1e-6);

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum ScoreFunction {
    Sigmoid,
    SqrtSoftplus,
}

fn build(file: &ConfigFile, w: &Weights) -> Result<Box<dyn LanguageModel>> {
    let file = &file.renamed(&[("routed_scaling_factor", "moe_routed_scaling_factor")]);
    let file = &file.with_defaults([
        ("first_k_dense_replace", json!(1)),
        ("head_dim", json!(128)),
        ("num_experts_per_tok", json!(8)),
    ]);
    let rope = |kind: &str, base: f32, share: f32| -> Result<_> {
        let (file, base, share) = match file.rope_parameters_of(kind) {
            Some(own) => (own, 10_000.0, 1.0),
            None => (file.clone(), base, share),
        };
        let dims = file.size("head_dim")? as f32 * file.rotated_share(Some(share))?;
        file.rope(dims as i32, Some(base), false)
    };
    let far = rope("full_attention", 500_000.0, 0.5)?;
    let near = rope("sliding_attention", 10_000.0, 1.0)?;
    // The rotations differ between kinds of layers.
    let plain = file.without("rope_parameters");
    let share = Some(1.0);
    let mut decoder =
        plain.decoder(&RopeDefaults { base: Some(10_000.0), traditional: false, share })?;
    decoder.attention.qk_norm = Some(QkNorm::each_head(Norm::rms, decoder.eps));
    if let Some(bias) = file.optional("qkv_bias")? {
        decoder.attention.qkv_bias = bias;
    }
    let place = match file.optional::<Value>("gating")?.unwrap_or(json!(true)) {
        Value::Bool(false) => None,
        Value::Bool(true) => Some(GatePlace::EachHead),
        gating if gating == "per-head" => Some(GatePlace::EachHead),
        _ => Some(GatePlace::EachFeature),
    };
    if let Some(place) = place {
        decoder.attention.qkv = &["q_proj", "k_proj", "v_proj", "g_proj"];
        decoder.attention.output_gate = Some(OutputGate::softplus(place));
    }
    let windows = file.windows(512, 1)?;
    for (layer, window) in decoder.layers.iter_mut().zip(windows) {
        layer.rope = Some(if window.is_some() { near.clone() } else { far.clone() });
        layer.span = window.into();
    }
    let heads =
        file.size_of_each_layer_or("num_attention_heads_per_layer", decoder.attention.heads)?;
    if let Some(heads) = heads.iter().find(|heads| *heads % decoder.attention.kv_heads != 0) {
        let message = "is not a multiple of \"num_key_value_heads\"";
        return Err(file.error(format!("\"num_attention_heads_per_layer\" {heads} {message}")));
    }
    let dims = decoder.attention.dims;
    let mut layers = file.sparse_layers(dims)?;
    layers.shared = Some(file.size_or("shared_expert_intermediate_size", 512)?);
    layers.shared_name = "shared_expert";
    layers.shared_by_tensors = false;
    layers.names.correction = &["experts.e_score_correction_bias", "gate.e_score_correction_bias"];
    layers.logit_cap =
        file.optional("moe_router_logit_softcapping")?.filter(|&cap: &f32| cap > 0.0);
    if let Some(MoeConfig { routing: Routing::ScoresThenTop { score, .. }, .. }) =
        &mut layers.experts
    {
        *score = match file.optional("moe_router_score_func")? {
            None | Some(ScoreFunction::Sigmoid) => Score::Sigmoid,
            Some(ScoreFunction::SqrtSoftplus) => Score::SqrtSoftplus,
        };
    }
    let router = |index: usize| w.has(&format!("model.layers.{index}.mlp.gate.proj.weight"));
    if (0..decoder.layers.len()).any(router) {
        layers.names.router = "gate.proj";
    }
    Ok(Box::new(decoder.build_hybrid(
        w,
        |index, w| {
            let mut attention = decoder.attention;
            attention.heads = heads[index];
            Ok(Box::new(attention.build(&w.at("self_attn"), decoder.layers[index].clone())?))
        },
        |index, w| layers.build(index, w),
    )?))
}
