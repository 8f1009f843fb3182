//! ModernBERT (Warner et al. 2024): rotations, gated MLPs, and layers that see the tokens nearby
//! between those that see the whole text.

use serde_json::{Value, json};

use super::{encoder_view, is_of_training, judges, labels};
use crate::error::Result;
use crate::models::config::ConfigFile;
use crate::models::{Architecture, LanguageModel};
use crate::nn::{
    Activation, AttentionConfig, AttentionSpan, BlockNorms, Classifier, ClassifierPooling,
    DecoderLayer, Embedding, Encoder, Linear, Mlp, Norm, Norms,
};
use crate::weights::Weights;

pub(in crate::models) const ARCHITECTURE: Architecture =
    Architecture::new(&["modernbert"], build).ignoring(is_of_training_here);

fn build(file: &ConfigFile, w: &Weights) -> Result<Box<dyn LanguageModel>> {
    let file = &file.with_defaults([
        ("vocab_size", json!(50_368)),
        ("hidden_size", json!(768)),
        ("num_hidden_layers", json!(22)),
        ("num_attention_heads", json!(12)),
        ("intermediate_size", json!(1152)),
    ]);
    let inner = encoder_view(w, "model", "embeddings.tok_embeddings.weight");
    let bias = file.flag("attention_bias")?;
    let attention = AttentionConfig {
        qkv: &["Wqkv"],
        qkv_bias: bias,
        output: "Wo",
        output_bias: bias,
        ..file.attention()?
    };
    let (dims, eps, hidden) = (attention.dims, file.eps()?, file.size("intermediate_size")?);
    let activation = file.optional("hidden_activation")?.unwrap_or(Activation::Gelu);
    let mlp_bias = file.flag("mlp_bias")?;
    let reach = file.size_or("local_attention", 128)? / 2;
    let spans = [AttentionSpan::Whole, AttentionSpan::Around(reach)];
    let layers = file.modernbert_layers(attention.head_dim, spans)?;
    let layer = |index: usize| -> Result<DecoderLayer> {
        let w = inner.at("layers").at(index);
        let norm = |name: &str| Norm::layer(&w.at(name), dims, eps).map(Some);
        let block = |before| BlockNorms { before, ..BlockNorms::default() };
        let mlp = Mlp::fused(&w.at("mlp"), ["Wi", "Wo"], dims, hidden, mlp_bias, activation)?;
        Ok(DecoderLayer {
            mixer: Box::new(attention.build(&w.at("attn"), layers[index].clone())?),
            feed_forward: Box::new(mlp),
            norms: Norms::Sequential {
                // The embeddings have just been normalized.
                mixer: block(if index == 0 { None } else { norm("attn_norm")? }),
                feed_forward: block(norm("mlp_norm")?),
            },
        })
    };
    let embeddings = inner.at("embeddings");
    Ok(Box::new(Encoder {
        embedding: Embedding::new(
            &embeddings.at("tok_embeddings"),
            file.size("vocab_size")?,
            dims,
        )?,
        segments: None,
        positions: None,
        embedding_norm: Norm::layer(&embeddings.at("norm"), dims, eps)?,
        layers: (0..file.layers()?).map(layer).collect::<Result<_>>()?,
        norm: Some(Norm::layer(&inner.at("final_norm"), dims, eps)?),
        classifier: if judges(file)? { Some(classifier(file, w, dims, eps)?) } else { None },
    }))
}

fn classifier(file: &ConfigFile, w: &Weights, dims: i32, eps: f32) -> Result<Classifier> {
    let output = w.at("classifier");
    let labels = labels(&output);
    let pooling = match file.optional::<Value>("classifier_pooling")? {
        None => ClassifierPooling::First,
        Some(Value::String(name)) if name == "cls" => ClassifierPooling::First,
        Some(Value::String(name)) if name == "mean" => ClassifierPooling::Mean,
        Some(other) => {
            let message = format!("\"classifier_pooling\" is {other}, expected cls or mean");
            return Err(file.error(message));
        }
    };
    let bias = file.flag("classifier_bias")?;
    Ok(Classifier {
        pooling,
        dense: Linear::new(&w.at("head.dense"), dims, dims, bias)?,
        activation: Some(file.optional("classifier_activation")?.unwrap_or(Activation::Gelu)),
        norm: Some(Norm::layer(&w.at("head.norm"), dims, eps)?),
        output: Linear::new(&output, dims, labels, true)?,
        labels,
    })
}

/// The head of a checkpoint that fills in words.
fn is_of_training_here(file: &ConfigFile, tensor: &str) -> bool {
    is_of_training(file, tensor) || tensor.starts_with("head.") || tensor.starts_with("decoder.")
}
