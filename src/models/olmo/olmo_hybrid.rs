//! OLMo Hybrid (Ai2 2026): most layers are gated delta nets behind norms, every few attend, with
//! OLMo 2's norms behind the blocks.

use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::error::Result;
use crate::models::config::{ConfigFile, RopeDefaults};
use crate::models::{Architecture, LanguageModel, mlp};
use crate::nn::{
    DeltaProjections, GatedDelta, GatedDeltaConfig, Norm, NormLayout, QkNorm, language_model,
};
use crate::weights::Weights;

pub(super) const ARCHITECTURE: Architecture = Architecture::new(&["olmo_hybrid"], build)
    .with_eps(1e-6)
    .ignoring(|_, tensor| tensor.starts_with("mtp."));

/// Epsilon of the gated norms, whatever the other norms have.
const GATED_EPS: f32 = 1e-5;

#[derive(PartialEq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Kind {
    LinearAttention,
    FullAttention,
}

fn build(file: &ConfigFile, w: &Weights) -> Result<Box<dyn LanguageModel>> {
    let file = &with_defaults(file)?;
    // The released models say that they do not look at positions.
    let rotates = !says_no_base(file)?;
    let file = &if rotates { file.clone() } else { file.without("rope_parameters") };
    let mut decoder = file.decoder(&RopeDefaults::base(10_000.0))?;
    decoder.attention.qk_norm = Some(QkNorm::all_heads(Norm::rms, decoder.eps));
    let attends = attending_layers(file)?;
    let layers = language_model(w).at("layers");
    let layouts = attends.iter().enumerate();
    decoder.layouts = layouts.map(|(index, attends)| layout(&layers.at(index), *attends)).collect();
    if !rotates {
        decoder.layers.iter_mut().for_each(|layer| layer.rope = None);
    }
    let turns = file.flag_on("linear_allow_neg_eigval")?;
    let rate_scale = if turns { 2.0 } else { 1.0 };
    let delta = GatedDeltaConfig { eps: GATED_EPS, rate_scale, ..file.gated_delta()? };
    let projections = DeltaProjections::EachApart;
    Ok(Box::new(decoder.build_hybrid(
        w,
        |index, w| match attends[index] {
            true => decoder.attention(index, w),
            false => Ok(Box::new(GatedDelta::new(&w.at("linear_attn"), delta, projections)?)),
        },
        mlp(file, decoder.attention.dims)?,
    )?))
}

/// Where a layer's norms stand: behind the blocks of layers that attend, in front of those of the
/// others. Checkpoints have either of two names for some.
fn layout(w: &Weights, attends: bool) -> NormLayout {
    let other = w.at("feedforward_layer_norm").has("weight");
    match (attends, other) {
        (true, false) => NormLayout::POST,
        (true, true) => {
            NormLayout { mixer: [None, Some("feedforward_layer_norm")], ..NormLayout::POST }
        }
        (false, false) => NormLayout::PRE,
        (false, true) => NormLayout::pre(["attention_layer_norm", "feedforward_layer_norm"]),
    }
}

/// The fields of linear attention whose defaults follow from others.
const LINEAR_SIZES: [&str; 4] = [
    "linear_num_key_heads",
    "linear_num_value_heads",
    "linear_key_head_dim",
    "linear_value_head_dim",
];

/// Heads of linear attention are as many as those of attention, and keys take three quarters of the
/// features, where nothing is said.
fn with_defaults(file: &ConfigFile) -> Result<ConfigFile> {
    let file = file.with_defaults([
        ("hidden_size", json!(3840)),
        ("intermediate_size", json!(11_008)),
        ("num_hidden_layers", json!(32)),
        ("num_attention_heads", json!(30)),
        ("vocab_size", json!(100_352)),
    ]);
    // Null means the default, too.
    let mut file = file;
    for field in LINEAR_SIZES {
        if !file.says(field) {
            file = file.without(field);
        }
    }
    let heads = file.size("num_attention_heads")?;
    let file = file.with_defaults([
        ("linear_num_key_heads", json!(heads)),
        ("linear_num_value_heads", json!(heads)),
        ("linear_conv_kernel_dim", json!(4)),
    ]);
    let keys = file.size("hidden_size")? / 4 * 3 / file.size("linear_num_key_heads")?;
    let file = file.with_defaults([("linear_key_head_dim", json!(keys))]);
    let values = file.size("linear_key_head_dim")?.saturating_mul(2);
    Ok(file.with_defaults([("linear_value_head_dim", json!(values))]))
}

/// Whether the base of the rotation is null.
fn says_no_base(file: &ConfigFile) -> Result<bool> {
    let nested: Option<Map<String, Value>> = file.optional("rope_parameters")?;
    let nested = nested.and_then(|fields| fields.get("rope_theta").cloned());
    let is_null = nested == Some(Value::Null) || file.unless_null("rope_theta", 0.0)?.is_none();
    Ok(is_null && file.rope_theta()?.is_none())
}

/// Which layers attend: those that `layer_types` says so of, or every fourth, and the last one of
/// fewer.
fn attending_layers(file: &ConfigFile) -> Result<Vec<bool>> {
    if let Some(kinds) = file.layer_kinds::<Kind>()? {
        return Ok(kinds.into_iter().map(|kind| kind == Kind::FullAttention).collect());
    }
    let layers = file.layers()?;
    Ok((1..=layers).map(|layer| layer.is_multiple_of(4) || layers < 4 && layer == layers).collect())
}
