//! What a configuration says of quantized weights.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;
use serde_json::{Map, Value};

use super::{ConfigFile, read_object};
use crate::error::{Error, Result};
use crate::mlx::quantized::{Mode, QuantizationParams};
use crate::weights::{Foreign, Quantization, Refusal};

/// Files beside the configuration in which programs have written what `quantization_config` says
/// since, with their methods.
const OTHER_FILES: [(&str, &str); 3] = [
    ("hf_quant_config.json", "modelopt"),
    ("quantize_config.json", "gptq"),
    ("quant_config.json", "awq"),
];

/// Features of a block in which a pack of Prism's rotates inputs; 0 for none.
const ROTATED_BLOCKS: [i32; 6] = [0, 512, 1024, 2048, 4096, 8192];

/// The same with a method, if it names none.
fn with_method(mut config: Value, method: &str) -> Value {
    if let Some(fields) = config.as_object_mut() {
        fields.entry("quant_method").or_insert(method.into());
    }
    config
}

impl ConfigFile {
    /// `quantization`: the default format, and layers that differ.
    pub(in crate::models) fn quantization(&self) -> Result<Quantization> {
        let mut quantization = Quantization::default();
        let Some(values) = self.own_quantization()? else {
            let Some(config) = self.foreign_quantization()? else { return Ok(quantization) };
            if config["quant_method"] == "mxfp4" {
                let (group_size, bits) = Mode::Mxfp4.defaults();
                quantization.default =
                    Some(QuantizationParams { mode: Mode::Mxfp4, group_size, bits });
                return Ok(quantization);
            }
            let foreign = Foreign::of(&config).map_err(|refusal| match refusal {
                Refusal::Invalid(message) => self.error(message),
                Refusal::Unsupported(what) => Error::Unsupported(format!(
                    "{}: the model is quantized with {what}, which is not supported; get another \
                     version of it, or convert the original one",
                    self.path.display()
                )),
            })?;
            quantization.foreign = Some(foreign);
            return Ok(quantization);
        };
        quantization.default = Some(self.format("quantization", &values)?);
        quantization.rotations = self.rotations()?;
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

    /// The blocks of rotated inputs in a pack of Prism's, whose `modules` have a path each and a
    /// block that is 0 where nothing is rotated.
    fn rotations(&self) -> Result<BTreeMap<String, i32>> {
        #[derive(Deserialize)]
        struct Module {
            path: String,
            block: i32,
        }
        let Some(namespace) = self.optional::<String>("tensor_namespace")? else {
            return Ok(BTreeMap::new());
        };
        let schema = self.optional::<i64>("schema_version")?.unwrap_or(2);
        if !matches!((schema, &*namespace), (1, "mlx-lm-text") | (2, "mlx-vlm-qwen3_5")) {
            return Err(self.error(format!(
                "\"schema_version\" {schema} with \"tensor_namespace\" \"{namespace}\" is not supported"
            )));
        }
        let layout: Option<String> = self.optional("gdn_activation_layout")?;
        if let Some(layout) = layout.filter(|layout| layout != "grouped") {
            let message = format!("\"gdn_activation_layout\" \"{layout}\" is not supported");
            return Err(self.error(message));
        }
        let mut rotations = BTreeMap::new();
        for Module { path, block } in self.require::<Vec<Module>>("modules")? {
            if !ROTATED_BLOCKS.contains(&block) {
                let message = format!("\"modules\": {path} has a block of {block}");
                return Err(self.error(format!("{message}, expected one of {ROTATED_BLOCKS:?}")));
            }
            if rotations.insert(path.clone(), block).is_some() {
                return Err(self.error(format!("\"modules\" names {path} twice")));
            }
        }
        rotations.retain(|_, block| *block != 0);
        Ok(rotations)
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

    /// What another program says of how it has quantized the model, with its method.
    fn foreign_quantization(&self) -> Result<Option<Value>> {
        if let Some(config) = self.value("quantization_config") {
            return Ok(Some(config.clone()));
        }
        if let Some(config) = self.value("compression_config") {
            return Ok(Some(with_method(config.clone(), "compressed-tensors")));
        }
        let folder = self.path.parent().unwrap_or(Path::new(""));
        let beside = OTHER_FILES.map(|(file, method)| (folder.join(file), method));
        let Some((path, method)) = beside.into_iter().find(|(path, _)| path.is_file()) else {
            return Ok(None);
        };
        let mut fields = read_object(&path)?;
        if let Some(Value::Object(inner)) = fields.remove("quantization") {
            fields = inner;
        }
        for (old, new) in [("w_bit", "bits"), ("q_group_size", "group_size")] {
            if let Some(value) = fields.remove(old) {
                fields.insert(new.to_owned(), value);
            }
        }
        Ok(Some(with_method(Value::Object(fields), method)))
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
