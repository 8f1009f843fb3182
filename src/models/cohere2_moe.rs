//! Command with experts (Cohere 2026): Command R7B's parallel blocks, with an MLP in the first
//! layers and experts in the others.

use serde::Deserialize;
use serde_json::json;

use super::config::{ConfigFile, RopeDefaults};
use super::{Architecture, LanguageModel};
use crate::error::Result;
use crate::nn::{FeedForward, Norm, NormLayout, ResidualScale, Routing, Score};
use crate::weights::Weights;

pub(super) const ARCHITECTURE: Architecture = Architecture::new(&["cohere2_moe"], build);

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Selection {
    Softmax,
    Sigmoid,
}

/// How the experts and the one that sees every token are put together.
#[derive(PartialEq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Combination {
    Average,
    Sum,
}

fn build(file: &ConfigFile, w: &Weights) -> Result<Box<dyn LanguageModel>> {
    let file = &file
        .with_defaults([("first_k_dense_replace", json!(0)), ("num_shared_experts", json!(0))]);
    let file = &file.with([("moe_intermediate_size", json!(file.size("intermediate_size")?))]);
    let rope = RopeDefaults { base: Some(10_000.0), traditional: true, share: None };
    let mut decoder = file.decoder(&rope)?;
    let is_rms = file.optional::<f32>("rms_norm_eps")?.is_some();
    decoder.norm = if is_rms { Norm::rms } else { Norm::layer };
    decoder.layout = NormLayout::PARALLEL;
    decoder.tied = Some(decoder.tied.unwrap_or(true));
    decoder.logit_scale = Some(file.optional("logit_scale")?.unwrap_or(0.0625));
    let dims = decoder.attention.dims;
    let mut layers = file.sparse_layers(dims)?;
    layers.dense = file.size_or("prefix_dense_intermediate_size", layers.dense)?;
    layers.shared_by_tensors = false;
    layers.names.correction = &[];
    let own_pattern = file.size_or("prefix_dense_sliding_window_pattern", 1)?;
    let prefix = layers.sparse.iter().take_while(|sparse| !**sparse).count();
    let windows = windows(file, prefix, own_pattern.unsigned_abs() as usize)?;
    for (index, (layer, window)) in decoder.layers.iter_mut().zip(windows).enumerate() {
        layer.span = window.into();
        let rotates = window.is_some() || own_pattern == 1 && !layers.sparse[index];
        layer.rope = layer.rope.take().filter(|_| rotates);
    }
    if let Some(config) = &mut layers.experts {
        config.routing = match file.optional("expert_selection_fn")? {
            None | Some(Selection::Softmax) => Routing::TopThenSoftmax,
            Some(Selection::Sigmoid) => Routing::ScoresThenTop {
                score: Score::Sigmoid,
                groups: None,
                normalize: file.flag_on("norm_topk_prob")?,
                scale: 1.0,
            },
        };
    }
    let combination = file.optional("shared_expert_combination_strategy")?;
    let averages = combination.unwrap_or(Combination::Average) == Combination::Average
        && layers.shared.is_some();
    Ok(Box::new(decoder.build(w, |index, w| {
        let block = layers.build(index, w)?;
        Ok(match averages && layers.is_sparse(index, &w.at("mlp")) {
            true => Box::new(ResidualScale::<dyn FeedForward>::new(0.5, block)),
            false => block,
        })
    })?))
}

/// How far the layers see. Those in front, without experts, have a pattern of their own.
fn windows(file: &ConfigFile, prefix: usize, pattern: usize) -> Result<Vec<Option<i32>>> {
    if file.layer_types()?.is_some() {
        return file.windows(4096, 4);
    }
    let window = file.size_or("sliding_window", 4096)?;
    let usual = file.size_or("sliding_window_pattern", 4)?.unsigned_abs() as usize;
    let near = |layer: usize| match layer.checked_sub(prefix) {
        Some(layer) => !(layer + 1).is_multiple_of(usual),
        None => !(layer + 1).is_multiple_of(pattern),
    };
    Ok((0..file.layers()?).map(|layer| near(layer).then_some(window)).collect())
}
