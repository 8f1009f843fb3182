//! The decoder-only transformer: embedding, layers, norm, head.

use super::embedding::Embedding;
use super::linear::Linear;
use super::mixer::{Masks, Mixer};
use super::mlp::FeedForward;
use super::norm::Norm;
use super::residual::Residual;
use crate::cache::Cache;
use crate::error::Result;
use crate::mlx::{Array, ops, scalar};
use crate::weights::Weights;

/// A layer: a mixer and a feed-forward block, each added to the residual stream.
#[derive(Debug)]
pub struct DecoderLayer {
    /// What mixes positions.
    pub mixer: Box<dyn Mixer>,
    /// What works on each position.
    pub feed_forward: Box<dyn FeedForward>,
    /// Where the norms stand.
    pub norms: Norms,
}

/// Where a layer's norms stand.
#[derive(Debug)]
pub enum Norms {
    /// x + mixer(norm(x)), then x + feed_forward(norm(x)).
    Pre {
        /// Before the mixer.
        mixer: Norm,
        /// Before the feed-forward block.
        feed_forward: Norm,
    },
    /// x + norm(mixer(x)), then x + norm(feed_forward(x)) (OLMo 2).
    Post {
        /// After the mixer.
        mixer: Norm,
        /// After the feed-forward block.
        feed_forward: Norm,
    },
    /// Before and after each block (Gemma 2).
    Sandwich {
        /// Before the mixer.
        mixer: Norm,
        /// After it.
        after_mixer: Norm,
        /// Before the feed-forward block.
        feed_forward: Norm,
        /// After it.
        after_feed_forward: Norm,
    },
    /// As [`Norms::Sandwich`], of a feed-forward block that norms its input itself.
    OpenSandwich {
        /// Before the mixer.
        mixer: Norm,
        /// After it.
        after_mixer: Norm,
        /// After the feed-forward block.
        after_feed_forward: Norm,
    },
    /// x + mixer(norm(x)) + feed_forward(norm(x)) with one norm for both (GPT-J).
    Parallel(Norm),
}

impl DecoderLayer {
    /// The residual stream behind the layer.
    pub fn forward(
        &self,
        stream: &Residual,
        masks: &mut Masks,
        cache: &mut Cache,
    ) -> Result<Residual> {
        match &self.norms {
            Norms::Pre { mixer, feed_forward } => {
                let stream = self.mixer.add_to(stream, mixer, masks, cache)?;
                self.feed_forward.add_to(&stream, feed_forward)
            }
            Norms::Post { mixer, feed_forward } => {
                let x = stream.settled()?;
                let mixed = mixer.forward(&self.mixer.forward(&x, masks, cache)?)?;
                let x = ops::add(&x, &mixed)?;
                let fed = feed_forward.forward(&self.feed_forward.forward(&x)?)?;
                Ok(Residual::sum(x, fed))
            }
            Norms::Sandwich { mixer, after_mixer, feed_forward, after_feed_forward } => {
                let stream = self.mixer.add_to(stream, mixer, masks, cache)?;
                let stream = stream.map_delta(|mixed| after_mixer.forward(mixed))?;
                let stream = self.feed_forward.add_to(&stream, feed_forward)?;
                stream.map_delta(|fed| after_feed_forward.forward(fed))
            }
            Norms::OpenSandwich { mixer, after_mixer, after_feed_forward } => {
                let stream = self.mixer.add_to(stream, mixer, masks, cache)?;
                let x = stream.map_delta(|mixed| after_mixer.forward(mixed))?.settled()?;
                let fed = after_feed_forward.forward(&self.feed_forward.forward(&x)?)?;
                Ok(Residual::sum(x, fed))
            }
            Norms::Parallel(norm) => {
                let [x, normed] = stream.normed(norm)?;
                let mixed = self.mixer.forward(&normed, masks, cache)?;
                let x = ops::add(&x, &mixed)?;
                Ok(Residual::sum(x, self.feed_forward.forward(&normed)?))
            }
        }
    }
}

/// What turns the last hidden states into logits.
#[derive(Debug)]
pub enum Head {
    /// The token embedding's own table.
    Tied,
    /// A matrix of its own.
    Linear(Linear),
}

impl Head {
    /// Takes `weight` of `lm_head`, unless the embedding serves as the head. Where the configuration
    /// does not say (`None`), a checkpoint without a head is tied.
    pub fn new(w: &Weights, tied: Option<bool>, dims: i32, vocabulary: i32) -> Result<Self> {
        if tied.unwrap_or_else(|| !w.has("weight")) {
            Ok(Self::Tied)
        } else {
            Ok(Self::Linear(Linear::new(w, dims, vocabulary, w.has("bias"))?))
        }
    }
}

/// A whole model.
#[derive(Debug)]
pub struct Decoder {
    /// Token embeddings.
    pub embedding: Embedding,
    /// Multiplies them, in their own type; `None` for 1.
    pub embedding_scale: Option<f32>,
    /// First to last.
    pub layers: Vec<DecoderLayer>,
    /// After the last layer.
    pub norm: Norm,
    /// The output.
    pub head: Head,
    /// Multiplies the logits; `None` for 1.
    pub logit_scale: Option<f32>,
    /// Bounds the logits: cap · tanh(logits / cap).
    pub logit_cap: Option<f32>,
}

impl Decoder {
    /// Tokens `[batch, length]` to logits `[batch, length, vocabulary]`.
    pub fn forward(&self, tokens: &Array, caches: &mut [Cache]) -> Result<Array> {
        let mut stream = Residual::from(self.embed(tokens)?);
        let mut masks = Masks::default();
        for (layer, cache) in self.layers.iter().zip(caches) {
            stream = layer.forward(&stream, &mut masks, cache)?;
        }
        self.logits(&stream)
    }

    /// Tokens `[batch, length]` to what the first layer gets, `[batch, length, dims]`.
    pub fn embed(&self, tokens: &Array) -> Result<Array> {
        let x = self.embedding.forward(tokens)?;
        self.embedding_scale.map_or(Ok(x.clone()), |scale| scaled(&x, scale))
    }

    /// The stream behind the last layer to logits `[batch, length, vocabulary]`.
    pub fn logits(&self, stream: &Residual) -> Result<Array> {
        let [_, x] = stream.normed(&self.norm)?;
        let mut logits = match &self.head {
            Head::Tied => self.embedding.as_linear(&x),
            Head::Linear(head) => head.forward(&x),
        }?;
        if let Some(scale) = self.logit_scale {
            logits = scaled(&logits, scale)?;
        }
        if let Some(cap) = self.logit_cap {
            logits = soft_cap(&logits, cap)?;
        }
        Ok(logits)
    }

    /// An empty cache for each layer.
    pub fn make_caches(&self) -> Vec<Cache> {
        self.layers.iter().map(|layer| layer.mixer.make_cache()).collect()
    }

    /// Number of tokens that the model tells apart.
    pub fn vocabulary(&self) -> usize {
        self.embedding.vocabulary()
    }
}

/// `x` times a number of its own type.
pub fn scaled(x: &Array, factor: f32) -> Result<Array> {
    ops::multiply(x, &ops::astype(&scalar(factor), x.dtype())?)
}

/// cap · tanh(x / cap).
pub fn soft_cap(x: &Array, cap: f32) -> Result<Array> {
    scaled(&ops::tanh(&scaled(x, cap.recip())?)?, cap)
}
