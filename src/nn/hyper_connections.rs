//! Hyper-connections (Zhu et al. 2024) whose mixtures are doubly stochastic (DeepSeek-AI 2026,
//! "mHC"): several residual streams, of which each block reads a mixture, and to which it adds.

use super::decoder::Decoder;
use super::decoder_layer::Norms;
use super::residual::Residual;
use super::rows::StepRows;
use super::step::Step;
use crate::cache::Cache;
use crate::error::{Error, Result};
use crate::fused::norm::rms_norm;
use crate::mlx::{Array, Dtype, from_f32, ops, scalar};
use crate::weights::Weights;

/// What varies between models.
#[derive(Debug, Clone, Copy)]
pub struct HyperConfig {
    /// Features of a stream.
    pub dims: i32,
    /// How many streams there are.
    pub streams: i32,
    /// How often the rows and columns of a mixture are divided by their sums (Sinkhorn 1964).
    pub iterations: i32,
    /// Keeps mixtures away from 0.
    pub eps: f32,
    /// Keeps the root of the norm away from 0.
    pub norm_eps: f32,
}

/// What mixes the streams around a block.
#[derive(Debug)]
struct Connection {
    config: HyperConfig,
    /// `[(2 + streams) · streams, streams · dims]`, `f32`: of what the next block reads, of what
    /// this one adds, and of what the streams become.
    projection: Array,
    /// `[(2 + streams) · streams]`, `f32`.
    bias: Array,
    /// Factors of the same.
    scale: Array,
}

/// The mixtures of a position.
struct Mixture {
    /// What the next block reads, `[batch, length, streams]`.
    next: Array,
    /// How much of this block's output each stream gets, `[batch, length, streams]`.
    added: Array,
    /// What each stream keeps of which, `[batch, length, streams, streams]`.
    kept: Array,
}

impl Connection {
    /// Takes `fn`, `base` and `scale` behind `name`.
    fn new(w: &Weights, name: &str, config: HyperConfig) -> Result<Self> {
        let HyperConfig { dims, streams, .. } = config;
        let mixtures = (2 + streams) * streams;
        let take = |leaf: &str, shape: &[i32]| w.take_f32(&format!("{name}{leaf}"), shape);
        let scale = take("scale", &[3])?;
        let part: Vec<u32> = [(0, streams), (1, streams), (2, streams * streams)]
            .into_iter()
            .flat_map(|(part, count)| (0..count).map(move |_| part))
            .collect();
        let part = crate::mlx::from_u32(&part, &[mixtures]);
        Ok(Self {
            config,
            projection: take("fn", &[mixtures, streams * dims])?,
            bias: take("base", &[mixtures])?,
            scale: ops::take(&scale, &part, 0)?,
        })
    }

    /// The mixtures for `streams`, `[batch, length, streams, dims]`.
    fn mixture(&self, decoder: &Decoder, x: &Array) -> Result<Mixture> {
        let HyperConfig { dims, streams, iterations, eps, norm_eps } = self.config;
        let (batch, length) = (x.dim(0), x.dim(1));
        let flat = ops::reshape(x, &[batch, length, streams * dims])?;
        let flat = ops::astype(&flat, Dtype::Float32)?;
        let flat = rms_norm(decoder.embedding.device(), &flat, None, norm_eps)?;
        let mixed = ops::matmul(&flat, &ops::transpose(&self.projection, &[1, 0])?)?;
        let mixed = ops::add(&ops::multiply(&mixed, &self.scale)?, &self.bias)?;
        let parts = ops::split_at(&mixed, &[streams, 2 * streams], -1)?;
        let eps = scalar(eps);
        let kept = ops::reshape(&parts[2], &[batch, length, streams, streams])?;
        let mut kept = ops::add(&ops::softmax(&kept, -1, true)?, &eps)?;
        for iteration in 0..iterations {
            let axes: &[i32] = if iteration == 0 { &[-2] } else { &[-1, -2] };
            for &axis in axes {
                kept = ops::divide(&kept, &ops::add(&ops::sum(&kept, axis)?, &eps)?)?;
            }
        }
        Ok(Mixture {
            next: ops::add(&ops::sigmoid(&parts[0])?, &eps)?,
            added: ops::multiply(&ops::sigmoid(&parts[1])?, &scalar(2.0))?,
            kept,
        })
    }
}

/// The mixture of streams that a block reads, `[batch, length, dims]`.
fn read(streams: &Array, mixture: &Array) -> Result<Array> {
    let precise = ops::astype(streams, Dtype::Float32)?;
    let weighted = ops::multiply(&precise, &ops::expand_dims(mixture, -1)?)?;
    ops::astype(&ops::squeeze(&ops::sum(&weighted, 2)?, 2)?, streams.dtype())
}

impl Mixture {
    /// The streams behind a block that gave `output`, `[batch, length, dims]`.
    fn add(&self, streams: &Array, output: &Array) -> Result<Array> {
        let precise = ops::astype(streams, Dtype::Float32)?;
        let kept = ops::matmul(&ops::swap_axes(&self.kept, -1, -2)?, &precise)?;
        let output = ops::astype(&ops::expand_dims(output, 2)?, Dtype::Float32)?;
        let added = ops::multiply(&ops::expand_dims(&self.added, -1)?, &output)?;
        ops::astype(&ops::add(&added, &kept)?, streams.dtype())
    }
}

/// A decoder with several residual streams.
#[derive(Debug)]
pub struct HyperDecoder {
    decoder: Decoder,
    /// Of each layer's mixer and feed-forward block.
    connections: Vec<[Connection; 2]>,
    streams: i32,
}

impl HyperDecoder {
    /// Takes what mixes the streams, out of the views of the layers: what stands in front of the
    /// names for the mixer and for the feed-forward block.
    pub fn new(
        layers: &Weights,
        names: [&str; 2],
        decoder: Decoder,
        config: HyperConfig,
    ) -> Result<Self> {
        let of_layer = |index: usize| {
            let w = layers.at(index);
            let [mixer, feed_forward] = names.map(|name| Connection::new(&w, name, config));
            Ok([mixer?, feed_forward?])
        };
        let connections = (0..decoder.layers.len()).map(of_layer).collect::<Result<_>>()?;
        Ok(Self { connections, decoder, streams: config.streams })
    }

    /// The decoder without the connections.
    pub fn decoder(&self) -> &Decoder {
        &self.decoder
    }

    /// The logits that a step wants, `[batch, wanted, vocabulary]`.
    pub fn forward(&self, step: &Step, caches: &mut [&mut [Cache]]) -> Result<Array> {
        let decoder = &self.decoder;
        let x = decoder.embed(step.tokens())?;
        let (batch, length, dims) = (x.dim(0), x.dim(1), x.dim(2));
        let shape = [batch, length, self.streams, dims];
        let mut streams = ops::broadcast_to(&ops::expand_dims(&x, 2)?, &shape)?;
        let mut first = vec![0.0; self.streams as usize];
        first[0] = 1.0;
        let mut next = from_f32(&first, &[1, 1, self.streams]);
        let mut rows = StepRows::new(step, caches)?;
        for (index, (layer, connections)) in
            decoder.layers.iter().zip(&self.connections).enumerate()
        {
            let Norms::Sequential { mixer, feed_forward } = &layer.norms else {
                return Err(Error::Unsupported("norms that stand elsewhere".into()));
            };
            let mixture = connections[0].mixture(decoder, &streams)?;
            let stream = Residual::from(read(&streams, &next)?);
            let rows = &mut rows.layer(index)?;
            let mixed = layer.mixer.forward(&mixer.before(&stream)?, rows)?;
            streams = mixture.add(&streams, &mixed)?;
            let after = connections[1].mixture(decoder, &streams)?;
            let stream = Residual::from(read(&streams, &mixture.next)?);
            let fed = layer.feed_forward.forward(&feed_forward.before(&stream)?)?;
            streams = after.add(&streams, &fed)?;
            next = after.next;
            rows.begin(&streams.clone().into())?;
        }
        decoder.logits(step, &read(&streams, &next)?.into())
    }
}
