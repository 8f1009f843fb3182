//! Encoders, in which every token sees the whole text: they embed texts, or judge them.

mod bert;
mod modernbert;
mod nomic_bert;
mod roberta;

use serde_json::Value;

use super::Architecture;
use super::config::ConfigFile;
use crate::error::Result;
use crate::nn::{Classifier, ClassifierPooling, Linear, Norm};
use crate::weights::Weights;

pub(super) const ARCHITECTURES: &[Architecture] =
    architectures![bert, modernbert, nomic_bert, roberta];

/// How many of the positions that a configuration names belong to no token.
pub(super) fn reserved(file: &ConfigFile, positions: usize) -> usize {
    let is_shifted = file.model_type().is_ok_and(|it| roberta::ARCHITECTURE.runs(&it));
    if is_shifted { roberta::first_position(file).min(positions) } else { 0 }
}

/// What a checkpoint has besides the encoder and is not used: what was trained along with it.
fn is_of_training(_: &ConfigFile, tensor: &str) -> bool {
    let tensor = tensor.split_once('.').map_or(tensor, |(first, rest)| match first {
        "bert" | "roberta" => rest,
        _ => tensor,
    });
    ["cls.", "lm_head.", "pooler.", "embeddings.position_ids"]
        .iter()
        .any(|it| tensor.starts_with(it))
}

/// The first of these views that holds the encoder, by the name of a tensor; the whole without one.
fn encoder_view<'a>(w: &Weights<'a>, prefix: &str, tensor: &str) -> Weights<'a> {
    let within = w.at(prefix);
    if within.has(tensor) { within } else { w.clone() }
}

/// A layer norm, by the names of today's checkpoints (`weight`, `bias`) or of the first ones
/// (`gamma`, `beta`).
fn layer_norm(w: &Weights, dims: i32, eps: f32) -> Result<Norm> {
    if w.has("gamma") {
        Norm::layer_named(w, ["gamma", "beta"], dims, eps)
    } else {
        Norm::layer(w, dims, eps)
    }
}

/// How many labels a classifier gives: as many as its matrix has rows.
fn labels(w: &Weights) -> i32 {
    w.shape("weight").and_then(|shape| shape.first().copied()).unwrap_or(2)
}

/// A classifier of `dims` features of the first token: a dense layer, and the output.
fn classifier_of_first(dense: &Weights, output: &Weights, dims: i32) -> Result<Classifier> {
    let labels = labels(output);
    Ok(Classifier {
        pooling: ClassifierPooling::First,
        dense: Linear::new(dense, dims, dims, true)?,
        activation: None,
        norm: None,
        output: Linear::new(output, dims, labels, true)?,
        labels,
    })
}

/// Whether the checkpoint was saved as one that judges texts.
fn judges(file: &ConfigFile) -> Result<bool> {
    let names: Option<Vec<Value>> = file.optional("architectures")?;
    let is_judge =
        |name: &Value| name.as_str().is_some_and(|it| it.ends_with("ForSequenceClassification"));
    Ok(names.is_some_and(|names| names.iter().any(is_judge)))
}
