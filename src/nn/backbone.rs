//! A stack of layers that are one block each, as in Mamba and what came of it.

use super::decoder::Head;
use super::embedding::Embedding;
use super::mixer::Mixer;
use super::mlp::FeedForward;
use super::norm::Norm;
use super::prediction_head::{PredictionHead, PredictionLayers, PredictionNames};
use super::residual::{Input, Residual};
use super::rows::{Rows, StepRows};
use super::shared_transformer::LayerOfShared;
use super::step::Step;
use crate::cache::Cache;
use crate::error::Result;
use crate::mlx::{Array, Dtype};
use crate::weights::Weights;

/// What a layer adds to the residual stream: x + block(norm(x)).
#[derive(Debug)]
pub enum Block {
    /// What mixes positions.
    Mixer(Box<dyn Mixer>),
    /// The same with the cache of the mixer before it.
    Continued(Box<dyn Mixer>),
    /// A mixer that reads norm(x + transformer(x, embeddings)). Their caches are a list, that of the
    /// transformer first.
    WithShared(Box<LayerOfShared>, Box<dyn Mixer>),
    /// What works on each position, and has no cache.
    FeedForward(Box<dyn FeedForward>),
}

impl Block {
    /// Whether it has a cache of its own.
    fn has_cache(&self) -> bool {
        matches!(self, Self::Mixer(_) | Self::WithShared(..))
    }

    /// See [`Mixer::make_room`].
    fn make_room(&self, rows: &mut Rows, batch: i32, dtype: Dtype) -> Result<Vec<Array>> {
        match self {
            Self::Mixer(mixer) => mixer.make_room(rows, batch, dtype),
            Self::WithShared(transformer, _) => {
                transformer.make_room(&mut rows.part(0, 2)?, batch, dtype)
            }
            Self::Continued(_) | Self::FeedForward(_) => Ok(Vec::new()),
        }
    }
}

/// A whole model.
#[derive(Debug)]
pub struct Backbone {
    /// Token embeddings.
    pub embedding: Embedding,
    /// Behind them.
    pub embedding_norm: Option<Norm>,
    /// First to last, each with the norm before it; one that goes on with a mixer's cache belongs
    /// to the layer of that mixer.
    pub layers: Vec<(Norm, Block)>,
    /// After the last layer.
    pub norm: Norm,
    /// The output.
    pub head: Head,
    /// What predicts the token after the next, where the checkpoint has that.
    pub prediction: Option<PredictionHead>,
}

/// The blocks of a prediction head, each with the norm before it.
#[derive(Debug)]
struct PredictionBlocks(Vec<(Norm, Block)>);

impl PredictionLayers for PredictionBlocks {
    fn forward(&self, x: Array, rows: &mut StepRows) -> Result<Residual> {
        through(&self.0, x, rows)
    }

    fn make_caches(&self) -> Vec<Cache> {
        caches(&self.0)
    }
}

/// The measures of a [`Backbone`].
#[derive(Debug, Clone, Copy)]
pub struct BackboneConfig {
    /// Rows of the embedding and of the output.
    pub vocabulary: i32,
    /// Features of the residual stream.
    pub dims: i32,
    /// Number of layers.
    pub layers: usize,
    /// Epsilon of the norms.
    pub eps: f32,
    /// Whether the embedding is the output head; `None` where the configuration does not say.
    pub tied: Option<bool>,
}

impl Backbone {
    /// Takes `backbone` (`embeddings`, `layers.N.norm`, `norm_f`) and `lm_head`; `block` builds the
    /// block of a layer from `layers.N.mixer`.
    pub fn new(
        w: &Weights,
        config: BackboneConfig,
        block: impl Fn(usize, &Weights) -> Result<Block>,
    ) -> Result<Self> {
        let BackboneConfig { vocabulary, dims, eps, tied, .. } = config;
        let backbone = w.at("backbone");
        let embedding = backbone.at("embeddings");
        Ok(Self {
            embedding: Embedding::new(&embedding, vocabulary, dims)?,
            embedding_norm: None,
            layers: blocks(&backbone.at("layers"), config, block)?,
            norm: Norm::rms(&backbone.at("norm_f"), dims, eps)?,
            head: Head::new(&w.at("lm_head"), &embedding, tied, dims, vocabulary)?,
            prediction: None,
        })
    }

    /// The same with the prediction head that the checkpoint may have below `mtp`: blocks as those
    /// of the backbone, with the head's norms and projection beside the first and the last of them.
    pub fn with_prediction(
        mut self,
        w: &Weights,
        config: BackboneConfig,
        block: impl Fn(usize, &Weights) -> Result<Block>,
    ) -> Result<Self> {
        const NORMS: [&str; 4] =
            ["0.final_layernorm", "1.final_layernorm", "2.final_layernorm", "3.final_layernorm"];
        let BackboneConfig { dims, layers, eps, .. } = config;
        let Some(&last) = layers.checked_sub(1).and_then(|last| NORMS.get(last)) else {
            return Ok(self);
        };
        let names = PredictionNames {
            embedding_norm: "0.enorm",
            hidden_norm: "0.hnorm",
            projection: "0.eh_proj",
            norm: last,
            ..PredictionNames::DEEPSEEK
        };
        let norm = |w: &Weights| Norm::rms(w, dims, eps);
        self.prediction = PredictionHead::load(&w.at("mtp.layers"), names, dims, norm, |w| {
            Ok(Box::new(PredictionBlocks(blocks(&w, config, block)?)))
        })?;
        Ok(self)
    }

    /// The logits that a step wants, `[batch, wanted, vocabulary]`.
    pub fn forward(&self, step: &Step, caches: &mut [&mut [Cache]]) -> Result<Array> {
        let stream = self.stream(step, caches)?;
        step.logits(&stream, self.embedding.vocabulary(), |stream| {
            self.head.forward(stream.normed(&self.norm).array()?, &self.embedding)
        })
    }

    /// The hidden states that a step wants, behind the last norm, `[batch, wanted, dims]`.
    pub fn states(&self, step: &Step, caches: &mut [&mut [Cache]]) -> Result<Array> {
        let stream = self.stream(step, caches)?;
        step.logits(&stream, self.embedding.dims(), |stream| {
            stream.normed(&self.norm).array().cloned()
        })
    }

    /// The logits that a step wants, and the hidden states behind the last norm that they are made
    /// of, `[batch, wanted, dims]`.
    pub fn forward_with_states(
        &self,
        step: &Step,
        caches: &mut [&mut [Cache]],
    ) -> Result<[Array; 2]> {
        let states = self.states(step, caches)?;
        Ok([self.head.forward(&states, &self.embedding)?, states])
    }

    /// The same of the prediction head, whose step has the tokens behind those of `states`,
    /// `[batch, length, dims]`, and whose rows have its caches each.
    ///
    /// # Errors
    /// [`Error::Unsupported`] where there is no such head.
    pub fn predict(
        &self,
        step: &Step,
        states: &Array,
        caches: &mut [&mut [Cache]],
    ) -> Result<[Array; 2]> {
        let head = PredictionHead::of(self.prediction.as_ref())?;
        let embedded = self.embedding.forward(step.tokens())?;
        let states = head.predict(step, &embedded, states, caches)?;
        Ok([self.head.forward(&states, &self.embedding)?, states])
    }

    /// The stream behind the last layer.
    fn stream(&self, step: &Step, caches: &mut [&mut [Cache]]) -> Result<Residual> {
        let mut x = self.embedding.forward(step.tokens())?;
        if let Some(norm) = &self.embedding_norm {
            x = norm.forward(&x)?;
        }
        let mut rows = StepRows::new(step, caches)?;
        let with_cache = self.layers.iter().map(|(_, block)| block).filter(|it| it.has_cache());
        rows.make_room(with_cache, |block, rows| block.make_room(rows, x.dim(0), x.dtype()))?;
        through(&self.layers, x, &mut rows)
    }

    /// How many layers there are.
    pub fn layers(&self) -> usize {
        self.layers.iter().filter(|(_, block)| !matches!(block, Block::Continued(_))).count()
    }

    /// An empty cache for each layer that mixes positions.
    pub fn make_caches(&self) -> Vec<Cache> {
        caches(&self.layers)
    }
}

/// Takes the blocks of layers and the norms before them.
fn blocks(
    w: &Weights,
    config: BackboneConfig,
    block: impl Fn(usize, &Weights) -> Result<Block>,
) -> Result<Vec<(Norm, Block)>> {
    let BackboneConfig { dims, layers, eps, .. } = config;
    let layer = |index| {
        let w = w.at(index);
        Ok((Norm::rms(&w.at("norm"), dims, eps)?, block(index, &w.at("mixer"))?))
    };
    (0..layers).map(layer).collect()
}

/// The stream behind layers, for what the first of them gets, `[batch, length, dims]`.
fn through(layers: &[(Norm, Block)], x: Array, rows: &mut StepRows) -> Result<Residual> {
    let mut stream = Residual::from(x.clone());
    let mut mixers = 0;
    for (norm, block) in layers {
        let input = stream.normed(norm);
        let output = match block {
            Block::FeedForward(block) => block.forward(&input)?,
            Block::Mixer(mixer) => {
                mixers += 1;
                mixer.forward(&input, &mut rows.layer(mixers - 1)?)?
            }
            Block::Continued(mixer) => {
                mixer.forward(&input, &mut rows.layer(mixers.saturating_sub(1))?)?
            }
            Block::WithShared(transformer, mixer) => {
                mixers += 1;
                let mut rows = rows.layer(mixers - 1)?;
                let before = input.stream()?;
                let heard = transformer.forward(&before, &x, &mut rows.part(0, 2)?)?;
                let heard = Input::from(before).add(heard)?;
                mixer.forward(&heard.normed(norm), &mut rows.part(1, 2)?)?
            }
        };
        stream = input.add(output)?;
        rows.begin(&stream)?;
    }
    Ok(stream)
}

fn caches(layers: &[(Norm, Block)]) -> Vec<Cache> {
    let cache = |(_, block): &(Norm, Block)| match block {
        Block::Mixer(mixer) => Some(mixer.make_cache()),
        Block::WithShared(transformer, mixer) => {
            Some(Cache::List(vec![transformer.make_cache(), mixer.make_cache()]))
        }
        Block::Continued(_) | Block::FeedForward(_) => None,
    };
    layers.iter().filter_map(cache).collect()
}
