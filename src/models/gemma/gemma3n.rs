//! Gemma 3n (Google DeepMind 2025): several residual streams of which each layer computes one, a
//! residual of low rank beside each attention, an embedding for every layer, sparse activations in
//! the first layers, and keys and values that the last layers share. Of checkpoints that also see
//! and hear, the language model.

use serde_json::json;

use crate::cache::Cache;
use crate::error::Result;
use crate::mlx::{Array, ops};
use crate::models::config::{ConfigFile, LayerType, RopeDefaults};
use crate::models::{Architecture, LanguageModel};
use crate::nn::{
    AltUp, AltUpConfig, AltUpProjections, Embedding, FeedForward, Head, Laurel, Mixer, Mlp, Norm,
    PerLayerConfig, PerLayerEmbedding, PerLayerGate, QkNorm, Rows, SharedAttention, Step, StepRows,
    add_per_layer_input, language_model, scaled, shared_caches, soft_cap,
};
use crate::weights::Weights;

pub(super) const ARCHITECTURE: Architecture =
    Architecture::new(&["gemma3n"], build).with_eps(1e-6).ignoring(ConfigFile::is_of_shared_layer);

fn build(file: &ConfigFile, w: &Weights) -> Result<Box<dyn LanguageModel>> {
    let file = &with_defaults(file)?;
    Ok(Box::new(Gemma3n::new(file, &language_model(w), &w.at("lm_head"))?))
}

/// What transformers has where a configuration says nothing.
fn with_defaults(file: &ConfigFile) -> Result<ConfigFile> {
    let kind = |layer: usize| match (layer + 1).is_multiple_of(5) {
        true => "full_attention",
        false => "sliding_attention",
    };
    let kinds: Vec<_> = (0..file.layers()?).map(kind).collect();
    Ok(file.with_defaults([
        ("layer_types", json!(kinds)),
        ("sliding_window", json!(512)),
        ("altup_num_inputs", json!(4)),
        ("altup_active_idx", json!(0)),
        ("altup_correct_scale", json!(true)),
        ("laurel_rank", json!(64)),
        ("hidden_size_per_layer_input", json!(256)),
        ("vocab_size_per_layer_input", json!(262_144)),
    ]))
}

struct Gemma3n {
    embedding: Embedding,
    embedding_scale: f32,
    per_layer: PerLayerEmbedding,
    streams: AltUpProjections,
    layers: Vec<Layer>,
    /// The number of each layer's cache.
    caches: Vec<usize>,
    norm: Norm,
    head: Head,
    logit_cap: Option<f32>,
}

struct Layer {
    altup: AltUp,
    laurel: Laurel,
    attention: Box<dyn Mixer>,
    mlp: Mlp,
    before_attention: Norm,
    after_attention: Norm,
    before_mlp: Norm,
    after_mlp: Norm,
    gate: PerLayerGate,
}

impl Gemma3n {
    fn new(file: &ConfigFile, w: &Weights, head: &Weights) -> Result<Self> {
        let global = file.rope_parameters_of("full_attention");
        let decoder = global.as_ref().unwrap_or(file).decoder(&RopeDefaults::base(1_000_000.0))?;
        let (mut attention, eps) = (decoder.attention, decoder.eps);
        attention.scale = Some(1.0);
        attention.qk_norm = Some(QkNorm::each_head(Norm::rms, eps));
        attention.v_norm = Some(eps);
        let dims = attention.dims;
        let local = file.local_rope(attention.head_dim)?;
        let window = file.window()?;
        let types = file.layer_types()?.ok_or_else(|| file.error("\"layer_types\" is missing"))?;
        let near = |kind: &LayerType| (*kind == LayerType::SlidingAttention).then_some(window);
        let windows: Vec<_> = types.iter().map(near).collect();
        let own = file.layers_with_own_cache()?;
        let caches = shared_caches(&windows, own).ok_or_else(|| file.nothing_to_share())?;
        let count = windows.len();
        // Beyond these limits products of sizes would not fit.
        let limited = |field| file.bounded(field, file.require(field)?, 1 << 14);
        let streams = limited("altup_num_inputs")?;
        let active = file.require("altup_active_idx")?;
        if !(0..streams).contains(&active) {
            return Err(
                file.error(format!("\"altup_active_idx\" is {active}, of {streams} inputs"))
            );
        }
        let altup = AltUpConfig {
            dims,
            streams,
            active,
            clip: file.optional("altup_coef_clip")?,
            scale_output: file.require("altup_correct_scale")?,
            eps,
        };
        let activation = file.hidden_activation()?;
        let per_layer = PerLayerConfig {
            dims,
            width: limited("hidden_size_per_layer_input")?,
            layers: count as i32,
            rows: file.size("vocab_size_per_layer_input")?,
            activation,
            eps,
        };
        let rank = file.size("laurel_rank")?;
        let hidden = file.size_of_each_layer("intermediate_size")?;
        let sparsity: Option<Vec<f32>> = file.of_each_layer("activation_sparsity_pattern")?;
        if sparsity.iter().flatten().any(|share| !(0.0..1.0).contains(share)) {
            return Err(file.error("\"activation_sparsity_pattern\" is not between 0 and 1"));
        }
        let layer = |index: usize| {
            let w = w.at("layers").at(index);
            let norm = |name: &str| Norm::rms(&w.at(name), dims, eps);
            let (self_attn, window) = (w.at("self_attn"), windows[index]);
            let mut config = decoder.layers[index].clone();
            config.span = window.into();
            if window.is_some() {
                config.rope = Some(local.clone());
            }
            let mlp = Mlp::new(&w.at("mlp"), dims, hidden[index], false, activation)?;
            Ok(Layer {
                altup: AltUp::new(&w.at("altup"), altup)?,
                laurel: Laurel::new(&w.at("laurel"), dims, rank, eps)?,
                attention: if index < own {
                    Box::new(attention.build(&self_attn, config)?)
                } else {
                    Box::new(SharedAttention::new(&self_attn, attention, config)?)
                },
                mlp: match sparsity.as_ref().map(|shares| shares[index]) {
                    Some(share) if share > 0.0 => mlp.with_sparsity(share)?,
                    _ => mlp,
                },
                before_attention: norm("input_layernorm")?,
                after_attention: norm("post_attention_layernorm")?,
                before_mlp: norm("pre_feedforward_layernorm")?,
                after_mlp: norm("post_feedforward_layernorm")?,
                gate: PerLayerGate::new(&w, per_layer)?,
            })
        };
        let embedding = w.at("embed_tokens");
        let tied = Some(decoder.tied.unwrap_or(true));
        Ok(Self {
            embedding: Embedding::new(&embedding, decoder.vocabulary, dims)?,
            embedding_scale: (dims as f32).sqrt(),
            per_layer: PerLayerEmbedding::new(w, per_layer)?,
            streams: AltUpProjections::new(w, altup)?,
            layers: (0..count).map(layer).collect::<Result<_>>()?,
            caches,
            norm: Norm::rms(&w.at("norm"), dims, eps)?,
            head: Head::new(head, &embedding, tied, dims, decoder.vocabulary)?,
            logit_cap: file.unless_null("final_logit_softcapping", 30.0)?,
        })
    }
}

impl LanguageModel for Gemma3n {
    fn forward(&self, step: &Step, caches: &mut [&mut [Cache]]) -> Result<Array> {
        let tokens = step.tokens();
        let x = scaled(&self.embedding.forward(tokens)?, self.embedding_scale)?;
        let inputs = self.per_layer.forward(tokens, &x)?;
        let mut streams = self.streams.expand(&x)?;
        let mut rows = StepRows::new(step, caches)?;
        for (index, layer) in self.layers.iter().enumerate() {
            let mut rows = rows.layer(self.caches[index])?;
            streams = layer.forward(&streams, &inputs[index], &mut rows)?;
            rows.begin(&streams.clone().into())?;
        }
        let stream = self.streams.merge(&streams)?.into();
        step.logits(&stream, self.embedding.vocabulary(), |stream| {
            let x = stream.normed(&self.norm);
            let logits = self.head.forward(x.array()?, &self.embedding)?;
            self.logit_cap.map_or(Ok(logits.clone()), |cap| soft_cap(&logits, cap))
        })
    }

    fn make_caches(&self) -> Vec<Cache> {
        let own = self.layers.iter().zip(&self.caches).enumerate();
        let own = own.filter(|(index, (_, cache))| index == *cache);
        own.map(|(_, (layer, _))| layer.attention.make_cache()).collect()
    }

    fn layers(&self) -> usize {
        self.layers.len()
    }

    fn embedding(&self) -> &Embedding {
        &self.embedding
    }
}

impl Layer {
    fn forward(&self, streams: &Array, input: &Array, rows: &mut Rows) -> Result<Array> {
        let predicted = self.altup.predict(streams)?;
        let x = self.altup.active(&predicted)?;
        let normed = self.before_attention.forward(&x)?;
        let attended = self.attention.forward(&normed.clone().into(), rows)?;
        let attended = ops::add(&x, &self.after_attention.forward(&attended)?)?;
        let both = ops::add(&attended, &self.laurel.forward(&normed)?)?;
        let x = scaled(&both, std::f32::consts::FRAC_1_SQRT_2)?;
        let fed = self.mlp.forward(&self.before_mlp.forward(&x)?.into())?;
        let x = ops::add(&x, &self.after_mlp.forward(&fed)?)?;
        let corrected = self.altup.correct(&predicted, &x)?;
        let told = self.gate.forward(&self.altup.output(&corrected)?, input)?;
        add_per_layer_input(&corrected, &told)
    }
}
