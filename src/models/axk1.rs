//! A.X K1 (SK Telecom 2026): DeepSeek V3 with a norm behind the experts of each layer.

use serde_json::json;

use super::config::ConfigFile;
use super::{Architecture, LanguageModel, is_prediction_layer, layer_of};
use crate::error::Result;
use crate::nn::{NormLayout, language_model};
use crate::weights::Weights;

pub(super) const ARCHITECTURE: Architecture =
    Architecture::new(&["axk1"], build).with_eps(1e-6).ignoring(|file, tensor| {
        is_prediction_layer(file, tensor) || is_norm_of_dense_layer(file, tensor)
    });

/// Layers without experts have the norm behind them, too, and do not use it.
fn is_norm_of_dense_layer(file: &ConfigFile, tensor: &str) -> bool {
    let layer = layer_of(tensor).filter(|_| tensor.ends_with(".post_mlp_layernorm.weight"));
    let sparse = with_defaults(file).layers_with_experts();
    layer.zip(sparse.ok()).is_some_and(|(layer, sparse)| sparse.get(layer) == Some(&false))
}

fn with_defaults(file: &ConfigFile) -> ConfigFile {
    file.with_defaults([
        ("first_k_dense_replace", json!(1)),
        ("n_group", json!(8)),
        ("topk_group", json!(4)),
        ("routed_scaling_factor", json!(2.5)),
    ])
}

fn build(file: &ConfigFile, w: &Weights) -> Result<Box<dyn LanguageModel>> {
    let file = &with_defaults(file);
    let mut latent = file.latent_decoder(10_000.0, true)?;
    let mut layers = file.sparse_layers(latent.attention.dims)?;
    let view = language_model(w).at("layers");
    let block = |layer: usize| view.at(layer).at("mlp");
    let count = latent.decoder.layers.len();
    if !(0..count).any(|layer| block(layer).has("gate.e_score_correction_bias")) {
        layers.names.correction = &[];
    }
    let behind = NormLayout {
        feed_forward: [Some("post_attention_layernorm"), Some("post_mlp_layernorm")],
        ..NormLayout::PRE
    };
    let layout = |layer: usize| match layers.is_sparse(layer, &block(layer)) {
        true => behind,
        false => NormLayout::PRE,
    };
    latent.decoder.layouts = (0..count).map(layout).collect();
    Ok(Box::new(latent.build(w, |index, w| layers.build(index, w))?))
}
