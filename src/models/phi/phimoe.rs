//! Phi 3.5 MoE (Abdin et al. 2024): layer norms, and two experts of which the second is weighed
//! without the first.

use serde_json::{Value, json};

use crate::error::Result;
use crate::models::config::{ConfigFile, RopeDefaults};
use crate::models::{Architecture, LanguageModel};
use crate::nn::{ExpertNames, Moe, MoeConfig, Norm, Routing};
use crate::weights::Weights;

pub(super) const ARCHITECTURE: Architecture = Architecture::new(&["phimoe"], build);

fn build(file: &ConfigFile, w: &Weights) -> Result<Box<dyn LanguageModel>> {
    let mut file = file.with_defaults([
        ("original_max_position_embeddings", json!(4096)),
        ("num_local_experts", json!(16)),
        ("attention_bias", json!(w.at("model.layers.0.self_attn.q_proj").has("bias"))),
    ]);
    for field in ["rope_scaling", "rope_parameters"] {
        file = with_attention_factor(&file, field)?;
    }
    let mut decoder = file.decoder(&RopeDefaults::base(1_000_000.0))?;
    decoder.norm = Norm::layer;
    decoder.set_windows(vec![file.window_if_given()?; decoder.layers.len()]);
    let experts = file.size("num_local_experts")?;
    let config = MoeConfig {
        dims: decoder.attention.dims,
        hidden: file.size("intermediate_size")?,
        experts,
        // Two, whatever "num_experts_per_tok" says.
        active: experts.min(2),
        activation: file.activation()?,
        routing: Routing::SparseMixer(file.optional("router_jitter_noise")?.unwrap_or(0.01)),
    };
    let names = ExpertNames { single: ["w1", "w3", "w2"], ..ExpertNames::default() };
    Ok(Box::new(
        decoder
            .build(w, |_, w| Ok(Box::new(Moe::new(&w.at("block_sparse_moe"), config, names)?)))?,
    ))
}

/// The factors of a long context and of a short one are said apart here.
pub(super) fn with_attention_factor(file: &ConfigFile, field: &str) -> Result<ConfigFile> {
    let Some(mut scaling) = file.optional::<serde_json::Map<String, Value>>(field)? else {
        return Ok(file.clone());
    };
    for (own, name) in
        [("long_mscale", "attention_factor"), ("short_mscale", "short_attention_factor")]
    {
        if let Some(factor) = scaling.remove(own) {
            scaling.insert(name.to_owned(), factor);
        }
    }
    Ok(file.with([(field, Value::Object(scaling))]))
}
