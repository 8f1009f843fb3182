//! The fields of rotations: at the top of a configuration, in `rope_scaling`, or in the
//! `rope_parameters` of newer ones.

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::ConfigFile;
use crate::error::Result;
use crate::nn::{Rope, RopeConfig, RopeScaling};

/// An architecture's rotation, where its configuration does not say.
pub(in crate::models) struct RopeDefaults {
    /// `rope_theta`.
    pub(in crate::models) base: Option<f32>,
    /// Whether neighbouring features are rotated.
    pub(in crate::models) traditional: bool,
    /// `partial_rotary_factor`; `None` for an architecture that rotates whole heads.
    pub(in crate::models) share: Option<f32>,
}

impl RopeDefaults {
    /// The halves of whole heads, at this base.
    pub(in crate::models) const fn base(base: f32) -> Self {
        Self { base: Some(base), traditional: false, share: None }
    }
}

impl ConfigFile {
    /// The same configuration with the `rope_parameters` of one kind of layer, where they are said
    /// for each kind; none for a kind of which they say nothing.
    pub(in crate::models) fn rope_parameters_of(&self, layers: &str) -> Option<Self> {
        let kinds = self.value("rope_parameters")?.as_object()?;
        let parameters = match kinds.get(layers) {
            Some(parameters) => parameters.clone(),
            None if kinds.values().any(Value::is_object) => Value::Null,
            None => return None,
        };
        let mut file = self.clone();
        file.values.insert("rope_parameters".to_owned(), parameters);
        // Older configurations extend the layers that see all positions only.
        if layers != "full_attention" {
            file.values.remove("rope_scaling");
        }
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

    /// The same configuration without a field of `rope_parameters` or `rope_scaling` that is read
    /// apart from them.
    pub(in crate::models) fn without_rope_parameter(&self, field: &str) -> Self {
        let mut file = self.clone();
        for name in ["rope_scaling", "rope_parameters"] {
            if let Some(Value::Object(parameters)) = file.values.get_mut(name) {
                parameters.remove(field);
            }
        }
        file
    }

    /// The rotation of layers within a window, where they have one of their own:
    /// `rope_local_base_freq`, or the `rope_parameters` of these layers.
    pub(in crate::models) fn local_rope(&self, dims: i32) -> Result<Rope> {
        let base = self.optional("rope_local_base_freq")?.unwrap_or(10_000.0);
        match self.rope_parameters_of("sliding_attention") {
            Some(mut file) => {
                // That of the layers which see all positions.
                file.values.remove("rope_theta");
                file.rope(dims, Some(base), false)
            }
            None => Rope::new(&RopeConfig {
                dims,
                base,
                traditional: false,
                scaling: None,
                max_positions: None,
                longest: None,
            }),
        }
    }

    /// `partial_rotary_factor`, the share of a head that is rotated.
    pub(in crate::models) fn rotated_share(&self, default: Option<f32>) -> Result<f32> {
        let share: Option<f32> = self.rope_field("partial_rotary_factor")?;
        match share {
            Some(share) if !(share > 0.0 && share <= 1.0) => {
                Err(self.error(format!("\"partial_rotary_factor\" is {share}, expected 0 to 1")))
            }
            // This rule counts the rotated features itself.
            _ if self.rope_scaling()?.is_some_and(|scaling| scaling.is_proportional()) => Ok(1.0),
            Some(share) if default.is_none() && share < 1.0 => Err(self.error(format!(
                "\"partial_rotary_factor\" is {share}, and this architecture rotates whole heads"
            ))),
            share => Ok(share.or(default).unwrap_or(1.0)),
        }
    }

    /// `rope_scaling`, or the `rope_parameters` of newer configurations.
    pub(super) fn rope_scaling(&self) -> Result<Option<RopeScaling>> {
        for field in ["rope_scaling", "rope_parameters"] {
            let fields = self.rope_fields(field)?;
            if !fields.is_empty() {
                let scaling = serde_json::from_value(Value::Object(fields));
                return scaling.map(Some).map_err(|it| self.error(format!("\"{field}\": {it}")));
            }
        }
        Ok(None)
    }

    /// The fields of `rope_scaling` or `rope_parameters`; those of all kinds of layers, where they
    /// are said for each kind and are the same.
    fn rope_fields(&self, field: &str) -> Result<Map<String, Value>> {
        let fields: Map<String, Value> = self.optional(field)?.unwrap_or_default();
        let mut kinds = fields.values().filter_map(Value::as_object);
        let Some(first) = kinds.next() else { return Ok(fields) };
        if kinds.all(|kind| kind == first) && fields.values().all(Value::is_object) {
            return Ok(first.clone());
        }
        Err(self.error(format!(
            "\"{field}\" differs between kinds of layers, which this architecture does not know"
        )))
    }

    /// A field of the rotation that stands at the top or among the others. These win, and
    /// those of `rope_scaling` over `rope_parameters`, as in transformers.
    pub(in crate::models) fn rope_field<T: DeserializeOwned>(
        &self,
        name: &str,
    ) -> Result<Option<T>> {
        let scaling = self.rope_fields("rope_scaling")?;
        let parameters = self.rope_fields("rope_parameters")?;
        let (top, nested) = (self.value(name), parameters.get(name));
        let in_order = match scaling.is_empty() {
            true => [nested, top, None],
            false => [scaling.get(name), top, None],
        };
        match in_order.into_iter().flatten().find(|value| !value.is_null()) {
            Some(value) => serde_json::from_value(value.clone())
                .map(Some)
                .map_err(|error| self.error(format!("\"{name}\": {error}"))),
            None => Ok(None),
        }
    }

    /// Whether a field of the rotation is said anywhere.
    pub(in crate::models) fn says_rope_field(&self, name: &str) -> Result<bool> {
        Ok(self.rope_field::<Value>(name)?.is_some())
    }

    /// The base of the rotation, wherever it is said.
    pub(in crate::models) fn rope_theta(&self) -> Result<Option<f32>> {
        self.rope_field("rope_theta")
    }

    /// The rotation of a head's features at a base of its own, whatever the configuration says.
    pub(in crate::models) fn rope_at(&self, base: f32, head_dim: i32) -> Result<Rope> {
        let mut file = self.clone();
        for field in ["rope_scaling", "rope_parameters"] {
            if let Some(Value::Object(fields)) = file.values.get_mut(field) {
                fields.remove("rope_theta");
            }
        }
        file.values.insert("rope_theta".to_owned(), base.into());
        file.rope(head_dim, None, false)
    }

    /// The rotation of `dims` features of a head.
    pub(in crate::models) fn rope(
        &self,
        dims: i32,
        default_base: Option<f32>,
        traditional: bool,
    ) -> Result<Rope> {
        let traditional = self.optional("rope_traditional")?.unwrap_or(traditional);
        let base = match self.rope_field("rope_theta")?.or(default_base) {
            Some(base) if base > 0.0 => base,
            Some(base) => return Err(self.error(format!("\"rope_theta\" is {base}, not above 0"))),
            None => return Err(self.error("\"rope_theta\" is missing")),
        };
        let scaling = self.rope_scaling()?;
        // A plain rotation does not ask for it, nor for the usual one where no file says it.
        let max_positions: Option<i32> = match &scaling {
            Some(scaling) if scaling.rule() != "default" => {
                self.optional("max_position_embeddings")?
            }
            _ => None,
        };
        // Phi 3 says beside the rule what others say within it, and that wins.
        let beside: Option<f32> = self.optional("original_max_position_embeddings")?;
        let usual = max_positions.map(|positions| positions as f32);
        let share = self.rope_field("partial_rotary_factor")?;
        let scaling = scaling.map(|scaling| {
            let scaling = scaling.with_original_positions(beside, usual);
            scaling.with_share(share)
        });
        let longest = self.context.map(|tokens| i32::try_from(tokens).unwrap_or(i32::MAX));
        let rope =
            Rope::new(&RopeConfig { dims, base, traditional, scaling, max_positions, longest })
                .map_err(|error| self.error(error.to_string()))?;
        self.has_short_rope.set(self.has_short_rope.get() || rope.is_short());
        Ok(rope)
    }
}
