//! OPT (Zhang et al. 2022): layer norms, embeddings of positions, biases everywhere, and a plain
//! MLP that is named as a part of the layer. One size has narrower embeddings, and norms behind the
//! sums.

use serde_json::json;

use crate::error::Result;
use crate::models::config::ConfigFile;
use crate::models::{Architecture, LanguageModel};
use crate::nn::{
    Activation, DecoderNames, FactorizedEmbedding, Norm, NormLayout, PlainMlp, PositionTable,
};
use crate::weights::Weights;

pub(super) const ARCHITECTURE: Architecture = Architecture::new(&["opt"], build);

fn build(file: &ConfigFile, w: &Weights) -> Result<Box<dyn LanguageModel>> {
    let file = &file
        .renamed(&[("intermediate_size", "ffn_dim"), ("hidden_act", "activation_function")])
        .with_defaults([
            ("tie_word_embeddings", json!(true)),
            ("attention_bias", json!(file.flag_on("enable_bias")?)),
        ]);
    let dims = file.size("hidden_size")?;
    let mut decoder = file.unrotated_decoder()?;
    decoder.norm = match file.flag_on("layer_norm_elementwise_affine")? {
        true => Norm::layer,
        false => Norm::layer_unweighted,
    };
    let (before, norms) =
        (file.flag_on("do_layer_norm_before")?, ["self_attn_layer_norm", "final_layer_norm"]);
    decoder.layout = if before { NormLayout::pre(norms) } else { NormLayout::after_sums(norms) };
    decoder.last_norm = before && !file.flag("_remove_final_layer_norm")?;
    let width = file.size_or("word_embed_proj_dim", dims)?;
    decoder.factorized = (width != dims)
        .then_some(FactorizedEmbedding { dims: width, projections: ["project_in", "project_out"] });
    // The first checkpoints have no name for the whole.
    let bare = w.at("decoder.embed_tokens").has("weight");
    decoder.names = DecoderNames {
        model: if bare { "decoder" } else { "model.decoder" },
        norm: "final_layer_norm",
        ..DecoderNames::default()
    };
    let positions = file.size_or("max_position_embeddings", 2048)?;
    decoder.positions = Some(PositionTable { name: "embed_positions", positions, first: 2 });
    decoder.attention.output = "out_proj";
    let activation = file.optional("hidden_act")?.unwrap_or(Activation::Relu);
    let (hidden, bias) = (file.size("intermediate_size")?, decoder.attention.qkv_bias);
    Ok(Box::new(decoder.build(w, |_, w| {
        Ok(Box::new(PlainMlp::new(w, ["fc1", "fc2"], dims, hidden, bias, activation)?))
    })?))
}
