//! GPT-Neo (Black et al. 2021) and TinyStories: GPT-2 with scores that are not scaled, and every
//! second layer within a window.

use serde::Deserialize;
use serde_json::json;

use crate::error::Result;
use crate::models::config::ConfigFile;
use crate::models::{Architecture, LanguageModel};
use crate::nn::{Activation, DecoderNames, Norm, NormLayout, PlainMlp, PositionTable};
use crate::weights::Weights;

pub(super) const ARCHITECTURE: Architecture =
    Architecture::new(&["gpt_neo"], build).ignoring(|_, tensor| {
        tensor.ends_with(".attention.bias") || tensor.ends_with(".attention.masked_bias")
    });

#[derive(Clone, Copy, PartialEq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Kind {
    Global,
    Local,
}

fn build(file: &ConfigFile, w: &Weights) -> Result<Box<dyn LanguageModel>> {
    let file = &file
        .renamed(&[
            ("num_hidden_layers", "num_layers"),
            ("num_attention_heads", "num_heads"),
            ("hidden_act", "activation_function"),
        ])
        .with_defaults([("tie_word_embeddings", json!(true))]);
    let mut decoder = file.unrotated_decoder()?;
    decoder.norm = Norm::layer;
    decoder.layout = NormLayout::pre(["ln_1", "ln_2"]);
    decoder.names = DecoderNames { attention: "attn.attention", ..DecoderNames::GPT2 };
    let positions = file.size_or("max_position_embeddings", 2048)?;
    decoder.positions = Some(PositionTable { name: "wpe", positions, first: 0 });
    decoder.set_windows(windows(file)?);
    decoder.attention.scale = Some(1.0);
    decoder.attention.output = "out_proj";
    decoder.attention.output_bias = true;
    let activation = file.optional("hidden_act")?.unwrap_or(Activation::GeluTanh);
    let dims = decoder.attention.dims;
    let (hidden, names) = (file.size_or("intermediate_size", 4 * dims)?, ["c_fc", "c_proj"]);
    Ok(Box::new(decoder.build(w, |_, w| {
        Ok(Box::new(PlainMlp::new(&w.at("mlp"), names, dims, hidden, true, activation)?))
    })?))
}

/// `window_size` of the layers that `attention_types` calls local: a list of patterns, each with
/// how often it comes.
fn windows(file: &ConfigFile) -> Result<Vec<Option<i32>>> {
    let (layers, window) = (file.layers()?, file.size_or("window_size", 256)?);
    let types: Option<Vec<(Vec<Kind>, usize)>> = file.optional("attention_types")?;
    let kinds: Vec<Kind> = match types {
        Some(types) => {
            let repeated = types.iter().flat_map(|(kinds, times)| {
                kinds.iter().copied().cycle().take(kinds.len().saturating_mul(*times))
            });
            repeated.take(layers + 1).collect()
        }
        None => [Kind::Global, Kind::Local].into_iter().cycle().take(layers).collect(),
    };
    if kinds.len() != layers {
        return Err(file.error(format!("\"attention_types\" is not that of {layers} layers")));
    }
    Ok(kinds.into_iter().map(|kind| (kind == Kind::Local).then_some(window)).collect())
}
