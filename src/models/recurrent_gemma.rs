//! RecurrentGemma (Botev et al. 2024), a Griffin: gated linear recurrences and, every few layers,
//! attention within a window.

use serde::Deserialize;
use serde_json::json;

use crate::error::Result;
use crate::models::config::{ConfigFile, RopeDefaults};
use crate::models::{Architecture, LanguageModel};
use crate::nn::{Activation, Mlp, Norm, NormLayout, RecurrentBlock, RecurrentConfig};
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
    let dims = decoder.attention.dims;
    decoder.norm = Norm::rms_plus_one;
    decoder.layout = NormLayout::pre(["temporal_pre_norm", "channel_pre_norm"]);
    decoder.names.attention = "temporal_block";
    decoder.names.norm = "final_norm";
    decoder.embedding_scale = Some(half::bf16::from_f32((dims as f32).sqrt()).into());
    decoder.logit_cap = Some(file.optional("logits_soft_cap")?.unwrap_or(30.0));
    decoder.attention.output_bias = true;
    let window = file.size_or("attention_window_size", 2048)?;
    decoder.set_windows(vec![Some(window); decoder.layers.len()]);
    let kinds = kinds(file)?;
    let activation = file.optional("hidden_activation")?.unwrap_or(Activation::GeluTanh);
    let recurrent = RecurrentConfig {
        dims,
        width: file.size_or("lru_width", dims)?,
        heads: decoder.attention.heads,
        kernel: file.size_or("conv1d_width", 4)?,
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
