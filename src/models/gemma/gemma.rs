//! Gemma (Gemma Team 2024): norms stored less 1, embeddings scaled, a gated MLP with GELU.

use crate::error::Result;
use crate::models::config::{ConfigFile, RopeDefaults};
use crate::models::{Architecture, LanguageModel};
use crate::nn::{Activation, Mlp, Norm};
use crate::weights::Weights;

pub(super) const ARCHITECTURE: Architecture = Architecture::new(&["gemma"], build).with_eps(1e-6);

fn build(file: &ConfigFile, w: &Weights) -> Result<Box<dyn LanguageModel>> {
    let mut decoder = file.decoder(&RopeDefaults::base(10_000.0))?;
    decoder.norm = Norm::rms_plus_one;
    decoder.tied = Some(true);
    decoder.embedding_scale = Some((decoder.attention.dims as f32).sqrt());
    // The "gelu" of `hidden_act` in the first releases means the approximation.
    let activation = match (file.optional("hidden_activation")?, file.optional("hidden_act")?) {
        (Some(activation), _) => activation,
        (None, None | Some(Activation::Gelu)) => Activation::GeluTanh,
        (None, Some(activation)) => activation,
    };
    let (dims, hidden) = (decoder.attention.dims, file.size("intermediate_size")?);
    Ok(Box::new(
        decoder.build(w, |_, w| {
            Ok(Box::new(Mlp::new(&w.at("mlp"), dims, hidden, false, activation)?))
        })?,
    ))
}
