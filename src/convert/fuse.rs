//! Adding an adapter to the weights of a checkpoint.

use std::collections::{BTreeMap, HashMap};

use crate::adapters::{AdapterFile, LowRank, Module, Update, canonical};
use crate::error::{Error, Result};
use crate::mlx::quantized::{self, QuantizationParams, QuantizedTensor};
use crate::mlx::{Array, Dtype, is_float, ops};
use crate::models::Tensors;

/// Adds an adapter to the tensors of a checkpoint. What was packed becomes numbers; gives the
/// formats that it had. What has changed is of type `dtype`, or of its own.
///
/// # Errors
/// [`Error::Adapter`] for an adapter of another model.
pub(super) fn fuse(
    tensors: &mut Tensors,
    packed: &BTreeMap<String, QuantizationParams>,
    adapter: &AdapterFile,
    dtype: Option<Dtype>,
) -> Result<BTreeMap<String, QuantizationParams>> {
    let mut paths = HashMap::new();
    for name in tensors.names(|name| name.ends_with(".weight")) {
        let path = name.trim_end_matches(".weight");
        paths.insert(canonical(path), path.to_owned());
    }
    let mut unpacked = BTreeMap::new();
    for (name, module) in &adapter.modules {
        let Some(path) = paths.get(name) else {
            let message = "is no module of this checkpoint; is the adapter one of another model?";
            return Err(adapter.error(module, message));
        };
        let has_head = tensors.names(|name| name.ends_with("lm_head.weight")).len() == 1;
        let weight = match packed.get(path) {
            Some(&params) => {
                unpacked.insert(path.clone(), params);
                numbers(tensors, path, params, dtype)?
            }
            None => tensors.remove(&format!("{path}.weight")),
        };
        let Some(weight) = weight.filter(|weight| is_float(weight.dtype())) else {
            return Err(adapter.error(module, "is no matrix of numbers"));
        };
        let fusing = Fusing { adapter, module, weight: &weight };
        let fused = fusing.fused(tensors, path, has_head)?;
        tensors.insert(
            format!("{path}.weight"),
            ops::astype(&fused, dtype.unwrap_or(weight.dtype()))?,
        );
    }
    Ok(unpacked)
}

/// The matrix of a packed module, whose tensors are taken out.
fn numbers(
    tensors: &mut Tensors,
    path: &str,
    params: QuantizationParams,
    dtype: Option<Dtype>,
) -> Result<Option<Array>> {
    let mut part = |leaf: &str| tensors.remove(&format!("{path}.{leaf}"));
    let (Some(weight), Some(scales)) = (part("weight"), part("scales")) else { return Ok(None) };
    let (biases, factors) = (part("biases"), part("global_scale"));
    if factors.is_some() {
        let message =
            format!("\"{path}\" has a factor for each expert; dequantize the model first");
        return Err(Error::Unsupported(message));
    }
    let own = if biases.is_some() { scales.dtype() } else { Dtype::Bfloat16 };
    let dtype = dtype.unwrap_or(own);
    quantized::dequantize(&QuantizedTensor { weight, scales, biases, params, dtype }).map(Some)
}

struct Fusing<'a> {
    adapter: &'a AdapterFile,
    module: &'a Module,
    weight: &'a Array,
}

impl Fusing<'_> {
    fn fused(&self, tensors: &mut Tensors, path: &str, has_head: bool) -> Result<Array> {
        match &self.module.update {
            Update::LowRank(low_rank) => {
                let is_table = path.rsplit('.').next().is_some_and(|name| name.contains("embed"));
                if is_table && !low_rank.in_head && !has_head {
                    let message = "changes the embedding alone, which is also the output head";
                    return Err(Error::Unsupported(format!("\"{}\" {message}", self.module.name)));
                }
                self.low_rank(low_rank, is_table)
            }
            Update::Experts { down, up } => self.sum(&product(up, down)?),
            Update::SingleExperts(single) => {
                let &[experts, outputs, inputs] = self.weight.shape() else {
                    return Err(self.wrong("is no layer of experts"));
                };
                let mut parts = Vec::new();
                for expert in 0..experts.unsigned_abs() as usize {
                    let part = match single.get(&expert) {
                        Some(LowRank { down, up, magnitude: None, .. }) => product(up, down)?,
                        Some(_) => return Err(self.wrong("is an expert with magnitudes (DoRA)")),
                        None => ops::zeros(&[outputs, inputs], Dtype::Float32)?,
                    };
                    if part.shape() != [outputs, inputs] {
                        return Err(self.wrong("has matrices of other sizes than the model's"));
                    }
                    parts.push(ops::expand_dims(&part, 0)?);
                }
                if single.keys().any(|expert| *expert >= parts.len()) {
                    return Err(self.wrong("is an expert beyond the last"));
                }
                self.sum(&ops::concatenate(&parts.iter().collect::<Vec<_>>(), 0)?)
            }
            Update::Replaced { weight, bias } => {
                let name = format!("{path}.bias");
                if bias.is_some() != tensors.has(&name) {
                    return Err(self.wrong("has a bias where the layer has none, or none"));
                }
                if let (Some(bias), Some(old)) = (bias, tensors.remove(&name)) {
                    if bias.shape() != old.shape() {
                        return Err(self.wrong("has a bias of another size than the model's"));
                    }
                    tensors.insert(name, ops::astype(bias, old.dtype())?);
                }
                if weight.shape() != self.weight.shape() {
                    return Err(self.wrong("has a matrix of another size than the model's"));
                }
                Ok(weight.clone())
            }
        }
    }

    fn low_rank(&self, low_rank: &LowRank, is_table: bool) -> Result<Array> {
        let LowRank { down, up, magnitude, .. } = low_rank;
        let delta = product(up, down)?;
        let sum =
            if is_table { self.sum(&ops::transpose(&delta, &[1, 0])?)? } else { self.sum(&delta)? };
        let Some(magnitude) = magnitude else { return Ok(sum) };
        if is_table || magnitude.shape() != &self.weight.shape()[..1] {
            return Err(self.wrong("has magnitudes of another size than the model's matrix"));
        }
        let norms = ops::sqrt(&ops::sum(&ops::square(&sum)?, -1)?)?;
        let magnitude = ops::expand_dims(&ops::astype(magnitude, Dtype::Float32)?, 1)?;
        ops::multiply(&sum, &ops::divide(&magnitude, &norms)?)
    }

    /// The matrix and what is added to it, in `f32`.
    fn sum(&self, delta: &Array) -> Result<Array> {
        if delta.shape() != self.weight.shape() {
            let (found, wanted) = (delta.shape(), self.weight.shape());
            return Err(self.wrong(&format!("gives {found:?}, and the model has {wanted:?}")));
        }
        ops::add(&ops::astype(self.weight, Dtype::Float32)?, delta)
    }

    fn wrong(&self, message: &str) -> Error {
        self.adapter.error(self.module, message)
    }
}

/// up · down, in `f32`.
fn product(up: &Array, down: &Array) -> Result<Array> {
    let precise = |array: &Array| ops::astype(array, Dtype::Float32);
    ops::matmul(&precise(up)?, &precise(down)?)
}
