//! HyperCLOVA X (NAVER 2025): Granite with norms behind the blocks, too, and logits that are
//! multiplied by their factor.

use super::config::{ConfigFile, RopeDefaults};
use super::granite::set_factors;
use super::{Architecture, LanguageModel, mlp};
use crate::error::Result;
use crate::nn::{NormLayout, Norms};
use crate::weights::Weights;

pub(super) const ARCHITECTURE: Architecture =
    Architecture::new(&["hyperclovax"], build).with_eps(1e-6);

fn build(file: &ConfigFile, w: &Weights) -> Result<Box<dyn LanguageModel>> {
    let mut decoder = file.decoder(&RopeDefaults::base(10_000.0))?;
    set_factors(file, &mut decoder)?;
    decoder.attention.scale = file.optional("attention_multiplier")?;
    decoder.logit_scale = file.optional("logits_scaling")?;
    let feed_forward = mlp(file, decoder.attention.dims)?;
    if !file.flag_on("use_post_norm")? {
        return Ok(Box::new(decoder.build(w, feed_forward)?));
    }
    decoder.layout = NormLayout::sandwich([
        "input_layernorm",
        "post_norm1",
        "post_attention_layernorm",
        "post_norm2",
    ]);
    // It multiplies what these norms give.
    let factor = decoder.residual_scale.take().unwrap_or(1.0);
    let mut decoder = decoder.build(w, feed_forward)?;
    for layer in &mut decoder.layers {
        let Norms::Sequential { mixer, feed_forward } = &mut layer.norms else { continue };
        for block in [mixer, feed_forward] {
            block.after = block.after.take().map(|norm| norm.scaled(factor)).transpose()?;
        }
    }
    Ok(Box::new(decoder))
}
