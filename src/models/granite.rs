//! Granite 3 (IBM 2024): Llama, or a mixture of experts, with factors on embeddings, scores,
//! residuals and logits.

use super::config::{ConfigFile, RopeDefaults};
use super::{Architecture, LanguageModel, mlp};
use crate::error::Result;
use crate::nn::{ExpertNames, Experts, Moe, MoeConfig, Router, Routing, StandardDecoder};
use crate::weights::Weights;

pub(super) const ARCHITECTURE: Architecture =
    Architecture::new(&["granite", "granitemoe"], build).with_eps(1e-6);

/// `attention_multiplier`, `embedding_multiplier`, `residual_multiplier` and `logits_scaling`.
pub(super) fn set_factors(file: &ConfigFile, decoder: &mut StandardDecoder) -> Result<()> {
    let factor = |field: &str| -> Result<f32> { Ok(file.optional(field)?.unwrap_or(1.0)) };
    decoder.attention.scale = Some(factor("attention_multiplier")?);
    decoder.embedding_scale = Some(factor("embedding_multiplier")?);
    decoder.residual_scale = Some(factor("residual_multiplier")?);
    decoder.logit_scale = Some(factor("logits_scaling")?.recip());
    Ok(())
}

fn build(file: &ConfigFile, w: &Weights) -> Result<Box<dyn LanguageModel>> {
    let mut decoder = file.decoder(&RopeDefaults::base(10_000.0))?;
    set_factors(file, &mut decoder)?;
    let dims = decoder.attention.dims;
    if file.model_type()? == "granite" {
        return Ok(Box::new(decoder.build(w, mlp(file, dims)?)?));
    }
    let experts = file.size("num_local_experts")?;
    let config = MoeConfig {
        dims,
        hidden: file.size("intermediate_size")?,
        experts,
        active: file.active_experts(experts, None)?,
        activation: file.activation()?,
        routing: Routing::TopThenSoftmax,
    };
    let fused = ["input_linear.weight", "output_linear.weight"];
    let names = ExpertNames { fused, ..ExpertNames::default() };
    Ok(Box::new(decoder.build(w, |_, w| {
        let w = w.at("block_sparse_moe");
        let router = Router::new(&w.at("router.layer"), config, false)?;
        Ok(Box::new(Moe::of(router, Experts::new(&w, config, names)?)))
    })?))
}
