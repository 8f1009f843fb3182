//! Gemma 2 (Gemma Team 2024): norms before and after each block, stored less 1; bounded scores and
//! logits; every second layer within a window.

use crate::error::Result;
use crate::models::config::{ConfigFile, RopeDefaults};
use crate::models::{Architecture, LanguageModel};
use crate::nn::{Mlp, Norm, NormLayout};
use crate::weights::Weights;

pub(super) const ARCHITECTURE: Architecture = Architecture::new(&["gemma2"], build).with_eps(1e-6);

fn build(file: &ConfigFile, w: &Weights) -> Result<Box<dyn LanguageModel>> {
    build_with(file, w, NormLayout::SANDWICH)
}

/// The model with these norms.
pub(super) fn build_with(
    file: &ConfigFile,
    w: &Weights,
    layout: NormLayout,
) -> Result<Box<dyn LanguageModel>> {
    let mut decoder = file.decoder(&RopeDefaults::base(10_000.0))?;
    decoder.norm = Norm::rms_plus_one;
    decoder.layout = layout;
    decoder.tied = Some(true);
    decoder.embedding_scale = Some((decoder.attention.dims as f32).sqrt());
    let scalar: f32 = file.optional("query_pre_attn_scalar")?.unwrap_or(256.0);
    decoder.attention.scale = Some(scalar.sqrt().recip());
    decoder.attention.soft_cap = file.unless_null("attn_logit_softcapping", 50.0)?;
    decoder.logit_cap = file.unless_null("final_logit_softcapping", 30.0)?;
    decoder.set_windows(file.windows(4096, 2)?);
    let (dims, hidden) = (decoder.attention.dims, file.size("intermediate_size")?);
    let activation = file.hidden_activation()?;
    Ok(Box::new(
        decoder.build(w, |_, w| {
            Ok(Box::new(Mlp::new(&w.at("mlp"), dims, hidden, false, activation)?))
        })?,
    ))
}
