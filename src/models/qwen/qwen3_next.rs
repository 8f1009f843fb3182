//! Qwen 3 Next (Qwen Team 2025): most layers are gated delta nets, every few attend behind a gate;
//! all of them with experts.

use serde::Deserialize;
use serde_json::json;

use super::qwen3_moe::{experts, sparse_layers};
use crate::error::Result;
use crate::models::config::{ConfigFile, RopeDefaults};
use crate::models::{Architecture, LanguageModel, mlp};
use crate::nn::{
    DeltaProjections, ExpertNames, FeedForward, GatePlace, GatedDelta, Moe, Norm, OutputGate,
    PredictionConfig, PredictionNames, PredictionPlace, QkNorm, StandardDecoder, language_model,
};
use crate::weights::Weights;

pub(super) const ARCHITECTURE: Architecture = Architecture::new(&["qwen3_next"], build)
    .with_eps(1e-6)
    .ignoring(|_, tensor| tensor.starts_with("mtp."));

fn build(file: &ConfigFile, w: &Weights) -> Result<Box<dyn LanguageModel>> {
    let file = &file.with_defaults([("norm_topk_prob", json!(true))]);
    let share = Some(0.25);
    let decoder =
        file.decoder(&RopeDefaults { base: Some(10_000.0), traditional: false, share })?;
    let dims = decoder.attention.dims;
    let (sparse, dense) = (sparse_layers(file)?, mlp(file, dims)?);
    let experts = experts_and_shared(file, dims)?;
    build_hybrid(file, w, decoder, DeltaProjections::ByKeyHead, |index, w| match sparse(index) {
        true => experts(w),
        false => dense(index, w),
    })
}

#[derive(PartialEq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Kind {
    LinearAttention,
    FullAttention,
}

/// Qwen's decoder of gated delta nets and gated attention: where `layer_types` says so, or every
/// `full_attention_interval` layers.
pub(super) fn build_hybrid(
    file: &ConfigFile,
    w: &Weights,
    mut decoder: StandardDecoder,
    projections: DeltaProjections,
    feed_forward: impl Fn(usize, &Weights) -> Result<Box<dyn FeedForward>>,
) -> Result<Box<dyn LanguageModel>> {
    let delta = file.gated_delta()?;
    let interval = file.size_or("full_attention_interval", 4)?.unsigned_abs() as usize;
    let kinds: Option<Vec<Kind>> = file.layer_kinds()?;
    let attends = |layer: usize| match &kinds {
        Some(kinds) => kinds[layer] == Kind::FullAttention,
        None => (layer + 1).is_multiple_of(interval),
    };
    // Published checkpoints store the norms less 1; those that were converted store the sum, and
    // turn the convolutions.
    let layers = language_model(w).at("layers");
    let published = (0..decoder.layers.len()).any(|layer| {
        let conv = layers.at(layer).at("linear_attn.conv1d");
        conv.shape("weight").is_some_and(|shape| shape.last() != Some(&1))
    });
    let (place, names) = (PredictionPlace::BesideHead("mtp"), PredictionNames::QWEN);
    let attending = (0..decoder.layers.len()).rfind(|&layer| attends(layer));
    decoder.prediction = attending.map(|like| PredictionConfig { place, names, like });
    decoder.attention.output_gate = Some(OutputGate::sigmoid(GatePlace::WithQueries));
    decoder.norm = if published { Norm::rms_plus_one } else { Norm::rms };
    decoder.attention.qk_norm = Some(QkNorm::each_head(decoder.norm, decoder.eps));
    Ok(Box::new(decoder.build_hybrid(
        w,
        |index, w| match attends(index) {
            true => decoder.attention(index, w),
            false => Ok(Box::new(GatedDelta::new(&w.at("linear_attn"), delta, projections)?)),
        },
        feed_forward,
    )?))
}

/// Qwen's experts, one of which sees every token.
pub(super) fn experts_and_shared(
    file: &ConfigFile,
    dims: i32,
) -> Result<impl Fn(&Weights) -> Result<Box<dyn FeedForward>> + use<>> {
    let (config, shared) = (experts(file, dims)?, file.size("shared_expert_intermediate_size")?);
    Ok(move |w: &Weights| -> Result<Box<dyn FeedForward>> {
        let w = w.at("mlp");
        let moe = Moe::new(&w, config, ExpertNames::default())?;
        Ok(Box::new(moe.with_shared_expert(&w, shared)?))
    })
}
