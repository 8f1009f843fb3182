//! Granite 3 (IBM 2024): Llama, or a mixture of experts, with factors on embeddings, scores,
//! residuals and logits; and its successors (IBM 2026) whose layers mostly see a window, have scores
//! for looking at nothing, and rotations of their own.

use serde_json::json;

use super::config::{ConfigFile, RopeDefaults};
use super::{Architecture, LanguageModel, mlp};
use crate::error::Result;
use crate::nn::{ExpertNames, Experts, Mlp, Moe, MoeConfig, Router, Routing, StandardDecoder};
use crate::weights::Weights;

pub(super) const ARCHITECTURE: Architecture = Architecture::new(&MODEL_TYPES, build).with_eps(1e-6);

const MODEL_TYPES: [&str; 5] =
    ["granite", "granitemoe", "granitemoeshared", "granite_swa", "granitemoe_swa"];

/// `attention_multiplier`, `embedding_multiplier`, `residual_multiplier` and `logits_scaling`.
pub(super) fn set_factors(file: &ConfigFile, decoder: &mut StandardDecoder) -> Result<()> {
    let factor = |field: &str| -> Result<f32> { Ok(file.optional(field)?.unwrap_or(1.0)) };
    decoder.attention.scale = Some(factor("attention_multiplier")?);
    decoder.embedding_scale = Some(factor("embedding_multiplier")?);
    decoder.residual_scale = Some(factor("residual_multiplier")?);
    decoder.logit_scale = Some(factor("logits_scaling")?.recip());
    Ok(())
}

fn build(file: &ConfigFile, w: &Weights) -> Result<Box<dyn LanguageModel>> {
    let model_type = file.model_type()?;
    let has_windows = model_type.contains("_swa");
    let file = &match model_type.starts_with("granite_swa") {
        true => file.with_default_eps(1e-5),
        false => file.clone(),
    };
    let mut decoder = file.decoder(&RopeDefaults::base(10_000.0))?;
    set_factors(file, &mut decoder)?;
    if has_windows {
        set_layers(file, &mut decoder)?;
    }
    let dims = decoder.attention.dims;
    if !model_type.starts_with("granitemoe") {
        return Ok(Box::new(decoder.build(w, mlp(file, dims)?)?));
    }
    let experts = file.size("num_local_experts")?;
    let config = MoeConfig {
        dims,
        hidden: file.size("intermediate_size")?,
        experts,
        active: file.active_experts(experts, None)?,
        activation: file.activation()?,
        routing: Routing::TopThenSoftmax,
    };
    let older = ["input_linear.weight", "output_linear.weight"];
    let shared = match file.optional::<i64>("shared_intermediate_size")? {
        None | Some(0) => None,
        Some(_) => Some(file.size("shared_intermediate_size")?),
    };
    Ok(Box::new(decoder.build(w, |_, w| {
        let block = w.at("block_sparse_moe");
        let newer = block.at("router").has("weight");
        let router = if newer { "router" } else { "router.layer" };
        let router = Router::new(&block.at(router), config, false)?;
        let usual = ExpertNames::default();
        let names = if newer { usual } else { ExpertNames { fused: older, ..usual } };
        let moe = Moe::of(router, Experts::new(&block, config, names)?);
        let Some(hidden) = shared else { return Ok(Box::new(moe)) };
        let names = ["input_linear", "output_linear"];
        let activation = config.activation;
        let shared = Mlp::fused(&w.at("shared_mlp"), names, dims, hidden, false, activation)?;
        Ok(Box::new(moe.with_shared(shared)))
    })?))
}

/// What each layer sees, every fourth from the first one all positions, and the base of its
/// rotation, 0 for none.
fn set_layers(file: &ConfigFile, decoder: &mut StandardDecoder) -> Result<()> {
    let kind = |layer: usize| match layer.is_multiple_of(4) {
        true => "full_attention",
        false => "sliding_attention",
    };
    let kinds: Vec<_> = (0..decoder.layers.len()).map(kind).collect();
    let file = file.with_defaults([("layer_types", json!(kinds))]);
    decoder.attention.sinks = Some("sinks");
    decoder.set_windows(file.windows(128, 4)?);
    let Some(bases) = file.of_each_layer::<f32>("layer_rope_theta")? else { return Ok(()) };
    for (layer, base) in decoder.layers.iter_mut().zip(bases) {
        layer.rope = match base {
            0.0 => None,
            base => Some(file.rope_at(base, decoder.attention.head_dim)?),
        };
    }
    Ok(())
}
