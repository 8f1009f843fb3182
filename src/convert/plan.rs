//! What becomes of each module: the choices of `mlx_lm.convert`, and those of the caller.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::config;
use super::job::Job;
use super::{ConvertOptions, QuantizeOptions};
use crate::error::{Error, Result};
use crate::mlx::quantized::{Mode, QuantizationParams, QuantizedTensor};
use crate::mlx::{Array, Dtype, is_float, ops};
use crate::models::{Layout, Modules, Quantizing, Tensors};
use crate::weights::Quantization;

/// nvfp4's factor of a tensor is stored times the largest scale (e4m3) and the largest code (e2m1).
const NVFP4_RANGE: f32 = 448.0 * 6.0;

/// Which layers get more bits, as mlx-lm names it: values and down projections of the first and
/// last eighth of the layers and of every third between, and the head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Recipe {
    /// 2 and 6 bits.
    Mixed2And6,
    /// 3 and 4 bits.
    Mixed3And4,
    /// 3 and 6 bits.
    Mixed3And6,
    /// 4 and 6 bits.
    Mixed4And6,
}

impl Recipe {
    /// Every recipe.
    pub const ALL: [Self; 4] =
        [Self::Mixed2And6, Self::Mixed3And4, Self::Mixed3And6, Self::Mixed4And6];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Mixed2And6 => "mixed_2_6",
            Self::Mixed3And4 => "mixed_3_4",
            Self::Mixed3And6 => "mixed_3_6",
            Self::Mixed4And6 => "mixed_4_6",
        }
    }

    /// Few bits and more.
    fn bits(self) -> (i32, i32) {
        match self {
            Self::Mixed2And6 => (2, 6),
            Self::Mixed3And4 => (3, 4),
            Self::Mixed3And6 => (3, 6),
            Self::Mixed4And6 => (4, 6),
        }
    }

    /// The bits of a module. `place` is where the layer's number stands in paths.
    fn bits_of(self, path: &str, place: usize, layers: usize) -> i32 {
        let (few, more) = self.bits();
        let layer = path.split('.').nth(place).and_then(|part| part.parse().ok()).unwrap_or(0);
        let eighth = layers / 8;
        let outer = layer < eighth || layer >= 7 * layers / 8;
        let precise = outer || (layer - eighth) % 3 == 2;
        let sensitive = ["v_proj", "v_a_proj", "v_b_proj", "down_proj"];
        let is_sensitive = sensitive.iter().any(|name| path.contains(name));
        if precise && is_sensitive || path.contains("lm_head") { more } else { few }
    }
}

/// What becomes of the modules of a checkpoint.
pub(super) struct Plan {
    /// The formats that matrices of numbers get, by their modules' paths.
    formats: BTreeMap<String, QuantizationParams>,
    /// The formats of matrices that are packed already.
    packed: BTreeMap<String, QuantizationParams>,
    dequantize: bool,
    dtype: Option<Dtype>,
    /// The modules whose bits neither the caller nor the architecture says.
    pub(super) free: Vec<String>,
    /// Names of tensors that keep their type whatever the model has.
    uncast: Vec<String>,
    /// What the new configuration says of formats.
    pub(super) quantization: Option<Map<String, Value>>,
}

impl Plan {
    pub(super) fn of(
        layout: &Layout,
        config: &Map<String, Value>,
        mut packed: BTreeMap<String, QuantizationParams>,
        unpacked: BTreeMap<String, QuantizationParams>,
        options: &ConvertOptions,
    ) -> Result<Self> {
        let Layout { tensors, modules, quantization, .. } = layout;
        if options.quantize.is_some() && options.dequantize {
            let message = "a model is either quantized or dequantized";
            return Err(Error::argument("dequantize", message));
        }
        packed.retain(|path, _| !unpacked.contains_key(path));
        let mut plan = Self {
            // What was packed and has been changed is packed again.
            formats: if options.dequantize { BTreeMap::new() } else { unpacked },
            dequantize: options.dequantize,
            dtype: options.dtype.or_else(|| declared_dtype(config)),
            uncast: tensors.names(|name| !modules.casts(name)),
            free: Vec::new(),
            quantization: None,
            packed,
        };
        if !options.dequantize {
            plan.quantization = declared_quantization(config, quantization);
        }
        if let Some(quantize) = &options.quantize {
            plan.choose(tensors, modules, quantize)?;
        }
        Ok(plan)
    }

    /// Chooses a format for every matrix of numbers.
    fn choose(
        &mut self,
        tensors: &Tensors,
        modules: &Modules,
        options: &QuantizeOptions,
    ) -> Result<()> {
        let partly = self.quantization.is_some();
        let whole = config::format(options.params);
        let mut entries =
            self.quantization.take().or_else(|| whole.as_object().cloned()).unwrap_or_default();
        let mixed = match options.recipe {
            Some(recipe) => {
                let place = place_of_layers(tensors)?;
                Some((recipe, place, count_layers(tensors, place)))
            }
            None => None,
        };
        let mut used = vec![false; options.layers.len()];
        let repacked = self.formats.len();
        for (name, array) in tensors.iter() {
            let Some(path) = name.strip_suffix(".weight") else { continue };
            let is_packed = self.packed.contains_key(path) || self.formats.contains_key(path);
            if is_packed || !is_float(array.dtype()) {
                continue;
            }
            let quantizing = modules.quantizing(path, array.ndim());
            if quantizing == Quantizing::Never {
                continue;
            }
            let inputs = array.dim(-1);
            let fits = |params: QuantizationParams| inputs % params.group_size == 0;
            let by_hand = options.layers.iter().enumerate().rfind(|(_, (it, _))| it.matches(path));
            for (used, (pattern, bits)) in used.iter_mut().zip(&options.layers) {
                let can = bits.is_none_or(|bits| fits(options.with_bits(bits)));
                *used |= can && pattern.matches(path);
            }
            let (params, entry) = match (by_hand, mixed, quantizing) {
                (Some((_, (_, None))), ..) => continue,
                (Some((_, (_, Some(bits)))), ..) => {
                    let params = options.with_bits(*bits);
                    if !fits(params) {
                        continue;
                    }
                    (params, Some(config::format(params)))
                }
                _ if !fits(options.params) => continue,
                (None, Some((recipe, place, layers)), _) => {
                    let bits = recipe.bits_of(path, place, layers);
                    let params = QuantizationParams { bits, ..options.params };
                    (params, Some(config::format(params)))
                }
                (None, None, Quantizing::Own(params)) => {
                    if !fits(params) {
                        continue;
                    }
                    let QuantizationParams { group_size, bits, .. } = params;
                    (params, Some(json!({ "group_size": group_size, "bits": bits })))
                }
                (None, None, _) => {
                    self.free.push(path.to_owned());
                    (options.params, partly.then(|| whole.clone()))
                }
            };
            if let Some(entry) = entry {
                entries.insert(path.to_owned(), entry);
            }
            self.formats.insert(path.to_owned(), params);
        }
        if let Some(at) = used.iter().position(|used| !used) {
            let pattern = &options.layers[at].0;
            let is_head = pattern.to_string().contains("lm_head");
            let tied = is_head && tensors.names(|name| name.contains("lm_head.")).is_empty();
            let hint = if tied { "; the head of this model is its \"embed_tokens\"" } else { "" };
            let message = format!("\"{pattern}\" names no module that can be quantized{hint}");
            return Err(Error::argument("layers", message));
        }
        if options.must_change && self.formats.len() == repacked {
            return Err(self.nothing_to_quantize());
        }
        self.quantization = Some(entries);
        Ok(())
    }

    fn nothing_to_quantize(&self) -> Error {
        let is_packed = !self.packed.is_empty() || !self.formats.is_empty();
        Error::Unsupported(if is_packed {
            "The model is quantized already. To have other bits, dequantize it first (`dequantize`, \
             `--dequantize`), and convert that."
                .into()
        } else {
            "No matrix of the model can be quantized so: its rows are no multiple of the group \
             size, or the patterns of layers leave all as they are."
                .into()
        })
    }

    /// The work, in the order of the tensors' names.
    pub(super) fn jobs(&self, mut tensors: Tensors) -> Result<Vec<Job>> {
        let mut jobs = Vec::new();
        let with_matrix = |name: &str| {
            let (path, leaf) = name.rsplit_once('.').unwrap_or_default();
            ["scales", "biases", "global_scale"].contains(&leaf) && self.packed.contains_key(path)
        };
        for name in tensors.names(|name| !with_matrix(name)) {
            let Some(array) = tensors.remove(&name) else { continue };
            let path = name.strip_suffix(".weight");
            if let Some((path, &params)) = path.and_then(|path| self.formats.get_key_value(path)) {
                let array = self.cast(&name, array)?;
                jobs.push(Job::Quantize { path: path.clone(), array, params });
            } else if let Some((path, &params)) =
                path.and_then(|path| self.packed.get_key_value(path))
            {
                self.packed_jobs(path, params, array, &mut tensors, &mut jobs)?;
            } else {
                let array = self.cast(&name, array)?;
                let parameters = array.size() as u64;
                jobs.push(Job::Copy { name, array, parameters });
            }
        }
        Ok(jobs)
    }

    fn packed_jobs(
        &self,
        path: &str,
        params: QuantizationParams,
        weight: Array,
        tensors: &mut Tensors,
        jobs: &mut Vec<Job>,
    ) -> Result<()> {
        let mut part = |leaf: &str| {
            let name = format!("{path}.{leaf}");
            let cast = |array| -> Result<_> { Ok((self.cast(&name, array)?, name.clone())) };
            tensors.remove(&name).map(cast).transpose()
        };
        let (scales, biases, factors) = (part("scales")?, part("biases")?, part("global_scale")?);
        let Some((scales, scales_name)) = scales else { return Ok(()) };
        if self.dequantize {
            let dtype = match (&biases, self.dtype) {
                (Some(_), _) => scales.dtype(),
                (None, dtype) => dtype.unwrap_or(Dtype::Bfloat16),
            };
            let factors = factors.map(|(factors, _)| {
                ops::multiply(&factors, &crate::mlx::scalar(NVFP4_RANGE.recip()))
            });
            let biases = biases.map(|(biases, _)| biases);
            let tensor = QuantizedTensor { weight, scales, biases, params, dtype };
            let factors = factors.transpose()?;
            jobs.push(Job::Dequantize { path: path.to_owned(), tensor, factors });
            return Ok(());
        }
        let parameters = scales.size() as u64 * u64::from(params.group_size.unsigned_abs());
        jobs.push(Job::Copy { name: format!("{path}.weight"), array: weight, parameters });
        jobs.push(Job::Copy { name: scales_name, array: scales, parameters: 0 });
        for (array, name) in [biases, factors].into_iter().flatten() {
            jobs.push(Job::Copy { name, array, parameters: 0 });
        }
        Ok(())
    }

    fn cast(&self, name: &str, array: Array) -> Result<Array> {
        match self.dtype {
            Some(dtype)
                if is_float(array.dtype())
                    && array.dtype() != dtype
                    && !self.uncast.iter().any(|other| other == name) =>
            {
                ops::astype(&array, dtype)
            }
            _ => Ok(array),
        }
    }
}

impl QuantizeOptions {
    /// The model's format with so many bits, or where it has no other, affine quantization.
    fn with_bits(&self, bits: i32) -> QuantizationParams {
        match self.params.mode {
            Mode::Affine => QuantizationParams { bits, ..self.params },
            mode if mode.defaults().1 == bits => self.params,
            _ => QuantizationParams { mode: Mode::Affine, group_size: 32, bits },
        }
    }
}

/// Where the layer's number stands in the paths of modules.
fn place_of_layers(tensors: &Tensors) -> Result<usize> {
    let place = |name: &str| name.split('.').position(|part| part.parse::<usize>().is_ok());
    let down = tensors.iter().find(|(name, _)| name.contains("down_proj"));
    down.and_then(|(name, _)| place(name)).ok_or_else(|| {
        let message = "no layer of this model has a \"down_proj\", which recipes give more bits";
        Error::argument("recipe", message)
    })
}

/// The number of layers, whose numbers stand at `place` in the names of tensors.
fn count_layers(tensors: &Tensors, place: usize) -> usize {
    let numbers = tensors.iter().filter_map(|(name, _)| name.split('.').nth(place)?.parse().ok());
    numbers.max().map_or(0, |last: usize| last + 1)
}

/// The type that the configuration names, as mlx-lm reads it.
fn declared_dtype(config: &Map<String, Value>) -> Option<Dtype> {
    let whole = config.get("torch_dtype").filter(|value| !value.is_null());
    let name = whole.or_else(|| config.get("text_config")?.get("dtype"))?.as_str()?;
    [("float16", Dtype::Float16), ("bfloat16", Dtype::Bfloat16), ("float32", Dtype::Float32)]
        .into_iter()
        .find_map(|(other, dtype)| (name == other).then_some(dtype))
}

/// What the configuration says of formats, in mlx-lm's words.
fn declared_quantization(
    config: &Map<String, Value>,
    quantization: &Quantization,
) -> Option<Map<String, Value>> {
    let default = config::format(quantization.default?);
    let text = config.get("text_config").and_then(Value::as_object);
    let own = [Some(config), text].into_iter().flatten().find_map(|config| {
        let own = config.get("quantization").or_else(|| config.get("quantization_config"))?;
        // Those of other programs name their method.
        let is_own = |own: &Map<String, Value>| {
            own.contains_key("group_size")
                && own.get("quant_method").is_none_or(|method| method == "mlx")
        };
        own.as_object().filter(|own| is_own(own))
    });
    own.or_else(|| default.as_object()).cloned()
}

/// The formats of the modules that have scales.
pub(super) fn packed(layout: &Layout) -> Result<BTreeMap<String, QuantizationParams>> {
    let Layout { tensors, quantization, .. } = layout;
    let mut packed = BTreeMap::new();
    for (name, scales) in tensors.iter() {
        let Some(path) = name.strip_suffix(".scales") else { continue };
        let Some(weight) = tensors.get(&format!("{path}.weight")) else { continue };
        let params = match (quantization.layers.get(path), quantization.default) {
            (Some(Some(params)), _) => *params,
            (_, Some(default)) => inferred(weight, scales, default),
            _ => {
                let message =
                    format!("\"{path}\" is quantized, but the configuration says nothing of it");
                return Err(Error::Unsupported(message));
            }
        };
        packed.insert(path.to_owned(), params);
    }
    Ok(packed)
}

/// The format that the shapes tell: that of the model, or one with its group size or its bits.
fn inferred(weight: &Array, scales: &Array, default: QuantizationParams) -> QuantizationParams {
    // Bits of a group.
    let group = 32 * weight.dim(-1) / scales.dim(-1).max(1);
    if scales.dtype() == Dtype::Uint8 {
        // Each of these modes has one format, and no two as many bits in a group.
        let of = |mode: Mode| {
            let (group_size, bits) = mode.defaults();
            QuantizationParams { mode, group_size, bits }
        };
        let formats = [Mode::Mxfp4, Mode::Mxfp8, Mode::Nvfp4].map(of);
        let fitting = formats.into_iter().find(|format| format.group_size * format.bits == group);
        return fitting.unwrap_or(default);
    }
    let mode = Mode::Affine;
    let QuantizationParams { group_size, bits, .. } = match default.mode {
        Mode::Affine => default,
        _ if matches!(group / default.bits, 32 | 64 | 128) => {
            QuantizationParams { mode, group_size: group / default.bits, bits: default.bits }
        }
        _ => QuantizationParams { mode, group_size: group / 8, bits: 8 },
    };
    if group == group_size * bits {
        QuantizationParams { mode, group_size, bits }
    } else if group % group_size == 0 && matches!(group / group_size, 2..=6 | 8) {
        QuantizationParams { mode, group_size, bits: group / group_size }
    } else {
        QuantizationParams { mode, group_size: group / bits.max(1), bits }
    }
}
