//! K-EXAONE (LG AI Research 2026): norms over each query and key head, most layers within a window
//! beside others that do not look at positions, and experts as DeepSeek V3's.

use serde_json::json;

use crate::error::Result;
use crate::models::config::{ConfigFile, RopeDefaults};
use crate::models::{Architecture, LanguageModel};
use crate::nn::{Norm, QkNorm};
use crate::weights::Weights;

pub(super) const ARCHITECTURE: Architecture =
    Architecture::new(&["exaone_moe"], build).ignoring(|_, tensor| tensor.starts_with("mtp."));

fn build(file: &ConfigFile, w: &Weights) -> Result<Box<dyn LanguageModel>> {
    let file = &file.with_defaults([
        ("first_k_dense_replace", json!(1)),
        ("routed_scaling_factor", json!(2.5)),
    ]);
    let mut decoder = file.decoder(&RopeDefaults::base(10_000.0))?;
    decoder.attention.qk_norm = Some(QkNorm::each_head(Norm::rms, decoder.eps));
    let windows = file.windows(4096, 4)?;
    let rotates_all = file.unless_null("sliding_window", 4096)?.is_none();
    for (layer, window) in decoder.layers.iter_mut().zip(windows) {
        layer.span = window.into();
        layer.rope = layer.rope.take().filter(|_| rotates_all || window.is_some());
    }
    let mut layers = file.sparse_layers(decoder.attention.dims)?;
    layers.names.correction = &["gate.e_score_correction_bias", "e_score_correction_bias"];
    Ok(Box::new(decoder.build(w, |index, w| layers.build(index, w))?))
}
