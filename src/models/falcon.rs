//! Falcon (Almazrouei et al. 2023): blocks beside each other, few heads of keys and values, and a
//! plain MLP; the first checkpoints score by distance in place of rotations.

use serde_json::json;

use crate::error::Result;
use crate::models::config::{ConfigFile, RopeDefaults};
use crate::models::{Architecture, LanguageModel};
use crate::nn::{
    Activation, AlibiConfig, DecoderNames, FusedOrder, Norm, NormLayout, PlainMlp, Sums,
};
use crate::weights::Weights;

pub(super) const ARCHITECTURE: Architecture = Architecture::new(&["falcon"], build);

fn build(file: &ConfigFile, w: &Weights) -> Result<Box<dyn LanguageModel>> {
    let file = &file
        .renamed(&[("intermediate_size", "ffn_hidden_size"), ("hidden_act", "activation")])
        .with_defaults([
            ("tie_word_embeddings", json!(true)),
            ("attention_bias", json!(file.flag("bias")?)),
        ]);
    let grouped = file.flag("new_decoder_architecture")?;
    let heads = file.size("num_attention_heads")?;
    let kv_heads = match (grouped, file.flag_on("multi_query")?) {
        (true, _) => file.size_or("num_kv_heads", heads)?,
        (false, true) => 1,
        (false, false) => heads,
    };
    let own = file.with([("num_key_value_heads", json!(kv_heads))]);
    let mut decoder = own.decoder(&RopeDefaults::base(10_000.0))?;
    decoder.norm = Norm::layer;
    if file.flag("alibi")? {
        let rounded = |slope| half::bf16::from_f32(slope).into();
        decoder.attention.alibi = Some(AlibiConfig { max: 8.0, rounded, scaled: true });
        decoder.layers.iter_mut().for_each(|layer| layer.rope = None);
    }
    let parallel = grouped || file.flag_on("parallel_attn")?;
    let norms = file.size_or("num_ln_in_parallel_attn", if grouped { 2 } else { 1 })?;
    decoder.layout = match (parallel, grouped && norms == 2) {
        (_, true) => NormLayout { sums: Sums::Parallel, ..NormLayout::pre(["ln_attn", "ln_mlp"]) },
        (true, false) => NormLayout::PARALLEL,
        (false, false) => NormLayout::PRE,
    };
    decoder.names = DecoderNames {
        model: "transformer",
        embedding: "word_embeddings",
        layers: "h",
        attention: "self_attention",
        norm: "ln_f",
        head: "lm_head",
    };
    decoder.attention.qkv = &["query_key_value"];
    if kv_heads > 1 {
        decoder.attention.fused_order = FusedOrder::ByKeyHead;
    }
    decoder.attention.output = "dense";
    let activation = file.optional("hidden_act")?.unwrap_or(Activation::Gelu);
    let (dims, bias) = (decoder.attention.dims, decoder.attention.qkv_bias);
    let hidden = file.size_or("intermediate_size", 4 * dims)?;
    let names = ["dense_h_to_4h", "dense_4h_to_h"];
    Ok(Box::new(decoder.build(w, |_, w| {
        Ok(Box::new(PlainMlp::new(&w.at("mlp"), names, dims, hidden, bias, activation)?))
    })?))
}
