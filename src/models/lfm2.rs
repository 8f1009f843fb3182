//! LFM2 (Liquid AI 2025): most layers are gated short convolutions, a few attend.

use serde::Deserialize;

use super::config::{ConfigFile, RopeDefaults};
use super::{Architecture, LanguageModel};
use crate::error::Result;
use crate::nn::{Activation, FeedForward, Mlp, Norm, NormLayout, QkNorm, ShortConv};
use crate::weights::Weights;

pub(super) const ARCHITECTURE: Architecture =
    Architecture::new(&["lfm2", "lfm2_vl", "lfm2-vl"], build);

#[derive(Clone, Copy, PartialEq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Kind {
    FullAttention,
    /// Whatever it is called.
    #[serde(other)]
    Conv,
}

fn build(file: &ConfigFile, w: &Weights) -> Result<Box<dyn LanguageModel>> {
    let (dims, hidden) = (file.size("hidden_size")?, hidden(file)?);
    build_hybrid(file, w, |_, w| Ok(Box::new(mlp(w, dims, hidden)?)))
}

/// Short convolutions and attention, with these blocks behind them.
pub(super) fn build_hybrid(
    file: &ConfigFile,
    w: &Weights,
    feed_forward: impl Fn(usize, &Weights) -> Result<Box<dyn FeedForward>>,
) -> Result<Box<dyn LanguageModel>> {
    let mut decoder = file.decoder(&RopeDefaults::base(1_000_000.0))?;
    decoder.layout = NormLayout::pre(["operator_norm", "ffn_norm"]);
    decoder.names.norm = "embedding_norm";
    decoder.tied = Some(true);
    decoder.attention.output = "out_proj";
    decoder.attention.qk_norm =
        Some(QkNorm::each_head(Norm::rms, decoder.eps).named(["q_layernorm", "k_layernorm"]));
    let attends = attending_layers(file, decoder.layers.len())?;
    let (kernel, bias) = (file.size_or("conv_L_cache", 3)?, file.flag("conv_bias")?);
    let dims = decoder.attention.dims;
    Ok(Box::new(decoder.build_hybrid(
        w,
        |index, w| match attends[index] {
            true => decoder.attention(index, w),
            false => Ok(Box::new(ShortConv::new(&w.at("conv"), dims, kernel, bias)?)),
        },
        |index, w| feed_forward(index, &w.at("feed_forward")),
    )?))
}

/// A gated MLP by either of its names.
pub(super) fn mlp(w: &Weights, dims: i32, hidden: i32) -> Result<Mlp> {
    let converted = w.at("gate_proj").has("weight");
    let names = if converted { ["gate_proj", "up_proj", "down_proj"] } else { ["w1", "w3", "w2"] };
    Mlp::named(w, names, dims, hidden, false, Activation::Silu)
}

/// Which layers attend: `full_attn_idxs`, or those that `layer_types` says so of.
fn attending_layers(file: &ConfigFile, layers: usize) -> Result<Vec<bool>> {
    if let Some(indices) = file.optional::<Vec<usize>>("full_attn_idxs")? {
        return Ok((0..layers).map(|layer| indices.contains(&layer)).collect());
    }
    Ok(match file.layer_kinds()? {
        Some(kinds) => kinds.into_iter().map(|kind: Kind| kind == Kind::FullAttention).collect(),
        None => vec![true; layers],
    })
}

/// The width of the feed-forward blocks: ⅔ of `block_ff_dim` times a factor, rounded up to a
/// multiple, where the configuration asks for it.
fn hidden(file: &ConfigFile) -> Result<i32> {
    let hidden = match file.optional::<i32>("block_ff_dim")? {
        Some(_) => file.size("block_ff_dim")?,
        None => file.size("intermediate_size")?,
    };
    if !file.flag("block_auto_adjust_ff_dim")? {
        return Ok(hidden);
    }
    let factor: f64 = file.optional("block_ffn_dim_multiplier")?.unwrap_or(1.0);
    let adjusted = (f64::from(2 * hidden / 3) * factor).clamp(1.0, f64::from(1 << 24)) as i32;
    let multiple = file.size_or("block_multiple_of", 256)?;
    Ok((adjusted + multiple - 1) / multiple * multiple)
}
