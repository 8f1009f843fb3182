//! Aria (Rhymes AI 2024): Llama with experts that are stored inputs before outputs, beside some
//! that see every token. Of checkpoints that also see images, the language model.

use serde_json::json;

use super::config::{ConfigFile, RopeDefaults};
use super::{Architecture, LanguageModel};
use crate::error::Result;
use crate::nn::{Activation, Experts, Mlp, Moe, MoeConfig, Router, Routing};
use crate::weights::Weights;

pub(super) const ARCHITECTURE: Architecture =
    Architecture::new(&["aria", "aria_moe_lm"], build).with_eps(1e-6);

fn build(file: &ConfigFile, w: &Weights) -> Result<Box<dyn LanguageModel>> {
    let file = &file.renamed(&[("num_experts_per_tok", "moe_topk")]).with_defaults([
        ("tie_word_embeddings", json!(false)),
        ("moe_num_shared_experts", json!(2)),
    ]);
    let decoder = file.decoder(&RopeDefaults::base(10_000.0))?;
    let (dims, hidden) = (decoder.attention.dims, file.size("intermediate_size")?);
    let (count, bias) = (file.require("moe_num_shared_experts")?, file.flag("mlp_bias")?);
    let count = file.bounded("moe_num_shared_experts", count, 1 << 10)?;
    let (experts, activation) = (file.size("moe_num_experts")?, file.activation()?);
    let config = MoeConfig {
        dims,
        hidden,
        experts,
        active: file.active_experts(experts, None)?,
        // Whatever the others have.
        activation: Activation::Silu,
        routing: Routing::TopThenSoftmax,
    };
    Ok(Box::new(decoder.build(w, |_, w| {
        let w = w.at("mlp");
        // transformers has names of its own.
        let names = match w.at("experts.fc1").has("weight") {
            true => ["fc1.weight", "fc2.weight"],
            false => ["gate_up_proj", "down_proj"],
        };
        let experts = Experts::transposed_named(&w.at("experts"), names, config)?;
        let moe = Moe::of(Router::new(&w.at("router"), config, false)?, experts);
        let (w, hidden) = (w.at("shared_experts"), hidden.saturating_mul(count));
        Ok(Box::new(moe.with_shared(Mlp::new(&w, dims, hidden, bias, activation)?)))
    })?))
}
