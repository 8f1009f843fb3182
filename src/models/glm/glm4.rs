//! GLM 4 (GLM Team 2024): neighbouring features of the first part of each head are rotated, and
//! gate and up are one projection. Its second generation has norms after the blocks, too.

use serde_json::json;

use crate::error::Result;
use crate::models::config::{ConfigFile, RopeDefaults};
use crate::models::{Architecture, LanguageModel};
use crate::nn::{Mlp, NormLayout, language_model};
use crate::weights::Weights;

pub(super) const ARCHITECTURE: Architecture =
    Architecture::new(&["glm", "glm4"], build).with_eps(1.5625e-7);

fn build(file: &ConfigFile, w: &Weights) -> Result<Box<dyn LanguageModel>> {
    let is_second = file.model_type()? == "glm4";
    // Implementations differ where it is not said.
    let has_bias = language_model(w).at("layers.0.self_attn.q_proj").has("bias");
    let file = &file.with_defaults([("attention_bias", json!(has_bias))]);
    let share = Some(0.5);
    let rope = RopeDefaults { base: Some(10_000.0), traditional: true, share };
    let mut decoder = file.decoder(&rope)?;
    decoder.attention.output_bias = false;
    if is_second {
        decoder.layout = NormLayout::sandwich([
            "input_layernorm",
            "post_self_attn_layernorm",
            "post_attention_layernorm",
            "post_mlp_layernorm",
        ]);
    }
    let (dims, hidden) = (decoder.attention.dims, file.size("intermediate_size")?);
    let activation = file.activation()?;
    Ok(Box::new(decoder.build(w, |_, w| {
        let (w, names) = (w.at("mlp"), ["gate_up_proj", "down_proj"]);
        Ok(Box::new(Mlp::fused(&w, names, dims, hidden, false, activation)?))
    })?))
}
