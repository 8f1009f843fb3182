//! MiniCPM (Hu et al. 2024): Llama with factors on embeddings, residuals and logits.

use crate::error::Result;
use crate::models::config::{ConfigFile, RopeDefaults};
use crate::models::{Architecture, LanguageModel, mlp};
use crate::nn::StandardDecoder;
use crate::weights::Weights;

pub(super) const ARCHITECTURE: Architecture = Architecture::new(&["minicpm"], build).with_eps(1e-6);

fn build(file: &ConfigFile, w: &Weights) -> Result<Box<dyn LanguageModel>> {
    let mut decoder = file.decoder(&RopeDefaults::base(10_000.0))?;
    set_factors(file, &mut decoder)?;
    Ok(Box::new(decoder.build(w, mlp(file, decoder.attention.dims)?)?))
}

/// `scale_emb`, `scale_depth` / √layers, and `dim_model_base` of as many features.
pub(super) fn set_factors(file: &ConfigFile, decoder: &mut StandardDecoder) -> Result<()> {
    let dims = decoder.attention.dims as f32;
    let depth: f32 = file.optional("scale_depth")?.unwrap_or(1.4);
    decoder.embedding_scale = Some(file.optional("scale_emb")?.unwrap_or(12.0));
    decoder.residual_scale = Some(depth / (decoder.layers.len() as f32).sqrt());
    let base = file.optional::<f32>("dim_model_base")?.unwrap_or(256.0);
    decoder.logit_scale = Some(base / dims);
    Ok(())
}
