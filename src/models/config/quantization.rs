//! What a configuration says of quantized weights.

use serde_json::{Map, Value};

use super::ConfigFile;
use crate::error::{Error, Result};
use crate::mlx::quantized::{Mode, QuantizationParams};
use crate::weights::Quantization;

/// The method that a foreign configuration names, for messages.
fn method_of(config: Option<&Value>) -> String {
    let method = config.and_then(|config| config["quant_method"].as_str());
    method.map_or(String::new(), |method| format!(", but of the method \"{method}\""))
}

impl ConfigFile {
    /// `quantization`: the default format, and layers that differ.
    pub(in crate::models) fn quantization(&self) -> Result<Quantization> {
        let mut quantization = Quantization::default();
        let Some(values) = self.own_quantization()? else {
            let foreign = self.value("quantization_config");
            if foreign.is_some_and(|config| config["quant_method"] == "mxfp4") {
                let (group_size, bits) = Mode::Mxfp4.defaults();
                quantization.default =
                    Some(QuantizationParams { mode: Mode::Mxfp4, group_size, bits });
                return Ok(quantization);
            }
            if let Some(config) = foreign.filter(|config| config["quant_method"] == "fp8") {
                quantization.fp8_block = Some(self.fp8_block(config)?);
                return Ok(quantization);
            }
            if foreign.is_some() {
                return Err(Error::Unsupported(format!(
                    "{}: \"quantization_config\" is not MLX's own{}; convert the original checkpoint \
                     with mlx_lm.convert",
                    self.path.display(),
                    method_of(foreign)
                )));
            }
            return Ok(quantization);
        };
        quantization.default = Some(self.format("quantization", &values)?);
        for (path, value) in &values {
            let format = match value {
                Value::Bool(false) => None,
                Value::Object(fields) => {
                    Some(self.format(&format!("quantization.{path}"), fields)?)
                }
                _ => continue,
            };
            quantization.layers.insert(path.clone(), format);
        }
        Ok(quantization)
    }

    /// MLX's own fields, which mlx-lm writes as `quantization` and as `quantization_config`. Those
    /// of others name their method.
    fn own_quantization(&self) -> Result<Option<Map<String, Value>>> {
        if let Some(own) = self.optional("quantization")? {
            return Ok(Some(own));
        }
        let own = self.value("quantization_config").and_then(Value::as_object).filter(|fields| {
            let method = fields.get("quant_method").filter(|method| !method.is_null());
            let is_own = |field: &str| fields.get(field).is_some_and(Value::is_number);
            method.is_none_or(|method| method == "mlx") && is_own("group_size") && is_own("bits")
        });
        Ok(own.cloned())
    }

    /// The blocks of 8-bit floats (e4m3), rows and columns, that share a scale.
    fn fp8_block(&self, config: &Value) -> Result<[i32; 2]> {
        let format = config.get("fmt").and_then(Value::as_str).unwrap_or("e4m3");
        let block = serde_json::from_value::<[i32; 2]>(config["weight_block_size"].clone());
        match block {
            Ok(block) if format == "e4m3" && block.iter().all(|size| (1..=1 << 14).contains(size)) => {
                Ok(block)
            }
            _ => Err(self.error(
                "\"quantization_config\" of fp8 is supported as e4m3 with a \"weight_block_size\" of \
                 rows and columns",
            )),
        }
    }

    fn format(&self, field: &str, values: &Map<String, Value>) -> Result<QuantizationParams> {
        let mode = match values.get("mode") {
            None => Mode::Affine,
            Some(name) => Mode::ALL
                .into_iter()
                .find(|mode| Some(mode.name()) == name.as_str())
                .ok_or_else(|| {
                    let names = Mode::ALL.map(Mode::name);
                    self.error(format!("\"{field}.mode\" is {name}, expected one of {names:?}"))
                })?,
        };
        let (group_size, bits) = mode.defaults();
        let number = |name: &str, default: i64, allowed: &[i64]| {
            let value = values.get(name).map_or(Some(default), Value::as_i64);
            match value.filter(|value| allowed.contains(value)) {
                Some(value) => Ok(value as i32),
                None => Err(self.error(format!("\"{field}.{name}\" is not one of {allowed:?}"))),
            }
        };
        let (groups, widths): (&[i64], &[i64]) = match mode {
            Mode::Affine => (&[32, 64, 128], &[2, 3, 4, 5, 6, 8]),
            _ => (&[i64::from(group_size)], &[i64::from(bits)]),
        };
        Ok(QuantizationParams {
            mode,
            group_size: number("group_size", i64::from(group_size), groups)?,
            bits: number("bits", i64::from(bits), widths)?,
        })
    }
}
