//! Ring Linear (Inclusion AI 2025): Ling most of whose layers have lightning attention.

use super::bailing_moe::parts;
use crate::error::Result;
use crate::models::config::ConfigFile;
use crate::models::{Architecture, LanguageModel};
use crate::nn::{LightningAttention, LightningConfig};
use crate::weights::Weights;

pub(super) const ARCHITECTURE: Architecture =
    Architecture::new(&["bailing_moe_linear"], build).with_eps(1e-6);

fn build(file: &ConfigFile, w: &Weights) -> Result<Box<dyn LanguageModel>> {
    let (decoder, feed_forward) = parts(file, w)?;
    let layers = decoder.layers.len();
    let group = file.size("layer_group_size")?.unsigned_abs() as usize;
    // The last of each group attends to all positions, and so do those that fill no group.
    let attends =
        |layer: usize| (layer + 1).is_multiple_of(group) || layer >= layers / group * group;
    let mut attention = decoder.attention;
    attention.kv_heads = attention.heads;
    attention.head_dim = attention.dims / attention.heads;
    let norm_groups = file.size_or("group_norm_size", 1)?;
    let inner = attention.heads * attention.head_dim;
    if inner % norm_groups != 0 {
        let message = format!("\"group_norm_size\" {norm_groups} does not divide {inner} features");
        return Err(file.error(message));
    }
    Ok(Box::new(decoder.build_hybrid(
        w,
        |index, w| {
            if attends(index) {
                return decoder.attention(index, w);
            }
            let config =
                LightningConfig { attention, norm_groups, eps: decoder.eps, layer: index, layers };
            let layer = decoder.layers[index].clone();
            Ok(Box::new(LightningAttention::new(&w.at("attention"), &config, layer)?))
        },
        |index, w| feed_forward.build(index, w),
    )?))
}
