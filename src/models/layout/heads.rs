//! Tensors that mlx-lm has by heads, and heads of a model.

use super::super::config::ConfigFile;
use super::tensors::Tensors;
use crate::error::Result;
use crate::mlx::quantized::{self, Mode, QuantizationParams, QuantizedTensor};
use crate::mlx::{Array, Dtype, ops, scalar};

/// The matrices of keys (transposed) and of values of each head, out of `kv_b_proj`, which has
/// both.
pub(super) fn latent(tensors: &mut Tensors, config: &ConfigFile) -> Result<()> {
    let (heads, latent) = (config.size("num_attention_heads")?, config.size("kv_lora_rank")?);
    let size = |field: &str| config.size(field).or_else(|_| config.size("head_dim"));
    let (nope, values) = (size("qk_nope_head_dim")?, size("v_head_dim")?);
    for name in tensors.names(|name| name.ends_with(".kv_b_proj.weight")) {
        let base = name.trim_end_matches(".weight");
        let attention = base.trim_end_matches("kv_b_proj");
        let weight = tensors.require(&name)?;
        let scales = tensors.remove(&format!("{base}.scales"));
        let biases = tensors.remove(&format!("{base}.biases"));
        let mut params = None;
        let joint = match scales {
            Some(scales) => {
                let group_size = latent / last(&scales).max(1);
                let bits = last(&weight) * 32 / latent;
                let is_bytes = scales.dtype() == Dtype::Uint8;
                let mode = Mode::ALL
                    .into_iter()
                    .filter(|_| is_bytes)
                    .find(|mode| *mode != Mode::Affine && mode.defaults() == (group_size, bits));
                let of =
                    QuantizationParams { mode: mode.unwrap_or(Mode::Affine), group_size, bits };
                // Keys' groups of numbers are others: a mode without biases would lose more.
                params = mode.is_none().then_some(of);
                let dtype = if is_bytes { Dtype::Bfloat16 } else { scales.dtype() };
                let packed = QuantizedTensor { weight, scales, biases, params: of, dtype };
                quantized::dequantize(&packed)?
            }
            None => weight,
        };
        let joint = ops::reshape(&joint, &[heads, nope + values, latent])?;
        let keys = ops::swap_axes(&ops::slice_axis(&joint, 1, 0, nope)?, -1, -2)?;
        let values = ops::slice_axis(&joint, 1, nope, nope + values)?;
        for (name, matrix) in [("embed_q", keys), ("unembed_out", values)] {
            let mut put =
                |leaf: &str, array| tensors.insert(format!("{attention}{name}.{leaf}"), array);
            match params {
                None => put("weight", ops::contiguous(&matrix)?),
                Some(params) => {
                    let packed = quantized::quantize(&matrix, params)?;
                    put("weight", packed.weight);
                    put("scales", packed.scales);
                    if let Some(biases) = packed.biases {
                        put("biases", biases);
                    }
                }
            }
        }
    }
    Ok(())
}

fn last(array: &Array) -> i32 {
    array.shape().last().copied().unwrap_or(1)
}

/// RWKV 7's numbers of features, by heads: `[heads, head_dim]`.
pub(super) fn rwkv7(tensors: &mut Tensors, config: &ConfigFile) -> Result<()> {
    let (dims, head_dim) = (config.size("hidden_size")?, config.size("head_dim")?);
    tensors.change(
        |name| ["k_k", "k_a", "g_norm"].iter().any(|part| name.contains(part)),
        |_, array| ops::reshape(array, &[dims / head_dim, head_dim]),
    )
}

/// The output head with rows of length 1 (Baichuan M1): each divided by its norm.
pub(super) fn unit_rows(tensors: &mut Tensors) -> Result<()> {
    if tensors.has("lm_head.scales") {
        return Ok(());
    }
    tensors.change(
        |name| name == "lm_head.weight",
        |_, array| {
            let numbers = ops::astype(array, Dtype::Float32)?;
            let norms = ops::sqrt(&ops::sum(&ops::square(&numbers)?, -1)?)?;
            let norms = ops::add(&norms, &scalar(1e-7))?;
            ops::astype(&ops::divide(&numbers, &norms)?, array.dtype())
        },
    )
}
