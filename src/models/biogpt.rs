//! BioGPT (Luo et al. 2022): OPT's layers, whose embeddings are scaled.

use serde_json::json;

use super::config::ConfigFile;
use super::{Architecture, LanguageModel};
use crate::error::Result;
use crate::nn::{Activation, DecoderNames, Norm, NormLayout, PlainMlp, PositionTable};
use crate::weights::Weights;

pub(super) const ARCHITECTURE: Architecture = Architecture::new(&["biogpt"], build);

fn build(file: &ConfigFile, w: &Weights) -> Result<Box<dyn LanguageModel>> {
    // The norms have this epsilon, whatever a configuration says.
    let file = &file.with([("layer_norm_eps", json!(1e-5)), ("attention_bias", json!(true))]);
    let file = &file.with_defaults([("tie_word_embeddings", json!(true))]);
    let mut decoder = file.unrotated_decoder()?;
    let dims = decoder.attention.dims;
    decoder.norm = Norm::layer;
    decoder.layout = NormLayout::pre(["self_attn_layer_norm", "final_layer_norm"]);
    decoder.names = DecoderNames {
        model: "biogpt",
        norm: "layer_norm",
        head: "output_projection",
        ..DecoderNames::default()
    };
    let positions = file.size_or("max_position_embeddings", 1024)?;
    decoder.positions = Some(PositionTable { name: "embed_positions", positions, first: 2 });
    decoder.attention.output = "out_proj";
    let is_scaled = file.flag_on("scale_embedding")?;
    decoder.embedding_scale = is_scaled.then(|| (dims as f32).sqrt());
    let activation = file.optional("hidden_act")?.unwrap_or(Activation::Gelu);
    let hidden = file.size("intermediate_size")?;
    Ok(Box::new(decoder.build(w, |_, w| {
        Ok(Box::new(PlainMlp::new(w, ["fc1", "fc2"], dims, hidden, true, activation)?))
    })?))
}
