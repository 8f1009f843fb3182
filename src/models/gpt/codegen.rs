//! CodeGen (Nijkamp et al. 2022): GPT-J, whose queries, values and keys come of one projection that
//! was cut into four shards.

use serde_json::json;

use super::FIELDS;
use crate::error::Result;
use crate::mlx::from_u32;
use crate::models::config::{ConfigFile, RopeDefaults};
use crate::models::{Architecture, LanguageModel};
use crate::nn::{Activation, DecoderNames, Linear, Norm, NormLayout, PlainMlp};
use crate::weights::Weights;

pub(super) const ARCHITECTURE: Architecture =
    Architecture::new(&["codegen"], build).ignoring(|_, tensor| {
        tensor.ends_with(".causal_mask") || tensor.ends_with(".attn.masked_bias")
    });

/// Shards of the projection, whatever trained the model.
const SHARDS: i32 = 4;

fn build(file: &ConfigFile, w: &Weights) -> Result<Box<dyn LanguageModel>> {
    let file = &file.renamed(&FIELDS).with_defaults([
        ("hidden_size", json!(4096)),
        ("num_hidden_layers", json!(28)),
        ("num_attention_heads", json!(16)),
        ("vocab_size", json!(50_400)),
        ("rotary_dim", json!(64)),
        ("tie_word_embeddings", json!(false)),
    ]);
    let rope = RopeDefaults { base: Some(10_000.0), traditional: true, share: Some(1.0) };
    let mut decoder = file.decoder(&rope)?;
    let heads = decoder.attention.heads;
    if heads % SHARDS != 0 {
        return Err(file.error(format!("\"n_head\" {heads} is not a multiple of {SHARDS}")));
    }
    decoder.norm = Norm::layer;
    decoder.layout = NormLayout::parallel("ln_1");
    decoder.names = DecoderNames::GPT2;
    decoder.attention.qkv = &["qkv_proj"];
    decoder.attention.linear = by_part;
    decoder.attention.output = "out_proj";
    let activation = file.optional("hidden_act")?.unwrap_or(Activation::GeluTanh);
    let dims = decoder.attention.dims;
    let (hidden, names) = (file.size_or("intermediate_size", 4 * dims)?, ["fc_in", "fc_out"]);
    Ok(Box::new(decoder.build(w, |_, w| {
        Ok(Box::new(PlainMlp::new(&w.at("mlp"), names, dims, hidden, true, activation)?))
    })?))
}

/// Takes a projection; that of queries, values and keys, which follow each other in each shard,
/// with all queries first, then all keys and all values.
fn by_part(w: &Weights, inputs: i32, outputs: i32, bias: bool) -> Result<Linear> {
    let linear = Linear::new(w, inputs, outputs, bias)?;
    if outputs == inputs {
        return Ok(linear);
    }
    let (shard, part) = (outputs / SHARDS, outputs / SHARDS / 3);
    let of_part = |index: i32| (0..SHARDS).map(move |it| it * shard + index * part);
    let starts = [0, 2, 1].into_iter().flat_map(of_part);
    let rows: Vec<u32> =
        starts.flat_map(|start| start..start + part).map(i32::unsigned_abs).collect();
    linear.with_rows(&from_u32(&rows, &[outputs]))
}
