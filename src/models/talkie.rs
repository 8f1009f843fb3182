//! Talkie (2026): norms without weights everywhere, gains of query heads and blocks, a rotation the
//! other way round, and the embedding added again behind each layer.

use serde_json::json;

use super::config::{ConfigFile, RopeDefaults};
use super::{Architecture, LanguageModel};
use crate::cache::Cache;
use crate::error::Result;
use crate::fused::norm::NormParams;
use crate::mlx::{Array, eval, ops, to_f32_vec};
use crate::nn::{
    Activation, Decoder, Embedding, FeedForward, Input, Linear, Mlp, Norm, NormLayout, QkNorm,
    Residual, ResidualScale, Rope, Step, StepRows, scaled,
};
use crate::weights::Weights;

pub(super) const ARCHITECTURE: Architecture =
    Architecture::new(&["talkie"], build).with_eps(f32::EPSILON).ignoring(|_, tensor| {
        tensor.contains("rotary") || ["cos", "sin"].iter().any(|end| tensor.ends_with(end))
    });

fn build(file: &ConfigFile, w: &Weights) -> Result<Box<dyn LanguageModel>> {
    let file = &file.with_defaults([
        ("hidden_size", json!(5120)),
        ("num_hidden_layers", json!(40)),
        ("num_attention_heads", json!(40)),
        ("head_dim", json!(128)),
        ("intermediate_size", json!(13_696)),
        ("vocab_size", json!(65_540)),
    ]);
    let mut decoder = file.decoder(&RopeDefaults::base(1_000_000.0))?;
    decoder.norm = Norm::unweighted;
    decoder.layout = NormLayout::pre(["attn_norm", "mlp_norm"]);
    decoder.embedding_norm = Some("embed_norm");
    decoder.names.embedding = "embed";
    decoder.names.layers = "blocks";
    decoder.names.attention = "attn";
    decoder.attention.qkv = &["attn_query", "attn_key", "attn_value"];
    decoder.attention.output = "attn_resid";
    // The norms do not see the rotation, which leaves lengths as they are.
    let norms = QkNorm::each_head_apart(head_norm, decoder.eps);
    decoder.attention.qk_norm = Some(norms.named(["head_gain", "key_norm"]));
    for layer in &mut decoder.layers {
        layer.rope = layer.rope.take().map(Rope::reversed);
    }
    decoder.tied = Some(false);
    decoder.head = Linear::unnamed;
    decoder.logit_scale = Some(gain(&w.at("lm_head_gain"), "w_g")?);
    let (dims, hidden) = (decoder.attention.dims, file.size("intermediate_size")?);
    let blocks = w.at("model.blocks");
    let skips =
        (0..decoder.layers.len()).map(|layer| gain(&blocks.at(layer).at("embed_skip"), "a_g"));
    let skips = skips.collect::<Result<_>>()?;
    let decoder = decoder.build_hybrid(
        w,
        |index, w| {
            let attention = decoder.attention(index, w)?;
            Ok(Box::new(ResidualScale::new(gain(&w.at("attn_gain"), "a_g")?, attention)))
        },
        |_, w| {
            let names = ["mlp_gate", "mlp_linear", "mlp_resid"];
            let mlp = Mlp::named(&w.at("mlp"), names, dims, hidden, false, Activation::Silu)?;
            let factor = gain(&w.at("mlp_gain"), "a_g")?;
            Ok(Box::new(ResidualScale::<dyn FeedForward>::new(factor, Box::new(mlp))))
        },
    )?;
    Ok(Box::new(Talkie { decoder, skips }))
}

/// A factor that was learnt.
fn gain(w: &Weights, name: &str) -> Result<f32> {
    Ok(to_f32_vec(&w.take_f32(name, &[1])?)?.iter().sum())
}

/// A norm without weights, behind which each head may have a factor.
fn head_norm(w: &Weights, heads: i32, head_dim: i32, eps: f32) -> Result<Norm> {
    if !w.has("head_g") {
        return Norm::unweighted(w, head_dim, eps);
    }
    let gains = ops::reshape(&w.take("head_g", &[heads])?, &[heads, 1, 1])?;
    let weight = ops::contiguous(&ops::broadcast_to(&gains, &[heads, 1, head_dim])?)?;
    eval(&[&weight])?;
    Ok(Norm::of(w, NormParams::RmsPerHead { weight, eps }))
}

/// A decoder whose embeddings are added behind each layer, too, times a factor of the layer.
struct Talkie {
    decoder: Decoder,
    skips: Vec<f32>,
}

impl LanguageModel for Talkie {
    fn forward(&self, step: &Step, caches: &mut [&mut [Cache]]) -> Result<Array> {
        let Self { decoder, skips } = self;
        let embedded = decoder.embed(step.tokens())?;
        let mut stream = Residual::from(embedded.clone());
        let mut rows = StepRows::new(step, caches)?;
        for (index, (layer, skip)) in decoder.layers.iter().zip(skips).enumerate() {
            let behind = layer.forward(&stream, &mut rows.layer(index)?)?.materialize()?;
            stream = Input::from(behind).add(scaled(&embedded, *skip)?)?;
        }
        decoder.logits(step, &stream)
    }

    fn make_caches(&self) -> Vec<Cache> {
        self.decoder.make_caches()
    }

    fn layers(&self) -> usize {
        self.decoder.layers.len()
    }

    fn embedding(&self) -> &Embedding {
        &self.decoder.embedding
    }
}
