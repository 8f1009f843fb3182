//! K-EXAONE (LG AI Research 2026): norms over each query and key head, most layers within a window
//! beside others that do not look at positions, and experts as DeepSeek V3's.

use serde_json::json;

use crate::error::Result;
use crate::models::config::{ConfigFile, LayerType, RopeDefaults};
use crate::models::{Architecture, LanguageModel};
use crate::nn::{LayerConfig, Norm, PredictionConfig, PredictionNames, PredictionPlace, QkNorm};
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
    let rotates_all = file.unless_null("sliding_window", 4096)?.is_none();
    let rope = decoder.layers.first().and_then(|layer| layer.rope.clone());
    let layer = |window: Option<i32>| LayerConfig {
        span: window.into(),
        rope: rope.clone().filter(|_| rotates_all || window.is_some()),
        temperature: None,
    };
    let mut layers = file.sparse_layers(decoder.attention.dims)?;
    layers.names.correction = &["gate.e_score_correction_bias", "e_score_correction_bias"];
    // The layer of the prediction head has no experts.
    layers.sparse.push(false);
    let windows: Vec<_> =
        file.windows(4096, 4)?.into_iter().chain([window_of_head(file)?]).collect();
    let (place, names) = (PredictionPlace::BesideHead("mtp"), PredictionNames::QWEN);
    decoder.prediction = Some(PredictionConfig { place, names, like: file.layers()? });
    Ok(Box::new(decoder.build_hybrid(
        w,
        |index, w| {
            let attention = decoder.attention.build(&w.at("self_attn"), layer(windows[index]))?;
            Ok(Box::new(attention))
        },
        |index, w| layers.build(index, w),
    )?))
}

/// How many positions the layer of the prediction head sees: all, unless `mtp_layer_types` says
/// otherwise.
fn window_of_head(file: &ConfigFile) -> Result<Option<i32>> {
    let kinds: Vec<LayerType> = file.optional("mtp_layer_types")?.unwrap_or_default();
    if kinds.first() != Some(&LayerType::SlidingAttention) {
        return Ok(None);
    }
    let own: Vec<i64> = file.optional("mtp_sliding_windows")?.unwrap_or_default();
    Ok(Some(match own.first() {
        Some(&window) => file.bounded("mtp_sliding_windows", window, 1 << 24)?,
        None => file.size_or("sliding_window", 4096)?,
    }))
}
