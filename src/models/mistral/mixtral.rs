//! Mixtral (Jiang et al. 2024): Llama with a mixture of experts in every layer.

use crate::error::Result;
use crate::models::config::{ConfigFile, RopeDefaults};
use crate::models::{Architecture, LanguageModel};
use crate::nn::{ExpertNames, Moe, MoeConfig, Routing};
use crate::weights::Weights;

pub(super) const ARCHITECTURE: Architecture = Architecture::new(&["mixtral"], build);

fn build(file: &ConfigFile, w: &Weights) -> Result<Box<dyn LanguageModel>> {
    let mut decoder = file.decoder(&RopeDefaults::base(1_000_000.0))?;
    decoder.set_windows(vec![file.window_if_given()?; decoder.layers.len()]);
    let experts = file.size_or("num_local_experts", 8)?;
    let config = MoeConfig {
        dims: decoder.attention.dims,
        hidden: file.size("intermediate_size")?,
        experts,
        active: file.active_experts(experts, Some(2))?,
        activation: file.activation()?,
        routing: Routing::TopThenSoftmax,
    };
    let names = ExpertNames { single: ["w1", "w3", "w2"], ..ExpertNames::default() };
    Ok(Box::new(
        decoder
            .build(w, |_, w| Ok(Box::new(Moe::new(&w.at("block_sparse_moe"), config, names)?)))?,
    ))
}
