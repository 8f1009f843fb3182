//! Llama 4 (Meta 2025): most layers attend within chunks, the others to all positions without
//! looking at them, but with queries that grow; experts see their input weighted. Of checkpoints
//! that also see images, the language model.

use serde::Deserialize;
use serde_json::{Value, json};

use super::config::{ConfigFile, RopeDefaults};
use super::{Architecture, LanguageModel};
use crate::error::Result;
use crate::nn::{
    Activation, Attention, ExpertNames, Experts, Mlp, Moe, MoeConfig, QkNorm, QueryTemperature,
    Router, Routing,
};
use crate::weights::Weights;

pub(super) const ARCHITECTURE: Architecture = Architecture {
    name: "llama4",
    model_types: &["llama4", "llama4_text"],
    build: |file, w| match file.model_type()?.as_str() {
        "llama4" => build(&file.text_part()?, &w.at("language_model")),
        // The text model by itself has experts only where it says so.
        _ => build(&file.with_defaults([("moe_layers", json!([]))]), w),
    },
    ignores: |file, tensor| {
        tensor.starts_with("vision_model.")
            || tensor.starts_with("multi_modal_projector.")
            || super::rotary_frequencies(file, tensor)
    },
};

#[derive(PartialEq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Kind {
    ChunkedAttention,
    FullAttention,
}

fn build(file: &ConfigFile, w: &Weights) -> Result<Box<dyn LanguageModel>> {
    let rope = RopeDefaults { base: Some(500_000.0), traditional: true, share: None };
    let mut decoder = file.decoder(&rope)?;
    if w.has("output.weight") {
        decoder.head = "output";
    }
    let rotated = file.rotated_layers()?;
    let chunked: Vec<bool> = match file.layer_kinds::<Kind>()? {
        Some(kinds) => kinds.iter().map(|kind| *kind == Kind::ChunkedAttention).collect(),
        None => rotated.clone(),
    };
    // Without effect where all positions are in the first one.
    let chunk = file.size_or("attention_chunk_size", 8192)?;
    let whole = file.context_length().is_some_and(|context| context <= chunk as usize);
    let qk_norm = match file.optional("use_qk_norm")?.unwrap_or(true) {
        true => QkNorm::HeadUnweighted(decoder.eps),
        false => QkNorm::None,
    };
    let temperature = temperature(file)?;
    let attention = |index: usize, layer: &Weights| {
        let (mut config, mut rope) = (decoder.attention.clone(), None);
        if rotated[index] {
            config.qk_norm = qk_norm;
            rope.clone_from(&decoder.layers[index].rope);
        }
        let mut attention = Attention::new(&layer.at("self_attn"), config, rope, None)?;
        if chunked[index] && !whole {
            attention = attention.within_chunks(chunk);
        }
        Ok(match temperature.filter(|_| !rotated[index]) {
            Some(temperature) => Box::new(attention.with_temperature(temperature)),
            None => Box::new(attention),
        } as _)
    };
    let dims = decoder.attention.dims;
    let (sparse, dense) = (sparse_layers(file)?, file.size("intermediate_size_mlp")?);
    let hidden = file.size("intermediate_size")?;
    Ok(Box::new(decoder.build_hybrid(w, attention, |index, layer| {
        let w = layer.at("feed_forward");
        if !sparse(index) {
            return Ok(Box::new(Mlp::new(&w, dims, dense, false, Activation::Silu)?));
        }
        let experts = file.size("num_local_experts")?;
        let (active, routing) = (1, Routing::SigmoidOfInput);
        let config = MoeConfig { dims, hidden, experts, active, routing };
        let experts = if w.has("experts.gate_up_proj") {
            Experts::transposed(&w.at("experts"), config)?
        } else {
            let stacked = ["experts.gate_proj", "experts.up_proj", "experts.down_proj"];
            Experts::new(&w, config, ExpertNames { stacked, ..ExpertNames::default() })?
        };
        let moe = Moe::of(Router::new(&w.at("router"), config, false)?, experts);
        Ok(Box::new(moe.with_shared_mlp(&w.at("shared_expert"), hidden)?))
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
