//! Llama Nemotron (Bercovich et al. 2025, "Puzzle"): Llama whose layers were searched for: of
//! different widths, without attention or MLP, or with a matrix in its place.

use serde::Deserialize;

use crate::error::Result;
use crate::models::config::{ConfigFile, RopeDefaults};
use crate::models::{Architecture, LanguageModel};
use crate::nn::{Activation, AttentionConfig, Backbone, Block, Embedding, Head, Linear, Mlp, Norm};
use crate::weights::Weights;

pub(super) const ARCHITECTURE: Architecture = Architecture::new(&["nemotron-nas", "deci"], build);

#[derive(Deserialize)]
struct Layer {
    #[serde(default)]
    attention: AttentionBlock,
    #[serde(default)]
    ffn: FeedForwardBlock,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct AttentionBlock {
    no_op: bool,
    replace_with_linear: bool,
    n_heads_in_group: Option<i32>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct FeedForwardBlock {
    no_op: bool,
    replace_with_linear: bool,
    ffn_mult: Option<f64>,
}

fn build(file: &ConfigFile, w: &Weights) -> Result<Box<dyn LanguageModel>> {
    let layers: Option<Vec<Layer>> = file.of_each_layer("block_configs")?;
    let layers = layers.ok_or_else(|| file.error("\"block_configs\" is missing"))?;
    let decoder = file.decoder(&RopeDefaults::base(500_000.0))?;
    let (attention, eps) = (decoder.attention, decoder.eps);
    let (dims, model) = (attention.dims, w.at("model"));
    let activation = file.optional("hidden_act")?.unwrap_or(Activation::Silu);
    let bias = file.flag("mlp_bias")?;
    let mut blocks = Vec::new();
    for (index, Layer { attention: mixer, ffn }) in layers.iter().enumerate() {
        let w = model.at("layers").at(index);
        let norm = |name: &str| Norm::rms(&w.at(name), dims, eps);
        let matrix = |name: &str, bias: bool| -> Result<Block> {
            let linear = Linear::new(&w.at(name).at("linear"), dims, dims, bias)?;
            Ok(Block::FeedForward(Box::new(linear)))
        };
        if !mixer.no_op {
            let block = if mixer.replace_with_linear {
                matrix("self_attn", attention.qkv_bias)?
            } else {
                let config = with_groups(file, attention, mixer.n_heads_in_group)?;
                let layer = decoder.layers[index].clone();
                Block::Mixer(Box::new(config.build(&w.at("self_attn"), layer)?))
            };
            blocks.push((norm("input_layernorm")?, block));
        }
        if !ffn.no_op {
            let block = if ffn.replace_with_linear {
                matrix("mlp", bias)?
            } else {
                let hidden = width(file, dims, ffn.ffn_mult)?;
                Block::FeedForward(Box::new(Mlp::new(
                    &w.at("mlp"),
                    dims,
                    hidden,
                    bias,
                    activation,
                )?))
            };
            blocks.push((norm("post_attention_layernorm")?, block));
        }
    }
    let (vocabulary, embedding) = (decoder.vocabulary, model.at("embed_tokens"));
    Ok(Box::new(Backbone {
        embedding_norm: None,
        embedding: Embedding::new(&embedding, vocabulary, dims)?,
        layers: blocks,
        norm: Norm::rms(&model.at("norm"), dims, eps)?,
        head: Head::new(&w.at("lm_head"), &embedding, decoder.tied, dims, vocabulary)?,
        prediction: None,
    }))
}

/// Attention with so many query heads for each head of keys and values.
fn with_groups(
    file: &ConfigFile,
    attention: AttentionConfig,
    group: Option<i32>,
) -> Result<AttentionConfig> {
    let heads = attention.heads;
    match group {
        Some(group) if group > 0 && heads % group == 0 => {
            Ok(AttentionConfig { kv_heads: heads / group, ..attention })
        }
        _ => Err(file.error(format!("\"n_heads_in_group\" does not divide {heads} heads"))),
    }
}

/// ⅔ of so many times the features, rounded up to a multiple of 256.
fn width(file: &ConfigFile, dims: i32, times: Option<f64>) -> Result<i32> {
    let Some(times) = times else { return Err(file.error("\"ffn_mult\" is missing")) };
    let hidden = (2.0 * (times * 1e6).round() / 1e6 * f64::from(dims) / 3.0) as i64;
    file.bounded("ffn_mult", hidden.saturating_add(255) / 256 * 256, 1 << 24)
}
