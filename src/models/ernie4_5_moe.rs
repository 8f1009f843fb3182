//! ERNIE 4.5 with experts (Baidu 2025), whose scores are corrected where they are chosen.

use serde::Deserialize;

use crate::error::Result;
use crate::mlx::ops;
use crate::models::config::{ConfigFile, RopeDefaults};
use crate::models::{Architecture, LanguageModel};
use crate::nn::{ExpertNames, Experts, Mlp, Moe, MoeConfig, Router, Routing, Score};
use crate::weights::Weights;

pub(super) const ARCHITECTURE: Architecture =
    Architecture::new(&["ernie4_5_moe"], build).ignoring(|_, tensor| tensor.contains(".mtp_"));

fn build(file: &ConfigFile, w: &Weights) -> Result<Box<dyn LanguageModel>> {
    let file = &file.renamed(&[("num_experts_per_tok", "moe_k")]);
    let rope = RopeDefaults { base: Some(500_000.0), traditional: true, share: None };
    let mut decoder = file.decoder(&rope)?;
    let bias = file.flag("use_bias")?;
    decoder.attention.qkv_bias = bias;
    decoder.attention.output_bias = bias;
    let (dims, dense) = (decoder.attention.dims, file.size("intermediate_size")?);
    let hidden = match file.optional("moe_intermediate_size")?.unwrap_or(0) {
        0 => dense,
        hidden => file.bounded("moe_intermediate_size", hidden, 1 << 24)?,
    };
    let experts = file.size("moe_num_experts")?;
    let (score, groups, normalize, scale) = (Score::Softmax, None, true, 1.0);
    let routing = Routing::ScoresThenTop { score, groups, normalize, scale };
    let active = file.active_experts(experts, Some(6))?;
    let activation = file.activation()?;
    let field = "moe_norm_min";
    if file.optional::<f32>(field)?.is_some_and(|least| least > 1e-6) {
        return Err(file.error(format!("\"{field}\" is above 1e-6, which is not supported")));
    }
    let config = MoeConfig { dims, hidden, experts, active, activation, routing };
    let shared = match file.optional("moe_num_shared_experts")?.unwrap_or(0_i64) {
        0 => None,
        count => Some(file.bounded("moe_num_shared_experts", count, 1 << 10)?),
    };
    let sparse = sparse_layers(file)?;
    let is_said = file.says("moe_layer_start_index");
    Ok(Box::new(decoder.build(w, |index, w| {
        let w = w.at("mlp");
        // Implementations differ where the first of these layers is not said.
        let sparse = if is_said { sparse(index) } else { w.at("gate").has("weight") };
        if !sparse {
            return Ok(Box::new(Mlp::new(&w, dims, dense, bias, activation)?));
        }
        let mut router = Router::new(&w.at("gate"), config, false)?;
        // Those that were converted lack it.
        let statics = [w.at("moe_statics"), w.at("gate.moe_statics")];
        let name = "e_score_correction_bias";
        if let Some(w) = statics.iter().find(|w| w.has(name)) {
            let correction = w.take_f32(name, &[1, experts])?;
            router = router.with_correction(ops::reshape(&correction, &[experts])?);
        }
        let moe = Moe::of(router, Experts::new(&w, config, ExpertNames::default())?);
        let Some(count) = shared else { return Ok(Box::new(moe)) };
        let (w, hidden) = (w.at("shared_experts"), hidden.saturating_mul(count));
        Ok(Box::new(moe.with_shared(Mlp::new(&w, dims, hidden, bias, activation)?)))
    })?))
}

/// A number, or one for texts and one for images.
#[derive(Deserialize)]
#[serde(untagged)]
enum Index {
    One(i64),
    Each(Vec<i64>),
}

/// Which layers have experts: every `moe_layer_interval`-th from `moe_layer_start_index` to
/// `moe_layer_end_index`, of which -1 is the last.
fn sparse_layers(file: &ConfigFile) -> Result<impl Fn(usize) -> bool + use<>> {
    let start = match file.optional("moe_layer_start_index")? {
        None => 1,
        Some(Index::One(start)) => start,
        Some(Index::Each(starts)) => starts.into_iter().min().unwrap_or(0),
    };
    let end = match file.optional("moe_layer_end_index")? {
        None => -1,
        Some(Index::One(end)) => end,
        Some(Index::Each(ends)) => ends.into_iter().max().unwrap_or(-1),
    };
    let step = i64::from(file.size_or("moe_layer_interval", 1)?);
    Ok(move |layer: usize| {
        let layer = layer as i64;
        (layer + 1) % step == 0 && layer >= start && (end < 0 || layer <= end)
    })
}
