//! The decoder-only transformer: embedding, layers, norm, head.

use super::decoder_layer::DecoderLayer;
use super::embedding::Embedding;
use super::linear::{Linear, TakeLinear};
use super::norm::Norm;
use super::positions::Positions;
use super::prediction_head::PredictionHead;
use super::residual::Residual;
use super::rows::StepRows;
use super::step::Step;
use crate::cache::Cache;
use crate::error::{Error, Result};
use crate::fused::activation::Activation;
use crate::fused::math::{scaled, soft_cap};
use crate::mlx::{Array, Dtype, from_u32, ops, scalar};
use crate::weights::Weights;

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
    /// some checkpoints hold all the same, is left aside, and another head is taken, as in
    /// transformers. Where the configuration does not say (`None`), a checkpoint without a head is
    /// tied.
    pub fn new(
        w: &Weights,
        embedding: &Weights,
        tied: Option<bool>,
        dims: i32,
        vocabulary: i32,
    ) -> Result<Self> {
        Self::taking(Linear::new, w, embedding, tied, [dims, vocabulary])
    }

    /// Hidden states `[…, dims]` to logits; `embedding` is that of the model.
    ///
    /// # Errors
    /// [`Error::Unsupported`] where there is none.
    pub fn forward(&self, x: &Array, embedding: &Embedding) -> Result<Array> {
        match self {
            Self::Tied => embedding.as_linear(x),
            Self::Linear(head) => head.forward(x),
            Self::Absent => Err(no_head()),
        }
    }

    /// As [`Head::new`], where `linear` takes a matrix of its own.
    pub(super) fn taking(
        linear: TakeLinear,
        w: &Weights,
        embedding: &Weights,
        tied: Option<bool>,
        [dims, vocabulary]: [i32; 2],
    ) -> Result<Self> {
        let tied = tied.unwrap_or_else(|| !w.has("weight"));
        if tied && !w.contradicts(embedding) {
            if w.has("bias") {
                let head = linear(embedding, dims, vocabulary, false)?;
                let bias = w.take("bias", &[vocabulary])?;
                w.leave_copy_of(embedding);
                return Ok(Self::Linear(head.with_bias(bias)));
            }
            w.leave_copy_of(embedding);
            return Ok(Self::Tied);
        }
        if tied {
            w.warn_untied(embedding);
        }
        Ok(Self::Linear(linear(w, dims, vocabulary, w.has("bias"))?))
    }
}

/// The error of asking a model without a head for logits.
fn no_head() -> Error {
    let message = "the checkpoint has no output head: it embeds texts and does not write any";
    Error::Unsupported(message.to_owned())
}

/// What stands in front of the output of models like BERT (Devlin et al. 2018):
/// norm(act(dense(x))).
#[derive(Debug)]
pub struct HeadTransform {
    /// Of as many outputs as inputs.
    pub dense: Linear,
    /// Behind that.
    pub activation: Activation,
    /// Behind that.
    pub norm: Norm,
}

impl HeadTransform {
    /// `[…, dims]` to the same shape.
    fn forward(&self, x: &Array) -> Result<Array> {
        self.norm.forward(&self.activation.apply(&self.dense.forward(x)?)?)
    }
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
    /// Makes them as wide as the residual stream; `None` where they are.
    pub embedding_projection: Option<Linear>,
    /// Multiplies them, in their own type; `None` for 1.
    pub embedding_scale: Option<f32>,
    /// After that.
    pub embedding_norm: Option<Norm>,
    /// What is added to them for their positions.
    pub positions: Option<Positions>,
    /// First to last.
    pub layers: Vec<DecoderLayer>,
    /// After the last layer; `None` where layers end with theirs.
    pub norm: Option<Norm>,
    /// Makes what the head reads as wide as an embedding; `None` where it is.
    pub head_projection: Option<Linear>,
    /// Between that and the output; `None` for nothing.
    pub before_head: Option<HeadTransform>,
    /// The output.
    pub head: Head,
    /// Multiplies the logits; `None` for 1.
    pub logit_scale: Option<f32>,
    /// Bounds the logits: cap · tanh(logits / cap).
    pub logit_cap: Option<f32>,
    /// Tokens that are never written.
    pub unwritten: Option<Unwritten>,
    /// What predicts the token after the next, where the checkpoint has that.
    pub prediction: Option<PredictionHead>,
}

impl Decoder {
    /// The logits that a step wants, `[batch, wanted, vocabulary]`.
    pub fn forward(&self, step: &Step, caches: &mut [&mut [Cache]]) -> Result<Array> {
        self.behind_layers(step, caches, self.embedding.vocabulary(), |stream| self.head(stream))
    }

    /// The hidden states that a step wants, as the head reads them, `[batch, wanted, dims]`.
    pub fn states(&self, step: &Step, caches: &mut [&mut [Cache]]) -> Result<Array> {
        let width = self.embedding.dims();
        self.behind_layers(step, caches, width, |stream| self.head_input(stream))
    }

    /// The logits that a step wants, and the hidden states that they are made of,
    /// `[batch, wanted, dims]`.
    pub fn forward_with_states(
        &self,
        step: &Step,
        caches: &mut [&mut [Cache]],
    ) -> Result<[Array; 2]> {
        let states = self.states(step, caches)?;
        Ok([self.project(&states)?, states])
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
        let states = head.predict(step, &self.embed(step.tokens())?, states, caches)?;
        Ok([self.project(&states)?, states])
    }

    /// What the head reads of a stream, `[batch, length, dims]` as wide as an embedding.
    pub fn head_input(&self, stream: &Residual) -> Result<Array> {
        let x = match &self.norm {
            Some(norm) => stream.normed(norm).array()?.clone(),
            None => stream.materialize()?,
        };
        self.head_projection.as_ref().map_or(Ok(x.clone()), |narrow| narrow.forward(&x))
    }

    /// What `head` makes, of this `width`, of the stream behind the last layer, where the step wants
    /// it.
    fn behind_layers(
        &self,
        step: &Step,
        caches: &mut [&mut [Cache]],
        width: usize,
        head: impl FnOnce(&Residual) -> Result<Array>,
    ) -> Result<Array> {
        let mut x = self.embed(step.tokens())?;
        if let Some(positions) = &self.positions {
            x = ops::add(&x, &positions.forward(step, caches, x.dtype())?)?;
        }
        let mut rows = StepRows::new(step, caches)?;
        rows.make_room(self.layers.iter(), |layer, rows| {
            layer.mixer.make_room(rows, x.dim(0), x.dtype())
        })?;
        let mut stream = Residual::from(x);
        let Some((last, before)) = self.layers.split_last() else {
            return step.logits(&stream, width, head);
        };
        for (index, layer) in before.iter().enumerate() {
            stream = layer.forward(&stream, &mut rows.layer(index)?)?;
        }
        let rows = &mut rows.layer(before.len())?;
        match step.some_wanted() {
            Some(wanted) => head(&last.forward_some(&stream, rows, &wanted)?),
            None => step.logits(&last.forward(&stream, rows)?, width, head),
        }
    }

    /// Tokens `[batch, length]` to what the first layer gets, `[batch, length, dims]`.
    pub fn embed(&self, tokens: &Array) -> Result<Array> {
        let mut x = self.embedding.forward(tokens)?;
        if let Some(projection) = &self.embedding_projection {
            x = projection.forward(&x)?;
        }
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
        self.project(&self.head_input(stream)?)
    }

    /// Hidden states, as the head reads them, to logits.
    fn project(&self, x: &Array) -> Result<Array> {
        let mut logits = match &self.before_head {
            Some(transform) => self.head.forward(&transform.forward(x)?, &self.embedding)?,
            None => self.head.forward(x, &self.embedding)?,
        };
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
