//! `config.json` and `generation_config.json`.

mod decoder;
mod experts;
mod latent;
mod quantization;
mod recurrent;
mod windows;

use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::error::{Error, Result};
pub(super) use decoder::{LayerType, RopeDefaults};
pub(super) use recurrent::Mamba2Fields;

/// Configurations are small; a file beyond this size is not one.
const MAX_BYTES: u64 = 16 << 20;

/// The parsed configuration of a model folder.
#[derive(Clone)]
pub(super) struct ConfigFile {
    path: PathBuf,
    values: Map<String, Value>,
    generation_path: PathBuf,
    generation: Map<String, Value>,
}

/// What `generation_config.json` says of sampling; absent fields were not said.
#[derive(Debug, Clone, Copy, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct GenerationDefaults {
    /// `false` asks for greedy decoding.
    pub do_sample: Option<bool>,
    /// Sampling temperature.
    pub temperature: Option<f32>,
    /// Nucleus sampling.
    pub top_p: Option<f32>,
    /// Number of candidates; 0 for all.
    pub top_k: Option<u32>,
    /// Least probability relative to the best candidate's.
    pub min_p: Option<f32>,
    /// Penalty for repeated tokens.
    pub repetition_penalty: Option<f32>,
    /// Largest number of new tokens.
    pub max_new_tokens: Option<usize>,
}

impl ConfigFile {
    /// Reads the configuration of a model folder.
    ///
    /// # Errors
    /// [`Error::ModelNotFound`] without `config.json`, [`Error::Config`] for a broken one. As in
    /// mlx-lm, a broken `generation_config.json` is as none.
    pub(super) fn read(dir: &Path) -> Result<Self> {
        let path = dir.join("config.json");
        if !path.is_file() {
            return Err(Error::ModelNotFound(format!(
                "{} is not a model folder: it has no config.json",
                dir.display()
            )));
        }
        let values = read_object(&path)?;
        let generation_path = dir.join("generation_config.json");
        let generation = if generation_path.is_file() {
            read_object(&generation_path).unwrap_or_default()
        } else {
            Map::new()
        };
        Ok(Self { path, values, generation_path, generation })
    }

    /// An [`Error::Config`] about this file.
    pub(super) fn error(&self, message: impl Into<String>) -> Error {
        Error::config(&self.path, message)
    }

    /// `model_type`.
    pub(super) fn model_type(&self) -> Result<String> {
        self.require("model_type")
    }

    /// A field that must be there.
    pub(super) fn require<T: DeserializeOwned>(&self, field: &str) -> Result<T> {
        self.optional(field)?.ok_or_else(|| self.error(format!("\"{field}\" is missing")))
    }

    /// A field that may be absent or null.
    pub(super) fn optional<T: DeserializeOwned>(&self, field: &str) -> Result<Option<T>> {
        match self.values.get(field) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => serde_json::from_value(value.clone())
                .map(Some)
                .map_err(|error| self.error(format!("\"{field}\": {error}"))),
        }
    }

    /// Positions the model is made for.
    pub(super) fn context_length(&self) -> Option<usize> {
        let field = "max_position_embeddings";
        let text = || self.values.get("text_config")?.get(field)?.as_u64();
        self.optional(field).ok().flatten().or_else(|| usize::try_from(text()?).ok())
    }

    /// Sampling defaults.
    pub(super) fn generation_defaults(&self) -> Result<GenerationDefaults> {
        parse(&self.generation_path, Value::Object(self.generation.clone()))
    }

    /// Whether the configuration says that the embedding is the output head.
    pub(super) fn is_tied(&self) -> bool {
        self.values.get("tie_word_embeddings").and_then(Value::as_bool).unwrap_or(false)
    }

    /// The configuration of the language model within one of several parts, under the keys of this
    /// file where it has none of its own.
    pub(super) fn text_part(&self) -> Result<Self> {
        let Some(part) = self.optional::<Map<String, Value>>("text_config")? else {
            return Err(self.error("\"text_config\" is missing"));
        };
        let mut values = self.values.clone();
        values.remove("text_config");
        values.extend(part);
        Ok(Self { values, ..self.clone() })
    }

    /// As [`ConfigFile::text_part`], or the whole configuration where it has no parts.
    pub(super) fn text_part_or_whole(&self) -> Result<Self> {
        if self.values.contains_key("text_config") { self.text_part() } else { Ok(self.clone()) }
    }

    /// The same configuration with these values for the fields that it lacks.
    pub(super) fn with_defaults<const N: usize>(&self, defaults: [(&str, Value); N]) -> Self {
        let mut file = self.clone();
        for (field, value) in defaults {
            file.values.entry(field).or_insert(value);
        }
        file
    }

    /// A whole number between 1 and `limit`, beyond which no model goes.
    pub(super) fn bounded(&self, field: &str, value: i64, limit: i64) -> Result<i32> {
        if (1..=limit).contains(&value) {
            Ok(value as i32)
        } else {
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

    /// `num_hidden_layers`, refused before anything is made for each where no model has so many.
    pub(super) fn layers(&self) -> Result<usize> {
        let layers =
            self.bounded("num_hidden_layers", self.require("num_hidden_layers")?, 10_000)?;
        Ok(layers.unsigned_abs() as usize)
    }
}

fn parse<T: DeserializeOwned>(path: &Path, value: Value) -> Result<T> {
    serde_path_to_error::deserialize(value).map_err(|error| {
        let field = error.path().to_string();
        let at = if field == "." { String::new() } else { format!("\"{field}\": ") };
        Error::config(path, format!("{at}{}", error.into_inner()))
    })
}

fn read_object(path: &Path) -> Result<Map<String, Value>> {
    let size = std::fs::metadata(path).map_err(|error| Error::io(path, &error))?.len();
    if size > MAX_BYTES {
        return Err(Error::config(path, "the file is larger than any configuration needs"));
    }
    let text = std::fs::read(path).map_err(|error| Error::io(path, &error))?;
    let value = crate::json::parse(&text)
        .map_err(|error| Error::config(path, format!("not valid JSON: {error}")))?;
    match value {
        Value::Object(values) => Ok(values),
        _ => Err(Error::config(path, "expected an object")),
    }
}
