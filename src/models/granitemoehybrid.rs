//! Granite 4 (IBM 2025): Mamba 2 mixers and, in some layers, attention; experts beside an MLP that
//! sees every token, or that MLP alone; every sum and product scaled.

use serde::Deserialize;
use serde_json::json;

use super::config::{ConfigFile, Mamba2Fields, RopeDefaults};
use super::granite::set_factors;
use super::{Architecture, LanguageModel};
use crate::error::Result;
use crate::nn::{ExpertNames, Experts, FeedForward, Mamba2, Mlp, Moe, MoeConfig, Router, Routing};
use crate::weights::Weights;

pub(super) const ARCHITECTURE: Architecture =
    Architecture::new(&["granitemoehybrid"], build).with_eps(1e-6);

#[derive(Clone, Copy, PartialEq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Kind {
    #[serde(alias = "linear_attention")]
    Mamba,
    #[serde(alias = "full_attention")]
    Attention,
}

fn build(file: &ConfigFile, w: &Weights) -> Result<Box<dyn LanguageModel>> {
    let file = &file.with_defaults([
        ("layer_types", json!(vec!["mamba"; file.layers()?])),
        ("mamba_n_groups", json!(1)),
        ("mamba_d_state", json!(256)),
        ("mamba_d_conv", json!(4)),
        ("mamba_conv_bias", json!(true)),
    ]);
    let mut decoder = file.decoder(&RopeDefaults::base(10_000.0))?;
    decoder.tied = Some(decoder.tied.unwrap_or(true));
    set_factors(file, &mut decoder)?;
    if file.optional::<String>("position_embedding_type")?.as_deref() != Some("rope") {
        decoder.layers.iter_mut().for_each(|layer| layer.rope = None);
    }
    let kinds = file.layer_kinds()?.ok_or_else(|| file.error("\"layer_types\" is missing"))?;
    let mamba = match kinds.contains(&Kind::Mamba) {
        true => {
            file.expect_silu("hidden_act")?;
            Some(file.mamba2(&Mamba2Fields::BAMBA)?)
        }
        false => None,
    };
    Ok(Box::new(decoder.build_hybrid(
        w,
        |index, w| match mamba.filter(|_| kinds[index] == Kind::Mamba) {
            Some(config) => Ok(Box::new(Mamba2::new(&w.at("mamba"), config)?)),
            None => decoder.attention(index, w),
        },
        |_, w| feed_forward(file, w, decoder.attention.dims),
    )?))
}

fn feed_forward(file: &ConfigFile, w: &Weights, dims: i32) -> Result<Box<dyn FeedForward>> {
    let hidden = file.size("intermediate_size")?;
    let shared = || {
        let hidden = file.size_or("shared_intermediate_size", hidden)?;
        let names = ["input_linear", "output_linear"];
        Mlp::fused(&w.at("shared_mlp"), names, dims, hidden, false, file.activation()?)
    };
    if matches!(file.optional("num_local_experts")?, None | Some(0)) {
        // Published checkpoints name it as the one beside experts.
        return match w.at("shared_mlp.input_linear").has("weight") {
            true => Ok(Box::new(shared()?)),
            false => super::mlp(file, dims)?(0, w),
        };
    }
    let experts = file.size("num_local_experts")?;
    let config = MoeConfig {
        dims,
        hidden,
        experts,
        active: file.active_experts(experts, None)?,
        activation: file.activation()?,
        routing: Routing::TopThenSoftmax,
    };
    let fused = ["input_linear.weight", "output_linear.weight"];
    let names = ExpertNames { fused, ..ExpertNames::default() };
    let moe = w.at("block_sparse_moe");
    let router = Router::new(&moe.at("router.layer"), config, false)?;
    let experts = Experts::new(&moe, config, names)?;
    Ok(Box::new(Moe::of(router, experts).with_shared(shared()?)))
}
