//! Bamba (IBM, Princeton and UIUC 2024): Mamba 2 mixers and, in some layers, attention.

use serde::Deserialize;
use serde_json::{Value, json};

use super::config::{ConfigFile, Mamba2Fields, RopeDefaults};
use super::{Architecture, LanguageModel};
use crate::error::Result;
use crate::nn::{Mamba2, Mlp, NormLayout};
use crate::weights::Weights;

pub(super) const ARCHITECTURE: Architecture = Architecture::new(&["bamba"], build);

#[derive(Clone, Copy, PartialEq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Kind {
    #[serde(alias = "mamba")]
    LinearAttention,
    #[serde(alias = "attention")]
    FullAttention,
}

fn build(file: &ConfigFile, w: &Weights) -> Result<Box<dyn LanguageModel>> {
    let file = &with_defaults(file)?;
    // The share is fixed, whatever a configuration says.
    let rope = RopeDefaults { base: Some(10_000.0), traditional: false, share: Some(0.5) };
    let mut decoder = file.decoder(&rope)?;
    decoder.layout = NormLayout::pre(["input_layernorm", "pre_ff_layernorm"]);
    decoder.names.norm = "final_layernorm";
    let attends: Vec<bool> = match file.layer_kinds::<Kind>()? {
        Some(kinds) => kinds.into_iter().map(|kind| kind == Kind::FullAttention).collect(),
        None => {
            let listed: Vec<usize> = file.optional("attn_layer_indices")?.unwrap_or_default();
            (0..file.layers()?).map(|layer| listed.contains(&layer)).collect()
        }
    };
    file.expect_silu("hidden_act")?;
    let mamba = file.mamba2(&Mamba2Fields::BAMBA)?;
    let (dims, hidden) = (decoder.attention.dims, file.size("intermediate_size")?);
    let (bias, activation) = (file.flag("mlp_bias")?, file.activation()?);
    Ok(Box::new(decoder.build_hybrid(
        w,
        |index, w| match attends[index] {
            true => decoder.attention(index, w),
            false => Ok(Box::new(Mamba2::new(&w.at("mamba"), mamba)?)),
        },
        |_, w| {
            let w = w.at("feed_forward");
            Ok(Box::new(Mlp::new(&w, dims, hidden, bias, activation)?))
        },
    )?))
}

/// What may be left out; `mamba_d_head` may be "auto", too.
fn with_defaults(file: &ConfigFile) -> Result<ConfigFile> {
    let file = file.with_defaults([
        ("hidden_size", json!(4096)),
        ("intermediate_size", json!(14_336)),
        ("num_hidden_layers", json!(32)),
        ("num_attention_heads", json!(32)),
        ("num_key_value_heads", json!(8)),
        ("vocab_size", json!(128_000)),
        ("mamba_n_heads", json!(128)),
        ("mamba_n_groups", json!(1)),
        ("mamba_d_state", json!(256)),
        ("mamba_d_conv", json!(4)),
        ("mamba_conv_bias", json!(true)),
    ]);
    if matches!(file.optional("mamba_d_head")?, Some(Value::Number(_))) {
        return Ok(file);
    }
    let inner = file.size("hidden_size")?.saturating_mul(file.size_or("mamba_expand", 2)?);
    Ok(file.with([("mamba_d_head", json!(inner / file.size("mamba_n_heads")?))]))
}
