//! XGLM (Lin et al. 2021): OPT's layers behind waves of positions.

use serde_json::json;

use super::config::ConfigFile;
use super::{Architecture, LanguageModel};
use crate::error::Result;
use crate::nn::{Activation, DecoderNames, Norm, NormLayout, PlainMlp, Positions};
use crate::weights::Weights;

pub(super) const ARCHITECTURE: Architecture =
    Architecture::new(&["xglm"], build).with_eps(1e-5).ignoring(|_, tensor| {
        // Older ones hold the waves.
        tensor.ends_with("embed_positions.weights")
    });

/// The number of the first position.
const FIRST: i32 = 2;

fn build(file: &ConfigFile, w: &Weights) -> Result<Box<dyn LanguageModel>> {
    let file = &file
        .renamed(&[
            ("hidden_size", "d_model"),
            ("num_hidden_layers", "num_layers"),
            ("num_attention_heads", "attention_heads"),
            ("intermediate_size", "ffn_dim"),
            ("hidden_act", "activation_function"),
        ])
        .with_defaults([
            ("vocab_size", json!(256_008)),
            ("hidden_size", json!(1024)),
            ("intermediate_size", json!(4096)),
            ("num_hidden_layers", json!(24)),
            ("num_attention_heads", json!(16)),
            ("tie_word_embeddings", json!(true)),
            ("attention_bias", json!(true)),
        ]);
    if file.flag("add_cross_attention")? {
        return Err(file.error("\"add_cross_attention\" is true, which is not supported"));
    }
    let mut decoder = file.unrotated_decoder()?;
    let dims = decoder.attention.dims;
    if dims < 4 || dims % 2 != 0 {
        return Err(file.error(format!("\"d_model\" {dims} is not even, and 4 or more")));
    }
    decoder.norm = Norm::layer;
    decoder.layout = NormLayout::pre(["self_attn_layer_norm", "final_layer_norm"]);
    decoder.names = DecoderNames { norm: "layer_norm", ..DecoderNames::default() };
    decoder.attention.output = "out_proj";
    let is_scaled = file.flag_on("scale_embedding")?;
    decoder.embedding_scale = is_scaled.then(|| (dims as f32).sqrt());
    let activation = file.optional("hidden_act")?.unwrap_or(Activation::Gelu);
    let hidden = file.size("intermediate_size")?;
    let mut decoder = decoder.build(w, |_, w| {
        Ok(Box::new(PlainMlp::new(w, ["fc1", "fc2"], dims, hidden, true, activation)?))
    })?;
    decoder.positions = Some(Positions::waves(dims, FIRST));
    Ok(Box::new(decoder))
}
