//! Flint (Recursive 2026): norms over each query and key head, sinks, most layers within a window
//! beside others that do not look at positions, and experts, one of which sees every token.

use serde_json::json;

use super::config::{ConfigFile, RopeDefaults};
use super::qwen::{experts, sparse_layers};
use super::{Architecture, LanguageModel, mlp};
use crate::error::Result;
use crate::nn::{ExpertNames, Moe, MoeConfig, Norm, QkNorm, Routing, Score};
use crate::weights::Weights;

pub(super) const ARCHITECTURE: Architecture = Architecture::new(&["flint"], build).with_eps(1e-6);

fn build(file: &ConfigFile, w: &Weights) -> Result<Box<dyn LanguageModel>> {
    let file = &file.with_defaults([("mlp_only_layers", json!([0, 1]))]);
    let mut decoder = file.decoder(&RopeDefaults::base(10_000.0))?;
    decoder.attention.qk_norm = Some(QkNorm::each_head(Norm::rms, decoder.eps));
    // transformers has a name of its own.
    let published = w.at("model.layers.0.self_attn").has("softmax_offset");
    decoder.attention.sinks = Some(if published { "softmax_offset" } else { "sinks" });
    for (layer, window) in decoder.layers.iter_mut().zip(windows(file)?) {
        layer.span = window.into();
        layer.rope = layer.rope.take().filter(|_| window.is_some());
    }
    let dims = decoder.attention.dims;
    let routing = Routing::ScoresThenTop {
        score: Score::Sigmoid,
        groups: None,
        normalize: file.flag_on("norm_topk_prob")?,
        scale: 1.0,
    };
    let config = MoeConfig { routing, ..experts(file, dims)? };
    let shared = file.size("shared_expert_intermediate_size")?;
    let (sparse, dense) = (sparse_layers(file)?, mlp(file, dims)?);
    Ok(Box::new(decoder.build(w, |index, layer| {
        if !sparse(index) {
            return dense(index, layer);
        }
        let w = layer.at("mlp");
        let moe = Moe::new(&w, config, ExpertNames::default())?;
        Ok(Box::new(moe.with_shared_mlp(&w.at("shared_expert"), shared, false)?))
    })?))
}

/// How many positions each layer sees; where `layer_types` does not say, the first two, every
/// fourth from there and the last see all.
fn windows(file: &ConfigFile) -> Result<Vec<Option<i32>>> {
    if file.layer_types()?.is_some() {
        return file.windows(513, 1);
    }
    let (layers, window) = (file.layers()?, file.size_or("sliding_window", 513)?);
    let sees_all = |layer: usize| layer < 2 || layer % 4 == 1 || layer + 1 == layers;
    Ok((0..layers).map(|layer| (!sees_all(layer)).then_some(window)).collect())
}
