//! The decoder as most checkpoints lay it out: Llama's, but for some choices and names.

use super::attention_config::{AttentionConfig, LayerConfig};
use super::decoder::{Decoder, Head, Unwritten};
use super::decoder_layer::{BlockNorms, DecoderLayer, Norms};
use super::embedding::Embedding;
use super::linear::{Linear, TakeLinear};
use super::mixer::Mixer;
use super::mlp::FeedForward;
use super::norm::{Norm, TakeNorm};
use super::positions::{LearnedPositions, Positions};
use super::prediction_head::{PredictionConfig, PredictionHead, PredictionLayers};
use super::residual_scale::ResidualScale;
use crate::error::Result;
use crate::weights::Weights;

/// The measures and choices of a decoder.
#[derive(Debug)]
pub struct StandardDecoder {
    /// Rows of the embedding and of the output.
    pub vocabulary: i32,
    /// Takes each norm of the residual stream.
    pub norm: TakeNorm,
    /// Epsilon of the norms.
    pub eps: f32,
    /// That of the norms behind blocks; `None` for the same.
    pub after_eps: Option<f32>,
    /// Where a layer's norms stand.
    pub layout: NormLayout,
    /// The same of each layer, first to last, where they differ.
    pub layouts: Vec<NormLayout>,
    /// Whether there is a norm after the last layer.
    pub last_norm: bool,
    /// How the checkpoint names its parts.
    pub names: DecoderNames,
    /// The layers from this one on, counted anew, where they have a name of their own.
    pub later_layers: Option<(usize, &'static str)>,
    /// Embeddings of another width than the residual stream; `None` for the same.
    pub factorized: Option<FactorizedEmbedding>,
    /// The name of a norm of the embeddings, after their scale; `None` for none.
    pub embedding_norm: Option<&'static str>,
    /// The embeddings of positions.
    pub positions: Option<PositionTable>,
    /// Every layer's attention.
    pub attention: AttentionConfig,
    /// What differs between layers, first to last.
    pub layers: Vec<LayerConfig>,
    /// Whether the embedding is the output head; `None` where the configuration does not say.
    pub tied: Option<bool>,
    /// Takes the output head, where it is not the embedding.
    pub head: TakeLinear,
    /// Multiplies the embeddings; `None` for 1.
    pub embedding_scale: Option<f32>,
    /// Multiplies what each block adds to the residual stream; `None` for 1.
    pub residual_scale: Option<f32>,
    /// Multiplies the logits; `None` for 1.
    pub logit_scale: Option<f32>,
    /// Bounds the logits; `None` does not.
    pub logit_cap: Option<f32>,
    /// Tokens that are never written; those beyond the vocabulary do not matter.
    pub unwritten: Vec<u32>,
    /// What checkpoints may have that predicts the token after the next.
    pub prediction: Option<PredictionConfig>,
}

/// Embeddings of another width than the residual stream: a matrix behind them makes them as wide as
/// that, and one in front of the head takes that back (Lan et al. 2019).
#[derive(Debug, Clone, Copy)]
pub struct FactorizedEmbedding {
    /// Features of an embedding.
    pub dims: i32,
    /// The matrices, beside the token embedding.
    pub projections: [&'static str; 2],
}

/// A table with an embedding for each position.
#[derive(Debug, Clone, Copy)]
pub struct PositionTable {
    /// Its name, beside the token embedding.
    pub name: &'static str,
    /// How many positions it has.
    pub positions: i32,
    /// The row of the first one.
    pub first: i32,
}

/// The names of a decoder's parts.
#[derive(Debug, Clone, Copy)]
pub struct DecoderNames {
    /// Everything but the output head.
    pub model: &'static str,
    /// The token embedding.
    pub embedding: &'static str,
    /// The layers.
    pub layers: &'static str,
    /// A layer's attention.
    pub attention: &'static str,
    /// The norm after the last layer.
    pub norm: &'static str,
    /// The output head, beside the rest.
    pub head: &'static str,
}

impl Default for DecoderNames {
    /// Llama's.
    fn default() -> Self {
        Self {
            model: "model",
            embedding: "embed_tokens",
            layers: "layers",
            attention: "self_attn",
            norm: "norm",
            head: "lm_head",
        }
    }
}

impl DecoderNames {
    /// GPT-2's, which many took over.
    pub const GPT2: Self = Self {
        model: "transformer",
        embedding: "wte",
        layers: "h",
        attention: "attn",
        norm: "ln_f",
        head: "lm_head",
    };
}

/// Where a layer's norms stand, and their names; see [`Norms`].
#[derive(Debug, Clone, Copy)]
pub struct NormLayout {
    /// Before and after the mixer.
    pub mixer: [Option<&'static str>; 2],
    /// Before and after the feed-forward block.
    pub feed_forward: [Option<&'static str>; 2],
    /// What outputs of blocks are added to.
    pub sums: Sums,
}

/// What the outputs of a layer's blocks are added to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sums {
    /// The stream, one block after the other.
    Stream,
    /// The norm that the block read, one block after the other.
    Norms,
    /// The stream in front of the layer, which both blocks read; without a name of its own the
    /// feed-forward block reads the mixer's norm.
    Parallel,
    /// The stream, one block after the other, and the norms after the blocks are those of the sums.
    BeforeNorms,
}

impl NormLayout {
    /// Before the blocks, by Llama's names.
    pub const PRE: Self = Self::pre(["input_layernorm", "post_attention_layernorm"]);

    /// After the blocks, by OLMo 2's names.
    pub const POST: Self = Self {
        mixer: [None, Some("post_attention_layernorm")],
        feed_forward: [None, Some("post_feedforward_layernorm")],
        sums: Sums::Stream,
    };

    /// Before and after the blocks, by Gemma 2's names.
    pub const SANDWICH: Self = Self::sandwich([
        "input_layernorm",
        "post_attention_layernorm",
        "pre_feedforward_layernorm",
        "post_feedforward_layernorm",
    ]);

    /// One norm for both blocks.
    pub const PARALLEL: Self = Self::parallel("input_layernorm");

    /// Before the blocks.
    pub const fn pre([mixer, feed_forward]: [&'static str; 2]) -> Self {
        Self {
            mixer: [Some(mixer), None],
            feed_forward: [Some(feed_forward), None],
            sums: Sums::Stream,
        }
    }

    /// Before and after the mixer, and before and after the feed-forward block.
    pub const fn sandwich([mixer, after_mixer, feed_forward, after]: [&'static str; 4]) -> Self {
        Self {
            mixer: [Some(mixer), Some(after_mixer)],
            feed_forward: [Some(feed_forward), Some(after)],
            sums: Sums::Stream,
        }
    }

    /// One norm for both blocks.
    pub const fn parallel(name: &'static str) -> Self {
        Self { mixer: [Some(name), None], feed_forward: [None; 2], sums: Sums::Parallel }
    }

    /// After the sums of the stream and what the blocks give.
    pub const fn after_sums([mixer, feed_forward]: [&'static str; 2]) -> Self {
        Self {
            mixer: [None, Some(mixer)],
            feed_forward: [None, Some(feed_forward)],
            sums: Sums::BeforeNorms,
        }
    }

    /// The norms of a layer, each of which `take` takes by its name; it is told those behind a
    /// block.
    fn norms(self, take: impl Fn(&str, bool) -> Result<Norm>) -> Result<Norms> {
        let block = |[before, after]: [Option<&str>; 2]| -> Result<_> {
            let before = before.map(|name| take(name, false)).transpose()?;
            let after = after.map(|name| take(name, true)).transpose()?;
            Ok(BlockNorms { before, after, gates: None, kept: self.sums == Sums::Norms })
        };
        Ok(match (self.sums, block(self.mixer)?, block(self.feed_forward)?) {
            (Sums::Parallel, BlockNorms { before: Some(mixer), .. }, feed_forward) => {
                Norms::Parallel { mixer, feed_forward: feed_forward.before }
            }
            (
                Sums::BeforeNorms,
                BlockNorms { after: Some(mixer), .. },
                BlockNorms { after: Some(feed_forward), .. },
            ) => Norms::AfterSum { mixer, feed_forward },
            (_, mixer, feed_forward) => Norms::Sequential { mixer, feed_forward },
        })
    }
}

/// Builds a part of a layer from the layer's number and view.
type PartOfLayer<'a, T> = &'a dyn Fn(usize, &Weights) -> Result<Box<T>>;

/// Views within `model` that hold the language model beside other parts.
pub const NESTED: [&str; 2] = ["language_model", "text_model"];

/// The view of everything but the output head: `model`, or a view within it where a checkpoint has
/// other parts, too. Where it has nothing but this, as embedders do, its tensors may have no
/// prefix.
pub fn language_model<'a>(w: &Weights<'a>) -> Weights<'a> {
    let model = w.at("model");
    if is_bare(w) {
        return w.clone();
    }
    let nested = NESTED.map(|part| model.at(part));
    nested.into_iter().find(|part| part.at("embed_tokens").has("weight")).unwrap_or(model)
}

/// Whether the checkpoint is a decoder without a head, by itself.
fn is_bare(w: &Weights) -> bool {
    w.at("embed_tokens").has("weight") && !w.at("model").at("embed_tokens").has("weight")
}

impl StandardDecoder {
    /// Sets how many positions each layer sees; `None` for all.
    pub fn set_windows(&mut self, windows: Vec<Option<i32>>) {
        for (layer, window) in self.layers.iter_mut().zip(windows) {
            layer.span = window.into();
        }
    }

    /// Takes the model's tensors. `feed_forward` builds the block of a layer from that layer's
    /// view.
    pub fn build(
        &self,
        w: &Weights,
        feed_forward: impl Fn(usize, &Weights) -> Result<Box<dyn FeedForward>>,
    ) -> Result<Decoder> {
        self.build_layers(w, &|index, w| self.attention(index, w), &feed_forward)
    }

    /// Takes the attention of a layer.
    pub fn attention(&self, index: usize, layer: &Weights) -> Result<Box<dyn Mixer>> {
        let w = layer.at(self.names.attention);
        Ok(Box::new(self.attention.build(&w, self.layers[index].clone())?))
    }

    /// As [`StandardDecoder::build`], for a model not all of whose layers attend: `mixer` builds
    /// the mixer of a layer from that layer's view.
    pub fn build_hybrid(
        &self,
        w: &Weights,
        mixer: impl Fn(usize, &Weights) -> Result<Box<dyn Mixer>>,
        feed_forward: impl Fn(usize, &Weights) -> Result<Box<dyn FeedForward>>,
    ) -> Result<Decoder> {
        self.build_layers(w, &mixer, &feed_forward)
    }

    /// One piece of code for all architectures: a copy for each would be a megabyte.
    fn build_layers(
        &self,
        w: &Weights,
        mixer: PartOfLayer<dyn Mixer>,
        feed_forward: PartOfLayer<dyn FeedForward>,
    ) -> Result<Decoder> {
        let (dims, names) = (self.attention.dims, self.names);
        let model = match names.model {
            "model" => language_model(w),
            "" => w.clone(),
            model => w.at(model),
        };
        let view = |index: usize| match self.later_layers {
            Some((first, name)) if index >= first => model.at(name).at(index - first),
            _ => model.at(names.layers).at(index),
        };
        let layout = |index: usize| *self.layouts.get(index).unwrap_or(&self.layout);
        // The layer of a view, made like that of this number.
        let layer = |index: usize, layout: NormLayout, w: Weights| {
            let norm = |name: &str, after: bool| {
                let eps = self.after_eps.filter(|_| after).unwrap_or(self.eps);
                (self.norm)(&w.at(name), dims, eps)
            };
            Ok(DecoderLayer {
                mixer: match self.residual_scale {
                    Some(factor) => Box::new(ResidualScale::new(factor, mixer(index, &w)?)),
                    None => mixer(index, &w)?,
                },
                feed_forward: match self.residual_scale {
                    Some(factor) => Box::new(ResidualScale::new(factor, feed_forward(index, &w)?)),
                    None => feed_forward(index, &w)?,
                },
                norms: layout.norms(norm)?,
            })
        };
        let embedding = model.at(names.embedding);
        let embedding_norm = |name: &str| (self.norm)(&model.at(name), dims, self.eps);
        let positions = |table: PositionTable| {
            let (w, PositionTable { positions, first, .. }) = (model.at(table.name), table);
            LearnedPositions::new(&w, positions, first, dims).map(Positions::Learned)
        };
        let width = self.factorized.map_or(dims, |factorized| factorized.dims);
        let projection = |index: usize, [inputs, outputs]: [i32; 2]| {
            let name = self.factorized.map(|factorized| factorized.projections[index]);
            name.map(|name| Linear::new(&model.at(name), inputs, outputs, false)).transpose()
        };
        let norm = || (self.norm)(&model.at(names.norm), dims, self.eps);
        Ok(Decoder {
            embedding: Embedding::new(&embedding, self.vocabulary, width)?,
            embedding_projection: projection(0, [width, dims])?,
            embedding_scale: self.embedding_scale,
            embedding_norm: self.embedding_norm.map(embedding_norm).transpose()?,
            positions: self.positions.map(positions).transpose()?,
            layers: (0..self.layers.len())
                .map(|index| layer(index, layout(index), view(index)))
                .collect::<Result<_>>()?,
            norm: self.last_norm.then(norm).transpose()?,
            head_projection: projection(1, [dims, width])?,
            before_head: None,
            head: {
                let (head, sizes) = (w.at(names.head), [width, self.vocabulary]);
                match names.model == "model" && is_bare(w) && !head.has("weight") {
                    true => Head::Absent,
                    false => Head::taking(self.head, &head, &embedding, self.tied, sizes)?,
                }
            },
            logit_scale: self.logit_scale,
            logit_cap: self.logit_cap,
            unwritten: Unwritten::of(&self.unwritten, self.vocabulary),
            prediction: match self.prediction {
                Some(config) => {
                    let w = config.view(w, &view(self.layers.len()), &model);
                    let norm = |w: &Weights| (self.norm)(w, dims, self.eps);
                    let own = config.names.layer_norms.map(NormLayout::pre);
                    let layout = own.unwrap_or_else(|| layout(config.like));
                    let layers = |w| -> Result<Box<dyn PredictionLayers>> {
                        Ok(Box::new(layer(config.like, layout, w)?))
                    };
                    PredictionHead::load(&w, config.names, dims, norm, layers)?
                }
                None => None,
            },
        })
    }
}
