//! Alternating updates (Baykal et al. 2023): the residual stream is several times as wide as a
//! layer. Each layer computes one of the streams, predicts all of them before, and corrects all of
//! them after.
//!
//! Streams are `[batch, length, streams, dims]`.

use super::linear::Linear;
use super::norm::Norm;
use crate::error::Result;
use crate::fused::math::scaled;
use crate::mlx::{Array, Dtype, ops, scalar};
use crate::weights::Weights;

/// The sizes of alternating updates.
#[derive(Debug, Clone, Copy)]
pub struct AltUpConfig {
    /// Features of a stream.
    pub dims: i32,
    /// Number of streams.
    pub streams: i32,
    /// The stream that layers compute.
    pub active: i32,
    /// Bounds the coefficients' weights.
    pub clip: Option<f32>,
    /// Whether what is computed is multiplied by `correct_output_scale` before it is used further.
    pub scale_output: bool,
    /// Epsilon of the norms.
    pub eps: f32,
}

/// The updates around one layer. What mixes the streams is computed in `f32`.
#[derive(Debug)]
pub struct AltUp {
    config: AltUpConfig,
    router: Linear,
    router_norm: Norm,
    /// `[streams, streams²]`.
    prediction: Array,
    /// `[streams, streams]`.
    correction: Array,
    output_scale: Option<Array>,
}

impl AltUp {
    /// Takes `modality_router`, `router_norm`, `prediction_coefs`, `correction_coefs` and
    /// `correct_output_scale`.
    pub fn new(w: &Weights, config: AltUpConfig) -> Result<Self> {
        let AltUpConfig { dims, streams, clip, scale_output, eps, .. } = config;
        let coefficients = |name: &str, outputs: i32| {
            let mut weight = w.at(name).take_f32("weight", &[outputs, streams])?;
            if let Some(clip) = clip {
                weight = ops::maximum(&ops::minimum(&weight, &scalar(clip))?, &scalar(-clip))?;
            }
            ops::transpose(&weight, &[1, 0])
        };
        let output_scale = w.take("correct_output_scale", &[dims])?;
        Ok(Self {
            router: Linear::new(&w.at("modality_router"), dims, streams, false)?,
            router_norm: Norm::rms(&w.at("router_norm"), dims, eps)?,
            prediction: coefficients("prediction_coefs", streams * streams)?,
            correction: coefficients("correction_coefs", streams)?,
            output_scale: scale_output.then_some(output_scale),
            config,
        })
    }

    /// m = tanh(router(norm(x) / dims)): `[batch, length, dims]` to `[batch, length, streams]`.
    fn modalities(&self, x: &Array) -> Result<Array> {
        let normed = scaled(&self.router_norm.forward(x)?, (self.config.dims as f32).recip())?;
        ops::tanh(&ops::astype(&self.router.forward(&normed)?, Dtype::Float32)?)
    }

    /// xᵣ + Σₛ cᵣₛ xₛ for each stream r, with the coefficients c = prediction(m) of the active
    /// stream.
    pub fn predict(&self, streams: &Array) -> Result<Array> {
        let count = self.config.streams;
        let modalities = self.modalities(&self.active(streams)?)?;
        let coefficients = ops::matmul(&modalities, &self.prediction)?;
        let square = [streams.dim(0), streams.dim(1), count, count];
        let coefficients = ops::reshape(&coefficients, &square)?;
        let wide = ops::astype(streams, Dtype::Float32)?;
        let predicted = ops::add(&ops::matmul(&coefficients, &wide)?, &wide)?;
        ops::astype(&predicted, streams.dtype())
    }

    /// pᵣ + (1 + cᵣ) · (x − p of the active stream) for each stream r, with the coefficients
    /// c = correction(m) of what was computed, `x` `[batch, length, dims]`.
    pub fn correct(&self, predicted: &Array, x: &Array) -> Result<Array> {
        let coefficients = ops::matmul(&self.modalities(x)?, &self.correction)?;
        let coefficients = ops::expand_dims(&ops::add(&coefficients, &scalar(1.0))?, -1)?;
        let news = ops::expand_dims(&ops::subtract(x, &self.active(predicted)?)?, 2)?;
        let corrected = ops::add(&ops::multiply(&coefficients, &news)?, predicted)?;
        ops::astype(&corrected, x.dtype())
    }

    /// The stream that layers compute, `[batch, length, dims]`.
    pub fn active(&self, streams: &Array) -> Result<Array> {
        stream(streams, self.config.active)
    }

    /// The computed stream after its correction, times `correct_output_scale`.
    pub fn output(&self, corrected: &Array) -> Result<Array> {
        let output = self.active(corrected)?;
        match &self.output_scale {
            Some(scale) => ops::multiply(&output, scale),
            None => Ok(output),
        }
    }
}

fn stream(streams: &Array, index: i32) -> Result<Array> {
    ops::squeeze(&ops::slice_axis(streams, 2, index, index + 1)?, 2)
}

/// The streams with `x` `[batch, length, dims]` added to all but the first.
pub fn add_per_layer_input(streams: &Array, x: &Array) -> Result<Array> {
    let parts = ops::split_at(streams, &[1], 2)?;
    let others = ops::add(&parts[1], &ops::expand_dims(x, 2)?)?;
    ops::concatenate(&[&parts[0], &others], 2)
}

/// What makes streams of embeddings before the first layer, and hidden states of streams after the
/// last. All streams are as long as the first: their root mean squares are made equal.
#[derive(Debug)]
pub struct AltUpProjections {
    /// Of the embeddings, to each stream but the first.
    projections: Vec<Linear>,
    /// Of each stream but the first.
    unembeddings: Vec<Linear>,
}

impl AltUpProjections {
    /// Takes `altup_projections.N` and `altup_unembed_projections.N`.
    pub fn new(w: &Weights, config: AltUpConfig) -> Result<Self> {
        let AltUpConfig { dims, streams, .. } = config;
        let linears = |name: &str| -> Result<Vec<_>> {
            let linear = |index| Linear::new(&w.at(name).at(index), dims, dims, false);
            (0..streams - 1).map(linear).collect()
        };
        Ok(Self {
            projections: linears("altup_projections")?,
            unembeddings: linears("altup_unembed_projections")?,
        })
    }

    /// Embeddings `[batch, length, dims]` to streams.
    pub fn expand(&self, x: &Array) -> Result<Array> {
        let mut streams = vec![x.clone()];
        for projection in &self.projections {
            streams.push(with_magnitude(&projection.forward(x)?, x)?);
        }
        let streams =
            streams.iter().map(|stream| ops::expand_dims(stream, 2)).collect::<Result<Vec<_>>>()?;
        ops::concatenate(&streams.iter().collect::<Vec<_>>(), 2)
    }

    /// Streams to the mean of all, `[batch, length, dims]`.
    pub fn merge(&self, streams: &Array) -> Result<Array> {
        let first = stream(streams, 0)?;
        let mut sum = first.clone();
        for (index, unembedding) in (1..).zip(&self.unembeddings) {
            let other = unembedding.forward(&stream(streams, index)?)?;
            sum = ops::add(&sum, &with_magnitude(&other, &first)?)?;
        }
        scaled(&sum, (streams.dim(2) as f32).recip())
    }
}

/// `x` with the root mean square of `model` over the last axis.
fn with_magnitude(x: &Array, model: &Array) -> Result<Array> {
    // Streams of zeros stay so.
    let floor = ops::astype(&scalar(1e-5), x.dtype())?;
    let magnitude = |x: &Array| ops::sqrt(&ops::mean(&ops::square(x)?, -1)?);
    let own = ops::sqrt(&ops::maximum(&ops::mean(&ops::square(x)?, -1)?, &floor)?)?;
    ops::multiply(x, &ops::divide(&magnitude(model)?, &own)?)
}
