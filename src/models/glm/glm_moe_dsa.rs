//! GLM 5 (Z.ai 2026): DeepSeek V3.2, whose layers may look where the layer before looks.

use serde::Deserialize;
use serde_json::{Value, json};

use crate::error::Result;
use crate::models::config::ConfigFile;
use crate::models::{Architecture, LanguageModel, is_prediction_layer};
use crate::nn::PredictionConfig;
use crate::weights::Weights;

pub(super) const ARCHITECTURE: Architecture =
    Architecture::new(&["glm_moe_dsa"], build).ignoring(is_prediction_layer);

#[derive(PartialEq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum IndexerType {
    Full,
    Shared,
}

fn build(file: &ConfigFile, w: &Weights) -> Result<Box<dyn LanguageModel>> {
    let file = &file.with_defaults([
        ("q_lora_rank", json!(2048)),
        ("index_n_heads", json!(32)),
        ("first_k_dense_replace", json!(3)),
        ("num_experts_per_tok", json!(8)),
        ("routed_scaling_factor", json!(2.5)),
    ]);
    let own = layers_with_indexers(file)?;
    // The layer of the prediction head has an indexer, too.
    let like = own.iter().rposition(|&has_indexer| has_indexer).unwrap_or_default();
    let mut decoder = file.sparse_latent_decoder(10_000.0, true, own)?;
    decoder.decoder.prediction =
        Some(PredictionConfig { like, ..PredictionConfig::next_layer(file.layers()?) });
    let layers = file.sparse_layers(decoder.attention.dims)?;
    Ok(Box::new(decoder.build(w, |index, w| layers.build(index, w))?))
}

/// Which layers have an indexer: those that `indexer_types` says so of, or that have an F in
/// `index_topk_pattern`, or every `index_topk_freq`-th behind the first `index_skip_topk_offset`.
fn layers_with_indexers(file: &ConfigFile) -> Result<Vec<bool>> {
    if let Some(types) = file.of_each_layer::<IndexerType>("indexer_types")? {
        return Ok(types.into_iter().map(|kind| kind == IndexerType::Full).collect());
    }
    let layers = file.layers()?;
    let field = "index_topk_pattern";
    match file.optional::<Value>(field)? {
        Some(Value::String(pattern)) if pattern.chars().count() == layers => {
            Ok(pattern.chars().map(|kind| kind == 'F').collect())
        }
        Some(Value::Array(_)) => {
            let kinds: Vec<IndexerType> = file.of_each_layer(field)?.unwrap_or_default();
            Ok(kinds.into_iter().map(|kind| kind == IndexerType::Full).collect())
        }
        Some(_) => {
            Err(file.error(format!("\"{field}\" has no letter for each of {layers} layers")))
        }
        None => {
            let step: usize = file.optional("index_topk_freq")?.unwrap_or(1).max(1);
            let first: usize = file.optional("index_skip_topk_offset")?.unwrap_or(2);
            let behind = |layer: usize| (layer + 1).saturating_sub(first);
            Ok((0..layers).map(|layer| behind(layer).is_multiple_of(step)).collect())
        }
    }
}
