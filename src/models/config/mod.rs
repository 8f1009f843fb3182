//! `config.json`, and the hints of `generation_config.json`.

mod decoder;
mod defaults;
mod experts;
mod generation;
mod latent;
mod quantization;
mod recurrent;
mod rope;
mod windows;

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::error::{Error, Result};
use crate::nn::Activation;
pub(super) use decoder::LayerType;
pub(super) use experts::SparseLayers;
pub use generation::GenerationDefaults;
pub(super) use latent::LatentDecoder;
pub(super) use recurrent::Mamba2Fields;
pub(super) use rope::RopeDefaults;

/// Configurations are small; a file beyond this size is not one.
const MAX_BYTES: u64 = 16 << 20;

/// The parsed configuration of a model folder.
#[derive(Clone)]
pub(super) struct ConfigFile {
    path: PathBuf,
    values: Map<String, Value>,
    /// The `model_type` of the whole, where it is one of several parts.
    whole: Option<String>,
    /// The epsilon of norms where no field says it.
    eps: Option<f32>,
    /// The sizes of the architecture where no field says them.
    sizes: Option<&'static Map<String, Value>>,
    /// Which of them were looked at.
    used_sizes: Rc<RefCell<BTreeSet<&'static str>>>,
    /// The fields among `values` that the architecture has filled in.
    assumed: BTreeSet<String>,
    /// The most tokens of a sequence, where that is known.
    context: Option<usize>,
    /// Whether a rotation was made for short contexts, which another context would change.
    has_short_rope: Rc<Cell<bool>>,
    /// Fields and the architecture's own names of them.
    names: &'static [(&'static str, &'static str)],
}

/// Fields that transformers has renamed, or names otherwise in each architecture.
const OTHER_NAMES: [&[&str]; 7] = [
    &["num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts"],
    &["n_shared_experts", "num_shared_experts", "moe_num_shared_experts"],
    &["num_experts_per_tok", "moe_k"],
    &["norm_topk_prob", "route_norm"],
    &["routed_scaling_factor", "route_scale"],
    &["first_k_dense_replace", "num_dense_layers"],
    &["layer_types", "layers_block_type"],
];

impl ConfigFile {
    /// Reads the configuration of a model folder.
    ///
    /// # Errors
    /// [`Error::ModelNotFound`] without `config.json`, [`Error::Config`] for a broken one.
    pub(super) fn read(dir: &Path) -> Result<Self> {
        let path = dir.join("config.json");
        if !path.is_file() {
            let found = crate::foreign::found_in(dir).map(|found| format!("; {found}"));
            return Err(Error::ModelNotFound(format!(
                "{} is not a model folder: it has no config.json{}",
                dir.display(),
                found.unwrap_or_default()
            )));
        }
        let values = read_object(&path)?;
        Self::of(&path, values)
    }

    /// A configuration that is, or will be, at `path`.
    ///
    /// # Errors
    /// None today: any object is a configuration.
    pub(super) fn of(path: &Path, values: Map<String, Value>) -> Result<Self> {
        let Value::Object(values) = whole_numbers(Value::Object(values)) else {
            return Err(Error::config(path, "not an object"));
        };
        Ok(Self {
            path: path.to_owned(),
            values,
            whole: None,
            eps: None,
            sizes: None,
            used_sizes: Rc::default(),
            assumed: BTreeSet::new(),
            context: None,
            has_short_rope: Rc::default(),
            names: &[],
        })
    }

    /// Its fields.
    pub(super) fn values(&self) -> &Map<String, Value> {
        &self.values
    }

    /// An [`Error::Config`] about this file.
    pub(super) fn error(&self, message: impl Into<String>) -> Error {
        Error::config(&self.path, message)
    }

    /// The whole configuration, without what does not change the model.
    pub(super) fn text(&self) -> String {
        const NOTES: [&str; 4] = ["_name_or_path", "transformers_version", "dtype", "torch_dtype"];
        let values = self.values.iter().filter(|(name, _)| !NOTES.contains(&name.as_str()));
        // In the order of their names, which does not matter.
        let values: BTreeMap<_, _> = values.collect();
        values.iter().map(|(name, value)| format!("{name}={value};")).collect()
    }

    /// `model_type`.
    pub(super) fn model_type(&self) -> Result<String> {
        self.require("model_type")
    }

    /// A field that must be there.
    pub(super) fn require<T: DeserializeOwned>(&self, field: &str) -> Result<T> {
        let missing = || self.error(format!("\"{}\" is missing", self.own_name(field)));
        self.optional(field)?.ok_or_else(missing)
    }

    /// The value of a field, by whichever of its names it has one; `None` for null.
    fn value(&self, field: &str) -> Option<&Value> {
        self.named_value(field).map(|(_, value)| value)
    }

    /// The value that the file has of a field, or the architecture's own of a size that the file
    /// says nothing of.
    fn named_value(&self, field: &str) -> Option<(&String, &Value)> {
        self.given(field).or_else(|| {
            let sizes = self.sizes?;
            let is_said = self.names_of(field).any(|name| self.values.contains_key(name));
            let mut names = self.names_of(field).filter(|_| !is_said);
            let (name, value) = names.find_map(|name| sizes.get_key_value(name))?;
            self.used_sizes.borrow_mut().insert(name);
            Some((name, value))
        })
    }

    /// The value that the file has of a field, and the name that it goes by there.
    fn given(&self, field: &str) -> Option<(&String, &Value)> {
        self.names_of(field)
            .filter_map(|name| self.values.get_key_value(name))
            .find(|(_, value)| !value.is_null())
    }

    /// Whether the file itself says anything of a field.
    pub(super) fn says(&self, field: &str) -> bool {
        self.given(field).is_some_and(|(name, _)| !self.assumed.contains(name))
    }

    /// The names of a field, the architecture's own first.
    fn names_of<'a>(&'a self, field: &'a str) -> impl Iterator<Item = &'a str> {
        let others = OTHER_NAMES.iter().find(|names| names.contains(&field));
        [self.own_name(field), field]
            .into_iter()
            .chain(others.into_iter().copied().flatten().copied())
    }

    /// A field that may be absent or null.
    pub(super) fn optional<T: DeserializeOwned>(&self, field: &str) -> Result<Option<T>> {
        let Some((name, value)) = self.named_value(field) else { return Ok(None) };
        serde_json::from_value(value.clone())
            .map(Some)
            .map_err(|error| self.error(format!("\"{name}\": {error}")))
    }

    /// A field that has a value unless it is null.
    pub(super) fn unless_null<T: DeserializeOwned>(
        &self,
        field: &str,
        default: T,
    ) -> Result<Option<T>> {
        match self.values.get(field) {
            None => Ok(Some(default)),
            Some(_) => self.optional(field),
        }
    }

    /// Refuses another value than the one number that an architecture is written for.
    pub(super) fn expect_number(&self, field: &str, expected: f32) -> Result<()> {
        match self.optional::<f32>(field)? {
            Some(value) if value != expected => {
                let message = format!("\"{field}\" is {value}, and only {expected} is supported");
                Err(self.error(message))
            }
            _ => Ok(()),
        }
    }

    /// Refuses models in which each token sees those behind it: they embed texts and do not write
    /// them.
    pub(super) fn refuse_looking_ahead(&self) -> Result<()> {
        let field = "use_bidirectional_attention";
        match self.value(field) {
            Some(Value::Bool(true)) => {}
            Some(Value::String(whom)) if whom == "all" => {}
            _ => return Ok(()),
        }
        Err(self.error(format!("\"{field}\" makes this no model that continues texts")))
    }

    /// Positions the model is made for.
    pub(super) fn context_length(&self) -> Option<usize> {
        const FIELDS: [&str; 6] = [
            "max_position_embeddings",
            "n_positions",
            "max_context_length",
            "block_size",
            "model_max_length",
            "max_seq_len",
        ];
        let text = self.value("text_config").and_then(Value::as_object);
        let value = |values: &Map<String, Value>, field: &str| values.get(field)?.as_u64();
        let mut positions = FIELDS
            .iter()
            .filter_map(|field| value(&self.values, field).or_else(|| value(text?, field)));
        usize::try_from(positions.next()?).ok()
    }

    /// The configuration of the language model within one of several parts, under the keys of this
    /// file where it has none of its own.
    fn text_part(&self) -> Result<Self> {
        let Some(part) = self.optional::<Map<String, Value>>("text_config")? else {
            return Err(self.error("\"text_config\" is missing"));
        };
        let mut values = self.values.clone();
        values.remove("text_config");
        values.extend(part);
        let whole = self.values.get("model_type").and_then(Value::as_str);
        let whole = Some(whole.unwrap_or_default().to_owned());
        Ok(Self { values, whole, ..self.clone() })
    }

    /// Whether the language model is one of several parts.
    pub(super) fn is_part(&self) -> bool {
        self.whole.is_some()
    }

    /// Whether it is, or is a part of, a model of this `model_type`.
    pub(super) fn is_of(&self, model_type: &str) -> Result<bool> {
        Ok(self.whole.as_deref() == Some(model_type) || self.model_type()? == model_type)
    }

    /// As [`ConfigFile::text_part`], or the whole configuration where it has no parts.
    pub(super) fn text_part_or_whole(&self) -> Result<Self> {
        if self.values.contains_key("text_config") { self.text_part() } else { Ok(self.clone()) }
    }

    /// The same configuration with these values for the fields that it lacks. A list that is null
    /// is one that it lacks.
    pub(super) fn with_defaults<const N: usize>(&self, defaults: [(&str, Value); N]) -> Self {
        let mut file = self.clone();
        for (field, value) in defaults {
            let is_absent = !file.values.contains_key(field) || value.is_array();
            if is_absent && file.given(field).is_none() {
                file.values.insert(field.to_owned(), value);
                file.assumed.insert(field.to_owned());
            }
        }
        file
    }

    /// The same configuration with this epsilon of norms where no field says it.
    pub(super) fn with_default_eps(&self, eps: f32) -> Self {
        Self { eps: Some(eps), ..self.clone() }
    }

    /// The same configuration of a model whose sequences have at most so many tokens.
    pub(super) fn with_context(&self, context: Option<usize>) -> Self {
        Self { context, ..self.clone() }
    }

    /// Whether the model that was built is one of short contexts, where longer ones would have
    /// given another one.
    pub(super) fn is_for_short_contexts(&self) -> bool {
        self.has_short_rope.get()
    }

    /// The same configuration with these values, whatever it says.
    pub(super) fn with<const N: usize>(&self, values: [(&str, Value); N]) -> Self {
        let mut file = self.clone();
        file.values.extend(values.map(|(field, value)| (field.to_owned(), value)));
        file
    }

    /// The same configuration of an architecture that has other names, on the right, for these
    /// fields.
    pub(super) fn renamed(&self, names: &'static [(&'static str, &'static str)]) -> Self {
        Self { names, ..self.clone() }
    }

    /// What this architecture calls a field.
    fn own_name<'a>(&self, field: &'a str) -> &'a str {
        self.names.iter().find(|(name, _)| *name == field).map_or(field, |(_, own)| own)
    }

    /// The same configuration without a field.
    pub(super) fn without(&self, field: &str) -> Self {
        let mut file = self.clone();
        file.values.remove(field);
        file
    }

    /// A whole number between 1 and `limit`, beyond which no model goes.
    pub(super) fn bounded(&self, field: &str, value: i64, limit: i64) -> Result<i32> {
        if (1..=limit).contains(&value) {
            Ok(value as i32)
        } else {
            let field = self.own_name(field);
            Err(self.error(format!("\"{field}\" is {value}, expected 1 to {limit}")))
        }
    }

    /// A size that must be there: a number of features, heads, experts or tokens.
    pub(super) fn size(&self, field: &str) -> Result<i32> {
        self.bounded(field, self.require(field)?, 1 << 24)
    }

    /// A size that may be absent.
    pub(super) fn size_or(&self, field: &str, default: i32) -> Result<i32> {
        match self.optional(field)? {
            Some(value) => self.bounded(field, value, 1 << 24),
            None => Ok(default),
        }
    }

    /// A switch that is off unless the configuration says otherwise.
    pub(super) fn flag(&self, field: &str) -> Result<bool> {
        Ok(self.optional(field)?.unwrap_or(false))
    }

    /// A switch that is on unless the configuration says otherwise, as null does, too.
    pub(super) fn flag_on(&self, field: &str) -> Result<bool> {
        let is_said = self.names_of(field).any(|name| self.values.contains_key(name));
        Ok(self.optional(field)?.unwrap_or(!is_said))
    }

    /// `hidden_act`, SiLU where it is not said.
    pub(super) fn activation(&self) -> Result<Activation> {
        Ok(self.optional("hidden_act")?.unwrap_or(Activation::Silu))
    }

    /// Refuses another activation than SiLU where blocks are written for that one.
    pub(super) fn expect_silu(&self, field: &str) -> Result<()> {
        match self.optional::<Activation>(field)? {
            None | Some(Activation::Silu) => Ok(()),
            Some(_) => Err(self.error(format!("\"{field}\" is not SiLU, as in every such model"))),
        }
    }

    /// `hidden_activation` of Gemma's models, the approximation of GELU where it is not said.
    pub(super) fn hidden_activation(&self) -> Result<Activation> {
        Ok(self.optional("hidden_activation")?.unwrap_or(Activation::GeluTanh))
    }

    /// `num_hidden_layers`, refused before anything is made for each where no model has so many.
    pub(super) fn layers(&self) -> Result<usize> {
        let layers =
            self.bounded("num_hidden_layers", self.require("num_hidden_layers")?, 10_000)?;
        Ok(layers.unsigned_abs() as usize)
    }
}

/// The same with every whole number written as one: some writers give sizes as `32.0`.
fn whole_numbers(value: Value) -> Value {
    // Beyond this, floats are no exact numbers.
    const LIMIT: f64 = (1_u64 << 53) as f64;
    match value {
        Value::Number(number) => match number.as_f64() {
            Some(float) if number.is_f64() && float.fract() == 0.0 && float.abs() < LIMIT => {
                Value::from(float as i64)
            }
            _ => Value::Number(number),
        },
        Value::Array(items) => items.into_iter().map(whole_numbers).collect(),
        Value::Object(fields) => {
            fields.into_iter().map(|(name, value)| (name, whole_numbers(value))).collect()
        }
        other => other,
    }
}

fn read_object(path: &Path) -> Result<Map<String, Value>> {
    let text = crate::files::read(path, MAX_BYTES)?
        .ok_or_else(|| Error::config(path, "the file is missing"))?;
    if let Some(problem) = crate::files::placeholder(&text) {
        return Err(Error::config(path, problem));
    }
    let value = crate::json::parse(&text).map_err(|error| {
        Error::config(path, format!("not valid JSON: {error}")).caused_by(error)
    })?;
    match value {
        Value::Object(values) => Ok(values),
        _ => Err(Error::config(path, "expected an object")),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use serde_json::json;

    use super::*;

    fn file(values: Value) -> ConfigFile {
        ConfigFile::of(Path::new("config.json"), values.as_object().unwrap().clone()).unwrap()
    }

    #[test]
    fn a_switch_that_is_null_is_off() {
        let values = json!({"norm_topk_prob": null, "use_bias": false, "route_norm": null});
        let file = file(values);
        assert!(!file.flag_on("norm_topk_prob").unwrap());
        assert!(!file.flag_on("use_bias").unwrap());
        assert!(file.flag_on("use_qk_norm").unwrap());
    }

    #[test]
    fn a_list_that_is_null_is_absent_and_another_null_is_not() {
        let file = file(json!({"layer_types": null, "sliding_window": null}));
        let kinds = ("layer_types", json!(["full_attention"]));
        let file = file.with_defaults([kinds, ("sliding_window", json!(8))]);
        assert_eq!(file.optional::<Vec<String>>("layer_types").unwrap().unwrap().len(), 1);
        assert_eq!(file.optional::<i64>("sliding_window").unwrap(), None);
    }
}
