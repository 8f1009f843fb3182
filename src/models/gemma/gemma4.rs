//! Gemma 4 (Google DeepMind 2026): Gemma 3 with values that are normalized, too, and scores that
//! are not scaled. Layers that see all positions have wider heads, rotated in part, whose keys may
//! serve as values. In the smaller models the last layers share the keys and values of earlier ones
//! and every layer has an embedding; in the larger ones experts stand beside the MLP. Of
//! checkpoints that also see and hear, the language model.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Value, json};

use crate::cache::Cache;
use crate::error::Result;
use crate::mlx::Array;
use crate::models::config::{ConfigFile, RopeDefaults};
use crate::models::{Architecture, LanguageModel};
use crate::nn::{
    AttentionConfig, DenseAndMoe, Embedding, FeedForward, Mlp, MoeConfig, Norm, NormLayout,
    PerLayerConfig, PerLayerDecoder, QkNorm, Routing, SharedAttention, Step, language_model,
    shared_caches,
};
use crate::weights::Weights;

pub(super) const ARCHITECTURE: Architecture =
    Architecture::new(&["gemma4", "gemma4_unified"], build).with_eps(1e-6).ignoring(
        |file, tensor| {
            // Frequencies, and ranges of activations that quantization was trained with.
            const UNUSED: [&str; 5] =
                ["rotary_emb", "input_min", "input_max", "output_min", "output_max"];
            UNUSED.iter().any(|name| tensor.contains(name))
                || with_defaults(file).is_ok_and(|file| file.is_of_shared_layer(tensor))
        },
    );

const PER_LAYER: &str = "per_layer_config";

/// The heads of a layer, where they are not those of the whole model.
#[derive(Clone, Copy, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct LayerHeads {
    head_dim: Option<i64>,
    num_key_value_heads: Option<i64>,
}

impl LayerHeads {
    /// What `per_layer_config` says of the layers within a window, or of the others: the same of
    /// all, since they share one rotation, and keys and values.
    fn of(file: &ConfigFile, windows: &[Option<i32>], within_window: bool) -> Result<Self> {
        let entries: BTreeMap<usize, Self> = file.optional(PER_LAYER)?.unwrap_or_default();
        let layers = windows.iter().enumerate();
        let layers = layers.filter(|(_, window)| window.is_some() == within_window);
        let mut heads = layers.map(|(layer, _)| entries.get(&layer).copied().unwrap_or_default());
        let first = heads.next().unwrap_or_default();
        if heads.any(|other| other != first) {
            let message = format!("\"{PER_LAYER}\" differs between layers of one kind");
            return Err(file.error(message));
        }
        Ok(first)
    }

    fn apply(self, file: &ConfigFile, attention: &mut AttentionConfig) -> Result<()> {
        if let Some(head_dim) = self.head_dim {
            attention.head_dim = file.bounded("head_dim", head_dim, 1 << 14)?;
        }
        if let Some(kv_heads) = self.num_key_value_heads {
            attention.kv_heads = file.bounded("num_key_value_heads", kv_heads, 1 << 14)?;
        }
        let AttentionConfig { heads, kv_heads, .. } = *attention;
        if heads % kv_heads == 0 {
            return Ok(());
        }
        Err(file.error(format!("{kv_heads} heads of keys and values do not divide {heads} heads")))
    }
}

/// The configuration with what it may leave out.
fn with_defaults(text: &ConfigFile) -> Result<ConfigFile> {
    // Newer configurations say it of each layer.
    let global_head_dim = match text.optional::<Value>(PER_LAYER)? {
        Some(_) => Value::Null,
        None => json!(512),
    };
    // Has neither inputs of each layer nor layers without keys of their own.
    let is_unified = text.is_of("gemma4_unified")? || text.model_type()? == "gemma4_unified_text";
    let few_layers = text.layers().is_ok_and(|it| it <= 20);
    Ok(text.with_defaults([
        ("hidden_size", json!(1536)),
        ("num_hidden_layers", json!(35)),
        ("intermediate_size", json!(6144)),
        ("num_attention_heads", json!(8)),
        ("num_key_value_heads", json!(1)),
        ("head_dim", json!(256)),
        ("global_head_dim", global_head_dim),
        ("vocab_size", json!(262_144)),
        ("vocab_size_per_layer_input", json!(262_144)),
        ("hidden_size_per_layer_input", json!(if is_unified { 0 } else { 256 })),
        ("num_kv_shared_layers", json!(if is_unified || few_layers { 0 } else { 20 })),
        ("sliding_window", json!(if is_unified { 1024 } else { 512 })),
        ("final_logit_softcapping", json!(30.0)),
        ("tie_word_embeddings", json!(true)),
        (
            "rope_parameters",
            json!({
                "full_attention": {
                    "rope_type": "proportional", "partial_rotary_factor": 0.25, "rope_theta": 1e6
                },
                "sliding_attention": {"rope_type": "default", "rope_theta": 1e4},
            }),
        ),
    ]))
}

fn build(file: &ConfigFile, w: &Weights) -> Result<Box<dyn LanguageModel>> {
    let file = &with_defaults(file)?;
    file.refuse_looking_ahead()?;
    let rope = RopeDefaults::base(10_000.0);
    let whole = file.rope_parameters_of("full_attention").unwrap_or_else(|| file.clone());
    // Which share is rotated matters to the rule alone that counts it itself.
    let whole = whole.without_rope_parameter("partial_rotary_factor");
    let mut decoder = whole.without(PER_LAYER).decoder(&rope)?;
    decoder.layout = NormLayout::SANDWICH;
    decoder.embedding_scale = Some((decoder.attention.dims as f32).sqrt());
    decoder.logit_cap = file.optional("final_logit_softcapping")?;
    decoder.attention.scale = Some(1.0);
    decoder.attention.qk_norm = Some(QkNorm::each_head(Norm::rms, decoder.eps));
    decoder.attention.v_norm = Some(decoder.eps);

    let mut global = decoder.attention;
    if file.optional::<i64>("global_head_dim")?.is_some_and(|head_dim| head_dim != 0) {
        let field = "global_head_dim";
        global.head_dim = file.bounded(field, file.require(field)?, 1 << 14)?;
    }
    if file.flag("attention_k_eq_v")? {
        global.values_are_keys = true;
        global.qkv = &["q_proj", "k_proj"];
        let field = "num_global_key_value_heads";
        global.kv_heads = file.size_or(field, global.kv_heads)?;
    }
    let windows = file.windows(512, 5)?;
    LayerHeads::of(file, &windows, false)?.apply(file, &mut global)?;
    LayerHeads::of(file, &windows, true)?.apply(file, &mut decoder.attention)?;
    let rope = |layers: &str, head_dim: i32| {
        file.rope_parameters_of(layers).as_ref().unwrap_or(file).rope(head_dim, rope.base, false)
    };
    let global_rope = rope("full_attention", global.head_dim)?;
    let local_rope = rope("sliding_attention", decoder.attention.head_dim)?;
    for (layer, &window) in decoder.layers.iter_mut().zip(&windows) {
        layer.span = window.into();
        layer.rope = Some(if window.is_some() { &local_rope } else { &global_rope }.clone());
    }

    let own = file.layers_with_own_cache()?;
    let caches = shared_caches(&windows, own).ok_or_else(|| file.nothing_to_share())?;
    let (dims, hidden) = (decoder.attention.dims, file.size("intermediate_size")?);
    let wide = match file.optional("use_double_wide_mlp")? {
        Some(wide) => wide,
        // Implementations differ where it is not said.
        None => {
            let first = language_model(w).at("layers").at(own).at("mlp.gate_proj");
            first.shape("weight").is_some_and(|shape| shape.first() == Some(&(2 * hidden)))
        }
    };
    let (mut experts, activation) = (None, file.hidden_activation()?);
    if file.flag("enable_moe_block")? {
        // The block takes the norm before it.
        decoder.layout.feed_forward[0] = None;
        let count = file.size("num_experts")?;
        experts = Some(MoeConfig {
            dims,
            hidden: file.size("moe_intermediate_size")?,
            experts: count,
            active: file.bounded("top_k_experts", file.require("top_k_experts")?, count.into())?,
            activation,
            routing: Routing::TopThenSoftmax,
        });
    }
    let built = decoder.build_hybrid(
        w,
        |index, w| {
            let (w, layer) = (w.at("self_attn"), decoder.layers[index].clone());
            let config = if windows[index].is_none() { global } else { decoder.attention };
            Ok(if index < own {
                Box::new(config.build(&w, layer)?)
            } else {
                Box::new(SharedAttention::new(&w, config, layer)?)
            })
        },
        |index, w| -> Result<Box<dyn FeedForward>> {
            let hidden = if wide && index >= own { 2 * hidden } else { hidden };
            let mlp = Mlp::new(&w.at("mlp"), dims, hidden, false, activation)?;
            Ok(match experts {
                Some(config) => Box::new(DenseAndMoe::new(w, config, mlp, decoder.eps)?),
                None => Box::new(mlp),
            })
        },
    )?;
    let field = "hidden_size_per_layer_input";
    let per_layer = match file.optional(field)?.unwrap_or(0) {
        0 => None,
        width => Some(PerLayerConfig {
            dims,
            width: file.bounded(field, width, 1 << 14)?,
            layers: windows.len() as i32,
            rows: file.size("vocab_size_per_layer_input")?,
            activation,
            eps: decoder.eps,
        }),
    };
    Ok(Box::new(PerLayerDecoder::new(&language_model(w), built, per_layer, caches)?))
}

impl LanguageModel for PerLayerDecoder {
    fn forward(&self, step: &Step, caches: &mut [&mut [Cache]]) -> Result<Array> {
        Self::forward(self, step, caches)
    }

    fn make_caches(&self) -> Vec<Cache> {
        Self::make_caches(self)
    }

    fn layers(&self) -> usize {
        self.decoder().layers.len()
    }

    fn embedding(&self) -> &Embedding {
        &self.decoder().embedding
    }
}
