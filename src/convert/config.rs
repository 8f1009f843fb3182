//! `config.json` of a converted checkpoint.

use std::path::Path;

use serde_json::{Map, Value, json};

use super::ConvertOptions;
use crate::error::{Error, Result};
use crate::mlx::dtype_name;
use crate::mlx::quantized::QuantizationParams;

/// Configurations are small; a file beyond this size is not one.
const MAX_BYTES: u64 = 16 << 20;

/// The configuration of a model's folder, which has been loaded before.
pub(super) fn read(source: &Path) -> Result<Map<String, Value>> {
    let path = source.join("config.json");
    let text = crate::files::read(&path, MAX_BYTES)?
        .ok_or_else(|| Error::config(&path, "the file is missing"))?;
    match crate::json::parse(&text) {
        Ok(Value::Object(values)) => Ok(values),
        Ok(_) => Err(Error::config(&path, "expected an object")),
        Err(error) => {
            Err(Error::config(&path, format!("not valid JSON: {error}")).caused_by(error))
        }
    }
}

/// A format as mlx-lm writes it.
pub(super) fn format(params: QuantizationParams) -> Value {
    let QuantizationParams { mode, group_size, bits } = params;
    json!({ "group_size": group_size, "bits": bits, "mode": mode.name() })
}

/// What changes in the configuration. Parts that see are not converted.
pub(super) fn finish(
    config: &mut Map<String, Value>,
    quantization: Option<&Map<String, Value>>,
    options: &ConvertOptions,
    declared: Vec<(&'static str, Value)>,
) {
    for field in ["_name_or_path", "vision_config", "quantization", "quantization_config"] {
        config.remove(field);
    }
    if let Some(Value::Object(text)) = config.get_mut("text_config") {
        text.remove("quantization_config");
    }
    if let Some(quantization) = quantization {
        for field in ["quantization", "quantization_config"] {
            config.insert(field.to_owned(), Value::Object(quantization.clone()));
        }
    }
    if let Some(dtype) = options.dtype {
        set_dtype(config, dtype_name(dtype));
    }
    for (field, value) in declared {
        if let Some(Value::Object(text)) = config.get_mut("text_config") {
            text.insert(field.to_owned(), value.clone());
        }
        config.insert(field.to_owned(), value);
    }
    config.sort_keys();
}

fn set_dtype(config: &mut Map<String, Value>, name: &str) {
    for field in ["dtype", "torch_dtype"] {
        if let Some(value) = config.get_mut(field) {
            *value = Value::from(name);
        }
    }
    if let Some(Value::Object(text)) = config.get_mut("text_config") {
        set_dtype(text, name);
    }
}

pub(super) fn write(folder: &Path, config: &Map<String, Value>) -> Result<()> {
    let path = folder.join("config.json");
    let text = format!("{:#}\n", Value::Object(config.clone()));
    std::fs::write(&path, text).map_err(|error| Error::io(&path, error))
}
