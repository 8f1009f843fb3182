//! From hidden states to an embedding, as sentence-transformers' files say it: `modules.json` lists
//! pooling, dense layers and normalization, each with a folder of its own.

mod files;
mod pooling;

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Map, Value};

pub use files::{label_activation, max_tokens};
pub use pooling::{PooledText, Pooling};

use crate::error::{Error, Result};
use crate::fused::activation::Activation;
use crate::mlx::{self, Array, Dtype, ops, scalar};
use crate::nn::Linear;
use crate::warning::Warning;
use crate::weights::LoadPlan;

/// What makes embeddings of a model's hidden states.
#[derive(Debug)]
pub struct Embedder {
    info: EmbedderInfo,
    dense: Vec<Dense>,
}

/// What is known of how a model makes embeddings.
#[derive(Debug, Clone, Default)]
pub struct EmbedderInfo {
    /// Whether the checkpoint's files say so; without them it is made as sentence-transformers
    /// makes it then.
    pub is_declared: bool,
    /// How the states of a text become one, side by side where there are several ways.
    pub pooling: Vec<Pooling>,
    /// Whether they have the length 1.
    pub normalizes: bool,
    /// How many numbers they have, where nobody asks for fewer.
    pub dimensions: usize,
    /// How many there are.
    pub max_dimensions: usize,
    /// What is put in front of texts, by the task that it is for.
    pub prompts: BTreeMap<String, String>,
    /// The task of texts for which none is named.
    pub default_task: Option<String>,
    /// Whether the tokens of what was put in front count.
    pub pools_prompt: bool,
    /// Whether texts are written in small letters first.
    pub lower_case: bool,
}

/// A layer behind the pooling: act(x · wᵀ + b).
#[derive(Debug)]
struct Dense {
    linear: Linear,
    activation: DenseActivation,
}

#[derive(Debug, Clone, Copy)]
enum DenseActivation {
    Identity,
    Tanh,
    Other(Activation),
}

/// What becomes of the logit of a judge's label.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LabelActivation {
    /// It is the score.
    Identity,
    /// The logistic function of it is.
    Sigmoid,
}

impl LabelActivation {
    /// The score.
    pub fn apply(self, logit: f32) -> f32 {
        match self {
            Self::Identity => logit,
            Self::Sigmoid => 1.0 / (1.0 + (-logit).exp()),
        }
    }
}

/// How embeddings are to be made, where that differs from what the files say.
#[derive(Debug, Clone, Default)]
pub struct EmbedOptions {
    /// In place of the files' pooling, and of the layers behind it, which belong to that.
    pub pooling: Option<Pooling>,
    /// Whether they have the length 1; `None` for as the files say.
    pub normalize: Option<bool>,
    /// How many of the first numbers are kept.
    pub dimensions: Option<usize>,
}

impl Embedder {
    /// Reads the files of the model in `dir`, whose configuration is `config` and whose states have
    /// so many features.
    ///
    /// # Errors
    /// [`Error::Config`] and [`Error::Weights`] for broken ones, and for modules that are not
    /// known.
    pub fn read(
        dir: &Path,
        config: &Map<String, Value>,
        plan: LoadPlan,
        features: usize,
        warnings: &mut Vec<Warning>,
    ) -> Result<Self> {
        files::read(dir, config, plan, features, warnings)
    }

    /// What is known of it.
    pub fn info(&self) -> &EmbedderInfo {
        &self.info
    }

    /// A text of which nothing has been read.
    pub fn begin(&self, options: &EmbedOptions) -> PooledText {
        PooledText::new(options.pooling.map_or_else(|| self.info.pooling.clone(), |it| vec![it]))
    }

    /// The embeddings of texts that have been read, `[texts, dimensions]`.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for more dimensions than there are.
    pub fn finish(&self, texts: &[&PooledText], options: &EmbedOptions) -> Result<Array> {
        let pooled = texts.iter().map(|text| text.pooled()).collect::<Result<Vec<_>>>()?;
        let mut x = ops::concatenate(&pooled.iter().collect::<Vec<_>>(), 0)?;
        if options.pooling.is_none_or(|pooling| self.info.pooling == [pooling]) {
            for Dense { linear, activation } in &self.dense {
                x = linear.forward(&x)?;
                x = match activation {
                    DenseActivation::Identity => x,
                    DenseActivation::Tanh => ops::tanh(&x)?,
                    DenseActivation::Other(activation) => activation.apply(&x)?,
                };
            }
        }
        let mut x = ops::astype(&x, Dtype::Float32)?;
        let all = x.dim(1).unsigned_abs() as usize;
        let is_of_files = options.pooling.is_none();
        let fewer = options.dimensions.or(is_of_files.then_some(self.info.dimensions));
        if let Some(dimensions) = fewer.filter(|dimensions| *dimensions != all) {
            if dimensions > all {
                let message = format!("is {dimensions}, and the model's embeddings have {all}");
                return Err(Error::argument("dimensions", message));
            }
            x = ops::slice_axis(&x, 1, 0, dimensions as i32)?;
        }
        match options.normalize.unwrap_or(self.info.normalizes) {
            true => normalized(&x),
            false => Ok(x),
        }
    }
}

/// x / max(|x|, 1e-12), row by row.
fn normalized(x: &Array) -> Result<Array> {
    let length = ops::sqrt(&ops::sum(&ops::square(x)?, 1)?)?;
    let length = ops::reshape(&ops::maximum(&length, &scalar(1e-12))?, &[x.dim(0), 1])?;
    ops::divide(x, &length)
}

/// The numbers of embeddings or of labels' logits, row by row.
///
/// # Errors
/// [`Error::Logits`] for those that are no numbers.
pub fn to_rows(embeddings: &Array) -> Result<Vec<Vec<f32>>> {
    let width = embeddings.dim(1).unsigned_abs() as usize;
    let all = mlx::to_f32_vec(embeddings)?;
    if all.iter().any(|number| !number.is_finite()) {
        return Err(Error::Logits("the model's hidden states are no numbers".to_owned()));
    }
    Ok(all.chunks(width.max(1)).map(<[f32]>::to_vec).collect())
}
