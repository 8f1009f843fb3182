//! Spark 2.5 (2026): gates of each head, and most layers within a window, with a rotation
//! of their own beside those that see all positions.

use serde_json::json;

use super::config::{ConfigFile, RopeDefaults};
use super::{Architecture, LanguageModel};
use crate::error::Result;
use crate::nn::{Activation, GatePlace, Mlp, OutputGate};
use crate::weights::Weights;

pub(super) const ARCHITECTURE: Architecture =
    Architecture::new(&["spark2_5"], build).with_eps(1e-6);

fn build(file: &ConfigFile, w: &Weights) -> Result<Box<dyn LanguageModel>> {
    let file = &file.with_defaults([("tie_word_embeddings", json!(true))]);
    if file.optional("headwise_attn_output_gate")? == Some(false) {
        return Err(file.error("\"headwise_attn_output_gate\" is false, which is not supported"));
    }
    if file.optional::<String>("gate_attn_act_mode")?.is_some_and(|mode| mode != "sigmoid") {
        return Err(file.error("\"gate_attn_act_mode\" is not \"sigmoid\""));
    }
    let rope = |kind: &str| -> Result<_> {
        let file = file.rope_parameters_of(kind).unwrap_or_else(|| file.clone());
        let dims = file.size("head_dim")? as f32 * file.rotated_share(Some(1.0))?;
        file.rope(dims as i32, Some(10_000.0), false)
    };
    let (near, far) = (rope("sliding_attention")?, rope("full_attention")?);
    // The rotations differ between kinds of layers.
    let mut decoder = file.without("rope_parameters").decoder(&RopeDefaults::base(10_000.0))?;
    if !w.at("model.embed_tokens").has("weight") {
        decoder.names.embedding = "embedding";
    }
    decoder.attention.qkv = &["q_k_v_proj"];
    decoder.attention.gate = Some("g_proj");
    decoder.attention.output_gate = Some(OutputGate::sigmoid(GatePlace::EachHead));
    decoder.attention.output = "out_proj";
    for (layer, window) in decoder.layers.iter_mut().zip(file.windows(2048, 4)?) {
        layer.rope = Some(if window.is_some() { near.clone() } else { far.clone() });
        layer.span = window.into();
    }
    let (dims, hidden) = (decoder.attention.dims, file.size("intermediate_size")?);
    let (bias, activation) =
        (file.flag("mlp_bias")?, file.optional("hidden_act")?.unwrap_or(Activation::Gelu));
    Ok(Box::new(
        decoder.build(w, |_, w| {
            Ok(Box::new(Mlp::new(&w.at("mlp"), dims, hidden, bias, activation)?))
        })?,
    ))
}
