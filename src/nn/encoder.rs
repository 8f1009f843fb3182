//! The encoder: a transformer in which every token sees the whole text (Devlin et al. 2019).

use super::classifier::Classifier;
use super::decoder_layer::DecoderLayer;
use super::embedding::Embedding;
use super::norm::Norm;
use super::positions::LearnedPositions;
use super::residual::Residual;
use super::rows::StepRows;
use super::step::Step;
use crate::cache::Cache;
use crate::error::{Error, Result};
use crate::mlx::{Array, Dtype, ops};

/// A whole model.
#[derive(Debug)]
pub struct Encoder {
    /// Token embeddings.
    pub embedding: Embedding,
    /// What is added to them for the segment of each token; `None` for nothing.
    pub segments: Option<Embedding>,
    /// What is added to them for their positions; `None` where attention tells these.
    pub positions: Option<LearnedPositions>,
    /// Of the sum.
    pub embedding_norm: Norm,
    /// First to last. Their attention is that of a whole text.
    pub layers: Vec<DecoderLayer>,
    /// After the last layer; `None` where layers end with theirs.
    pub norm: Option<Norm>,
    /// What judges texts; `None` where it only embeds them.
    pub classifier: Option<Classifier>,
}

impl Encoder {
    /// The hidden states that a step wants, `[1, wanted, dims]`, for caches that are empty and of
    /// no use afterwards.
    pub fn states(&self, step: &Step, caches: &mut [&mut [Cache]]) -> Result<Array> {
        let mut stream = Residual::from(self.embed(step, caches)?);
        let mut rows = StepRows::new(step, caches)?;
        for (index, layer) in self.layers.iter().enumerate() {
            stream = layer.forward(&stream, &mut rows.layer(index)?)?;
        }
        step.logits(&stream, self.embedding.dims(), |stream| match &self.norm {
            Some(norm) => stream.normed(norm).array().cloned(),
            None => stream.materialize(),
        })
    }

    /// The logits of the labels of each row, `[rows, labels]`, of a step that wants all states.
    ///
    /// # Errors
    /// [`Error::Unsupported`] without a classifier.
    pub fn classify(&self, step: &Step, caches: &mut [&mut [Cache]]) -> Result<Array> {
        let classifier = self.classifier.as_ref().ok_or_else(|| {
            Error::Unsupported("the checkpoint has no classifier, so it judges no texts".to_owned())
        })?;
        let states = self.states(step, caches)?;
        let (mut start, mut rows) = (0, Vec::new());
        for row in step.rows() {
            let own = ops::slice_axis(&states, 1, start, start + row.length)?;
            rows.push(classifier.pool(&own)?);
            start += row.length;
        }
        classifier.forward(&ops::concatenate(&rows.iter().collect::<Vec<_>>(), 0)?)
    }

    fn embed(&self, step: &Step, caches: &[&mut [Cache]]) -> Result<Array> {
        let mut x = self.embedding.forward(step.tokens())?;
        if let Some(table) = &self.segments {
            let segments = match step.segments().filter(|_| table.vocabulary() > 1) {
                Some(segments) => segments.clone(),
                None => ops::zeros(step.tokens().shape(), Dtype::Uint32)?,
            };
            x = ops::add(&x, &table.forward(&segments)?)?;
        }
        if let Some(positions) = &self.positions {
            x = ops::add(&x, &positions.forward(step, caches)?)?;
        }
        self.embedding_norm.forward(&x)
    }

    /// An empty cache for each layer.
    pub fn make_caches(&self) -> Vec<Cache> {
        self.layers.iter().map(|layer| layer.mixer.make_cache()).collect()
    }
}
