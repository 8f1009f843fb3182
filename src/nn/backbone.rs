//! A stack of layers that are one block each, as in Mamba and what came of it.

use super::decoder::Head;
use super::embedding::Embedding;
use super::mixer::Mixer;
use super::mlp::FeedForward;
use super::norm::Norm;
use super::residual::{Input, Residual};
use super::rows::StepRows;
use super::shared_transformer::LayerOfShared;
use super::step::Step;
use crate::cache::Cache;
use crate::error::Result;
use crate::mlx::Array;
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
        let BackboneConfig { vocabulary, dims, layers, eps, tied } = config;
        let backbone = w.at("backbone");
        let layer = |index| {
            let w = backbone.at("layers").at(index);
            Ok((Norm::rms(&w.at("norm"), dims, eps)?, block(index, &w.at("mixer"))?))
        };
        let embedding = backbone.at("embeddings");
        Ok(Self {
            embedding: Embedding::new(&embedding, vocabulary, dims)?,
            embedding_norm: None,
            layers: (0..layers).map(layer).collect::<Result<_>>()?,
            norm: Norm::rms(&backbone.at("norm_f"), dims, eps)?,
            head: Head::new(&w.at("lm_head"), &embedding, tied, dims, vocabulary)?,
        })
    }

    /// The logits that a step wants, `[batch, wanted, vocabulary]`.
    pub fn forward(&self, step: &Step, caches: &mut [&mut [Cache]]) -> Result<Array> {
        let mut x = self.embedding.forward(step.tokens())?;
        if let Some(norm) = &self.embedding_norm {
            x = norm.forward(&x)?;
        }
        let mut stream = Residual::from(x.clone());
        let (mut rows, mut mixers) = (StepRows::new(step, caches)?, 0);
        for (norm, block) in &self.layers {
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
        }
        step.logits(&stream, self.embedding.vocabulary(), |stream| {
            let x = stream.normed(&self.norm);
            self.head.forward(x.array()?, &self.embedding)
        })
    }

    /// How many layers there are.
    pub fn layers(&self) -> usize {
        self.layers.iter().filter(|(_, block)| !matches!(block, Block::Continued(_))).count()
    }

    /// An empty cache for each layer that mixes positions.
    pub fn make_caches(&self) -> Vec<Cache> {
        let cache = |(_, block): &(Norm, Block)| match block {
            Block::Mixer(mixer) => Some(mixer.make_cache()),
            Block::WithShared(transformer, mixer) => {
                Some(Cache::List(vec![transformer.make_cache(), mixer.make_cache()]))
            }
            Block::Continued(_) | Block::FeedForward(_) => None,
        };
        self.layers.iter().filter_map(cache).collect()
    }
}
