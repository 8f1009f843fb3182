//! MiMo V2 Flash (Xiaomi 2025): most layers within a window, with heads, a rotation and sinks of
//! their own; values that are narrower than keys; experts as DeepSeek V3's.

use serde_json::json;

use crate::error::Result;
use crate::models::config::{ConfigFile, LayerType, RopeDefaults};
use crate::models::{Architecture, LanguageModel};
use crate::nn::{
    AttentionConfig, AttentionSpan, LayerConfig, PredictionConfig, PredictionNames,
    PredictionPlace, language_model,
};
use crate::weights::Weights;

pub(super) const ARCHITECTURE: Architecture = Architecture::new(&["mimo_v2_flash"], build)
    .ignoring(|_, tensor| tensor.starts_with("model.mtp"));

/// The share of a head that is rotated.
const ROTATED: f32 = 0.334;

fn build(file: &ConfigFile, w: &Weights) -> Result<Box<dyn LanguageModel>> {
    let file = &file.renamed(&[("rms_norm_eps", "layernorm_epsilon")]).with_defaults([
        ("first_k_dense_replace", json!(1)),
        ("num_experts_per_tok", json!(8)),
        ("head_dim", json!(192)),
        ("v_head_dim", json!(128)),
    ]);
    let sinks = |field, default| -> Result<bool> { Ok(file.optional(field)?.unwrap_or(default)) };
    let all = of_kind(file, "full_attention", 5_000_000.0)?;
    let mut sees_all = layers_that_see_all(file)?;
    let near = match sees_all.iter().position(|all| !all) {
        Some(layer) => language_model(w).at("layers").at(layer).at("self_attn"),
        None => w.clone(),
    };
    let near = of_kind(&near_fields(file, &near)?, "sliding_attention", 10_000.0)?;
    let with_sinks = [
        sinks("add_swa_attention_sink_bias", true)?,
        sinks("add_full_attention_sink_bias", false)?,
    ];
    // The field counts the positions in front of a token.
    let window = match file.optional::<i64>("sliding_window_size")? {
        Some(before) => file.bounded("sliding_window_size", before.saturating_add(1), 1 << 24)?,
        None => file.size_or("sliding_window", 129)?,
    };
    let own = file.rope_parameters_of("full_attention").unwrap_or_else(|| file.clone());
    let share = Some(ROTATED);
    let mut decoder =
        own.decoder(&RopeDefaults { base: Some(5_000_000.0), traditional: false, share })?;
    let mut layers = file.sparse_layers(decoder.attention.dims)?;
    // The layer of the prediction head looks at a window, and has no experts.
    sees_all.push(false);
    layers.sparse.push(false);
    let (place, names) = (PredictionPlace::BesideLayers("mtp.layers.0"), PredictionNames::MIMO_V2);
    decoder.prediction = Some(PredictionConfig { place, names, like: file.layers()? });
    Ok(Box::new(decoder.build_hybrid(
        w,
        |index, w| {
            let w = w.at("self_attn");
            let far = sees_all[index];
            let (mut attention, mut layer) = if far { all.clone() } else { near.clone() };
            layer.span = Some(window).filter(|_| !far).into();
            // Published checkpoints and transformers name them otherwise.
            let names = ["attention_sink_bias", "sinks"];
            let name = names.into_iter().find(|name| w.has(name)).unwrap_or(names[0]);
            attention.sinks = with_sinks[usize::from(far)].then_some(name);
            Ok(Box::new(attention.build(&w, layer)?))
        },
        |index, w| layers.build(index, w),
    )?))
}

/// The attention and the rotation of one kind of layers.
fn of_kind(file: &ConfigFile, kind: &str, base: f32) -> Result<(AttentionConfig, LayerConfig)> {
    let mut attention = file.attention()?;
    attention.v_head_dim = Some(file.size("v_head_dim")?);
    attention.output_bias = false;
    attention.value_scale = file.unless_null("attention_value_scale", 0.707)?;
    let file = file.rope_parameters_of(kind).unwrap_or_else(|| file.clone());
    let rotated = attention.head_dim as f32 * file.rotated_share(Some(ROTATED))?;
    let rope = Some(file.rope(rotated as i32, Some(base), false)?);
    Ok((attention, LayerConfig { span: AttentionSpan::Full, rope, temperature: None }))
}

/// The fields of layers within a window by the names of the others. `w` is the attention of such a
/// layer, which tells how many heads of keys and values these have: transformers does not look at
/// what is said of that, and takes twice as many as elsewhere.
fn near_fields(file: &ConfigFile, w: &Weights) -> Result<ConfigFile> {
    let or = |field: &str, default: &str| file.size_or(field, file.size(default)?);
    let heads = or("swa_num_attention_heads", "num_attention_heads")?;
    let head_dim = or("swa_head_dim", "head_dim")?;
    let rows = w.at("k_proj").shape("weight").and_then(|shape| shape.first().copied());
    let found = rows.filter(|rows| rows % head_dim == 0).map(|rows| rows / head_dim);
    let kv_heads = match found.filter(|&kv_heads| kv_heads > 0 && heads % kv_heads == 0) {
        Some(kv_heads) => kv_heads,
        None => {
            let twice = file.size("num_key_value_heads")?.saturating_mul(2);
            file.size_or("swa_num_key_value_heads", twice)?
        }
    };
    Ok(file.with([
        ("num_attention_heads", json!(heads)),
        ("num_key_value_heads", json!(kv_heads)),
        ("head_dim", json!(head_dim)),
        ("v_head_dim", json!(or("swa_v_head_dim", "v_head_dim")?)),
        ("rope_theta", json!(file.optional::<f32>("swa_rope_theta")?)),
    ]))
}

/// Which layers see all positions: those that `layer_types` or `hybrid_layer_pattern` says so of,
/// or the first and every sixth.
fn layers_that_see_all(file: &ConfigFile) -> Result<Vec<bool>> {
    if let Some(types) = file.layer_types()? {
        return Ok(types.into_iter().map(|kind| kind == LayerType::FullAttention).collect());
    }
    if let Some(near) = file.of_each_layer::<u8>("hybrid_layer_pattern")? {
        return Ok(near.into_iter().map(|near| near == 0).collect());
    }
    Ok((0..file.layers()?).map(|layer| layer == 0 || (layer + 1).is_multiple_of(6)).collect())
}
