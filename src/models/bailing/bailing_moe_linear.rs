//! Ring Linear (Inclusion AI 2025): Ling most of whose layers have lightning attention.

use super::bailing_moe::parts;
use crate::error::Result;
use crate::models::config::ConfigFile;
use crate::models::{Architecture, LanguageModel};
use crate::nn::{AttentionConfig, LightningAttention, LightningConfig};
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
    // `head_dim` is that of the other layers.
    let whole = parts(&file.without("head_dim"), w)?.0;
    attention.head_dim = whole.attention.head_dim;
    let norm_groups = lightning_groups(file, &attention)?;
    Ok(Box::new(decoder.build_hybrid(
        w,
        |index, w| {
            if attends(index) {
                return decoder.attention(index, w);
            }
            let (eps, before) = (decoder.eps, index.saturating_sub(1));
            let config = LightningConfig { attention, norm_groups, eps, before, layers };
            let layer = whole.layers[index].clone();
            Ok(Box::new(LightningAttention::new(&w.at("attention"), &config, layer)?))
        },
        |index, w| feed_forward.build(index, w),
    )?))
}

/// `group_norm_size`, the number of groups of features that are normalized together.
pub(super) fn lightning_groups(file: &ConfigFile, attention: &AttentionConfig) -> Result<i32> {
    let groups = file.size_or("group_norm_size", 1)?;
    let inner = attention.heads * attention.head_dim;
    if inner % groups == 0 {
        return Ok(groups);
    }
    Err(file.error(format!("\"group_norm_size\" {groups} does not divide {inner} features")))
}
