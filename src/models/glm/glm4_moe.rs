//! GLM 4.5 (Zeng et al. 2025): a rotation of the first part of each head, and experts as DeepSeek
//! V3's in all layers but the first; and Solar Open (Upstage 2025), which rotates whole heads and
//! has experts in every layer.

use serde_json::json;

use crate::error::Result;
use crate::models::config::{ConfigFile, RopeDefaults};
use crate::models::{Architecture, LanguageModel};
use crate::nn::{Norm, PredictionConfig, QkNorm};
use crate::weights::Weights;

pub(super) const ARCHITECTURE: Architecture = Architecture::new(&["glm4_moe", "solar_open"], build)
    .ignoring(crate::models::is_prediction_layer);

fn build(file: &ConfigFile, w: &Weights) -> Result<Box<dyn LanguageModel>> {
    let is_solar = file.model_type()? == "solar_open";
    let dense = if is_solar { 0 } else { 1 };
    let file = &file.with_defaults([("first_k_dense_replace", json!(dense))]);
    // Where every layer has experts, there is no size of the others.
    let file = &if is_solar {
        file.with_defaults([("intermediate_size", json!(1))])
    } else {
        file.clone()
    };
    let (base, share) = if is_solar { (1_000_000.0, 1.0) } else { (10_000.0, 0.5) };
    let rope = RopeDefaults { base: Some(base), traditional: false, share: Some(share) };
    let mut decoder = file.decoder(&rope)?;
    decoder.attention.output_bias = false;
    if file.flag("use_qk_norm")? {
        decoder.attention.qk_norm = Some(QkNorm::each_head(Norm::rms, decoder.eps));
    }
    decoder.prediction = Some(PredictionConfig::next_layer(file.layers()?));
    let layers = file.sparse_layers(decoder.attention.dims)?;
    Ok(Box::new(decoder.build(w, |index, w| layers.build(index, w))?))
}
