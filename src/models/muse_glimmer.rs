//! Muse Glimmer (Meta 2026): norms around each block and over each query and key head, gated
//! attention, and most layers within a window, beside others that do not look at positions. Of
//! checkpoints that also see images, the language model.

use serde_json::json;

use super::config::{ConfigFile, LayerType, RopeDefaults};
use super::{Architecture, LanguageModel};
use crate::error::Result;
use crate::nn::{
    Activation, GatePlace, Mlp, Norm, NormLayout, OutputGate, QkNorm, StandardDecoder,
};
use crate::weights::Weights;

pub(super) const ARCHITECTURE: Architecture =
    Architecture::new(&["muse_glimmer"], build).ignoring(|_, tensor| {
        let tensor = tensor.strip_prefix("model.").unwrap_or(tensor);
        tensor.starts_with("vision_")
    });

/// The name of the norm behind the embedding.
pub(super) const EMBEDDING_NORM: &str = "embed_norm";

fn build(file: &ConfigFile, w: &Weights) -> Result<Box<dyn LanguageModel>> {
    let file = &file.with_defaults([
        ("hidden_size", json!(6656)),
        ("intermediate_size", json!(19_968)),
        ("num_hidden_layers", json!(52)),
        ("num_attention_heads", json!(32)),
        ("num_key_value_heads", json!(2)),
        ("head_dim", json!(128)),
        ("vocab_size", json!(202_048)),
        ("tie_word_embeddings", json!(false)),
    ]);
    let mut decoder = decoder(file, &RopeDefaults::base(10_000.0), [3.87, 0.196_116_14])?;
    decoder.norm = norm;
    decoder.attention.gate = Some("gate_proj");
    let (dims, hidden) = (decoder.attention.dims, file.size("intermediate_size")?);
    let activation = file.optional("hidden_activation")?.unwrap_or(Activation::Silu);
    Ok(Box::new(
        decoder.build(w, |_, w| {
            Ok(Box::new(Mlp::new(&w.at("mlp"), dims, hidden, false, activation)?))
        })?,
    ))
}

/// What Muse's models have in common: norms around blocks and over heads, gates, layers within a
/// window, and bounded logits; with the defaults of `qk_scale_factor` and `output_multiplier`.
pub(super) fn decoder(
    file: &ConfigFile,
    rope: &RopeDefaults,
    [qk_scale, multiplier]: [f32; 2],
) -> Result<StandardDecoder> {
    let mut decoder = file.decoder(rope)?;
    decoder.after_eps = Some(file.optional("post_norm_eps")?.unwrap_or(1e-8));
    decoder.layout = NormLayout::SANDWICH;
    decoder.embedding_norm = Some(EMBEDDING_NORM);
    decoder.attention.qk_norm = Some(QkNorm::each_head(Norm::unweighted, decoder.eps));
    let factor: f32 = file.optional("qk_scale_factor")?.unwrap_or(qk_scale);
    decoder.attention.scale = Some(factor / (decoder.attention.head_dim as f32).sqrt());
    decoder.attention.output_gate = Some(OutputGate::sigmoid(GatePlace::EachFeature));
    decoder.logit_scale = Some(file.optional("output_multiplier")?.unwrap_or(multiplier));
    decoder.logit_cap = file.unless_null("final_logit_softcapping", 20.0)?;
    // Every fourth layer, counted from the last one.
    let count = decoder.layers.len();
    let is_fourth = |layer: usize| (count - 1 - layer).is_multiple_of(4);
    let near: Vec<bool> = match file.layer_types()? {
        Some(types) => types.iter().map(|it| *it == LayerType::SlidingAttention).collect(),
        None => (0..count).map(|layer| !is_fourth(layer)).collect(),
    };
    let bases: Option<Vec<f32>> = file.of_each_layer("layer_rope_theta")?;
    let window = file.size_or("sliding_window", 2048)?;
    for (index, layer) in decoder.layers.iter_mut().enumerate() {
        // All that rotate do so at one base, whatever is said here.
        let rotated = bases.as_ref().map_or(!is_fourth(index), |bases| bases[index] != 0.0);
        layer.rope = layer.rope.take().filter(|_| rotated);
        layer.span = near[index].then_some(window).into();
    }
    Ok(decoder)
}

/// Norms without weights behind the embedding, with weights that are stored less 1 in the layers,
/// and with weights behind the last one.
fn norm(w: &Weights, dims: i32, eps: f32) -> Result<Norm> {
    match w.prefix().rsplit('.').next() {
        Some(EMBEDDING_NORM) => Norm::unweighted(w, dims, eps),
        Some("norm") => Norm::rms(w, dims, eps),
        _ => Norm::rms_plus_one(w, dims, eps),
    }
}
