//! BERT (Devlin et al. 2019): learned positions, embeddings of segments, a norm behind each sum.

use serde_json::json;

use super::{classifier_of_first, encoder_view, is_of_training, judges, layer_norm};
use crate::error::Result;
use crate::models::config::ConfigFile;
use crate::models::{Architecture, LanguageModel};
use crate::nn::{
    Activation, AttentionConfig, AttentionSpan, DecoderLayer, Embedding, Encoder, LayerConfig,
    LearnedPositions, Norms, PlainMlp,
};
use crate::weights::Weights;

pub(in crate::models) const ARCHITECTURE: Architecture =
    Architecture::new(&["bert"], build).ignoring(is_of_training).with_eps(1e-12);

fn build(file: &ConfigFile, w: &Weights) -> Result<Box<dyn LanguageModel>> {
    let inner = encoder_view(w, "bert", "embeddings.word_embeddings.weight");
    let mut encoder = encoder(file, &inner, 0)?;
    if judges(file)? {
        let (dense, dims) = (inner.at("pooler.dense"), file.size("hidden_size")?);
        encoder.classifier = Some(classifier_of_first(&dense, &w.at("classifier"), dims)?);
    }
    Ok(Box::new(encoder))
}

/// The encoder, whose table of positions has the row `first` for the first one.
pub(super) fn encoder(file: &ConfigFile, w: &Weights, first: i32) -> Result<Encoder> {
    let file = &file.with_defaults([
        ("vocab_size", json!(30_522)),
        ("hidden_size", json!(768)),
        ("num_hidden_layers", json!(12)),
        ("num_attention_heads", json!(12)),
        ("intermediate_size", json!(3072)),
        ("max_position_embeddings", json!(512)),
        ("type_vocab_size", json!(2)),
    ]);
    let kind: Option<String> = file.optional("position_embedding_type")?;
    if let Some(kind) = kind.filter(|kind| kind != "absolute") {
        return Err(file.error(format!("\"position_embedding_type\" \"{kind}\" is not supported")));
    }
    if file.flag("is_decoder")? {
        return Err(file.error("\"is_decoder\" is true, which is not supported"));
    }
    let attention = AttentionConfig {
        qkv: &["self.query", "self.key", "self.value"],
        qkv_bias: true,
        output: "output.dense",
        output_bias: true,
        ..file.attention()?
    };
    let (dims, eps, hidden) = (attention.dims, file.eps()?, file.size("intermediate_size")?);
    let activation = file.optional("hidden_act")?.unwrap_or(Activation::Gelu);
    let layer = |index: usize| -> Result<DecoderLayer> {
        let w = w.at("encoder.layer").at(index);
        let config = LayerConfig { span: AttentionSpan::Whole, rope: None, temperature: None };
        let names = ["intermediate.dense", "output.dense"];
        Ok(DecoderLayer {
            mixer: Box::new(attention.build(&w.at("attention"), config)?),
            feed_forward: Box::new(PlainMlp::new(&w, names, dims, hidden, true, activation)?),
            norms: Norms::AfterSum {
                mixer: layer_norm(&w.at("attention.output.LayerNorm"), dims, eps)?,
                feed_forward: layer_norm(&w.at("output.LayerNorm"), dims, eps)?,
            },
        })
    };
    let embeddings = w.at("embeddings");
    let segments = file.size("type_vocab_size")?;
    let positions = file.size("max_position_embeddings")? - first;
    if positions < 1 {
        return Err(file.error("\"max_position_embeddings\" leaves no position for a token"));
    }
    let table = embeddings.at("position_embeddings");
    Ok(Encoder {
        embedding: Embedding::new(
            &embeddings.at("word_embeddings"),
            file.size("vocab_size")?,
            dims,
        )?,
        segments: Some(Embedding::new(&embeddings.at("token_type_embeddings"), segments, dims)?),
        positions: Some(LearnedPositions::new(&table, positions, first, dims)?),
        embedding_norm: layer_norm(&embeddings.at("LayerNorm"), dims, eps)?,
        layers: (0..file.layers()?).map(layer).collect::<Result<_>>()?,
        norm: None,
        classifier: None,
    })
}
