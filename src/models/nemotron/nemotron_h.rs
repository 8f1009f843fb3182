//! Nemotron-H and Nemotron 3 (NVIDIA 2025): layers that are one block each: a Mamba 2 mixer,
//! attention that does not look at positions, an MLP, or experts, which may work on fewer features.

use serde::Deserialize;
use serde_json::json;

use crate::error::Result;
use crate::models::config::{ConfigFile, Mamba2Fields};
use crate::models::{Architecture, LanguageModel};
use crate::nn::{
    Activation, AttentionSpan, Backbone, BackboneConfig, Block, ExpertNames, Experts, LayerConfig,
    Linear, Mamba2, Moe, PlainMlp,
};
use crate::weights::Weights;

pub(super) const ARCHITECTURE: Architecture =
    Architecture::new(&["nemotron_h"], build).ignoring(|_, tensor| tensor.starts_with("mtp."));

#[derive(Clone, Copy, PartialEq, Deserialize)]
enum Kind {
    #[serde(rename = "mamba", alias = "linear_attention", alias = "conv", alias = "M")]
    Mamba,
    #[serde(rename = "attention", alias = "full_attention", alias = "*")]
    Attention,
    #[serde(rename = "mlp", alias = "-")]
    Mlp,
    #[serde(rename = "moe", alias = "E")]
    Moe,
}

fn build(file: &ConfigFile, w: &Weights) -> Result<Box<dyn LanguageModel>> {
    // The field of this architecture; another one beside it is not looked at.
    let file = &match file.optional::<f32>("layer_norm_epsilon")? {
        Some(_) => file.without("rms_norm_eps"),
        None => file.clone(),
    };
    // Biases of the mixers are said under either name. Where one denies them, the tensors decide.
    let bias = match (file.optional("use_bias")?, file.optional("mamba_proj_bias")?) {
        (Some(one), Some(other)) if one != other => {
            let layer = |index| w.at("backbone.layers").at(index).at("mixer.in_proj");
            (0..kinds(file)?.len()).any(|index| layer(index).has("bias"))
        }
        (one, other) => one.or(other).unwrap_or(false),
    };
    let file = &file.with([("mamba_proj_bias", json!(bias))]).with_defaults([
        ("n_routed_experts", json!(8)),
        ("num_experts_per_tok", json!(2)),
        ("moe_intermediate_size", json!(7688)),
    ]);
    let kinds = kinds(file)?;
    let attention = file.attention()?;
    file.expect_silu("mamba_hidden_act")?;
    let mut mamba = file.mamba2(&Mamba2Fields {
        heads: "mamba_num_heads",
        head_dim: "mamba_head_dim",
        state: "ssm_state_size",
        groups: "n_groups",
        kernel: "conv_kernel",
        conv_bias: "use_conv_bias",
        projection_bias: "mamba_proj_bias",
    })?;
    let least = match file.optional("mamba_dt_min")? {
        Some(least) => least,
        None => file.optional("time_step_min")?.unwrap_or(0.001_f32),
    };
    mamba.time_step_limit.0 = mamba.time_step_limit.0.max(least);
    let (dims, hidden) = (attention.dims, file.size("intermediate_size")?);
    let config = BackboneConfig {
        vocabulary: file.size("vocab_size")?,
        dims,
        layers: kinds.len(),
        eps: mamba.eps,
        tied: file.optional("tie_word_embeddings")?,
    };
    let block = |kind: Kind, w: &Weights| -> Result<Block> {
        Ok(match kind {
            Kind::Mamba => Block::Mixer(Box::new(Mamba2::new(w, mamba)?)),
            Kind::Attention => {
                let (span, rope, temperature) = (AttentionSpan::Full, None, None);
                let layer = LayerConfig { span, rope, temperature };
                Block::Mixer(Box::new(attention.build(w, layer)?))
            }
            Kind::Mlp => Block::FeedForward(Box::new(mlp(file, w, dims, hidden)?)),
            Kind::Moe => Block::FeedForward(Box::new(experts(file, w, dims)?)),
        })
    };
    let backbone = Backbone::new(w, config, |index, w| block(kinds[index], w))?;
    let of_head = pattern(file, &["mtp_hybrid_override_pattern", "mtp_layers_block_type"])?;
    let of_head = of_head.unwrap_or_else(|| vec![Kind::Attention, Kind::Moe]);
    let config = BackboneConfig { layers: of_head.len(), ..config };
    let block = |index: usize, w: &Weights| block(of_head[index], w);
    Ok(Box::new(backbone.with_prediction(w, config, block)?))
}

/// The kind of each layer: `hybrid_override_pattern`, or what later configurations call it.
fn kinds(file: &ConfigFile) -> Result<Vec<Kind>> {
    pattern(file, &["hybrid_override_pattern", "layers_block_type", "layer_types"])?
        .ok_or_else(|| file.error("\"hybrid_override_pattern\" is missing"))
}

/// The kinds that the first of some fields lists: a text or list of `M`, `*`, `-` and `E`, or the
/// names that later configurations spell out.
fn pattern(file: &ConfigFile, fields: &[&str]) -> Result<Option<Vec<Kind>>> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Pattern {
        Text(String),
        List(Vec<Kind>),
    }
    for field in fields {
        match file.optional(field)? {
            Some(Pattern::List(kinds)) => return Ok(Some(kinds)),
            Some(Pattern::Text(text)) => {
                let letters = text.chars().map(String::from).collect();
                let kinds = serde_json::from_value(letters);
                return kinds
                    .map(Some)
                    .map_err(|error| file.error(format!("\"{field}\": {error}")));
            }
            None => {}
        }
    }
    Ok(None)
}

/// That of MLPs and experts.
fn activation(file: &ConfigFile) -> Result<Activation> {
    Ok(file.optional("mlp_hidden_act")?.unwrap_or(Activation::ReluSquared))
}

fn mlp(file: &ConfigFile, w: &Weights, dims: i32, hidden: i32) -> Result<PlainMlp> {
    let (bias, activation) = (file.flag("mlp_bias")?, activation(file)?);
    PlainMlp::new(w, ["up_proj", "down_proj"], dims, hidden, bias, activation)
}

/// Experts on `moe_latent_size` features, where that is there, and perhaps one that sees every
/// token.
fn experts(file: &ConfigFile, w: &Weights, dims: i32) -> Result<Moe> {
    let config = file.routed_experts(dims)?;
    let bias = file.flag("mlp_bias")?;
    let latent = file.optional::<i64>("moe_latent_size")?.is_some();
    let inner = if latent { file.size("moe_latent_size")? } else { dims };
    let projection =
        |names, inputs, outputs| Experts::projection(w, names, inputs, outputs, config.experts);
    let up = projection(["up_proj", "switch_mlp.fc1"], inner, config.hidden)?;
    let down = projection(["down_proj", "switch_mlp.fc2"], config.hidden, inner)?;
    let correction: &[&str] = &["gate.e_score_correction_bias"];
    let names = ExpertNames { correction, ..ExpertNames::default() };
    let router = names.router(w, config)?;
    let mut moe = Moe::of(router, Experts::plain([up, down], activation(file)?));
    if latent {
        let down = Linear::new(&w.at("fc1_latent_proj"), dims, inner, bias)?;
        moe = moe.within(down, Linear::new(&w.at("fc2_latent_proj"), inner, dims, bias)?);
    }
    let shared = w.at("shared_experts");
    // Where nothing is said, what the tensors are.
    let found = shared.at("up_proj").shape("weight").and_then(|shape| shape.first().copied());
    if file.optional::<i64>("n_shared_experts")?.is_some() || found.is_some() {
        let field = "moe_shared_expert_intermediate_size";
        let hidden = match found {
            Some(found) => file.size_or(field, found)?,
            None => file.size(field)?,
        };
        moe = moe.with_shared(mlp(file, &shared, dims, hidden)?);
    }
    Ok(moe)
}
