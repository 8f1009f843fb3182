//! Muse Spark (Meta 2026): Muse Glimmer with norms over what heads attend to, shares of stream and
//! block in their sum, and experts between projections to fewer features. Of checkpoints that also
//! see and hear, the language model.

use serde_json::json;

use super::config::{ConfigFile, RopeDefaults};
use super::muse_glimmer::{self, EMBEDDING_NORM};
use super::{Architecture, LanguageModel};
use crate::error::Result;
use crate::mlx::{Array, eval, ops, scalar};
use crate::nn::{
    Activation, ExpertNames, Experts, Linear, Mlp, Moe, MoeConfig, Norm, Norms, Routing, Score,
    language_model, scaled,
};
use crate::weights::Weights;

pub(super) const ARCHITECTURE: Architecture =
    Architecture::new(&["muse_spark"], build).with_eps(1e-5).ignoring(|_, tensor| {
        let tensor = tensor.strip_prefix("model.").unwrap_or(tensor);
        tensor.starts_with("vision_")
            || tensor.starts_with("audio_")
            // Of experts whose inputs are packed, too.
            || tensor.ends_with("_proj_input_scale")
    });

const NAMES: ExpertNames = ExpertNames {
    router: "gate",
    correction: &["gate.e_score_correction_bias"],
    single: ["gate_proj", "up_proj", "down_proj"],
    stacked: ["experts.gate_proj", "experts.up_proj", "experts.down_proj"],
    fused: ["experts.gate_up_proj", "experts.down_proj"],
};

fn build(file: &ConfigFile, w: &Weights) -> Result<Box<dyn LanguageModel>> {
    let file = &with_defaults(file);
    file.expect_number("num_shared_experts", 0.0)?;
    let layers = language_model(w).at("layers");
    // mlx-lm has queries, keys, values and gates together, and weights of norms as they are.
    let is_joint = layers.at(0).at("self_attn").at("qkvg_proj").has("weight");
    let is_converted = layers.at(0).has("add_attn_alpha");
    let rope = RopeDefaults { base: Some(500_000.0), traditional: is_joint, share: None };
    let mut decoder = muse_glimmer::decoder(file, &rope, [5.473_006_5, 0.176_776_7])?;
    decoder.norm = if is_converted { norm } else { published_norm };
    decoder.attention.output_head_norm = Some(decoder.eps);
    match is_joint {
        true => decoder.attention.qkv = &["qkvg_proj"],
        false => decoder.attention.gate = Some("gate_proj"),
    }
    let dims = decoder.attention.dims;
    let inner = file.size("moe_hidden_size")?;
    let experts = file.size("num_local_experts")?;
    let config = MoeConfig {
        dims,
        hidden: file.size("moe_intermediate_size")?,
        experts,
        active: file.active_experts(experts, None)?,
        activation: Activation::Silu,
        routing: Routing::ScoresThenTop {
            score: Score::Sigmoid,
            groups: None,
            normalize: true,
            scale: file.optional("routed_scaling_factor")?.unwrap_or(1.0),
        },
    };
    let sparse = file.layers_with_experts()?;
    let dense = file.size("intermediate_size")?;
    let moe = |w: &Weights| -> Result<_> {
        let router = NAMES.router(w, config)?.with_logit_scale(decoder.logit_scale.unwrap_or(1.0));
        let experts = Experts::new(w, MoeConfig { dims: inner, ..config }, NAMES)?;
        let norm = |name: &str, eps| (decoder.norm)(&w.at(name), inner, eps);
        Ok(Moe::of(router, experts)
            .within(
                Linear::new(&w.at("pre_expert_proj"), dims, inner, false)?,
                Linear::new(&w.at("post_expert_proj"), inner, dims, false)?,
            )
            .with_expert_norms([
                norm("pre_expert_norm", decoder.eps)?,
                norm("experts.post_expert_norm", decoder.after_eps.unwrap_or(decoder.eps))?,
            ]))
    };
    let mut decoder = decoder.build(w, |index, w| {
        let w = w.at("mlp");
        Ok(match sparse[index] {
            true => Box::new(moe(&w)?),
            false => Box::new(Mlp::new(&w, dims, dense, false, Activation::Silu)?),
        })
    })?;
    let temperature = file.optional("residual_gate_temperature")?.unwrap_or(0.3);
    for (index, layer) in decoder.layers.iter_mut().enumerate() {
        let Norms::Sequential { mixer, feed_forward } = &mut layer.norms else { continue };
        let w = layers.at(index);
        let gates = |[converted, published]: [&str; 2]| match is_converted {
            true => Ok([
                w.take_f32(&format!("{converted}_alpha"), &[dims])?,
                w.take_f32(&format!("{converted}_beta"), &[dims])?,
            ]),
            false => shares(&w.take_f32(&format!("{published}.gate"), &[dims])?, temperature),
        };
        mixer.gates = Some(gates(["add_attn", "post_attention_residual_gate"])?);
        feed_forward.gates = Some(gates(["add_ffn", "post_feedforward_residual_gate"])?);
    }
    Ok(Box::new(decoder))
}

/// The shares of stream and block, √(σ(−w) · (1 + σ(w))) and σ(w) with w = gate / temperature.
fn shares(gate: &Array, temperature: f32) -> Result<[Array; 2]> {
    const LEAST: f32 = 1e-3;
    let gate = scaled(gate, temperature.recip())?;
    let beta = ops::sigmoid(&gate)?;
    let rest = ops::sigmoid(&ops::negative(&gate)?)?;
    let square = ops::multiply(&rest, &ops::add(&beta, &scalar(1.0))?)?;
    let alpha = ops::sqrt(&ops::maximum(&square, &scalar(LEAST))?)?;
    eval(&[&alpha, &beta])?;
    Ok([alpha, beta])
}

/// The last part of a norm's name.
fn name<'a>(w: &'a Weights) -> &'a str {
    w.prefix().rsplit('.').next().unwrap_or_default()
}

/// Norms without weights behind the embedding and the mixer, and norms of what is scaled behind the
/// feed-forward block and each expert.
fn norm(w: &Weights, dims: i32, eps: f32) -> Result<Norm> {
    match name(w) {
        EMBEDDING_NORM | "post_attention_layernorm" => Norm::unweighted(w, dims, eps),
        "post_feedforward_layernorm" | "post_expert_norm" => Norm::rms_of_scaled(w, dims, eps),
        _ => Norm::rms(w, dims, eps),
    }
}

/// The same with weights that are stored less 1, but for the last norm's.
fn published_norm(w: &Weights, dims: i32, eps: f32) -> Result<Norm> {
    match name(w) {
        "post_feedforward_layernorm" | "post_expert_norm" => {
            Norm::rms_of_scaled_plus_one(w, dims, eps)
        }
        "norm" | EMBEDDING_NORM | "post_attention_layernorm" => norm(w, dims, eps),
        _ => Norm::rms_plus_one(w, dims, eps),
    }
}

fn with_defaults(file: &ConfigFile) -> ConfigFile {
    file.with_defaults([
        ("hidden_size", json!(8192)),
        ("intermediate_size", json!(16384)),
        ("num_hidden_layers", json!(62)),
        ("num_attention_heads", json!(128)),
        ("num_key_value_heads", json!(16)),
        ("head_dim", json!(64)),
        ("vocab_size", json!(202_048)),
        ("moe_hidden_size", json!(4096)),
        ("moe_intermediate_size", json!(4096)),
        ("num_local_experts", json!(256)),
        ("num_experts_per_tok", json!(8)),
        ("tie_word_embeddings", json!(false)),
    ])
}
