//! Kolibri (Aleph Alpha 2026): norms around the blocks and over each query and key head, most
//! layers within a window beside others that do not look at positions, and experts that are chosen
//! by corrected logits.

use super::config::{ConfigFile, RopeDefaults};
use super::qwen::experts;
use super::{Architecture, LanguageModel};
use crate::error::Result;
use crate::nn::{ExpertNames, Experts, Moe, MoeConfig, Norm, NormLayout, QkNorm, Router, Routing};
use crate::weights::Weights;

pub(super) const ARCHITECTURE: Architecture =
    Architecture::new(&["kolibri1"], build).with_eps(1e-6);

fn build(file: &ConfigFile, w: &Weights) -> Result<Box<dyn LanguageModel>> {
    let mut decoder = file.decoder(&RopeDefaults::base(10_000.0))?;
    decoder.attention.qk_norm = Some(QkNorm::each_head(Norm::rms, decoder.eps));
    // transformers has names of its own.
    let after = match w.at("model.layers.0.post_attn_norm").has("weight") {
        true => ["post_attn_norm", "post_ffn_norm"],
        false => ["post_self_attn_layernorm", "post_mlp_layernorm"],
    };
    let before = ["input_layernorm", "post_attention_layernorm"];
    decoder.layout = NormLayout::sandwich([before[0], after[0], before[1], after[1]]);
    if file.unless_null("sliding_window", 513)?.is_none() {
        return Err(file.error("\"sliding_window\" is null, and this architecture needs one"));
    }
    for (layer, window) in decoder.layers.iter_mut().zip(file.windows(513, 5)?) {
        layer.span = window.into();
        layer.rope = layer.rope.take().filter(|_| window.is_some());
    }
    let dims = decoder.attention.dims;
    let routing = Routing::TopThenSigmoid { normalize: file.flag("norm_topk_prob")? };
    let config = MoeConfig { routing, ..experts(file, dims)? };
    let shared = file.size("shared_expert_intermediate_size")?;
    Ok(Box::new(decoder.build(w, |_, layer| {
        let w = layer.at("mlp");
        let router = Router::new(&w.at("gate"), config, false)?;
        let bias = layer.at("moe.router");
        let correction = match bias.has("expert_bias") {
            true => bias.take_f32("expert_bias", &[config.experts])?,
            false => w.at("gate").take_f32("e_score_correction_bias", &[config.experts])?,
        };
        let experts = Experts::new(&w, config, ExpertNames::default())?;
        let moe = Moe::of(router.with_correction(correction), experts);
        Ok(Box::new(moe.with_shared_mlp(&w.at("shared_experts"), shared, false)?))
    })?))
}
