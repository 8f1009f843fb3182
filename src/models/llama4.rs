//! Llama 4 (Meta 2025): most layers attend within chunks, the others to all positions without
//! looking at them, but with queries that grow; experts see their input weighted. Of checkpoints
//! that also see images, the language model.

use serde::Deserialize;
use serde_json::{Value, json};

use super::config::{ConfigFile, RopeDefaults};
use super::{Architecture, LanguageModel};
use crate::error::Result;
use crate::nn::{
    AttentionConfig, AttentionSpan, ExpertNames, Experts, Mlp, Moe, MoeConfig, Norm, QkNorm,
    QueryTemperature, Router, Routing,
};
use crate::weights::Weights;

pub(super) const ARCHITECTURE: Architecture = Architecture::new(&["llama4"], build);

#[derive(PartialEq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Kind {
    ChunkedAttention,
    FullAttention,
}

fn build(file: &ConfigFile, w: &Weights) -> Result<Box<dyn LanguageModel>> {
    // The text model by itself has experts only where it says so.
    let file = &match file.is_part() || file.values().contains_key("moe_layers") {
        true => file.clone(),
        false => file.with_defaults([("moe_layers", json!([]))]),
    };
    let rope = RopeDefaults { base: Some(500_000.0), traditional: true, share: None };
    let mut decoder = file.decoder(&rope)?;
    if w.has("output.weight") {
        decoder.names.head = "output";
    }
    let rotated = file.rotated_layers()?;
    let chunked: Vec<bool> = match file.layer_kinds::<Kind>()? {
        Some(kinds) => kinds.iter().map(|kind| *kind == Kind::ChunkedAttention).collect(),
        None => rotated.clone(),
    };
    // Without effect where all positions are in the first one.
    let chunk = file.size_or("attention_chunk_size", 8192)?;
    let whole = file.context_length().is_some_and(|context| context <= chunk as usize);
    let temperature = temperature(file)?;
    for (index, layer) in decoder.layers.iter_mut().enumerate() {
        if chunked[index] && !whole {
            layer.span = AttentionSpan::Chunked(chunk);
        }
        if !rotated[index] {
            (layer.rope, layer.temperature) = (None, temperature);
        }
    }
    let norms = file.flag_on("use_qk_norm")?;
    let qk_norm = norms.then(|| QkNorm::each_head(Norm::unweighted, decoder.eps).after_rotation());
    let attention = |index: usize, layer: &Weights| {
        let qk_norm = qk_norm.filter(|_| rotated[index]);
        let config = AttentionConfig { qk_norm, ..decoder.attention };
        let attention = config.build(&layer.at("self_attn"), decoder.layers[index].clone())?;
        Ok(Box::new(attention) as _)
    };
    let dims = decoder.attention.dims;
    let (sparse, dense) = (sparse_layers(file)?, file.size("intermediate_size_mlp")?);
    let (hidden, activation) = (file.size("intermediate_size")?, file.activation()?);
    Ok(Box::new(decoder.build_hybrid(w, attention, |index, layer| {
        let w = layer.at("feed_forward");
        if !sparse(index) {
            return Ok(Box::new(Mlp::new(&w, dims, dense, false, activation)?));
        }
        let experts = file.size("num_local_experts")?;
        let (active, routing) = (1, Routing::SigmoidOfInput);
        let config = MoeConfig { dims, hidden, experts, active, activation, routing };
        let experts = if w.has("experts.gate_up_proj") {
            Experts::transposed(&w.at("experts"), config)?
        } else {
            let stacked = ["experts.gate_proj", "experts.up_proj", "experts.down_proj"];
            Experts::new(&w, config, ExpertNames { stacked, ..ExpertNames::default() })?
        };
        let moe = Moe::of(Router::new(&w.at("router"), config, false)?, experts);
        Ok(Box::new(moe.with_shared_mlp(&w.at("shared_expert"), hidden, false)?))
    })?))
}

/// How queries of layers without a rotation grow, if they do: `attn_temperature_tuning` is a switch
/// or a number.
fn temperature(file: &ConfigFile) -> Result<Option<QueryTemperature>> {
    let tuning = file.optional::<Value>("attn_temperature_tuning")?;
    if tuning.is_some_and(|value| value == json!(false) || value == json!(0)) {
        return Ok(None);
    }
    let floor = file.size_or("floor_scale", 8192)? as f32;
    Ok(Some(QueryTemperature {
        scale: file.optional("attn_scale")?.unwrap_or(0.1),
        floor,
        first: 1,
    }))
}

/// Which layers have experts: `moe_layers`, or without it every `interleave_moe_layer_step`-th.
fn sparse_layers(file: &ConfigFile) -> Result<impl Fn(usize) -> bool + use<>> {
    let listed = file.optional::<Vec<usize>>("moe_layers")?;
    let step = match &listed {
        Some(_) => 1,
        None => file.size_or("interleave_moe_layer_step", 1)?.unsigned_abs() as usize,
    };
    if file.optional("num_experts_per_tok")?.unwrap_or(1) != 1 {
        return Err(file.error("\"num_experts_per_tok\" is not 1, as in every Llama 4"));
    }
    Ok(move |layer: usize| match &listed {
        Some(listed) => listed.contains(&layer),
        None => (layer + 1).is_multiple_of(step),
    })
}
