//! MPT (MosaicML 2023): scores by distance in place of rotations, layer norms, and no biases.

use serde::Deserialize;
use serde_json::{Value, json};

use super::config::ConfigFile;
use super::{Architecture, LanguageModel};
use crate::error::Result;
use crate::nn::{Activation, AlibiConfig, DecoderNames, Norm, NormLayout, PlainMlp};
use crate::weights::Weights;

pub(super) const ARCHITECTURE: Architecture = Architecture::new(&["mpt"], build);

/// The fields of `attn_config` that change the model.
#[derive(Deserialize)]
#[serde(default)]
struct Attention {
    attn_type: String,
    alibi: bool,
    alibi_bias_max: f32,
    clip_qkv: Option<f32>,
    softmax_scale: Option<f32>,
    prefix_lm: bool,
    qk_ln: bool,
}

impl Default for Attention {
    fn default() -> Self {
        Self {
            attn_type: "multihead_attention".to_owned(),
            alibi: true,
            alibi_bias_max: 8.0,
            clip_qkv: None,
            softmax_scale: None,
            prefix_lm: false,
            qk_ln: false,
        }
    }
}

fn build(file: &ConfigFile, w: &Weights) -> Result<Box<dyn LanguageModel>> {
    let attention: Attention = file.optional("attn_config")?.unwrap_or_default();
    let unsupported = [
        ("attn_type", attention.attn_type != "multihead_attention"),
        ("alibi", !attention.alibi),
        ("prefix_lm", attention.prefix_lm),
        ("qk_ln", attention.qk_ln),
        ("logit_scale", file.optional::<Value>("logit_scale")?.is_some()),
    ];
    if let Some((field, _)) = unsupported.into_iter().find(|(_, is)| *is) {
        return Err(file.error(format!("this value of \"{field}\" is not supported")));
    }
    let file = &file
        .renamed(&[
            ("hidden_size", "d_model"),
            ("num_attention_heads", "n_heads"),
            ("num_hidden_layers", "n_layers"),
        ])
        .with_defaults([
            ("hidden_size", json!(2048)),
            ("num_attention_heads", json!(16)),
            ("num_hidden_layers", json!(24)),
            ("vocab_size", json!(50_368)),
            ("tie_word_embeddings", json!(true)),
        ]);
    let mut decoder = file.unrotated_decoder()?;
    decoder.norm = Norm::layer;
    decoder.layout = NormLayout::pre(["norm_1", "norm_2"]);
    decoder.names = DecoderNames { layers: "blocks", norm: "norm_f", ..DecoderNames::GPT2 };
    decoder.attention.alibi =
        Some(AlibiConfig { max: attention.alibi_bias_max, ..AlibiConfig::PLAIN });
    decoder.attention.qkv = &["Wqkv"];
    decoder.attention.clip_qkv = attention.clip_qkv;
    decoder.attention.scale = attention.softmax_scale;
    decoder.attention.output = "out_proj";
    let dims = decoder.attention.dims;
    let (hidden, names) = (dims.saturating_mul(4), ["up_proj", "down_proj"]);
    Ok(Box::new(decoder.build(w, |_, w| {
        let w = w.at("ffn");
        Ok(Box::new(PlainMlp::new(&w, names, dims, hidden, false, Activation::Gelu)?))
    })?))
}
