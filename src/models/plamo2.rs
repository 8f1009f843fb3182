//! PLaMo 2 (Preferred Networks 2025): recurrences of heads and attention by turns, between norms
//! whose weights are stored less a number of their place.

use serde_json::json;

use super::config::{ConfigFile, RopeDefaults};
use super::{Architecture, LanguageModel};
use crate::error::Result;
use crate::nn::{
    Activation, HeadMamba, HeadMambaConfig, Mlp, Norm, NormLayout, QkNorm, StandardDecoder,
};
use crate::weights::Weights;

pub(super) const ARCHITECTURE: Architecture = Architecture::new(&["plamo2"], build).with_eps(1e-6);

/// Where a layer's norms stand.
const LAYOUT: NormLayout =
    NormLayout::sandwich(["pre_mixer_norm", "post_mixer_norm", "pre_mlp_norm", "post_mlp_norm"]);

/// Epsilon of the norms over queries and keys, whatever the other norms have.
const QK_EPS: f32 = 1e-6;

/// With the sizes that a configuration leaves out.
pub(super) fn completed(file: &ConfigFile) -> ConfigFile {
    file.with_defaults([
        ("hidden_size", json!(4096)),
        ("intermediate_size", json!(13_312)),
        ("num_hidden_layers", json!(32)),
        ("num_attention_heads", json!(32)),
        ("vocab_size", json!(32_000)),
        ("head_dim", json!(128)),
        ("num_key_value_heads", json!(4)),
        ("tie_word_embeddings", json!(true)),
    ])
}

/// What the decoders of PLaMo 2 and 3 have in common; `base` is that of the rotation.
pub(super) fn decoder(file: &ConfigFile, base: f32) -> Result<StandardDecoder> {
    let mut decoder = file.decoder(&RopeDefaults::base(base))?;
    decoder.norm = norm;
    decoder.layout = LAYOUT;
    decoder.names.layers = "layers.layers";
    decoder.names.attention = "mixer";
    decoder.attention.qkv = &["qkv_proj"];
    Ok(decoder)
}

fn build(file: &ConfigFile, w: &Weights) -> Result<Box<dyn LanguageModel>> {
    let file = completed(&file.renamed(&[("head_dim", "hidden_size_per_head")])).with_defaults([
        ("mamba_d_state", json!(64)),
        ("mamba_d_conv", json!(4)),
        ("mamba_num_heads", json!(64)),
    ]);
    let file = &file;
    let mut decoder = decoder(file, 10_000.0)?;
    decoder.attention.qk_norm =
        Some(QkNorm::each_head_apart(Norm::rms_per_head, QK_EPS).named(["q_weight", "k_weight"]));
    // The token itself is seen, too.
    let window = file.size_or("attention_window_size", 2048)?.saturating_add(1);
    let all: Vec<usize> = file.optional("full_attention_idx")?.unwrap_or_default();
    let windows = (0..decoder.layers.len()).map(|layer| (!all.contains(&layer)).then_some(window));
    decoder.set_windows(windows.collect());
    let dims = decoder.attention.dims;
    let mamba = HeadMambaConfig {
        dims,
        heads: file.bounded("mamba_num_heads", file.require("mamba_num_heads")?, 1 << 14)?,
        head_dim: decoder.attention.head_dim,
        state: file.bounded("mamba_d_state", file.require("mamba_d_state")?, 1 << 10)?,
        kernel: file.size("mamba_d_conv")?,
        rank: (dims / 16).max(64),
        eps: decoder.eps,
    };
    let recurrent = recurrent_layers(file)?;
    let hidden = file.size("intermediate_size")?;
    Ok(Box::new(decoder.build_hybrid(
        w,
        |index, w| match recurrent[index] {
            true => Ok(Box::new(HeadMamba::new(&w.at("mixer"), mamba)?)),
            false => decoder.attention(index, w),
        },
        |_, w| {
            let names = ["gate_up_proj", "down_proj"];
            Ok(Box::new(Mlp::fused(&w.at("mlp"), names, dims, hidden, false, Activation::Silu)?))
        },
    )?))
}

/// All layers but the one in the middle of every `mamba_step`, or the last one of fewer.
fn recurrent_layers(file: &ConfigFile) -> Result<Vec<bool>> {
    let (layers, step) = (file.layers()?, file.size_or("mamba_step", 2)?.unsigned_abs() as usize);
    let enabled = file.flag_on("mamba_enabled")?;
    let attends = |layer: usize| match layers <= step / 2 {
        true => layer + 1 == layers,
        false => layer % step == step / 2,
    };
    Ok((0..layers).map(|layer| enabled && !attends(layer)).collect())
}

/// Norms whose weights are stored less 1 in front of a block, less 1/5 behind a mixer, and less
/// 1/√5³ behind an MLP.
fn norm(w: &Weights, dims: i32, eps: f32) -> Result<Norm> {
    let offset = match w.prefix().rsplit('.').next() {
        Some("post_mixer_norm") => 0.2,
        Some("post_mlp_norm") => 5.0_f32.powf(-1.5),
        _ => 1.0,
    };
    Norm::rms_plus(w, dims, eps, offset)
}
