//! DiffLlama: Llama with differential attention (Ye et al. 2024).

use super::config::{ConfigFile, RopeDefaults};
use super::{Architecture, LanguageModel, mlp};
use crate::error::Result;
use crate::nn::DifferentialAttention;
use crate::weights::Weights;

pub(super) const ARCHITECTURE: Architecture =
    Architecture::new(&["diffllama"], build).with_eps(1e-5);

fn build(file: &ConfigFile, w: &Weights) -> Result<Box<dyn LanguageModel>> {
    let decoder = file.decoder(&RopeDefaults::base(10_000.0))?;
    let (config, eps) = (decoder.attention, decoder.eps);
    if config.kv_heads % 2 != 0 {
        let message = format!("\"num_key_value_heads\" {} is not even", config.kv_heads);
        return Err(file.error(message));
    }
    Ok(Box::new(decoder.build_hybrid(
        w,
        |index, w| {
            let (w, layer) = (w.at("self_attn"), decoder.layers[index].clone());
            Ok(Box::new(DifferentialAttention::new(&w, config, layer, index, eps)?))
        },
        mlp(file, config.dims)?,
    )?))
}
