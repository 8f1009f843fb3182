//! Step 3.5 Flash (StepFun 2026): norms over each query and key head, gates of each head, most
//! layers within a window with heads and a rotation of their own, and experts, some with bounds.

use serde_json::{Value, json};

use crate::error::Result;
use crate::mlx::{Array, ops, scalar};
use crate::models::config::{ConfigFile, LayerType, RopeDefaults};
use crate::models::{Architecture, LanguageModel, is_prediction_layer};
use crate::nn::{
    Activation, Combine, ExpertNames, Experts, FeedForward, GatePlace, Mlp, Moe, MoeConfig, Norm,
    OutputGate, QkNorm, Rope, clipped,
};
use crate::weights::Weights;

pub(super) const ARCHITECTURE: Architecture = Architecture::new(&["step3p5"], build)
    .ignoring(|file, tensor| tensor.contains(".mtp") || is_prediction_layer(file, tensor));

fn build(file: &ConfigFile, w: &Weights) -> Result<Box<dyn LanguageModel>> {
    let file = &file
        .renamed(&[
            ("num_key_value_heads", "num_attention_groups"),
            ("num_experts_per_tok", "moe_top_k"),
            ("routed_scaling_factor", "moe_router_scaling_factor"),
            ("norm_topk_prob", "norm_expert_weight"),
        ])
        .with_defaults([
            ("n_routed_experts", json!(288)),
            ("num_experts_per_tok", json!(8)),
            ("moe_intermediate_size", json!(1280)),
            ("routed_scaling_factor", json!(3.0)),
        ]);
    let plain = file.without("rope_theta").without("rope_scaling");
    let mut decoder = plain.decoder(&RopeDefaults::base(10_000.0))?;
    let layers = decoder.layers.len();
    // Published checkpoints store the norms less 1; those that were converted store the sum.
    let view = w.at("model.layers");
    let published = (0..layers).any(|layer| view.at(layer).at("moe.gate").has("weight"));
    decoder.norm = if published { Norm::rms_plus_one } else { Norm::rms };
    decoder.attention.qk_norm = Some(QkNorm::each_head(decoder.norm, decoder.eps));
    if file.flag_on("use_head_wise_attn_gate")? {
        decoder.attention.qkv = &["q_proj", "k_proj", "v_proj", "g_proj"];
        decoder.attention.output_gate = Some(OutputGate::sigmoid(GatePlace::EachHead));
    }
    let near = near_layers(file, layers)?;
    let window = file.size_or("sliding_window", 512)?;
    for (index, layer) in decoder.layers.iter_mut().enumerate() {
        layer.span = Some(window).filter(|_| near[index]).into();
        layer.rope = Some(rope(file, decoder.attention.head_dim, index, near[index])?);
    }
    let far = decoder.attention;
    let mut close = far;
    if let Some(Value::Object(own)) = file.optional("attention_other_setting")? {
        let fields = ["num_attention_heads", "num_attention_groups"];
        let own = fields.map(|name| (name, own.get(name).cloned().unwrap_or(Value::Null)));
        let attention = file.with(own).attention()?;
        (close.heads, close.kv_heads) = (attention.heads, attention.kv_heads);
    }
    let feed_forward = sparse_layers(file, far.dims, published)?;
    Ok(Box::new(decoder.build_hybrid(
        w,
        |index, w| {
            let attention = if near[index] { close } else { far };
            Ok(Box::new(attention.build(&w.at("self_attn"), decoder.layers[index].clone())?))
        },
        feed_forward,
    )?))
}

/// Which layers see a window only. The list goes on with the layers that predict more tokens.
fn near_layers(file: &ConfigFile, layers: usize) -> Result<Vec<bool>> {
    match file.optional::<Vec<LayerType>>("layer_types")? {
        None => Ok((0..layers).map(|layer| layer.is_multiple_of(2)).collect()),
        Some(types) if types.len() >= layers => {
            Ok(types.iter().take(layers).map(|it| *it == LayerType::SlidingAttention).collect())
        }
        Some(types) => Err(file.error(format!(
            "\"layer_types\" has {} values, expected {layers} or more",
            types.len()
        ))),
    }
}

/// The entry of a layer in a list that may be shorter, or may not be there.
fn entry(file: &ConfigFile, field: &str, layer: usize) -> Result<Option<f32>> {
    let list: Option<Vec<Option<f32>>> = file.optional(field)?;
    Ok(list.and_then(|list| list.get(layer).copied().flatten()))
}

/// The rotation of a layer, whose base and share may be its own.
fn rope(file: &ConfigFile, head_dim: i32, layer: usize, near: bool) -> Result<Rope> {
    let base = match file.optional("rope_theta")? {
        Some(Value::Array(_)) => entry(file, "rope_theta", layer)?,
        _ => file.rope_theta()?,
    };
    let share = entry(file, "partial_rotary_factors", layer)?.unwrap_or(1.0);
    let share = file.with([("partial_rotary_factor", json!(share))]).rotated_share(Some(1.0))?;
    let kind = match near && file.says("layer_types") {
        true => "sliding_attention",
        false => "full_attention",
    };
    let scaled: Option<Vec<String>> = file.optional("yarn_only_types")?;
    let scaled = scaled.is_none_or(|it| it.is_empty() || it.iter().any(|scaled| scaled == kind));
    let file = if scaled { file.clone() } else { file.without_rope_scaling() };
    let dims = (head_dim as f32 * share) as i32;
    file.without("rope_theta").rope(dims, Some(base.unwrap_or(10_000.0)), false)
}

/// min(silu(gate), limit) · up, with up between −limit and limit.
fn bounded_swiglu(gate: &Array, up: &Array, [limit, _]: [f32; 2]) -> Result<Array> {
    let gate = Activation::Silu.apply(gate)?;
    let gate = ops::minimum(&gate, &ops::astype(&scalar(limit), gate.dtype())?)?;
    ops::multiply(&gate, &clipped(up, limit)?)
}

/// Experts beside one that sees every token, in the layers of `moe_layers_enum` or all but the
/// first.
fn sparse_layers(
    file: &ConfigFile,
    dims: i32,
    published: bool,
) -> Result<impl Fn(usize, &Weights) -> Result<Box<dyn FeedForward>> + use<>> {
    let sparse: Vec<usize> = match file.optional::<String>("moe_layers_enum")? {
        Some(list) if !list.trim().is_empty() => {
            let layers = list.split(',').map(|layer| layer.trim().parse());
            let error = |_| file.error(format!("\"moe_layers_enum\" is no list: \"{list}\""));
            layers.collect::<Result<_, _>>().map_err(error)?
        }
        _ => (1..file.layers()?).collect(),
    };
    let combine = |field: &'static str| -> Result<Vec<Option<Combine>>> {
        (0..file.layers()?)
            .map(|layer| {
                let limit = entry(file, field, layer)?.filter(|limit| *limit > 0.0);
                Ok(limit.map(|limit| Combine { function: bounded_swiglu, numbers: [limit; 2] }))
            })
            .collect()
    };
    let (limits, shared_limits) = (combine("swiglu_limits")?, combine("swiglu_limits_shared")?);
    let (dense, shared) =
        (file.size("intermediate_size")?, file.size_or("share_expert_dim", 1280)?);
    let config = file.routed_experts(dims)?;
    let bounded = move |w: &Weights, hidden: i32, combine: Option<Combine>| -> Result<Mlp> {
        let mlp = Mlp::new(w, dims, hidden, false, Activation::Silu)?;
        Ok(match combine {
            Some(combine) => mlp.combined(combine),
            None => mlp,
        })
    };
    Ok(move |layer: usize, w: &Weights| -> Result<Box<dyn FeedForward>> {
        if !sparse.contains(&layer) {
            return Ok(Box::new(bounded(&w.at("mlp"), dense, shared_limits[layer])?));
        }
        let outer = if published { w.clone() } else { w.at("mlp") };
        let moe = experts(&w.at(if published { "moe" } else { "mlp" }), config, limits[layer])?;
        let shared = bounded(&outer.at("share_expert"), shared, shared_limits[layer])?;
        Ok(Box::new(moe.with_shared(shared)))
    })
}

fn experts(w: &Weights, config: MoeConfig, combine: Option<Combine>) -> Result<Moe> {
    let converted = w.at("gate.gate").has("weight");
    let names = ExpertNames {
        router: if converted { "gate.gate" } else { "gate" },
        correction: &["gate.router_bias", "router_bias"],
        stacked: match converted {
            true => ExpertNames::default().stacked,
            false => ["gate_proj", "up_proj", "down_proj"],
        },
        ..ExpertNames::default()
    };
    let experts = match combine {
        Some(combine) => Experts::combining(w, config, names, combine)?,
        None => Experts::new(w, config, names)?,
    };
    Ok(Moe::of(names.router(w, config)?, experts))
}
