//! Baichuan-M1 (Baichuan 2025): keys and values are mixed with those of the position before, some
//! layers see a window with other heads, and the rows of the head have length 1.

use super::config::{ConfigFile, RopeDefaults};
use super::{Architecture, LanguageModel, mlp};
use crate::error::Result;
use crate::nn::{AttentionConfig, ConvAttention, Linear};
use crate::weights::Weights;

pub(super) const ARCHITECTURE: Architecture =
    Architecture::new(&["baichuan_m1"], build).with_eps(1e-6);

/// The base of the rotation, where nothing is said.
const BASE: f32 = 10_000.0;

fn build(file: &ConfigFile, w: &Weights) -> Result<Box<dyn LanguageModel>> {
    // Each token sees the one before.
    file.expect_number("conv_window", 2.0)?;
    let mut decoder = file.decoder(&RopeDefaults::base(BASE))?;
    decoder.attention.qkv = &["W_pack"];
    decoder.attention.qkv_bias = false;
    decoder.attention.output_bias = false;
    decoder.tied = Some(false);
    decoder.head = Linear::with_unit_rows;
    let near: Vec<usize> = file.optional("sliding_window_layers")?.unwrap_or_default();
    let near: Vec<bool> = (0..decoder.layers.len()).map(|layer| near.contains(&layer)).collect();
    if near.contains(&true) {
        let window = file.window()?;
        decoder.set_windows(near.iter().map(|near| near.then_some(window)).collect());
    }
    let within_windows = with_own_heads(file, decoder.attention)?;
    let rope = file.rope(within_windows.head_dim, Some(BASE), false)?;
    for (layer, _) in decoder.layers.iter_mut().zip(&near).filter(|(_, near)| **near) {
        layer.rope = Some(rope.clone());
    }
    Ok(Box::new(decoder.build_hybrid(
        w,
        |index, w| {
            let config = if near[index] { &within_windows } else { &decoder.attention };
            let (w, layer) = (w.at("self_attn"), decoder.layers[index].clone());
            Ok(Box::new(ConvAttention::new(&w, config, layer)?))
        },
        mlp(file, decoder.attention.dims)?,
    )?))
}

/// The attention of layers that see a window.
fn with_own_heads(file: &ConfigFile, all: AttentionConfig) -> Result<AttentionConfig> {
    let fields = [
        ("num_attention_heads", "num_swa_attention_heads", all.heads),
        ("num_key_value_heads", "num_swa_key_value_heads", all.kv_heads),
    ];
    let mut own = file.without("head_dim");
    for (field, field_of_windows, default) in fields {
        own = own.with([(field, file.size_or(field_of_windows, default)?.into())]);
    }
    let own = own.attention()?;
    let AttentionConfig { heads, kv_heads, head_dim, .. } = own;
    Ok(AttentionConfig { heads, kv_heads, head_dim, ..all })
}
