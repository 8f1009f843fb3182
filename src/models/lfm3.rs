//! LFM3 (Liquid AI 2026): LFM2's short convolutions beside attention to a window or to all
//! positions, which rotate otherwise and have a gate for each head; norms around each block.

use serde::Deserialize;
use serde_json::{Value, json};

use super::config::{ConfigFile, RopeDefaults};
use super::{Architecture, LanguageModel, lfm2};
use crate::error::Result;
use crate::nn::{GatePlace, Norm, NormLayout, OutputGate, QkNorm, ShortConv};
use crate::weights::Weights;

pub(super) const ARCHITECTURE: Architecture = Architecture::new(&["lfm3"], build);

#[derive(Clone, Copy, PartialEq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Kind {
    FullAttention,
    SlidingAttention,
    /// Whatever it is called.
    #[serde(other)]
    Conv,
}

fn build(file: &ConfigFile, w: &Weights) -> Result<Box<dyn LanguageModel>> {
    let file = &match file.optional::<Value>("rope_parameters")? {
        Some(_) => file.clone(),
        None => file.with([("rope_parameters", rotations())]),
    };
    let file = &file.with_defaults([("head_dim", json!(128))]);
    let rope = |kind: &str| {
        let own = file.rope_parameters_of(kind).unwrap_or_else(|| file.clone());
        let dims = file.size("head_dim")? as f32 * own.rotated_share(Some(1.0))?;
        own.rope(dims as i32, Some(10_000.0), false)
    };
    let (far, near) = (rope("full_attention")?, rope("sliding_attention")?);
    let mut decoder = file.without("rope_parameters").decoder(&RopeDefaults::base(10_000.0))?;
    decoder.layout = match file.flag_on("use_sandwich_norm")? {
        true => NormLayout::sandwich([
            "operator_norm",
            "post_operator_norm",
            "ffn_norm",
            "post_ffn_norm",
        ]),
        false => NormLayout::pre(["operator_norm", "ffn_norm"]),
    };
    decoder.names.norm = "embedding_norm";
    decoder.tied = Some(decoder.tied.unwrap_or(true));
    decoder.attention.output_bias = decoder.attention.qkv_bias;
    decoder.attention.qk_norm = Some(QkNorm::each_head(Norm::rms, decoder.eps));
    if file.flag_on("use_attention_gate")? {
        decoder.attention.output_gate = Some(OutputGate::sigmoid(GatePlace::EachHead));
    }
    let kinds = match file.layer_kinds()? {
        Some(kinds) => kinds,
        None => (0..decoder.layers.len()).map(usual_kind).collect(),
    };
    let window = file.size_or("sliding_window", 256)?;
    for (layer, kind) in decoder.layers.iter_mut().zip(&kinds) {
        let is_near = *kind == Kind::SlidingAttention;
        layer.rope = Some(if is_near { near.clone() } else { far.clone() });
        layer.span = is_near.then_some(window).into();
    }
    let (kernel, bias) = (file.size_or("conv_L_cache", 7)?, file.flag("conv_bias")?);
    let (dims, hidden) = (decoder.attention.dims, file.size("intermediate_size")?);
    Ok(Box::new(decoder.build_hybrid(
        w,
        |index, w| {
            if kinds[index] == Kind::Conv {
                return Ok(Box::new(ShortConv::new(&w.at("conv"), dims, kernel, bias)?));
            }
            let w = w.at("self_attn");
            let published = w.at("gate_proj").has("weight");
            let mut attention = decoder.attention;
            attention.gate = Some(if published { "gate_proj" } else { "g_proj" });
            Ok(Box::new(attention.build(&w, decoder.layers[index].clone())?))
        },
        |_, w| Ok(Box::new(lfm2::mlp(&w.at("feed_forward"), dims, hidden)?)),
    )?))
}

/// Where nothing is said of rotations.
fn rotations() -> Value {
    json!({
        "sliding_attention": {"rope_type": "default", "rope_theta": 10_000.0},
        "full_attention": {
            "rope_type": "proportional",
            "rope_theta": 1_000_000.0,
            "partial_rotary_factor": 0.5,
        },
    })
}

/// Where nothing is said of the kinds of layers.
fn usual_kind(layer: usize) -> Kind {
    match layer % 4 {
        2 => Kind::FullAttention,
        0 if layer > 0 => Kind::SlidingAttention,
        _ => Kind::Conv,
    }
}
