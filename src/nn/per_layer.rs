//! Embeddings for every layer (Gemma 3n): each layer is told the token anew, through a narrow gate.

use super::decoder::Decoder;
use super::embedding::Embedding;
use super::linear::Linear;
use super::norm::Norm;
use super::rows::StepRows;
use super::step::Step;
use crate::cache::Cache;
use crate::error::Result;
use crate::fused::Device;
use crate::fused::activation::{Activation, gated};
use crate::fused::math::scaled;
use crate::mlx::{Array, ops};
use crate::weights::Weights;

/// The sizes of embeddings for every layer.
#[derive(Debug, Clone, Copy)]
pub struct PerLayerConfig {
    /// Features of the residual stream.
    pub dims: i32,
    /// Features of a layer's embedding.
    pub width: i32,
    /// Number of layers.
    pub layers: i32,
    /// Rows of the table; later tokens have the first row.
    pub rows: i32,
    /// That of the gates.
    pub activation: Activation,
    /// Epsilon of the norms.
    pub eps: f32,
}

/// (√width · table(token) + norm(projection(x) / √dims)) / √2, for each layer.
#[derive(Debug)]
pub struct PerLayerEmbedding {
    config: PerLayerConfig,
    table: Embedding,
    projection: Linear,
    norm: Norm,
}

impl PerLayerEmbedding {
    /// Takes `embed_tokens_per_layer`, `per_layer_model_projection` and
    /// `per_layer_projection_norm`.
    pub fn new(w: &Weights, config: PerLayerConfig) -> Result<Self> {
        let PerLayerConfig { dims, width, layers, rows, eps, .. } = config;
        // Beyond every shape where it does not fit, which is refused as such.
        let outputs = layers.saturating_mul(width);
        Ok(Self {
            table: Embedding::new(&w.at("embed_tokens_per_layer"), rows, outputs)?,
            projection: Linear::new(&w.at("per_layer_model_projection"), dims, outputs, false)?,
            norm: Norm::rms(&w.at("per_layer_projection_norm"), width, eps)?,
            config,
        })
    }

    /// Tokens `[batch, length]` and their embeddings `[batch, length, dims]` to what each layer
    /// gets, `[batch, length, width]`.
    pub fn forward(&self, tokens: &Array, x: &Array) -> Result<Vec<Array>> {
        let PerLayerConfig { dims, width, layers, rows, .. } = self.config;
        let shape = [x.dim(0), x.dim(1), layers, width];
        let (limit, first) = (Array::from_int(rows), Array::from_int(0));
        let known = ops::less(tokens, &limit)?;
        let rows = ops::select(&known, tokens, &ops::astype(&first, tokens.dtype())?)?;
        let told = scaled(&self.table.forward(&rows)?, (width as f32).sqrt())?;
        let told = ops::reshape(&told, &shape)?;
        let seen = scaled(&self.projection.forward(x)?, (dims as f32).sqrt().recip())?;
        let seen = self.norm.forward(&ops::reshape(&seen, &shape)?)?;
        let both = scaled(&ops::add(&seen, &told)?, std::f32::consts::FRAC_1_SQRT_2)?;
        let of_layer = |layer| ops::squeeze(&ops::slice_axis(&both, 2, layer, layer + 1)?, 2);
        (0..layers).map(of_layer).collect()
    }
}

/// norm(projection(act(gate(x)) · input)), a layer's way to its own embedding.
#[derive(Debug)]
pub struct PerLayerGate {
    gate: Linear,
    projection: Linear,
    norm: Norm,
    activation: Activation,
    device: Device,
}

impl PerLayerGate {
    /// Takes `per_layer_input_gate`, `per_layer_projection` and `post_per_layer_input_norm`.
    pub fn new(w: &Weights, config: PerLayerConfig) -> Result<Self> {
        let PerLayerConfig { dims, width, activation, eps, .. } = config;
        Ok(Self {
            gate: Linear::new(&w.at("per_layer_input_gate"), dims, width, false)?,
            projection: Linear::new(&w.at("per_layer_projection"), width, dims, false)?,
            norm: Norm::rms(&w.at("post_per_layer_input_norm"), dims, eps)?,
            activation,
            device: w.device(),
        })
    }

    /// `x` `[batch, length, dims]` and the layer's input `[batch, length, width]` to `[batch,
    /// length, dims]`.
    pub fn forward(&self, x: &Array, input: &Array) -> Result<Array> {
        let gate = self.gate.forward(x)?;
        let gated = gated(self.device, self.activation, &gate, input)?;
        self.norm.forward(&self.projection.forward(&gated)?)
    }
}

/// A decoder whose layers have embeddings of their own, and of which the last may share the caches
/// of earlier ones (Gemma 4). Each layer ends with (x + gate(x)) · scale.
#[derive(Debug)]
pub struct PerLayerDecoder {
    decoder: Decoder,
    embedding: Option<PerLayerEmbedding>,
    /// The gate, if there are embeddings, and the scale `[1]` of each layer.
    endings: Vec<(Option<PerLayerGate>, Array)>,
    /// The number of each layer's cache.
    caches: Vec<usize>,
}

impl PerLayerDecoder {
    /// Takes the embeddings, if `config` says that there are any, and of each layer the gate and
    /// `layer_scalar`. `caches` has the number of each layer's cache, as [`super::shared_caches`]
    /// gives it.
    pub fn new(
        w: &Weights,
        decoder: Decoder,
        config: Option<PerLayerConfig>,
        caches: Vec<usize>,
    ) -> Result<Self> {
        let ending = |index| {
            let w = w.at("layers").at(index);
            let gate = config.map(|config| PerLayerGate::new(&w, config)).transpose()?;
            Ok((gate, w.take("layer_scalar", &[1])?))
        };
        Ok(Self {
            embedding: config.map(|config| PerLayerEmbedding::new(w, config)).transpose()?,
            endings: (0..decoder.layers.len()).map(ending).collect::<Result<_>>()?,
            decoder,
            caches,
        })
    }

    /// The decoder without the embeddings.
    pub fn decoder(&self) -> &Decoder {
        &self.decoder
    }

    /// The logits that a step wants, `[batch, wanted, vocabulary]`.
    pub fn forward(&self, step: &Step, caches: &mut [&mut [Cache]]) -> Result<Array> {
        let tokens = step.tokens();
        let mut x = self.decoder.embed(tokens)?;
        let inputs = self.embedding.as_ref().map(|embedding| embedding.forward(tokens, &x));
        let inputs = inputs.transpose()?.unwrap_or_default();
        let mut rows = StepRows::new(step, caches)?;
        for (index, layer) in self.decoder.layers.iter().enumerate() {
            let mut rows = rows.layer(self.caches[index])?;
            x = layer.forward(&x.into(), &mut rows)?.materialize()?;
            let (gate, scale) = &self.endings[index];
            if let Some(gate) = gate {
                x = ops::add(&x, &gate.forward(&x, &inputs[index])?)?;
            }
            x = ops::multiply(&x, scale)?;
        }
        self.decoder.logits(step, &x.into())
    }

    /// An empty cache for each layer that has one of its own.
    pub fn make_caches(&self) -> Vec<Cache> {
        let layers = self.decoder.layers.iter().zip(&self.caches).enumerate();
        let own = layers.filter(|(index, (_, cache))| index == *cache);
        own.map(|(_, (layer, _))| layer.mixer.make_cache()).collect()
    }
}
