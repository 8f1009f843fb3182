//! Muse Spark as mlx-lm has it.

use super::super::config::ConfigFile;
use super::tensors::{Tensors, halves};
use crate::error::Result;
use crate::mlx::{Array, Dtype, ops, scalar};

/// Norms that are published less 1.
const NORMS: [&str; 5] = [
    ".input_layernorm.weight",
    ".pre_feedforward_layernorm.weight",
    ".post_feedforward_layernorm.weight",
    ".mlp.pre_expert_norm.weight",
    ".mlp.experts.post_expert_norm.weight",
];

/// Shares of the stream and of a block in their sum, as mlx-lm computes them of a published number.
const GATES: [(&str, &str); 2] = [
    ("post_attention_residual_gate.gate", "add_attn"),
    ("post_feedforward_residual_gate.gate", "add_ffn"),
];

/// The language model: gates as the factors that they stand for, norms as they multiply, gate and
/// up projections of experts by themselves, and what attention computes of its input in one matrix,
/// with the two numbers that rotate together beside each other.
pub(super) fn spark(tensors: &mut Tensors, config: &ConfigFile) -> Result<()> {
    if tensors.names(|name| name.ends_with("_alpha")).is_empty() {
        let temperature = config.optional("residual_gate_temperature")?.unwrap_or(0.3);
        for (ending, factor) in GATES {
            for name in tensors.names(|name| name.ends_with(ending)) {
                let [alpha, beta] = shares(&tensors.require(&name)?, temperature)?;
                let layer = name.trim_end_matches(ending);
                tensors.insert(format!("{layer}{factor}_alpha"), alpha);
                tensors.insert(format!("{layer}{factor}_beta"), beta);
            }
        }
        tensors.change(
            |name| NORMS.iter().any(|norm| name.ends_with(norm)),
            |_, array| {
                let gain = ops::add(&ops::astype(array, Dtype::Float32)?, &scalar(1.0))?;
                ops::astype(&gain, Dtype::Bfloat16)
            },
        )?;
        split_experts(tensors)?;
    }
    join_attention(tensors, config.size("head_dim")?)
}

/// α = √max(σ(−w)(1 + β), 10⁻³) and β = σ(w) with w = g / temperature: the shares of the stream and
/// of the block for a gate g.
fn shares(gate: &Array, temperature: f32) -> Result<[Array; 2]> {
    let w = ops::divide(&ops::astype(gate, Dtype::Float32)?, &scalar(temperature))?;
    let beta = ops::sigmoid(&w)?;
    let one_more = ops::add(&beta, &scalar(1.0))?;
    let squared = ops::multiply(&ops::sigmoid(&ops::negative(&w)?)?, &one_more)?;
    Ok([ops::sqrt(&ops::maximum(&squared, &scalar(1e-3))?)?, beta])
}

/// nvfp4's factor of a tensor is stored times the largest scale (e4m3) and the largest code (e2m1).
const NVFP4_RANGE: f32 = 448.0 * 6.0;

/// Takes apart what Model Optimizer packs of all experts together (see `nn::expert_linear`): bytes
/// of two codes, scales and factors, of several projections one behind the other.
fn split_packed_experts(tensors: &mut Tensors) -> Result<()> {
    const ENDING: &str = "_weight_scale";
    for name in tensors.names(|name| name.contains(".mlp.experts.") && name.ends_with(ENDING)) {
        let stack = name.trim_end_matches(ENDING);
        let projections: &[&str] = match stack.rsplit('.').next() {
            Some("gate_up_proj") => &["gate_proj", "up_proj"],
            _ => &["down_proj"],
        };
        let experts = stack.rsplit_once('.').map_or("", |(experts, _)| experts);
        let words = ops::view(&tensors.require(stack)?, Dtype::Uint32)?;
        let scales = tensors.require(&name)?;
        let factors = tensors.require(&format!("{stack}_weight_scale_2"))?;
        let (count, parts) = (words.dim(0), projections.len() as i32);
        let factors = ops::astype(&ops::reshape(&factors, &[count, parts])?, Dtype::Float32)?;
        let factors = ops::multiply(&factors, &scalar(NVFP4_RANGE))?;
        let outputs = words.dim(1) / parts;
        for (at, projection) in (0..).zip(projections) {
            let rows = |array: &Array| ops::slice_axis(array, 1, at * outputs, (at + 1) * outputs);
            let factors = ops::slice_axis(&factors, 1, at, at + 1)?;
            let mut insert = |leaf: &str, array| {
                tensors.insert(format!("{experts}.{projection}.{leaf}"), array);
            };
            insert("weight", rows(&words)?);
            insert("scales", rows(&scales)?);
            insert("global_scale", ops::reshape(&factors, &[count])?);
        }
    }
    Ok(())
}

fn split_experts(tensors: &mut Tensors) -> Result<()> {
    split_packed_experts(tensors)?;
    for name in tensors.names(|name| name.ends_with(".mlp.experts.gate_up_proj")) {
        let joint = tensors.require(&name)?;
        let experts = name.trim_end_matches("gate_up_proj");
        for (part, projection) in halves(&joint, 1)?.into_iter().zip(["gate_proj", "up_proj"]) {
            tensors.insert(format!("{experts}{projection}.weight"), part);
        }
    }
    tensors.rename(|name| match name.ends_with(".mlp.experts.down_proj") {
        true => format!("{name}.weight"),
        false => name,
    });
    Ok(())
}

fn join_attention(tensors: &mut Tensors, head_dim: i32) -> Result<()> {
    for leaf in ["weight", "scales", "biases"] {
        let ending = format!("self_attn.q_proj.{leaf}");
        for name in tensors.names(|name| name.ends_with(&ending)) {
            let attention = name.trim_end_matches(&format!("q_proj.{leaf}")).to_owned();
            let part = |part: &str| format!("{attention}{part}.{leaf}");
            let parts = ["q_proj", "k_proj", "v_proj", "gate_proj"].map(part);
            if !parts.iter().all(|part| tensors.has(part)) {
                continue;
            }
            let [queries, keys, values, gates] = parts.map(|part| tensors.require(&part));
            let (queries, keys) = (in_turn(&queries?, head_dim)?, in_turn(&keys?, head_dim)?);
            let all = ops::concatenate(&[&queries, &keys, &values?, &gates?], 0)?;
            tensors.insert(part("qkvg_proj"), all);
        }
    }
    Ok(())
}

/// The rows of each head, of which i and i + `head_dim` / 2 rotate together, as rows 2i and 2i + 1.
fn in_turn(matrix: &Array, head_dim: i32) -> Result<Array> {
    let shape = matrix.shape();
    let halves = [&[-1, 2, head_dim / 2], &shape[1..]].concat();
    let in_turn = ops::swap_axes(&ops::reshape(matrix, &halves)?, 1, 2)?;
    ops::reshape(&in_turn, shape)
}
