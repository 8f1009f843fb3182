//! Attention over the depth of a model (Kimi Team 2026, "Attention Residuals"): what a block reads
//! is a mixture of the sums of earlier groups of layers and of that of its own group.

use super::decoder::Decoder;
use super::decoder_layer::Norms;
use super::residual::{Input, Residual};
use super::rows::StepRows;
use super::step::Step;
use crate::cache::Cache;
use crate::error::Result;
use crate::fused::norm::rms_norm;
use crate::mlx::{Array, Dtype, eval, ops};
use crate::weights::Weights;

/// Names of a norm's weight and of the projection behind it: as mlx-lm has them, or published.
const NAMES: [[&str; 2]; 2] = [["_norm.weight", "_proj.weight"], [".norm_weight", ".proj_weight"]];

/// What is read is Σₖ softmax(w · norm(xₖ)) xₖ over the sums xₖ of groups of layers.
#[derive(Debug)]
struct Depth {
    /// The norm's weight times that of the projection, `[dims]`, `f32`.
    weight: Array,
}

impl Depth {
    /// Takes the norm and the projection whose names begin with `name`.
    fn new(w: &Weights, name: &str, dims: i32) -> Result<Self> {
        let [ours, published] = NAMES.map(|leaves| leaves.map(|leaf| format!("{name}{leaf}")));
        let [norm, projection] = if w.has(&published[1]) { published } else { ours };
        let norm = w.take_f32(&norm, &[dims])?;
        let projection = w.take_reshaped_f32(&projection, &[dims])?;
        let weight = ops::multiply(&norm, &projection)?;
        eval(&[&weight])?;
        Ok(Self { weight })
    }

    /// The mixture of the sums, `[batch, length, dims]` each.
    fn mix(&self, decoder: &Decoder, sums: &[&Array], eps: f32) -> Result<Array> {
        let [only] = sums else {
            let dtype = sums[0].dtype();
            let spread: Vec<_> =
                sums.iter().map(|sum| ops::expand_dims(sum, 0)).collect::<Result<_>>()?;
            let sums = ops::concatenate(&spread.iter().collect::<Vec<_>>(), 0)?;
            let sums = ops::astype(&sums, Dtype::Float32)?;
            let normed = rms_norm(decoder.embedding.device(), &sums, None, eps)?;
            let scores = ops::sum(&ops::multiply(&normed, &self.weight)?, -1)?;
            let weights = ops::softmax(&scores, 0, true)?;
            let mixed = ops::sum(&ops::multiply(&sums, &weights)?, 0)?;
            return ops::astype(&ops::squeeze(&mixed, 0)?, dtype);
        };
        Ok((*only).clone())
    }
}

/// A decoder whose blocks read mixtures of sums over groups of layers.
#[derive(Debug)]
pub struct DepthDecoder {
    decoder: Decoder,
    /// In front of each layer's mixer and feed-forward block.
    depths: Vec<[Depth; 2]>,
    /// In front of the last norm.
    output: Depth,
    /// Layers of a group.
    group: usize,
    eps: f32,
}

impl DepthDecoder {
    /// Takes what mixes the sums, out of the view of all but the head.
    pub fn new(w: &Weights, decoder: Decoder, group: usize, eps: f32) -> Result<Self> {
        let dims = decoder.embedding.dims() as i32;
        let of_layer = |index: usize| {
            let w = w.at("layers").at(index);
            Ok([Depth::new(&w, "self_attention_res", dims)?, Depth::new(&w, "mlp_res", dims)?])
        };
        Ok(Self {
            depths: (0..decoder.layers.len()).map(of_layer).collect::<Result<_>>()?,
            output: Depth::new(w, "output_attn_res", dims)?,
            decoder,
            group,
            eps,
        })
    }

    /// The decoder without the mixtures.
    pub fn decoder(&self) -> &Decoder {
        &self.decoder
    }

    /// The logits that a step wants, `[batch, wanted, vocabulary]`.
    pub fn forward(&self, step: &Step, caches: &mut [&mut [Cache]]) -> Result<Array> {
        let mix = |depth: &Depth, sums: &[Array], own: &Array| {
            let sums: Vec<_> = sums.iter().chain([own]).collect();
            depth.mix(&self.decoder, &sums, self.eps)
        };
        let mut own = self.decoder.embed(step.tokens())?;
        let (mut sums, mut rows) = (Vec::<Array>::new(), StepRows::new(step, caches)?);
        for (index, (layer, depths)) in self.decoder.layers.iter().zip(&self.depths).enumerate() {
            let Norms::Sequential { mixer, feed_forward } = &layer.norms else {
                return Err(crate::error::Error::Unsupported("norms that stand elsewhere".into()));
            };
            let stream = Residual::from(mix(&depths[0], &sums, &own)?);
            let rows = &mut rows.layer(index)?;
            let mixed = layer.mixer.forward(&mixer.before(&stream)?, rows)?;
            own = if index.is_multiple_of(self.group) {
                sums.push(own);
                mixed
            } else {
                ops::add(&own, &mixed)?
            };
            let stream = Residual::from(mix(&depths[1], &sums, &own)?);
            let fed: Input = feed_forward.before(&stream)?;
            own = ops::add(&own, &layer.feed_forward.forward(&fed)?)?;
            rows.begin(&own.clone().into())?;
        }
        self.decoder.logits(step, &mix(&self.output, &sums, &own)?.into())
    }
}
