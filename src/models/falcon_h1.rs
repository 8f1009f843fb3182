//! Falcon H1 (TII 2025): a Mamba 2 mixer and attention side by side in every layer, and a factor on
//! most of what is multiplied and added.
//!
//! mlx-lm multiplies the factors into the weights when it converts a checkpoint, all but that of
//! the keys and that of attention's input where it concerns the values.

use serde::de::DeserializeOwned;
use serde_json::json;

use super::config::{ConfigFile, Mamba2Fields, RopeDefaults};
use super::{Architecture, LanguageModel};
use crate::error::Result;
use crate::nn::{
    Branch, Branches, FeedForward, GatedNorm, Mamba2, Mamba2Config, Mlp, NormLayout, ResidualScale,
};
use crate::weights::{Trainer, Weights};

pub(super) const ARCHITECTURE: Architecture = Architecture::new(&["falcon_h1"], build);

fn build(file: &ConfigFile, w: &Weights) -> Result<Box<dyn LanguageModel>> {
    let converted = is_converted(w);
    let factors = Factors::of(file, converted)?;
    w.sites().trainer = match (has_factors(file)?, converted) {
        (false, _) => None,
        (true, true) => Some(Trainer::MlxLm),
        (true, false) => Some(Trainer::Peft),
    };
    let mut decoder = file.decoder(&RopeDefaults::base(10_000.0))?;
    let tied = decoder.tied.unwrap_or_else(|| !w.has("lm_head.weight"));
    decoder.tied = Some(tied);
    decoder.layout = NormLayout::pre(["input_layernorm", "pre_ff_layernorm"]);
    decoder.names.norm = "final_layernorm";
    decoder.embedding_scale = factors.embedding;
    decoder.logit_scale = if tied { factors.tied_logits } else { factors.logits };
    // The rotation is linear: what multiplies keys may as well multiply scores.
    let head_dim = decoder.attention.head_dim as f32;
    decoder.attention.scale = Some(factors.keys / head_dim.sqrt());
    let mamba = mamba(file, factors.projection)?;
    let (dims, hidden) = (decoder.attention.dims, file.size("intermediate_size")?);
    let (bias, activation) = (file.flag("mlp_bias")?, file.activation()?);
    Ok(Box::new(decoder.build_hybrid(
        w,
        |index, w| {
            let mamba = Branch {
                input_scale: factors.mamba.0,
                mixer: Box::new(Mamba2::new(&w.at("mamba"), mamba)?),
                output_scale: factors.mamba.1,
            };
            let attention = Branch {
                input_scale: factors.attention.0,
                mixer: decoder.attention(index, w)?,
                output_scale: factors.attention.1,
            };
            Ok(Box::new(Branches([mamba, attention])))
        },
        |_, w| {
            let w = w.at("feed_forward");
            let mut mlp = Mlp::new(&w, dims, hidden, bias, activation)?;
            if let Some(factor) = factors.gate {
                mlp = mlp.with_gate_scale(factor);
            }
            let mlp: Box<dyn FeedForward> = Box::new(mlp);
            Ok(match factors.down {
                Some(factor) => Box::new(ResidualScale::new(factor, mlp)),
                None => mlp,
            })
        },
    )?))
}

fn mamba(file: &ConfigFile, projection_scales: Option<[f32; 5]>) -> Result<Mamba2Config> {
    let file = file.with_defaults([
        ("mamba_n_groups", json!(1)),
        ("mamba_d_conv", json!(4)),
        ("mamba_conv_bias", json!(true)),
        ("mamba_norm_before_gate", json!(true)),
    ]);
    file.expect_silu("hidden_act")?;
    let config = file.mamba2(&Mamba2Fields::BAMBA)?;
    let norm = match (file.flag("mamba_rms_norm")?, file.flag("mamba_norm_before_gate")?) {
        (false, _) => GatedNorm::None,
        (true, true) => GatedNorm::BeforeGate,
        (true, false) => GatedNorm::AfterGate,
    };
    let output_bias = file.flag("projectors_bias")?;
    Ok(Mamba2Config { norm, output_bias, projection_scales, ..config })
}

/// What is left to multiply by; `None` for 1.
struct Factors {
    embedding: Option<f32>,
    logits: Option<f32>,
    /// The same where the embedding is the head.
    tied_logits: Option<f32>,
    keys: f32,
    /// The input and the output of attention.
    attention: (Option<f32>, Option<f32>),
    /// The input and the output of the Mamba 2 mixer.
    mamba: (Option<f32>, Option<f32>),
    /// The mixer's gate, x, B, C and Δ.
    projection: Option<[f32; 5]>,
    gate: Option<f32>,
    down: Option<f32>,
}

impl Factors {
    fn of(file: &ConfigFile, converted: bool) -> Result<Self> {
        let one = |name: &str| field(file, name, 1.0);
        let factor = |value: f32| (value != 1.0).then_some(value);
        let (embedding, logits) = (one("embedding_multiplier")?, one("lm_head_multiplier")?);
        let (keys, attention) = (one("key_multiplier")?, one("attention_in_multiplier")?);
        if converted {
            return Ok(Self {
                embedding: None,
                logits: None,
                tied_logits: factor(logits / embedding),
                keys,
                // That of the values: attention is linear in them.
                attention: (None, factor(attention)),
                mamba: (None, None),
                projection: None,
                gate: None,
                down: None,
            });
        }
        let [gate, down] = field(file, "mlp_multipliers", [1.0; 2])?;
        let projection = field(file, "ssm_multipliers", [1.0; 5])?;
        Ok(Self {
            embedding: factor(embedding),
            logits: factor(logits),
            tied_logits: factor(logits),
            keys,
            attention: (factor(attention), factor(one("attention_out_multiplier")?)),
            mamba: (factor(one("ssm_in_multiplier")?), factor(one("ssm_out_multiplier")?)),
            projection: (projection != [1.0; 5]).then_some(projection),
            gate: factor(gate),
            down: factor(down),
        })
    }
}

fn field<T: DeserializeOwned>(file: &ConfigFile, name: &str, default: T) -> Result<T> {
    Ok(file.optional(name)?.unwrap_or(default))
}

/// Whether there are factors that mlx-lm multiplies into matrices.
pub(super) fn has_factors(file: &ConfigFile) -> Result<bool> {
    let Factors { embedding, logits, attention, mamba, projection, gate, down, .. } =
        Factors::of(file, false)?;
    let single = [embedding, logits, attention.0, attention.1, mamba.0, mamba.1, gate, down];
    Ok(projection.is_some() || single.iter().any(Option::is_some))
}

/// Whether mlx-lm wrote the checkpoint: its convolutions have the channels' one input last.
fn is_converted(w: &Weights) -> bool {
    let shape = w.at("model.layers.0.mamba.conv1d");
    !matches!(shape.shape("weight"), Some([_, inputs, kernel]) if kernel > inputs)
}
