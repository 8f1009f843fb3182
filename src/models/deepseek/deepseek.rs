//! DeepSeek MoE (Dai et al. 2024): Llama with experts in all layers but the first few, some of
//! which see every token.

use crate::error::Result;
use crate::models::config::{ConfigFile, RopeDefaults};
use crate::models::{Architecture, LanguageModel};
use crate::nn::Routing;
use crate::weights::Weights;

pub(super) const ARCHITECTURE: Architecture =
    Architecture::new(&["deepseek"], build).with_eps(1e-6);

fn build(file: &ConfigFile, w: &Weights) -> Result<Box<dyn LanguageModel>> {
    let decoder = file.decoder(&RopeDefaults::base(10_000.0))?;
    let mut layers = file.sparse_layers(decoder.attention.dims)?;
    layers.names.correction = &[];
    if let Some(config) = &mut layers.experts {
        config.routing = Routing::softmax(file.flag("norm_topk_prob")?);
    }
    Ok(Box::new(decoder.build(w, |index, w| layers.build(index, w))?))
}
