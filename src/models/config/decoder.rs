//! The fields that most decoders share: sizes, heads, rotations, windows.

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::{ConfigFile, RopeDefaults};
use crate::error::{Error, Result};
use crate::nn::{
    AttentionConfig, AttentionSpan, DecoderNames, FusedOrder, LayerConfig, Linear, Norm,
    NormLayout, StandardDecoder, language_model,
};
use crate::weights::Weights;

/// What a layer sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(in crate::models) enum LayerType {
    FullAttention,
    SlidingAttention,
}

impl ConfigFile {
    /// The decoder that the usual fields describe, with full attention in every layer. An
    /// architecture changes what is its own.
    pub(in crate::models) fn decoder(&self, rope: &RopeDefaults) -> Result<StandardDecoder> {
        // That of rules which count the rotated features themselves.
        let file = match rope.share {
            Some(share) if !self.says_rope_field("partial_rotary_factor")? => {
                &self.with([("partial_rotary_factor", share.into())])
            }
            _ => self,
        };
        let mut decoder = self.unrotated_decoder()?;
        let attention = &decoder.attention;
        let rotated = match self.optional("rotary_dim")? {
            Some(rotated) if rope.share.is_some() => {
                self.bounded("rotary_dim", rotated, attention.head_dim.into())?
            }
            _ => (attention.head_dim as f32 * self.rotated_share(rope.share)?) as i32,
        };
        let rope = file.rope(rotated, rope.base, rope.traditional)?;
        decoder.layers.iter_mut().for_each(|layer| layer.rope = Some(rope.clone()));
        Ok(decoder)
    }

    /// The same without a rotation.
    pub(in crate::models) fn unrotated_decoder(&self) -> Result<StandardDecoder> {
        let field = "per_layer_config";
        if self.value(field).and_then(Value::as_object).is_some_and(|layers| !layers.is_empty()) {
            let message = format!("\"{field}\" is not supported in this architecture");
            return Err(self.error(message));
        }
        let layer = LayerConfig { span: AttentionSpan::Full, rope: None, temperature: None };
        Ok(StandardDecoder {
            vocabulary: self.size("vocab_size")?,
            norm: Norm::rms,
            eps: self.eps()?,
            after_eps: None,
            layout: NormLayout::PRE,
            layouts: Vec::new(),
            last_norm: true,
            names: DecoderNames::default(),
            later_layers: None,
            factorized: None,
            embedding_norm: None,
            positions: None,
            attention: self.attention()?,
            layers: vec![layer; self.layers()?],
            tied: self.optional("tie_word_embeddings")?,
            head: Linear::new,
            embedding_scale: None,
            residual_scale: None,
            logit_scale: None,
            logit_cap: None,
            unwritten: Vec::new(),
            prediction: None,
        })
    }

    /// Attention as the usual fields describe it.
    pub(in crate::models) fn attention(&self) -> Result<AttentionConfig> {
        let dims = self.size("hidden_size")?;
        let heads = "num_attention_heads";
        let heads = self.bounded(heads, self.require(heads)?, 1 << 14)?;
        let kv_heads = self.kv_heads(heads)?;
        let head_dim = match self.optional("head_dim")? {
            Some(head_dim) => self.bounded("head_dim", head_dim, 1 << 14)?,
            None if dims % heads == 0 => dims / heads,
            None => {
                let [all, parts] =
                    ["hidden_size", "num_attention_heads"].map(|field| self.own_name(field));
                return Err(
                    self.error(format!("\"{all}\" {dims} is not divisible by \"{parts}\" {heads}"))
                );
            }
        };
        if heads % kv_heads != 0 {
            let [all, groups] =
                ["num_attention_heads", "num_key_value_heads"].map(|field| self.own_name(field));
            return Err(self
                .error(format!("\"{all}\" {heads} is not a multiple of \"{groups}\" {kv_heads}")));
        }
        let bias = self.flag("attention_bias")?;
        Ok(AttentionConfig {
            dims,
            inputs: None,
            heads,
            kv_heads,
            interleaved_groups: false,
            head_dim,
            v_head_dim: None,
            qkv: &["q_proj", "k_proj", "v_proj"],
            fused_order: FusedOrder::ByPart,
            linear: Linear::new,
            qkv_bias: bias,
            clip_qkv: None,
            value_scale: None,
            output: "o_proj",
            output_bias: bias,
            qk_norm: None,
            v_norm: None,
            values_are_keys: false,
            kv_steps: None,
            scale: None,
            soft_cap: None,
            alibi: None,
            sinks: None,
            output_gate: None,
            gate: None,
            output_head_norm: None,
            output_norm: None,
        })
    }

    /// The same configuration with the features of a head that the first layer with keys has, where
    /// `head_dim` is not said: some implementations derive it then, others assume it.
    pub(in crate::models) fn with_head_dim_of(&self, w: &Weights) -> Result<Self> {
        let layers = language_model(w).at("layers");
        let keys =
            |layer| layers.at(layer).at("self_attn.k_proj").shape("weight")?.first().copied();
        let found = (0..self.layers()?).find_map(keys);
        let Some(rows) = found.filter(|_| !self.says("head_dim")) else { return Ok(self.clone()) };
        let kv_heads = self.kv_heads(self.size("num_attention_heads")?)?;
        Ok(match rows % kv_heads {
            0 => self.with([("head_dim", json!(rows / kv_heads))]),
            _ => self.clone(),
        })
    }

    /// `num_key_value_heads`; where it is not said, what the architecture has, or `heads` where
    /// these are no multiple of that.
    fn kv_heads(&self, heads: i32) -> Result<i32> {
        let kv_heads = self.size_or("num_key_value_heads", heads)?;
        Ok(if self.says("num_key_value_heads") || heads % kv_heads == 0 { kv_heads } else { heads })
    }

    /// The epsilon of the norms, by the names that it goes by.
    pub(in crate::models) fn eps(&self) -> Result<f32> {
        for field in
            ["rms_norm_eps", "layer_norm_eps", "norm_eps", "norm_epsilon", "layer_norm_epsilon"]
        {
            match self.optional(field)? {
                None => {}
                Some(eps) if (0.0..1.0).contains(&eps) => return Ok(eps),
                Some(eps) => {
                    return Err(self.error(format!("\"{field}\" is {eps}, expected 0 to 1")));
                }
            }
        }
        self.eps.ok_or_else(|| self.error("\"rms_norm_eps\" is missing"))
    }

    /// What each layer sees: `layer_types`, one for each layer.
    pub(in crate::models) fn layer_types(&self) -> Result<Option<Vec<LayerType>>> {
        self.layer_kinds()
    }

    /// `layer_types`, one for each layer, of an architecture with kinds of its own.
    pub(in crate::models) fn layer_kinds<T: DeserializeOwned>(&self) -> Result<Option<Vec<T>>> {
        self.of_each_layer("layer_types")
    }

    /// How many positions each layer sees: `sliding_window`, but for those that `layer_types` or,
    /// without it, `sliding_window_pattern` lets see all: every so-manyth.
    pub(in crate::models) fn windows(
        &self,
        default_window: i32,
        default_pattern: i32,
    ) -> Result<Vec<Option<i32>>> {
        let global: Vec<bool> = match self.layer_types()? {
            Some(types) => types.iter().map(|kind| *kind == LayerType::FullAttention).collect(),
            None => {
                let field = "sliding_window_pattern";
                // L for a window and G for all positions, over and over.
                let letters = self.value(field).and_then(Value::as_str);
                if let Some(letters) = letters.filter(|letters| !letters.is_empty()) {
                    letters.chars().cycle().take(self.layers()?).map(|kind| kind == 'G').collect()
                } else {
                    let pattern = self.size_or(field, default_pattern)?.unsigned_abs() as usize;
                    (1..=self.layers()?).map(|layer| layer.is_multiple_of(pattern)).collect()
                }
            }
        };
        // Configurations of models without windows give 0.
        if global.iter().all(|global| *global) {
            return Ok(vec![None; global.len()]);
        }
        let window = self.size_or("sliding_window", default_window)?;
        Ok(global.into_iter().map(|global| (!global).then_some(window)).collect())
    }

    /// How many positions each layer sees in Qwen's models and those that took up their fields:
    /// all, unless `use_sliding_window` says that layers of `layer_types`, or without it those that
    /// `by_default` names, see `sliding_window`, or `usual` positions where it is absent.
    pub(in crate::models) fn windows_if_used(
        &self,
        usual: Option<i64>,
        by_default: impl Fn(usize) -> bool,
    ) -> Result<Vec<Option<i32>>> {
        let (layers, field) = (self.layers()?, "sliding_window");
        let window = match usual {
            Some(usual) => self.unless_null(field, usual)?,
            None => self.optional(field)?,
        };
        let is_used = self.flag("use_sliding_window")?;
        let Some(window) = window.filter(|_| is_used) else { return Ok(vec![None; layers]) };
        let window = self.bounded(field, window, 1 << 24)?;
        let near: Vec<bool> = match self.layer_types()? {
            Some(types) => types.iter().map(|it| *it == LayerType::SlidingAttention).collect(),
            None => (0..layers).map(by_default).collect(),
        };
        Ok(near.into_iter().map(|near| near.then_some(window)).collect())
    }

    /// The first layer that sees a window only, where `use_sliding_window` says so.
    pub(in crate::models) fn max_window_layers(&self) -> Result<usize> {
        Ok(self.optional("max_window_layers")?.unwrap_or(28))
    }

    /// A list that may be absent, with a value for each layer.
    pub(in crate::models) fn of_each_layer<T: DeserializeOwned>(
        &self,
        field: &str,
    ) -> Result<Option<Vec<T>>> {
        let Some(values) = self.optional::<Vec<T>>(field)? else { return Ok(None) };
        let (found, layers) = (values.len(), self.layers()?);
        if found == layers {
            Ok(Some(values))
        } else {
            Err(self.error(format!("\"{field}\" has {found} values, expected {layers}")))
        }
    }

    /// A size of each layer: one for all, or a list.
    pub(in crate::models) fn size_of_each_layer(&self, field: &str) -> Result<Vec<i32>> {
        if self.value(field).is_some_and(Value::is_number) {
            return Ok(vec![self.size(field)?; self.layers()?]);
        }
        let Some(sizes) = self.of_each_layer(field)? else {
            return Err(self.error(format!("\"{field}\" is missing")));
        };
        sizes.into_iter().map(|size| self.bounded(field, size, 1 << 24)).collect()
    }

    /// [`Self::size_of_each_layer`], or a default where the field is missing or null.
    pub(in crate::models) fn size_of_each_layer_or(
        &self,
        field: &str,
        default: i32,
    ) -> Result<Vec<i32>> {
        match self.optional::<Value>(field)? {
            Some(_) => self.size_of_each_layer(field),
            None => Ok(vec![default; self.layers()?]),
        }
    }

    /// How many layers have keys and values of their own: all but the last `num_kv_shared_layers`.
    pub(in crate::models) fn layers_with_own_cache(&self) -> Result<usize> {
        let (layers, shared) = (self.layers()?, self.require::<usize>("num_kv_shared_layers")?);
        layers.checked_sub(shared).ok_or_else(|| {
            self.error(format!("\"num_kv_shared_layers\" is {shared}, of {layers} layers"))
        })
    }

    /// The error of a configuration with which [`crate::nn::shared_caches`] finds none.
    pub(in crate::models) fn nothing_to_share(&self) -> Error {
        self.error("\"num_kv_shared_layers\" leaves no layer to share keys and values with")
    }

    /// Whether a tensor makes keys or values in a layer that shares those of another.
    pub(in crate::models) fn is_of_shared_layer(&self, tensor: &str) -> bool {
        let Some((_, rest)) = tensor.split_once("layers.") else { return false };
        let Some((layer, name)) = rest.split_once(".self_attn.") else { return false };
        let of_keys_or_values =
            ["k_proj.", "v_proj.", "k_norm."].iter().any(|part| name.starts_with(part));
        let layer = layer.parse().ok().zip(self.layers_with_own_cache().ok());
        of_keys_or_values && layer.is_some_and(|(layer, own): (usize, _)| layer >= own)
    }

    /// Which layers rotate: those with 1 in `no_rope_layers`, or without it all but every
    /// `no_rope_layer_interval`-th.
    pub(in crate::models) fn rotated_layers(&self) -> Result<Vec<bool>> {
        let listed = self.optional::<Vec<u8>>("no_rope_layers")?.unwrap_or_default();
        // Published configurations have an empty list for none.
        if !listed.is_empty() {
            self.of_each_layer::<u8>("no_rope_layers")?;
            return Ok(listed.into_iter().map(|rotated| rotated != 0).collect());
        }
        let interval = self.size_or("no_rope_layer_interval", 4)?.unsigned_abs() as usize;
        Ok((1..=self.layers()?).map(|layer| !layer.is_multiple_of(interval)).collect())
    }

    /// `sliding_window`, which layers that need one cannot do without.
    pub(in crate::models) fn window(&self) -> Result<i32> {
        self.size("sliding_window")
    }
}
