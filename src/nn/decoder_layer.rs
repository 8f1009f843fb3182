//! A layer of a transformer: what mixes positions, and what works on each.

use std::ops::Range;

use super::mixer::Mixer;
use super::mlp::FeedForward;
use super::norm::Norm;
use super::residual::{Input, Residual};
use super::rows::Rows;
use crate::error::Result;
use crate::mlx::{Array, ops};

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
    /// Whether the output is added to what the block read, before(x) + after(block(before(x))).
    pub kept: bool,
}

impl BlockNorms {
    pub(super) fn before<'a>(&'a self, stream: &'a Residual) -> Result<Input<'a>> {
        match &self.before {
            // An array is its own stream.
            Some(norm) if self.kept => Ok(stream.normed(norm).array()?.clone().into()),
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
        let stream = self.forward_where(stream, rows, |stream| Ok(stream.clone()))?;
        rows.begin(&stream)?;
        Ok(stream)
    }

    /// Some positions of the stream behind the layer, one behind the other. What works on each
    /// position is spared the others.
    pub fn forward_some(
        &self,
        stream: &Residual,
        rows: &mut Rows,
        wanted: &[Range<i32>],
    ) -> Result<Residual> {
        match self.feed_forward.is_of_one_layer() {
            true => self.forward_where(stream, rows, |stream| stream.positions(wanted)),
            false => self.forward(stream, rows)?.positions(wanted),
        }
    }

    /// The stream behind the layer, of whose positions `some` go on behind the mixer.
    fn forward_where(
        &self,
        stream: &Residual,
        rows: &mut Rows,
        some: impl Fn(&Residual) -> Result<Residual>,
    ) -> Result<Residual> {
        match &self.norms {
            Norms::Sequential { mixer, feed_forward } => {
                let input = mixer.before(stream)?;
                let mixed = self.mixer.forward(&input, rows)?;
                let stream = some(&mixer.add(&input, mixed)?)?;
                let input = feed_forward.before(&stream)?;
                let fed = self.feed_forward.forward(&input)?;
                feed_forward.add(&input, fed)
            }
            Norms::Parallel { mixer, feed_forward } => {
                let input = stream.normed(mixer);
                // Both blocks read the stream, and most the norm.
                input.array()?;
                let mixed = self.mixer.forward(&input, rows)?;
                let x = some(&input.add(mixed)?)?.materialize()?;
                let fed = match feed_forward {
                    Some(norm) => self.feed_forward.forward(&some(stream)?.normed(norm))?,
                    None => {
                        let read = some(&input.array()?.clone().into())?.materialize()?;
                        self.feed_forward.forward(&read.into())?
                    }
                };
                Ok(Input::from(x).add(fed)?)
            }
            Norms::AfterSum { mixer, feed_forward } => {
                let input = Input::from(stream.materialize()?);
                let mixed = self.mixer.forward(&input, rows)?;
                let sum = some(&input.add(mixed)?)?.materialize()?;
                let input = Input::from(mixer.forward(&sum)?);
                let fed = self.feed_forward.forward(&input)?;
                Ok(Residual::from(feed_forward.forward(&input.add(fed)?.materialize()?)?))
            }
        }
    }
}
