//! EXAONE 3 and 3.5 (LG AI Research 2024): Llama by other names.

use crate::error::Result;
use crate::models::config::{ConfigFile, RopeDefaults};
use crate::models::{Architecture, LanguageModel};
use crate::nn::{Activation, DecoderNames, Mlp, NormLayout};
use crate::weights::Weights;

pub(super) const ARCHITECTURE: Architecture = Architecture::new(&["exaone"], build);

fn build(file: &ConfigFile, w: &Weights) -> Result<Box<dyn LanguageModel>> {
    let file = &file.renamed(&[("num_hidden_layers", "num_layers")]);
    let mut decoder = file.decoder(&RopeDefaults::base(10_000.0))?;
    decoder.layout = NormLayout::pre(["ln_1", "ln_2"]);
    decoder.names = DecoderNames { attention: "attn.attention", ..DecoderNames::GPT2 };
    decoder.attention.output = "out_proj";
    let (bias, names) = (file.flag("mlp_bias")?, ["c_fc_0", "c_fc_1", "c_proj"]);
    let (dims, hidden) = (decoder.attention.dims, file.size("intermediate_size")?);
    Ok(Box::new(decoder.build(w, |_, w| {
        Ok(Box::new(Mlp::named(&w.at("mlp"), names, dims, hidden, bias, Activation::Silu)?))
    })?))
}
