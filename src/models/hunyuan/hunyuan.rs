//! Hunyuan Large (Tencent 2024): norms over each query and key head behind the rotation, experts
//! beside one that sees every token, and keys and values that layers share.

use super::hunyuan_v1_dense::with_base;
use crate::error::Result;
use crate::models::config::{ConfigFile, RopeDefaults};
use crate::models::{Architecture, LanguageModel};
use crate::nn::{
    Activation, CrossLayerAttention, Decoder, ExpertNames, FeedForward, FusedOrder, LentKeys, Mlp,
    Moe, MoeConfig, Norm, QkNorm, Routing,
};
use crate::weights::Weights;

pub(super) const ARCHITECTURE: Architecture = Architecture::new(&["hunyuan"], build);

fn build(file: &ConfigFile, w: &Weights) -> Result<Box<dyn LanguageModel>> {
    // The head is the embedding, whatever the configuration says, unless there is one.
    let file = &file.without("tie_word_embeddings");
    Ok(Box::new(decoder(file, w, false)?))
}

/// The decoder of Hunyuan's mixtures; `normalize` says whether the weights of the chosen experts
/// sum up to 1.
pub(super) fn decoder(file: &ConfigFile, w: &Weights, normalize: bool) -> Result<Decoder> {
    let file = &with_base(file)?;
    let mut decoder = file.decoder(&RopeDefaults::base(10_000.0))?;
    if file.flag_on("use_qk_norm")? {
        let norm = QkNorm::each_head(Norm::rms, decoder.eps).after_rotation();
        decoder.attention.qk_norm = Some(norm.named(["query_layernorm", "key_layernorm"]));
    }
    if w.at("model.layers.0.self_attn.qkv_proj").has("weight") {
        decoder.attention.qkv = &["qkv_proj"];
        decoder.attention.fused_order = FusedOrder::ByKeyHead;
    }
    let shared_by = match file.flag("use_cla")? {
        true => file.size_or("cla_share_factor", 2)?.unsigned_abs() as usize,
        false => 1,
    };
    let experts = sparse_layers(file, decoder.attention.dims, normalize)?;
    let keys = LentKeys::default();
    decoder.build_hybrid(
        w,
        |index, layer| {
            if shared_by == 1 {
                return decoder.attention(index, layer);
            }
            let (w, config) = (layer.at("self_attn"), &decoder.attention);
            let (layer, keys) = (decoder.layers[index].clone(), keys.clone());
            Ok(Box::new(match index.is_multiple_of(shared_by) {
                true => CrossLayerAttention::lending(&w, config, layer, keys)?,
                false => CrossLayerAttention::borrowing(&w, config, layer, keys)?,
            }))
        },
        experts,
    )
}

/// Experts in every layer, with sizes that may differ between layers; an MLP in each where there is
/// one expert.
fn sparse_layers(
    file: &ConfigFile,
    dims: i32,
    normalize: bool,
) -> Result<impl Fn(usize, &Weights) -> Result<Box<dyn FeedForward>> + use<>> {
    let width = file.size("intermediate_size")?;
    let experts = file.size_or("num_experts", 1)?;
    let active = file.size_of_each_layer_or("moe_topk", 1)?;
    for active in &active {
        file.bounded("moe_topk", (*active).into(), experts.into())?;
    }
    let hidden = file.size_of_each_layer_or("moe_intermediate_size", width)?;
    let shared = match file.flag_on("use_mixed_mlp_moe")? {
        true => Some(file.size_of_each_layer_or("num_shared_expert", 1)?),
        false => None,
    };
    let activation = file.optional("hidden_act")?.unwrap_or(Activation::Silu);
    let (router, routing) = ("gate.wg", Routing::softmax(normalize));
    Ok(move |index: usize, w: &Weights| -> Result<Box<dyn FeedForward>> {
        let w = w.at("mlp");
        if experts == 1 && !w.at(router).has("weight") {
            let (up_gate, down) = ("gate_and_up_proj", "down_proj");
            return Ok(Box::new(match w.at(up_gate).has("weight") {
                true => Mlp::fused_up_first(&w, [up_gate, down], dims, width, activation)?,
                false => Mlp::new(&w, dims, width, false, activation)?,
            }));
        }
        let (active, hidden) = (active[index], hidden[index]);
        let config = MoeConfig { dims, hidden, experts, active, activation, routing };
        let moe = Moe::new(&w, config, ExpertNames { router, ..ExpertNames::default() })?;
        let Some(shared) = &shared else { return Ok(Box::new(moe)) };
        let hidden = width.saturating_mul(shared[index]);
        Ok(Box::new(moe.with_shared_mlp(&w.at("shared_mlp"), hidden, false)?))
    })
}
