//! Multi-token prediction (Gloeckle et al. 2024; DeepSeek-AI 2024, section 2.2): a layer behind the
//! last one that predicts the token after the next, which drafts are made of.
//!
//! With h_i the hidden state of position i behind the model's last norm and t_{i+1} the token behind
//! it, the head computes
//!
//! x_i = W · [norm_e(embed(t_{i+1})); norm_h(h_i)],  y_i = norm(layer(x_{≤i})),
//!
//! and the model's own output head turns y_i into the logits of t_{i+2}. The layer is one of the
//! model's own kind with a cache of its own. To predict more tokens the head reads what it has
//! predicted, and y_i in place of h_{i+1}. That is how transformers (`MtpModel`) and vLLM compute
//! it; the latter gives DeepSeek V3's and GLM 4.5's heads their own state as it is before the norm.

use std::fmt::Debug;

use super::decoder_layer::DecoderLayer;
use super::linear::Linear;
use super::norm::Norm;
use super::residual::Residual;
use super::rows::StepRows;
use super::step::Step;
use crate::cache::Cache;
use crate::error::{Error, Result};
use crate::mlx::{Array, ops};
use crate::weights::Weights;

/// What predicts the token after the next.
#[derive(Debug)]
pub struct PredictionHead {
    /// Of the token's embedding.
    embedding_norm: Norm,
    /// Of the hidden state in front of the token.
    hidden_norm: Norm,
    /// Of both side by side, `[2 · dims]` to `[dims]`.
    projection: Linear,
    hidden_first: bool,
    layers: Box<dyn PredictionLayers>,
    /// Behind them.
    norm: Norm,
}

/// What a head has between its projection and the norm behind it.
pub(super) trait PredictionLayers: Debug {
    /// The stream behind `x`, `[batch, length, dims]`.
    fn forward(&self, x: Array, rows: &mut StepRows) -> Result<Residual>;

    /// Its caches, empty.
    fn make_caches(&self) -> Vec<Cache>;
}

impl PredictionLayers for DecoderLayer {
    fn forward(&self, x: Array, rows: &mut StepRows) -> Result<Residual> {
        Self::forward(self, &Residual::from(x), &mut rows.layer(0)?)
    }

    fn make_caches(&self) -> Vec<Cache> {
        vec![self.mixer.make_cache()]
    }
}

/// Where a checkpoint has a prediction head, and what it is like.
#[derive(Debug, Clone, Copy)]
pub struct PredictionConfig {
    /// Where its tensors lie.
    pub place: PredictionPlace,
    /// Their names.
    pub names: PredictionNames,
    /// The number of a layer of the same kind: what builds the layers is asked for one like it.
    pub like: usize,
}

/// Where the tensors of a prediction head lie.
#[derive(Debug, Clone, Copy)]
pub enum PredictionPlace {
    /// As those of a layer behind the last one.
    NextLayer,
    /// Below a name beside the output head.
    BesideHead(&'static str),
    /// Below a name beside the layers.
    BesideLayers(&'static str),
}

/// The names of a prediction head's parts.
#[derive(Debug, Clone, Copy)]
pub struct PredictionNames {
    /// The norm of the token's embedding.
    pub embedding_norm: &'static str,
    /// The norm of the hidden state.
    pub hidden_norm: &'static str,
    /// The projection of both.
    pub projection: &'static str,
    /// Whether it has the hidden state in front of the embedding.
    pub hidden_first: bool,
    /// The layer; empty where its parts lie beside the others.
    pub layer: &'static str,
    /// The norms before its blocks, where they are not called as those of the other layers.
    pub layer_norms: Option<[&'static str; 2]>,
    /// The norm behind it.
    pub norm: &'static str,
}

impl PredictionNames {
    /// DeepSeek V3's.
    pub const DEEPSEEK: Self = Self {
        embedding_norm: "enorm",
        hidden_norm: "hnorm",
        projection: "eh_proj",
        hidden_first: false,
        layer: "",
        layer_norms: None,
        norm: "shared_head.norm",
    };

    /// Hy 3's and Ling 2.5's: DeepSeek V3's, but for the norm behind the layer.
    pub const FINAL_NORM: Self = Self { norm: "final_layernorm", ..Self::DEEPSEEK };

    /// Qwen 3 Next's.
    pub const QWEN: Self = Self {
        embedding_norm: "pre_fc_norm_embedding",
        hidden_norm: "pre_fc_norm_hidden",
        projection: "fc",
        hidden_first: false,
        layer: "layers.0",
        layer_norms: None,
        norm: "norm",
    };

    /// MiMo's.
    pub const MIMO: Self = Self {
        embedding_norm: "token_layernorm",
        hidden_norm: "hidden_layernorm",
        projection: "input_proj",
        hidden_first: true,
        layer: "",
        layer_norms: None,
        norm: "final_layernorm",
    };

    /// MiMo V2's.
    pub const MIMO_V2: Self =
        Self { layer_norms: Some(["input_layernorm", "pre_mlp_layernorm"]), ..Self::FINAL_NORM };
}

impl PredictionConfig {
    /// DeepSeek V3's, behind `layers` layers, of which the last one is of the same kind.
    pub fn next_layer(layers: usize) -> Self {
        let like = layers.saturating_sub(1);
        Self { place: PredictionPlace::NextLayer, names: PredictionNames::DEEPSEEK, like }
    }

    /// Its view: of a whole checkpoint, `next_layer` behind the last one, and `model`, which holds
    /// the layers.
    pub(super) fn view<'a>(
        &self,
        whole: &Weights<'a>,
        next_layer: &Weights<'a>,
        model: &Weights<'a>,
    ) -> Weights<'a> {
        match self.place {
            PredictionPlace::NextLayer => next_layer.clone(),
            PredictionPlace::BesideHead(name) => whole.at(name),
            PredictionPlace::BesideLayers(name) => model.at(name),
        }
    }
}

impl PredictionHead {
    /// Takes the head's tensors from its view; `norm` takes one of its norms, `layers` what is
    /// between them from the layer's view. `None` where the checkpoint has none, where heads are
    /// not loaded, or where tensors are missing or do not fit, with a warning: a model runs
    /// without, too.
    pub(super) fn load<'a>(
        w: &Weights<'a>,
        names: PredictionNames,
        dims: i32,
        norm: impl Fn(&Weights<'a>) -> Result<Norm>,
        layers: impl FnOnce(Weights<'a>) -> Result<Box<dyn PredictionLayers>>,
    ) -> Result<Option<Self>> {
        let PredictionNames { projection, hidden_first, .. } = names;
        if !w.plan().prediction_heads || !w.at(projection).has("weight") {
            return Ok(None);
        }
        w.take_beside("the prediction head", || {
            Ok(Self {
                embedding_norm: norm(&w.at(names.embedding_norm))?,
                hidden_norm: norm(&w.at(names.hidden_norm))?,
                projection: Linear::new(&w.at(projection), 2 * dims, dims, false)?,
                hidden_first,
                layers: layers(w.at(names.layer))?,
                norm: norm(&w.at(names.norm))?,
            })
        })
    }

    /// The head of a model.
    ///
    /// # Errors
    /// [`Error::Unsupported`] where there is none.
    pub(super) fn of(head: Option<&Self>) -> Result<&Self> {
        let message = "the model has no prediction head";
        head.ok_or_else(|| Error::Unsupported(message.to_owned()))
    }

    /// What the output head reads for the embedded tokens of a step, whose rows have the head's
    /// caches each, and the hidden states in front of them, `[batch, length, dims]` each:
    /// `[batch, wanted, dims]`.
    pub(super) fn predict(
        &self,
        step: &Step,
        embedded: &Array,
        states: &Array,
        caches: &mut [&mut [Cache]],
    ) -> Result<Array> {
        let mut rows = StepRows::new(step, caches)?;
        let embedded = self.embedding_norm.forward(embedded)?;
        let states = self.hidden_norm.forward(states)?;
        let both = match self.hidden_first {
            true => [&states, &embedded],
            false => [&embedded, &states],
        };
        let x = self.projection.forward(&ops::concatenate(&both, -1)?)?;
        let stream = self.layers.forward(x, &mut rows)?;
        let width = embedded.dim(-1) as usize;
        step.logits(&stream, width, |stream| stream.normed(&self.norm).array().cloned())
    }

    /// Empty caches for its layers.
    pub fn make_caches(&self) -> Vec<Cache> {
        self.layers.make_caches()
    }
}
