//! dots.llm1 (rednote 2025): norms over each query and key head, and experts as DeepSeek V3's in
//! all layers but the first.

use serde_json::json;

use crate::error::Result;
use crate::models::config::{ConfigFile, RopeDefaults};
use crate::models::{Architecture, LanguageModel};
use crate::nn::{Norm, QkNorm};
use crate::weights::Weights;

pub(super) const ARCHITECTURE: Architecture = Architecture::new(&["dots1"], build).with_eps(1e-6);

fn build(file: &ConfigFile, w: &Weights) -> Result<Box<dyn LanguageModel>> {
    let file =
        &file.with_defaults([("norm_topk_prob", json!(false)), ("max_window_layers", json!(62))]);
    let mut decoder = file.decoder(&RopeDefaults::base(10_000.0))?;
    decoder.attention.qk_norm = Some(QkNorm::each_head(Norm::rms, decoder.eps));
    let first = file.max_window_layers()?;
    let used = file.with([("use_sliding_window", json!(true))]);
    decoder.set_windows(used.windows_if_used(Some(4096), |layer| layer >= first)?);
    let mut layers = file.sparse_layers(decoder.attention.dims)?;
    layers.bias = file.flag("mlp_bias")?;
    layers.names.stacked = ["experts.gate_proj", "experts.up_proj", "experts.down_proj"];
    Ok(Box::new(decoder.build(w, |index, w| layers.build(index, w))?))
}
