//! BitNet b1.58 (Ma et al. 2024; Microsoft 2025): Llama with norms in front of the last projection
//! of each block, and squared rectifiers.

use crate::error::Result;
use crate::models::config::{ConfigFile, RopeDefaults};
use crate::models::{Architecture, LanguageModel};
use crate::nn::{Activation, Mlp, Norm};
use crate::weights::Weights;

pub(super) const ARCHITECTURE: Architecture = Architecture::new(&["bitnet"], build);

fn build(file: &ConfigFile, w: &Weights) -> Result<Box<dyn LanguageModel>> {
    let mut decoder = file.decoder(&RopeDefaults::base(500_000.0))?;
    let (dims, eps) = (decoder.attention.dims, decoder.eps);
    decoder.attention.output_norm = Some(("attn_sub_norm", Norm::rms, eps));
    let activation = file.optional("hidden_act")?.unwrap_or(Activation::ReluSquared);
    let (hidden, bias) = (file.size("intermediate_size")?, file.flag("mlp_bias")?);
    Ok(Box::new(decoder.build(w, |_, w| {
        let w = w.at("mlp");
        let norm = Norm::rms(&w.at("ffn_sub_norm"), hidden, eps)?;
        Ok(Box::new(Mlp::new(&w, dims, hidden, bias, activation)?.with_hidden_norm(norm)))
    })?))
}
