//! The decoder as most checkpoints lay it out: the names of Llama's tensors, and a few choices.

use super::attention::{Attention, AttentionConfig};
use super::decoder::{BlockNorms, Decoder, DecoderLayer, Head, Norms};
use super::embedding::Embedding;
use super::mixer::Mixer;
use super::mlp::FeedForward;
use super::norm::Norm;
use super::residual_scale::ResidualScale;
use super::rope::Rope;
use crate::error::Result;
use crate::weights::Weights;

/// The measures and choices of a decoder with the usual names.
#[derive(Debug)]
pub struct StandardDecoder {
    /// Rows of the embedding and of the output.
    pub vocabulary: i32,
    /// The kind of all norms.
    pub norm: NormKind,
    /// Epsilon of the norms.
    pub eps: f32,
    /// Where a layer's norms stand.
    pub layout: NormLayout,
    /// The name of the norm after the last layer.
    pub final_norm: &'static str,
    /// Every layer's attention.
    pub attention: AttentionConfig,
    /// What differs between layers, first to last.
    pub layers: Vec<LayerConfig>,
    /// The name of the output head.
    pub head: &'static str,
    /// Whether the embedding is the output head; `None` where the configuration does not say.
    pub tied: Option<bool>,
    /// Multiplies the embeddings; `None` for 1.
    pub embedding_scale: Option<f32>,
    /// Multiplies what each block adds to the residual stream; `None` for 1.
    pub residual_scale: Option<f32>,
    /// Multiplies the logits; `None` for 1.
    pub logit_scale: Option<f32>,
    /// Bounds the logits; `None` does not.
    pub logit_cap: Option<f32>,
}

/// What differs between the layers of a decoder.
#[derive(Debug, Clone)]
pub struct LayerConfig {
    /// How many positions a token sees; `None` for all.
    pub window: Option<i32>,
    /// How positions are told apart; `None` does not look at them.
    pub rope: Option<Rope>,
}

/// The kind of a decoder's norms.
#[derive(Debug, Clone, Copy)]
pub enum NormKind {
    /// Root-mean-square.
    Rms,
    /// Root-mean-square whose weights are stored less 1.
    RmsPlusOne,
    /// Layer norm.
    Layer,
    /// Layer norm whose weights are stored less 1.
    LayerPlusOne,
}

impl NormKind {
    fn take(self, w: &Weights, dims: i32, eps: f32) -> Result<Norm> {
        match self {
            Self::Rms => Norm::rms(w, dims, eps),
            Self::RmsPlusOne => Norm::rms_plus_one(w, dims, eps),
            Self::Layer => Norm::layer(w, dims, eps),
            Self::LayerPlusOne => Norm::layer_plus_one(w, dims, eps),
        }
    }
}

/// Where a layer's norms stand; see [`Norms`].
#[derive(Debug, Clone, Copy)]
pub enum NormLayout {
    /// `input_layernorm` and `post_attention_layernorm`, before the blocks.
    Pre,
    /// The same by other names.
    PreNamed([&'static str; 2]),
    /// `post_attention_layernorm` and `post_feedforward_layernorm`, after the blocks.
    Post,
    /// Both, and `pre_feedforward_layernorm`.
    Sandwich,
    /// The same by other names, in the order in which they come.
    SandwichNamed([&'static str; 4]),
    /// As [`NormLayout::Sandwich`] without `pre_feedforward_layernorm`, which the block takes.
    OpenSandwich,
    /// `input_layernorm`, before both blocks.
    Parallel,
}

impl NormLayout {
    /// The norms of a layer, each of which `take` takes by its name.
    fn norms(self, take: impl Fn(&str) -> Result<Norm>) -> Result<Norms> {
        const BEFORE_MIXER: &str = "input_layernorm";
        const AFTER_MIXER: &str = "post_attention_layernorm";
        const BEFORE: &str = "pre_feedforward_layernorm";
        const AFTER: &str = "post_feedforward_layernorm";
        // Before and after the mixer, before and after the feed-forward block.
        let [mixer, after_mixer, feed_forward, after_feed_forward] = match self {
            Self::Pre => [Some(BEFORE_MIXER), None, Some(AFTER_MIXER), None],
            Self::PreNamed([mixer, feed_forward]) => [Some(mixer), None, Some(feed_forward), None],
            Self::Post => [None, Some(AFTER_MIXER), None, Some(AFTER)],
            Self::Sandwich => [BEFORE_MIXER, AFTER_MIXER, BEFORE, AFTER].map(Some),
            Self::SandwichNamed(names) => names.map(Some),
            Self::OpenSandwich => [Some(BEFORE_MIXER), Some(AFTER_MIXER), None, Some(AFTER)],
            Self::Parallel => return Ok(Norms::Parallel(take(BEFORE_MIXER)?)),
        };
        let block = |before: Option<&str>, after: Option<&str>| {
            let (before, after) = (before.map(&take).transpose()?, after.map(&take).transpose()?);
            Ok(BlockNorms { before, after })
        };
        Ok(Norms::Sequential {
            mixer: block(mixer, after_mixer)?,
            feed_forward: block(feed_forward, after_feed_forward)?,
        })
    }
}

/// The view of everything but the output head: `model`, or `model.language_model` where a
/// checkpoint has other parts, too.
pub fn language_model<'a>(w: &Weights<'a>) -> Weights<'a> {
    let part = w.at("model.language_model");
    if part.at("embed_tokens").has("weight") { part } else { w.at("model") }
}

impl StandardDecoder {
    /// Sets how many positions each layer sees; `None` for all.
    pub fn set_windows(&mut self, windows: Vec<Option<i32>>) {
        for (layer, window) in self.layers.iter_mut().zip(windows) {
            layer.window = window;
        }
    }

    /// Takes the model's tensors. `feed_forward` builds the block of a layer from that layer's
    /// view.
    pub fn build(
        &self,
        w: &Weights,
        feed_forward: impl Fn(usize, &Weights) -> Result<Box<dyn FeedForward>>,
    ) -> Result<Decoder> {
        self.build_hybrid(w, |index, w| self.attention(index, w), feed_forward)
    }

    /// Takes `self_attn` of a layer.
    pub fn attention(&self, index: usize, layer: &Weights) -> Result<Box<dyn Mixer>> {
        let LayerConfig { window, rope } = self.layers[index].clone();
        let w = layer.at("self_attn");
        Ok(Box::new(Attention::new(&w, self.attention.clone(), rope, window)?))
    }

    /// As [`StandardDecoder::build`], for a model not all of whose layers attend: `mixer` builds
    /// the mixer of a layer from that layer's view.
    pub fn build_hybrid(
        &self,
        w: &Weights,
        mixer: impl Fn(usize, &Weights) -> Result<Box<dyn Mixer>>,
        feed_forward: impl Fn(usize, &Weights) -> Result<Box<dyn FeedForward>>,
    ) -> Result<Decoder> {
        let dims = self.attention.dims;
        let model = language_model(w);
        let layer = |index: usize| {
            let w = model.at("layers").at(index);
            let norm = |name: &str| self.norm.take(&w.at(name), dims, self.eps);
            Ok(DecoderLayer {
                mixer: match self.residual_scale {
                    Some(factor) => Box::new(ResidualScale::new(factor, mixer(index, &w)?)),
                    None => mixer(index, &w)?,
                },
                feed_forward: match self.residual_scale {
                    Some(factor) => Box::new(ResidualScale::new(factor, feed_forward(index, &w)?)),
                    None => feed_forward(index, &w)?,
                },
                norms: self.layout.norms(norm)?,
            })
        };
        let embedding = model.at("embed_tokens");
        Ok(Decoder {
            embedding: Embedding::new(&embedding, self.vocabulary, dims)?,
            embedding_scale: self.embedding_scale,
            layers: (0..self.layers.len()).map(layer).collect::<Result<_>>()?,
            norm: self.norm.take(&model.at(self.final_norm), dims, self.eps)?,
            head: Head::new(&w.at(self.head), &embedding, self.tied, dims, self.vocabulary)?,
            logit_scale: self.logit_scale,
            logit_cap: self.logit_cap,
        })
    }
}
