//! Jamba (Lieber et al. 2024): Mamba and, every few layers, attention that does not look at
//! positions; every few layers experts.

use serde::Deserialize;
use serde_json::{Value, json};

use crate::error::Result;
use crate::models::config::ConfigFile;
use crate::models::{Architecture, LanguageModel};
use crate::nn::{ExpertNames, Mamba, MambaConfig, Mlp, Moe, MoeConfig, Norm, NormLayout, Routing};
use crate::weights::Weights;

pub(super) const ARCHITECTURE: Architecture = Architecture::new(&["jamba"], build).with_eps(1e-6);

#[derive(Clone, Copy, PartialEq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Kind {
    #[serde(alias = "linear_attention")]
    Mamba,
    #[serde(alias = "full_attention")]
    Attention,
}

fn build(file: &ConfigFile, w: &Weights) -> Result<Box<dyn LanguageModel>> {
    let file = &file.with_defaults([("mamba_d_state", json!(16)), ("mamba_d_conv", json!(4))]);
    let mut decoder = file.unrotated_decoder()?;
    decoder.layout = NormLayout::pre(["input_layernorm", "pre_ff_layernorm"]);
    decoder.names.norm = "final_layernorm";
    let attends = every(file, ["attn_layer_period", "attn_layer_offset"], [8, 4])?;
    let kinds = match file.layer_kinds::<Kind>()? {
        Some(kinds) => kinds.into_iter().map(|kind| kind == Kind::Attention).collect(),
        None => attends,
    };
    let dims = decoder.attention.dims;
    let mamba = mamba(file, dims, decoder.eps)?;
    let (hidden, experts) = (file.size("intermediate_size")?, file.size_or("num_experts", 16)?);
    let mut sparse = every(file, ["expert_layer_period", "expert_layer_offset"], [2, 1])?;
    if experts == 1 {
        sparse.fill(false);
    }
    let active = if experts == 1 { 1 } else { file.active_experts(experts, Some(2))? };
    let (activation, routing) = (file.activation()?, Routing::softmax(false));
    let config = MoeConfig { dims, hidden, experts, active, activation, routing };
    let names = ExpertNames { router: "router", ..ExpertNames::default() };
    Ok(Box::new(decoder.build_hybrid(
        w,
        |index, w| match kinds[index] {
            true => decoder.attention(index, w),
            false => Ok(Box::new(Mamba::new(&w.at("mamba"), mamba)?)),
        },
        |index, w| {
            let w = w.at("feed_forward");
            Ok(match sparse[index] {
                true => Box::new(Moe::new(&w, config, names)?),
                false => Box::new(Mlp::new(&w, dims, hidden, false, activation)?),
            })
        },
    )?))
}

/// Every so-manyth layer, from this one on.
fn every(file: &ConfigFile, fields: [&str; 2], defaults: [i32; 2]) -> Result<Vec<bool>> {
    let period = file.size_or(fields[0], defaults[0])?;
    let offset: i32 = file.optional(fields[1])?.unwrap_or(defaults[1]);
    Ok((0..file.layers()? as i32).map(|layer| layer % period == offset).collect())
}

fn mamba(file: &ConfigFile, dims: i32, eps: f32) -> Result<MambaConfig> {
    file.expect_silu("hidden_act")?;
    let inner = i64::from(dims) * i64::from(file.size_or("mamba_expand", 2)?);
    let rank = match file.optional::<Value>("mamba_dt_rank")? {
        Some(Value::Number(_)) => file.size("mamba_dt_rank")?,
        _ => (dims + 15) / 16,
    };
    Ok(MambaConfig {
        dims,
        inner: file.bounded("mamba_expand", inner, 1 << 22)?,
        state: file.bounded("mamba_d_state", file.require("mamba_d_state")?, 1 << 10)?,
        kernel: file.size("mamba_d_conv")?,
        rank,
        conv_bias: file.flag_on("mamba_conv_bias")?,
        projection_bias: file.flag("mamba_proj_bias")?,
        norm: Some((Norm::rms, eps)),
    })
}
