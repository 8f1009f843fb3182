//! Nomic Embed (Nussbaum et al. 2024): BERT with rotations and gated MLPs, and without biases.

use serde_json::{Value, json};

use super::is_of_training;
use crate::error::Result;
use crate::models::config::ConfigFile;
use crate::models::{Architecture, LanguageModel};
use crate::nn::{
    Activation, AttentionConfig, AttentionSpan, DecoderLayer, Embedding, Encoder, LayerConfig, Mlp,
    Norm, Norms,
};
use crate::weights::Weights;

pub(in crate::models) const ARCHITECTURE: Architecture =
    Architecture::new(&["nomic_bert"], build).ignoring(is_of_training).with_eps(1e-12);

/// The names of a layer's parts.
struct Names {
    layers: &'static str,
    attention: &'static str,
    qkv: &'static [&'static str],
    output: &'static str,
    /// Of the gate, up and down.
    mlp: [&'static str; 3],
    norms: [&'static str; 2],
    embedding_norm: &'static str,
}

/// As published.
const PUBLISHED: Names = Names {
    layers: "encoder.layers",
    attention: "attn",
    qkv: &["Wqkv"],
    output: "out_proj",
    mlp: ["fc12", "fc11", "fc2"],
    norms: ["norm1", "norm2"],
    embedding_norm: "emb_ln",
};

/// As transformers names them.
const RENAMED: Names = Names {
    layers: "layers",
    attention: "self_attn",
    qkv: &["q_proj", "k_proj", "v_proj"],
    output: "o_proj",
    mlp: ["gate_proj", "up_proj", "down_proj"],
    norms: ["post_attention_layernorm", "post_mlp_layernorm"],
    embedding_norm: "embeddings.LayerNorm",
};

fn build(file: &ConfigFile, w: &Weights) -> Result<Box<dyn LanguageModel>> {
    let file = &file
        .renamed(&[
            ("hidden_size", "n_embd"),
            ("num_hidden_layers", "n_layer"),
            ("num_attention_heads", "n_head"),
            ("intermediate_size", "n_inner"),
            ("rope_theta", "rotary_emb_base"),
        ])
        .with_defaults([
            ("vocab_size", json!(30_528)),
            ("hidden_size", json!(768)),
            ("num_hidden_layers", json!(12)),
            ("num_attention_heads", json!(12)),
            ("intermediate_size", json!(3072)),
            ("type_vocab_size", json!(2)),
        ]);
    refuse_others(file)?;
    let names = if w.at(RENAMED.embedding_norm).has("weight") { RENAMED } else { PUBLISHED };
    let attention = AttentionConfig {
        qkv: names.qkv,
        output: names.output,
        qkv_bias: false,
        output_bias: false,
        ..file.attention()?
    };
    let (dims, eps, hidden) = (attention.dims, file.eps()?, file.size("intermediate_size")?);
    let rope = file.rope(attention.head_dim, Some(1000.0), false)?;
    let layer = |index: usize| -> Result<DecoderLayer> {
        let w = w.at(names.layers).at(index);
        let (span, rope) = (AttentionSpan::Whole, Some(rope.clone()));
        let config = LayerConfig { span, rope, temperature: None };
        let mlp = Mlp::named(&w.at("mlp"), names.mlp, dims, hidden, false, Activation::Silu)?;
        let [mixer, feed_forward] = names.norms.map(|name| Norm::layer(&w.at(name), dims, eps));
        Ok(DecoderLayer {
            mixer: Box::new(attention.build(&w.at(names.attention), config)?),
            feed_forward: Box::new(mlp),
            norms: Norms::AfterSum { mixer: mixer?, feed_forward: feed_forward? },
        })
    };
    let embeddings = w.at("embeddings");
    let segments = file.size("type_vocab_size")?;
    Ok(Box::new(Encoder {
        embedding: Embedding::new(
            &embeddings.at("word_embeddings"),
            file.size("vocab_size")?,
            dims,
        )?,
        segments: Some(Embedding::new(&embeddings.at("token_type_embeddings"), segments, dims)?),
        positions: None,
        embedding_norm: Norm::layer(&w.at(names.embedding_norm), dims, eps)?,
        layers: (0..file.layers()?).map(layer).collect::<Result<_>>()?,
        norm: None,
        classifier: None,
    }))
}

/// Refuses what the published configuration can say and no published checkpoint does.
fn refuse_others(file: &ConfigFile) -> Result<()> {
    let expected = [
        ("prenorm", json!(false)),
        ("qkv_proj_bias", json!(false)),
        ("mlp_fc1_bias", json!(false)),
        ("mlp_fc2_bias", json!(false)),
        ("rotary_emb_fraction", json!(1.0)),
        ("rotary_emb_interleaved", json!(false)),
        ("rotary_emb_scale_base", Value::Null),
        ("rotary_scaling_factor", Value::Null),
        ("use_rms_norm", json!(false)),
        ("num_experts", json!(0)),
    ];
    for (field, expected) in expected {
        match file.optional::<Value>(field)? {
            Some(value) if !is_same(&value, &expected) => {
                return Err(file.error(format!("\"{field}\" is {value}, which is not supported")));
            }
            _ => {}
        }
    }
    for (field, silu) in [("activation_function", "swiglu"), ("hidden_act", "silu")] {
        match file.optional::<String>(field)? {
            Some(name) if name != silu => {
                return Err(file.error(format!("\"{field}\" is \"{name}\", expected {silu}")));
            }
            _ => {}
        }
    }
    Ok(())
}

/// Whether both are the same value: 1 is 1.0.
fn is_same(a: &Value, b: &Value) -> bool {
    match (a.as_f64(), b.as_f64()) {
        (Some(a), Some(b)) => a == b,
        _ => a == b,
    }
}
