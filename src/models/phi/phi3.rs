//! Phi 3 and 4 (Abdin et al. 2024): Llama with fused projections, rotating a part of each head. Of
//! Phi 4's checkpoints that also see and hear, the language model.

use serde_json::json;

use crate::error::Result;
use crate::models::config::{ConfigFile, RopeDefaults};
use crate::models::{Architecture, LanguageModel};
use crate::nn::Mlp;
use crate::weights::Weights;

pub(super) const ARCHITECTURE: Architecture =
    Architecture::new(&["phi3", "phi4_multimodal"], build)
        .ignoring(|_, tensor| tensor.starts_with("model.embed_tokens_extend."));

fn build(file: &ConfigFile, w: &Weights) -> Result<Box<dyn LanguageModel>> {
    let file = &file.with_defaults([
        ("max_position_embeddings", json!(4096)),
        ("original_max_position_embeddings", json!(4096)),
    ]);
    let share = Some(1.0);
    let rope = RopeDefaults { base: Some(10_000.0), traditional: false, share };
    let mut decoder = file.decoder(&rope)?;
    decoder.attention.qkv = &["qkv_proj"];
    decoder.set_windows(vec![file.window_if_given()?; decoder.layers.len()]);
    let (dims, hidden) = (decoder.attention.dims, file.size("intermediate_size")?);
    let activation = file.activation()?;
    Ok(Box::new(decoder.build(w, |_, w| {
        let (w, names) = (w.at("mlp"), ["gate_up_proj", "down_proj"]);
        Ok(Box::new(Mlp::fused(&w, names, dims, hidden, false, activation)?))
    })?))
}
