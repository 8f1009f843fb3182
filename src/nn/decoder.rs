//! The decoder-only transformer: embedding, layers, norm, head.

use super::embedding::Embedding;
use super::linear::{Linear, TakeLinear};
use super::mixer::Mixer;
use super::mlp::FeedForward;
use super::norm::Norm;
use super::positions::LearnedPositions;
use super::residual::{Input, Residual};
use super::rows::{Rows, StepRows};
use super::step::Step;
use crate::cache::Cache;
use crate::error::{Error, Result};
use crate::fused::math::{scaled, soft_cap};
use crate::mlx::{Array, Dtype, from_u32, ops, scalar};
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
    /// The blocks one after the other, each with norms of its own.
    Sequential {
        /// Around the mixer.
        mixer: BlockNorms,
        /// Around the feed-forward block.
        feed_forward: BlockNorms,
    },
    /// x + mixer(norm(x)) + feed_forward(norm(x)).
    Parallel {
        /// Before the mixer.
        mixer: Norm,
        /// Before the feed-forward block; `None` (GPT-J) for the mixer's.
        feed_forward: Option<Norm>,
    },
    /// norm(x + mixer(x)), and then norm(x + feed_forward(x)) (Vaswani et al. 2017).
    AfterSum {
        /// Behind the mixer.
        mixer: Norm,
        /// Behind the feed-forward block.
        feed_forward: Norm,
    },
}

/// The norms around a block: x + after(block(before(x))).
#[derive(Debug, Default)]
pub struct BlockNorms {
    /// Of what the block reads; `None` (OLMo 2) for the stream as it is.
    pub before: Option<Norm>,
    /// Of what the block gives (Gemma 2).
    pub after: Option<Norm>,
    /// α and β, `[dims]` each, of α · x + β · after(block(before(x))); `None` for 1 (Meta 2026,
    /// "Muse Spark").
    pub gates: Option<[Array; 2]>,
}

impl BlockNorms {
    pub(super) fn before<'a>(&'a self, stream: &'a Residual) -> Result<Input<'a>> {
        match &self.before {
            Some(norm) => Ok(stream.normed(norm)),
            None => Ok(stream.materialize()?.into()),
        }
    }

    /// The stream behind the block that read `input`.
    fn add(&self, input: &Input, output: Array) -> Result<Residual> {
        let output = match &self.after {
            Some(norm) => norm.forward(&output)?,
            None => output,
        };
        let Some([alpha, beta]) = &self.gates else { return input.add(output) };
        let dtype = output.dtype();
        let gated = |x: &Array, gate| ops::astype(&ops::multiply(x, gate)?, dtype);
        let kept = Input::from(gated(&input.stream()?, alpha)?);
        kept.add(gated(&output, beta)?)
    }
}

impl DecoderLayer {
    /// The residual stream behind the layer.
    pub fn forward(&self, stream: &Residual, rows: &mut Rows) -> Result<Residual> {
        match &self.norms {
            Norms::Sequential { mixer, feed_forward } => {
                let input = mixer.before(stream)?;
                let mixed = self.mixer.forward(&input, rows)?;
                let stream = mixer.add(&input, mixed)?;
                let input = feed_forward.before(&stream)?;
                let fed = self.feed_forward.forward(&input)?;
                feed_forward.add(&input, fed)
            }
            Norms::Parallel { mixer, feed_forward } => {
                let input = stream.normed(mixer);
                // Both blocks read the stream, and most the norm.
                input.array()?;
                let mixed = self.mixer.forward(&input, rows)?;
                let x = input.add(mixed)?.materialize()?;
                let fed = match feed_forward {
                    Some(norm) => self.feed_forward.forward(&stream.normed(norm))?,
                    None => self.feed_forward.forward(&input)?,
                };
                Ok(Input::from(x).add(fed)?)
            }
            Norms::AfterSum { mixer, feed_forward } => {
                let input = Input::from(stream.materialize()?);
                let mixed = self.mixer.forward(&input, rows)?;
                let input = Input::from(mixer.forward(&input.add(mixed)?.materialize()?)?);
                let fed = self.feed_forward.forward(&input)?;
                Ok(Residual::from(feed_forward.forward(&input.add(fed)?.materialize()?)?))
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
    /// There is none: the model gives hidden states alone.
    Absent,
}

impl Head {
    /// Takes `weight` of `lm_head`, unless the embedding serves as the head: a copy of it, which
    /// some checkpoints hold all the same, is left aside. Where the configuration does not say
    /// (`None`), a checkpoint without a head is tied.
    pub fn new(
        w: &Weights,
        embedding: &Weights,
        tied: Option<bool>,
        dims: i32,
        vocabulary: i32,
    ) -> Result<Self> {
        Self::taking(Linear::new, w, embedding, tied, [dims, vocabulary])
    }

    /// The same where `linear` takes a matrix of its own.
    pub(super) fn taking(
        linear: TakeLinear,
        w: &Weights,
        embedding: &Weights,
        tied: Option<bool>,
        [dims, vocabulary]: [i32; 2],
    ) -> Result<Self> {
        if tied.unwrap_or_else(|| !w.has("weight")) {
            w.leave_copy_of(embedding);
            Ok(Self::Tied)
        } else {
            Ok(Self::Linear(linear(w, dims, vocabulary, w.has("bias"))?))
        }
    }
}

/// The error of asking a model without a head for logits.
pub(super) fn no_head() -> Error {
    let message = "the checkpoint has no output head: it embeds texts and does not write any";
    Error::Unsupported(message.to_owned())
}

/// Tokens that are never written: their logits are −∞.
#[derive(Debug)]
pub struct Unwritten(Array);

impl Unwritten {
    /// Those of these ids that the vocabulary has; `None` where it has none.
    pub fn of(ids: &[u32], vocabulary: i32) -> Option<Self> {
        let mut is_unwritten = vec![0; vocabulary.unsigned_abs() as usize];
        for &id in ids {
            if let Some(it) = is_unwritten.get_mut(id as usize) {
                *it = 1;
            }
        }
        is_unwritten.contains(&1).then(|| Self(from_u32(&is_unwritten, &[vocabulary])))
    }

    /// The logits `[…, vocabulary]` without them.
    fn removed_from(&self, logits: &Array) -> Result<Array> {
        let nothing = ops::astype(&scalar(f32::NEG_INFINITY), logits.dtype())?;
        ops::select(&ops::astype(&self.0, Dtype::Bool)?, &nothing, logits)
    }
}

/// A whole model.
#[derive(Debug)]
pub struct Decoder {
    /// Token embeddings.
    pub embedding: Embedding,
    /// Multiplies them, in their own type; `None` for 1.
    pub embedding_scale: Option<f32>,
    /// After that.
    pub embedding_norm: Option<Norm>,
    /// What is added to them for their positions.
    pub positions: Option<LearnedPositions>,
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
    /// Tokens that are never written.
    pub unwritten: Option<Unwritten>,
}

impl Decoder {
    /// The logits that a step wants, `[batch, wanted, vocabulary]`.
    pub fn forward(&self, step: &Step, caches: &mut [&mut [Cache]]) -> Result<Array> {
        self.logits(step, &self.stream(step, caches)?)
    }

    /// The hidden states that a step wants, behind the last norm, `[batch, wanted, dims]`.
    pub fn states(&self, step: &Step, caches: &mut [&mut [Cache]]) -> Result<Array> {
        let stream = self.stream(step, caches)?;
        step.logits(&stream, self.embedding.dims(), |stream| {
            stream.normed(&self.norm).array().cloned()
        })
    }

    /// The stream behind the last layer.
    fn stream(&self, step: &Step, caches: &mut [&mut [Cache]]) -> Result<Residual> {
        let mut x = self.embed(step.tokens())?;
        if let Some(positions) = &self.positions {
            x = ops::add(&x, &positions.forward(step, caches)?)?;
        }
        let mut stream = Residual::from(x);
        let mut rows = StepRows::new(step, caches)?;
        for (index, layer) in self.layers.iter().enumerate() {
            stream = layer.forward(&stream, &mut rows.layer(index)?)?;
        }
        Ok(stream)
    }

    /// Tokens `[batch, length]` to what the first layer gets, `[batch, length, dims]`.
    pub fn embed(&self, tokens: &Array) -> Result<Array> {
        let mut x = self.embedding.forward(tokens)?;
        if let Some(scale) = self.embedding_scale {
            x = scaled(&x, scale)?;
        }
        self.embedding_norm.as_ref().map_or(Ok(x.clone()), |norm| norm.forward(&x))
    }

    /// The logits that a step wants, by the stream behind the last layer.
    pub fn logits(&self, step: &Step, stream: &Residual) -> Result<Array> {
        step.logits(stream, self.embedding.vocabulary(), |stream| self.head(stream))
    }

    /// Whether it has logits.
    pub fn has_head(&self) -> bool {
        !matches!(self.head, Head::Absent)
    }

    /// A stream to logits `[batch, length, vocabulary]`.
    fn head(&self, stream: &Residual) -> Result<Array> {
        let x = stream.normed(&self.norm);
        let x = x.array()?;
        let mut logits = match &self.head {
            Head::Tied => self.embedding.as_linear(x),
            Head::Linear(head) => head.forward(x),
            Head::Absent => Err(no_head()),
        }?;
        if let Some(scale) = self.logit_scale {
            logits = scaled(&logits, scale)?;
        }
        if let Some(cap) = self.logit_cap {
            logits = soft_cap(&logits, cap)?;
        }
        if let Some(unwritten) = &self.unwritten {
            logits = unwritten.removed_from(&logits)?;
        }
        Ok(logits)
    }

    /// An empty cache for each layer.
    pub fn make_caches(&self) -> Vec<Cache> {
        self.layers.iter().map(|layer| layer.mixer.make_cache()).collect()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::mlx::{DeviceKind, enter, from_f32, to_f32_vec};

    #[test]
    fn tokens_that_are_never_written_have_no_logits() {
        enter(DeviceKind::Cpu).unwrap();
        let unwritten = Unwritten::of(&[1, 7, 3], 4).unwrap();
        let logits = unwritten.removed_from(&from_f32(&[1.0, 2.0, 3.0, 4.0], &[1, 1, 4])).unwrap();
        let none = f32::NEG_INFINITY;
        assert_eq!(to_f32_vec(&logits).unwrap(), [1.0, none, 3.0, none]);
        assert!(Unwritten::of(&[7], 4).is_none());
    }
}
