//! `adapter_config.json`.

use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::error::{Error, Result};

/// Configurations are small; a file beyond this size is not one.
const MAX_BYTES: u64 = 16 << 20;

/// How an adapter was trained.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AdapterKind {
    /// Products of low rank.
    Lora,
    /// The same, and a magnitude for each output.
    Dora,
    /// Whole matrices.
    Full,
}

impl AdapterKind {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Lora => "lora",
            Self::Dora => "dora",
            Self::Full => "full",
        }
    }
}

/// The configuration of an adapter.
pub(super) struct AdapterConfig {
    pub(super) path: PathBuf,
    pub(super) values: Map<String, Value>,
}

impl AdapterConfig {
    pub(super) fn read(dir: &Path) -> Result<Self> {
        let path = dir.join("adapter_config.json");
        let Some(text) = crate::files::read(&path, MAX_BYTES)? else {
            let message = "there is no such file, so its folder is no adapter's";
            return Err(Error::adapter(path, message));
        };
        if let Some(problem) = crate::files::placeholder(&text) {
            return Err(Error::adapter(path, problem));
        }
        match crate::json::parse(&text) {
            Ok(Value::Object(values)) => Ok(Self { path, values }),
            Ok(_) => Err(Error::adapter(path, "expected an object")),
            Err(error) => {
                Err(Error::adapter(path, format!("not valid JSON: {error}")).caused_by(error))
            }
        }
    }

    /// What changes what an adapter computes: the numbers, and where they are used.
    pub(super) fn text(&self) -> String {
        const FIELDS: [&str; 6] = [
            "lora_parameters",
            "fine_tune_type",
            "lora_alpha",
            "alpha_pattern",
            "use_rslora",
            "use_dora",
        ];
        let values = FIELDS.iter().filter_map(|field| self.values.get(*field));
        values.map(|value| format!("{value};")).collect()
    }

    /// Whether PEFT wrote it.
    pub(super) fn is_peft(&self) -> bool {
        self.values.contains_key("peft_type")
    }

    pub(super) fn error(&self, message: impl Into<String>) -> Error {
        Error::adapter(&self.path, message)
    }

    pub(super) fn unsupported(&self, message: &str) -> Error {
        Error::Unsupported(format!("{}: {message}", self.path.display()))
    }

    /// A field that may be absent or null.
    pub(super) fn optional<T: DeserializeOwned>(&self, field: &str) -> Result<Option<T>> {
        let value = self.values.get(field).filter(|value| !value.is_null());
        let value = value.map(|value| serde_json::from_value(value.clone()));
        value.transpose().map_err(|error| self.error(format!("\"{field}\": {error}")))
    }

    /// A finite number.
    pub(super) fn number(&self, field: &str, value: &Value) -> Result<f32> {
        let number = value.as_f64().map(|number| number as f32).filter(|it| it.is_finite());
        number.ok_or_else(|| self.error(format!("\"{field}\" is {value}, expected a number")))
    }

    /// Whether a field says something: null, false, and what is empty do not.
    pub(super) fn says(&self, field: &str) -> bool {
        match self.values.get(field) {
            None | Some(Value::Null | Value::Bool(false)) => false,
            Some(Value::Array(items)) => !items.is_empty(),
            Some(Value::Object(fields)) => !fields.is_empty(),
            Some(_) => true,
        }
    }
}
