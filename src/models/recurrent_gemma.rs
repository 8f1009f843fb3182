//! RecurrentGemma (Botev et al. 2024), a Griffin: gated linear recurrences and, every few layers,
//! attention within a window.

use serde::Deserialize;
use serde_json::json;

use crate::error::Result;
use crate::models::config::{ConfigFile, RopeDefaults};
use crate::models::{Architecture, LanguageModel};
use crate::nn::{
    Activation, Mlp, Norm, NormLayout, RecurrentBlock, RecurrentConfig, StandardDecoder,
};
use crate::weights::Weights;

pub(super) const ARCHITECTURE: Architecture =
    Architecture::new(&["recurrent_gemma"], build).with_eps(1e-6);

#[derive(Clone, Copy, PartialEq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Kind {
    Recurrent,
    Attention,
}

fn build(file: &ConfigFile, w: &Weights) -> Result<Box<dyn LanguageModel>> {
    let file = &file.with_defaults([
        ("hidden_size", json!(2560)),
        ("intermediate_size", json!(3 * 2560)),
        ("num_hidden_layers", json!(26)),
        ("num_attention_heads", json!(10)),
        ("vocab_size", json!(256_000)),
    ]);
    let rope = RopeDefaults { base: Some(10_000.0), traditional: false, share: Some(0.5) };
    let mut decoder = file.decoder(&rope)?;
    if let Some(kv_heads) = kv_heads(w, &decoder) {
        decoder.attention.kv_heads = kv_heads;
    }
    let dims = decoder.attention.dims;
    decoder.norm = Norm::rms_plus_one;
    decoder.layout = NormLayout::pre(["temporal_pre_norm", "channel_pre_norm"]);
    decoder.names.attention = "temporal_block";
    decoder.names.norm = "final_norm";
    if file.flag_on("embeddings_scale_by_sqrt_dim")? {
        decoder.embedding_scale = Some(half::bf16::from_f32((dims as f32).sqrt()).into());
    }
    decoder.logit_cap = file.unless_null("logits_soft_cap", 30.0)?;
    decoder.attention.output_bias = true;
    let window = file.size_or("attention_window_size", 2048)?;
    decoder.set_windows(vec![Some(window); decoder.layers.len()]);
    let kinds = kinds(file)?;
    let activation = file.optional("hidden_activation")?.unwrap_or(Activation::GeluTanh);
    let recurrent = RecurrentConfig {
        dims,
        width: file.size_or("lru_width", dims)?,
        heads: decoder.attention.heads,
        kernel: width_of_convolutions(w).map_or_else(|| file.size_or("conv1d_width", 4), Ok)?,
        activation,
    };
    if recurrent.width % recurrent.heads != 0 {
        return Err(file.error("\"lru_width\" is not a multiple of \"num_attention_heads\""));
    }
    // That of the gate and up together.
    let hidden = file.size("intermediate_size")? / 2;
    Ok(Box::new(decoder.build_hybrid(
        w,
        |index, w| match kinds[index % kinds.len()] {
            Kind::Attention => decoder.attention(index, w),
            Kind::Recurrent => {
                Ok(Box::new(RecurrentBlock::new(&w.at("temporal_block"), recurrent)?))
            }
        },
        |_, w| Ok(Box::new(Mlp::new(&w.at("mlp_block"), dims, hidden, true, activation)?)),
    )?))
}

/// The heads of keys and values that the first layer which attends has: some implementations know
/// one alone.
fn kv_heads(w: &Weights, decoder: &StandardDecoder) -> Option<i32> {
    let keys = |layer| w.at("model.layers").at(layer).at("temporal_block.k_proj");
    let rows =
        (0..decoder.layers.len()).find_map(|layer| keys(layer).shape("weight")?.first().copied());
    rows.map(|rows| rows / decoder.attention.head_dim)
        .filter(|&found| found > 0 && decoder.attention.heads % found == 0)
}

/// The positions that convolutions see: those of the first that the checkpoint holds, which is
/// right whatever the configuration says.
fn width_of_convolutions(w: &Weights) -> Option<i32> {
    let first = w.at("model.layers.0.temporal_block.conv_1d");
    first.shape("weight").and_then(|shape| shape.iter().skip(1).copied().max())
}

/// The kinds of layers, which begin anew where they end.
fn kinds(file: &ConfigFile) -> Result<Vec<Kind>> {
    let listed = match file.optional("block_types")? {
        Some(kinds) => Some(kinds),
        // The larger model has another name for them.
        None => file.optional("_block_types")?,
    };
    let kinds = listed.unwrap_or_else(|| vec![Kind::Recurrent, Kind::Recurrent, Kind::Attention]);
    match kinds.is_empty() {
        true => Err(file.error("\"block_types\" is empty")),
        false => Ok(kinds),
    }
}
