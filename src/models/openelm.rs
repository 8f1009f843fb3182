//! OpenELM (Mehta et al. 2024): layers that grow in heads and width.

use serde_json::json;

use crate::error::Result;
use crate::models::config::{ConfigFile, RopeDefaults};
use crate::models::{Architecture, LanguageModel};
use crate::nn::{Activation, AttentionConfig, DecoderNames, Mlp, Norm, NormLayout, QkNorm};
use crate::weights::Weights;

pub(super) const ARCHITECTURE: Architecture = Architecture::new(&["openelm"], build).with_eps(1e-6);

fn build(file: &ConfigFile, w: &Weights) -> Result<Box<dyn LanguageModel>> {
    let heads = sizes(file, "num_query_heads")?;
    let kv_heads = sizes(file, "num_kv_heads")?;
    let file = &file
        .renamed(&[
            ("hidden_size", "model_dim"),
            ("num_hidden_layers", "num_transformer_layers"),
            ("rope_theta", "rope_freq_constant"),
            ("tie_word_embeddings", "share_input_output_layers"),
            ("max_position_embeddings", "max_context_length"),
        ])
        .with([
            ("num_attention_heads", json!(heads[0])),
            ("num_key_value_heads", json!(kv_heads[0])),
        ])
        .with_defaults([("share_input_output_layers", json!(true))]);
    if !file.flag_on("ffn_with_glu")? {
        return Err(file.error("\"ffn_with_glu\" is false, which is not supported"));
    }
    let mut decoder = file.decoder(&RopeDefaults::base(10_000.0))?;
    decoder.layout = NormLayout::pre(["attn_norm", "ffn_norm"]);
    decoder.names = DecoderNames {
        model: "transformer",
        embedding: "token_embeddings",
        attention: "attn",
        ..DecoderNames::default()
    };
    decoder.attention.qkv = &["qkv_proj"];
    decoder.attention.output = "out_proj";
    if file.flag_on("normalize_qk_projections")? {
        decoder.attention.qk_norm = Some(QkNorm::each_head(Norm::rms, decoder.eps));
    }
    let multipliers: Option<Vec<f64>> = file.of_each_layer("ffn_multipliers")?;
    let multipliers = multipliers.ok_or_else(|| file.error("\"ffn_multipliers\" is missing"))?;
    let (dims, divisor) = (decoder.attention.dims, file.size("ffn_dim_divisor")?);
    Ok(Box::new(decoder.build_hybrid(
        w,
        |index, w| {
            let (heads, kv_heads) = (heads[index], kv_heads[index]);
            let config = AttentionConfig { heads, kv_heads, ..decoder.attention };
            let layer = decoder.layers[index].clone();
            Ok(Box::new(config.build(&w.at("attn"), layer)?))
        },
        |index, w| {
            let hidden = divisible(multipliers[index] * f64::from(dims), divisor);
            let (w, names) = (w.at("ffn"), ["proj_1", "proj_2"]);
            Ok(Box::new(Mlp::fused(&w, names, dims, hidden, false, Activation::Silu)?))
        },
    )?))
}

/// The heads of each layer.
fn sizes(file: &ConfigFile, field: &str) -> Result<Vec<i32>> {
    let layers: usize = file.require("num_transformer_layers")?;
    let sizes: Vec<i64> = file.require(field)?;
    if sizes.len() != layers || layers == 0 {
        let found = sizes.len();
        return Err(file.error(format!("\"{field}\" has {found} values, expected {layers}")));
    }
    sizes.into_iter().map(|size| file.bounded(field, size, 1 << 14)).collect()
}

/// The nearest multiple of `divisor`, or the next one where that is less than nine tenths.
fn divisible(value: f64, divisor: i32) -> i32 {
    let half = f64::from(divisor) / 2.0;
    let nearest =
        ((value + half).clamp(1.0, f64::from(1 << 24)) as i32 / divisor * divisor).max(divisor);
    if f64::from(nearest) < 0.9 * value { nearest + divisor } else { nearest }
}
