//! Qwen 3 MoE (Yang et al. 2025): Qwen 3 with experts in some or all layers. Of
//! checkpoints that also see images, the language model.

use serde_json::json;

use super::base;
use crate::error::Result;
use crate::models::config::{ConfigFile, RopeDefaults};
use crate::models::{Architecture, LanguageModel, mlp};
use crate::nn::{ExpertNames, Experts, Moe, MoeConfig, Norm, QkNorm, Router, Routing};
use crate::weights::Weights;

pub(super) const ARCHITECTURE: Architecture =
    Architecture::new(&["qwen3_moe", "qwen3_vl_moe"], build).with_eps(1e-6);

fn build(file: &ConfigFile, w: &Weights) -> Result<Box<dyn LanguageModel>> {
    let model_type = file.model_type()?;
    let normalizes = model_type.starts_with("qwen3_vl");
    let file = &file.with_defaults([("norm_topk_prob", json!(normalizes))]);
    let rope = RopeDefaults::base(base(&model_type));
    let mut decoder = file.decoder(&rope)?;
    decoder.attention.qk_norm = Some(QkNorm::each_head(Norm::rms, decoder.eps));
    decoder.set_windows(file.windows_if_used(Some(4096), |_| true)?);
    let dims = decoder.attention.dims;
    let config = experts(file, dims)?;
    let (sparse, dense) = (sparse_layers(file)?, mlp(file, dims)?);
    Ok(Box::new(decoder.build(w, |index, w| {
        if !sparse(index) {
            return dense(index, w);
        }
        let (w, MoeConfig { dims, hidden, experts, .. }) = (w.at("mlp"), config);
        // As models that see images are published.
        if w.shape("experts.gate_up_proj") == Some(&[experts, dims, 2 * hidden]) {
            let router = Router::new(&w.at("gate"), config, false)?;
            return Ok(Box::new(Moe::of(router, Experts::transposed(&w.at("experts"), config)?)));
        }
        Ok(Box::new(Moe::new(&w, config, ExpertNames::default())?))
    })?))
}

/// The experts of Qwen's models.
pub(in crate::models) fn experts(file: &ConfigFile, dims: i32) -> Result<MoeConfig> {
    let experts = file.size("num_experts")?;
    Ok(MoeConfig {
        dims,
        hidden: file.size("moe_intermediate_size")?,
        experts,
        active: file.active_experts(experts, None)?,
        activation: file.activation()?,
        routing: Routing::softmax(file.flag("norm_topk_prob")?),
    })
}

/// Which layers have experts: every `decoder_sparse_step`-th, but for `mlp_only_layers`.
pub(in crate::models) fn sparse_layers(
    file: &ConfigFile,
) -> Result<impl Fn(usize) -> bool + use<>> {
    let step = file.size_or("decoder_sparse_step", 1)?.unsigned_abs() as usize;
    let dense: Vec<usize> = file.optional("mlp_only_layers")?.unwrap_or_default();
    Ok(move |layer: usize| (layer + 1).is_multiple_of(step) && !dense.contains(&layer))
}
