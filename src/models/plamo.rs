//! PLaMo (Preferred Networks 2023): parallel blocks after one norm, and heads that share keys and
//! values in turn.

use serde_json::json;

use super::config::{ConfigFile, RopeDefaults};
use super::{Architecture, LanguageModel, mlp};
use crate::error::Result;
use crate::nn::NormLayout;
use crate::weights::Weights;

pub(super) const ARCHITECTURE: Architecture = Architecture::new(&["plamo"], build).with_eps(1e-6);

fn build(file: &ConfigFile, w: &Weights) -> Result<Box<dyn LanguageModel>> {
    let (heads, shared) = (file.size("num_attention_heads")?, file.size_or("n_shared_head", 8)?);
    let kv_heads = (heads - 1) / shared + 1;
    if heads % kv_heads != 0 {
        let message = format!("shares {kv_heads} heads of keys and values unevenly among {heads}");
        return Err(file.error(format!("\"n_shared_head\" {shared} {message}")));
    }
    let file = &file.with([("num_key_value_heads", json!(kv_heads))]);
    let mut decoder = file.decoder(&RopeDefaults::base(10_000.0))?;
    decoder.layout = NormLayout::parallel("norm");
    decoder.names.layers = "layers.layers";
    decoder.attention.interleaved_groups = true;
    decoder.tied = Some(false);
    Ok(Box::new(decoder.build(w, mlp(file, decoder.attention.dims)?)?))
}
