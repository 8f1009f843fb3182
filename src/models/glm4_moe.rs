//! GLM 4.5 (Zeng et al. 2025): a rotation of the first part of each head, and experts as DeepSeek
//! V3's in all layers but the first.

use serde_json::json;

use super::config::{ConfigFile, RopeDefaults};
use super::{Architecture, LanguageModel};
use crate::error::Result;
use crate::nn::{Norm, QkNorm};
use crate::weights::Weights;

pub(super) const ARCHITECTURE: Architecture =
    Architecture::new(&["glm4_moe"], build).ignoring(super::is_prediction_layer);

fn build(file: &ConfigFile, w: &Weights) -> Result<Box<dyn LanguageModel>> {
    let file = &file.with_defaults([("first_k_dense_replace", json!(1))]);
    let share = Some(0.5);
    let mut decoder = file.decoder(&RopeDefaults { base: None, traditional: false, share })?;
    decoder.attention.output_bias = false;
    if file.flag("use_qk_norm")? {
        decoder.attention.qk_norm = Some(QkNorm::each_head(Norm::rms, decoder.eps));
    }
    let layers = file.sparse_layers(decoder.attention.dims)?;
    Ok(Box::new(decoder.build(w, |index, w| layers.build(index, w))?))
}
