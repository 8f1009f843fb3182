//! The fields that most decoders share: sizes, heads, rotations, windows.

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::ConfigFile;
use crate::error::{Error, Result};
use crate::nn::{
    AttentionConfig, LayerConfig, NormKind, NormLayout, ProjectionNames, QkNorm, Rope, RopeConfig,
    RopeScaling, StandardDecoder, Values,
};

/// What a layer sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(in crate::models) enum LayerType {
    FullAttention,
    SlidingAttention,
}

/// An architecture's rotation, where its configuration does not say.
pub(in crate::models) struct RopeDefaults {
    /// `rope_theta`.
    pub(in crate::models) base: Option<f32>,
    /// Whether neighbouring features are rotated.
    pub(in crate::models) traditional: bool,
    /// The share of a head that is rotated.
    pub(in crate::models) share: f32,
}

impl RopeDefaults {
    /// The halves of whole heads, at this base.
    pub(in crate::models) const fn base(base: f32) -> Self {
        Self { base: Some(base), traditional: false, share: 1.0 }
    }
}

impl ConfigFile {
    /// The decoder that the usual fields describe, with full attention in every layer. An architecture
    /// changes what is its own.
    pub(in crate::models) fn decoder(&self, rope: &RopeDefaults) -> Result<StandardDecoder> {
        let attention = self.attention()?;
        let eps = self.eps()?;
        if !(rope.share > 0.0 && rope.share <= 1.0) {
            let share = rope.share;
            return Err(
                self.error(format!("\"partial_rotary_factor\" is {share}, expected 0 to 1"))
            );
        }
        let rotated = (attention.head_dim as f32 * rope.share) as i32;
        let rope = self.rope(rotated, rope.base, rope.traditional)?;
        let layer = LayerConfig { window: None, rope: Some(rope) };
        Ok(StandardDecoder {
            vocabulary: self.size("vocab_size")?,
            norm: NormKind::Rms,
            eps,
            layout: NormLayout::Pre,
            final_norm: "norm",
            attention,
            layers: vec![layer; self.layers()?],
            head: "lm_head",
            tied: self.optional("tie_word_embeddings")?,
            embedding_scale: None,
            residual_scale: None,
            logit_scale: None,
            logit_cap: None,
        })
    }

    /// Attention as the usual fields describe it.
    pub(in crate::models) fn attention(&self) -> Result<AttentionConfig> {
        let dims = self.size("hidden_size")?;
        let heads = "num_attention_heads";
        let heads = self.bounded(heads, self.require(heads)?, 1 << 14)?;
        let kv_heads = self.size_or("num_key_value_heads", heads)?;
        let head_dim = match self.optional("head_dim")? {
            Some(head_dim) => self.bounded("head_dim", head_dim, 1 << 14)?,
            None if dims % heads == 0 => dims / heads,
            None => {
                return Err(self.error(format!(
                    "\"hidden_size\" {dims} is not divisible by \"num_attention_heads\" {heads}"
                )));
            }
        };
        if heads % kv_heads != 0 {
            return Err(self.error(format!(
                "\"num_attention_heads\" {heads} is not a multiple of \"num_key_value_heads\" \
                 {kv_heads}"
            )));
        }
        let bias = self.flag("attention_bias")?;
        Ok(AttentionConfig {
            dims,
            heads,
            kv_heads,
            head_dim,
            qkv_bias: bias,
            output_bias: bias,
            names: ProjectionNames::Separate("o_proj"),
            qk_norm: QkNorm::None,
            norm_names: ["q_norm", "k_norm"],
            values: Values::Projected,
            scale: None,
            soft_cap: None,
            sinks: false,
            output_gate: false,
        })
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
        Err(self.error("\"rms_norm_eps\" is missing"))
    }

    /// What each layer sees: `layer_types`, one for each layer.
    pub(in crate::models) fn layer_types(&self) -> Result<Option<Vec<LayerType>>> {
        self.layer_kinds()
    }

    /// `layer_types`, one for each layer, of an architecture with kinds of its own.
    pub(in crate::models) fn layer_kinds<T: DeserializeOwned>(&self) -> Result<Option<Vec<T>>> {
        self.of_each_layer("layer_types")
    }

    /// How many positions each layer sees: `sliding_window`, but for those that `layer_types` or, without
    /// it, `sliding_window_pattern` lets see all: every so-manyth.
    pub(in crate::models) fn windows(
        &self,
        default_window: i32,
        default_pattern: i32,
    ) -> Result<Vec<Option<i32>>> {
        let window = self.size_or("sliding_window", default_window)?;
        let global: Vec<bool> = match self.layer_types()? {
            Some(types) => types.iter().map(|kind| *kind == LayerType::FullAttention).collect(),
            None => {
                let field = "sliding_window_pattern";
                // L for a window and G for all positions, over and over.
                let letters = self.values.get(field).and_then(Value::as_str);
                if let Some(letters) = letters.filter(|letters| !letters.is_empty()) {
                    letters.chars().cycle().take(self.layers()?).map(|kind| kind == 'G').collect()
                } else {
                    let pattern = self.size_or(field, default_pattern)?.unsigned_abs() as usize;
                    (1..=self.layers()?).map(|layer| layer.is_multiple_of(pattern)).collect()
                }
            }
        };
        Ok(global.into_iter().map(|global| (!global).then_some(window)).collect())
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
        if self.values.get(field).is_some_and(Value::is_number) {
            return Ok(vec![self.size(field)?; self.layers()?]);
        }
        let Some(sizes) = self.of_each_layer(field)? else {
            return Err(self.error(format!("\"{field}\" is missing")));
        };
        sizes.into_iter().map(|size| self.bounded(field, size, 1 << 24)).collect()
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

    /// The `rope_parameters` of one kind of layer, where they are said for each kind.
    pub(in crate::models) fn rope_parameters_of(&self, layers: &str) -> Option<Self> {
        let parameters = self.values.get("rope_parameters")?.get(layers)?;
        let mut file = self.clone();
        file.values.insert("rope_parameters".to_owned(), parameters.clone());
        Some(file)
    }

    /// The same configuration, whose rotations are not extended.
    pub(in crate::models) fn without_rope_scaling(&self) -> Self {
        let mut file = self.clone();
        file.values.remove("rope_scaling");
        if let Some(Value::Object(parameters)) = file.values.get_mut("rope_parameters") {
            parameters.retain(|name, _| name == "rope_theta");
        }
        file
    }

    /// The rotation of layers within a window, where they have one of their own: `rope_local_base_freq`, or
    /// the `rope_parameters` of these layers.
    pub(in crate::models) fn local_rope(&self, dims: i32) -> Result<Rope> {
        let base = self.optional("rope_local_base_freq")?.unwrap_or(10_000.0);
        match self.rope_parameters_of("sliding_attention") {
            Some(file) => file.rope(dims, Some(base), false),
            None => Rope::new(&RopeConfig {
                dims,
                base,
                traditional: false,
                scaling: None,
                max_positions: None,
            }),
        }
    }

    /// `sliding_window`, which layers that need one cannot do without.
    pub(in crate::models) fn window(&self) -> Result<i32> {
        self.size("sliding_window")
    }

    /// `partial_rotary_factor`, the share of a head that is rotated, here or within `rope_parameters`.
    pub(in crate::models) fn rotated_share(&self) -> Result<Option<f32>> {
        let nested = self.optional::<RopeScaling>("rope_parameters")?;
        let nested = nested.and_then(|parameters| parameters.partial_rotary_factor);
        Ok(self.optional("partial_rotary_factor")?.or(nested))
    }

    /// `rope_scaling`, or the `rope_parameters` of newer configurations.
    pub(super) fn rope_scaling(&self) -> Result<Option<RopeScaling>> {
        match self.optional("rope_scaling")? {
            Some(scaling) => Ok(Some(scaling)),
            None => self.optional("rope_parameters"),
        }
    }

    /// `rope_theta` and `rope_scaling`, or the `rope_parameters` in which newer configurations nest
    /// both.
    pub(in crate::models) fn rope(
        &self,
        dims: i32,
        default_base: Option<f32>,
        traditional: bool,
    ) -> Result<Rope> {
        let traditional = self.optional("rope_traditional")?.unwrap_or(traditional);
        let scaling = self.rope_scaling()?;
        let nested = scaling.as_ref().and_then(|scaling| scaling.rope_theta);
        let base = match self.optional("rope_theta")?.or(nested).or(default_base) {
            Some(base) if base > 0.0 => base,
            Some(base) => return Err(self.error(format!("\"rope_theta\" is {base}, not above 0"))),
            None => return Err(self.error("\"rope_theta\" is missing")),
        };
        let max_positions = self.optional("max_position_embeddings")?;
        // Phi 3 says beside the rule what others say within it.
        let original = self.optional("original_max_position_embeddings")?;
        let scaling = scaling.map(|scaling| scaling.with_original_positions(original));
        Rope::new(&RopeConfig { dims, base, traditional, scaling, max_positions })
            .map_err(|error| self.error(error.to_string()))
    }
}
