//! Experts as mlx-lm has them: a stack for each of their projections.

use std::collections::BTreeMap;

use super::super::config::ConfigFile;
use super::tensors::{Tensors, halves, stack};
use crate::error::{Error, Result};
use crate::mlx::{Dtype, ops};

/// How an architecture publishes the experts' gate and up projections together.
#[derive(Clone, Copy)]
pub(super) enum GateUp {
    /// `experts.gate_up_proj`, `[experts, 2 · hidden, dims]`, whose halves come under this name.
    Rows(&'static str),
    /// The same transposed, `[experts, dims, 2 · hidden]`.
    Columns(&'static str),
    /// gpt-oss: rows of gate and up in turn, packed by blocks or transposed.
    InTurn,
}

impl GateUp {
    pub(super) fn of(model_type: &str) -> Option<Self> {
        Some(match model_type {
            "gemma4" | "gemma4_text" | "gemma4_unified" => Self::Rows("experts.switch_glu"),
            "qwen3_5" | "qwen3_5_moe" | "mistral4" => Self::Rows("switch_mlp"),
            "qwen3_vl_moe" => Self::Columns("switch_mlp"),
            "llama4" | "llama4_text" => Self::Columns("experts"),
            "gpt_oss" => Self::InTurn,
            _ => return None,
        })
    }
}

/// Stacks what a checkpoint has of each expert by itself: `experts.0.w1.weight`, …
pub(super) fn stack_single(tensors: &mut Tensors, model_type: &str) -> Result<()> {
    let target = match model_type {
        "afmoe" | "dots1" | "Klear" | "muse_spark" => "experts",
        // mlx-lm has each expert by itself.
        "dbrx" => return Ok(()),
        _ => "switch_mlp",
    };
    let within = if model_type == "phixtral" { ".mlp." } else { ".experts." };
    let mut stacks: BTreeMap<String, BTreeMap<usize, String>> = BTreeMap::new();
    for (name, _) in tensors.iter() {
        let Some((block, rest)) = name.split_once(within) else { continue };
        let Some((expert, rest)) = rest.split_once('.') else { continue };
        let (Ok(expert), Some((projection, leaf))) = (expert.parse(), rest.rsplit_once('.')) else {
            continue;
        };
        let projection = match projection {
            "w1" => "gate_proj",
            "w2" => "down_proj",
            "w3" => "up_proj",
            "down_proj" if block.ends_with(".mixer") => "fc2",
            "up_proj" if block.ends_with(".mixer") => "fc1",
            other => other,
        };
        let stacked = format!("{block}.{target}.{projection}.{leaf}");
        stacks.entry(stacked).or_default().insert(expert, name.to_owned());
    }
    for (stacked, parts) in stacks {
        if parts.keys().copied().ne(0..parts.len()) {
            let message = format!("\"{stacked}\" has no matrix of some of the experts");
            return Err(Error::Unsupported(message));
        }
        let parts = parts.values().map(|name| tensors.require(name)).collect::<Result<Vec<_>>>()?;
        tensors.insert(stacked, stack(&parts)?);
    }
    Ok(())
}

/// Splits gate and up projections that are published as one.
pub(super) fn split(tensors: &mut Tensors, kind: GateUp) -> Result<()> {
    match kind {
        GateUp::Rows(target) => split_joint(tensors, target, false),
        GateUp::Columns(target) => split_joint(tensors, target, true),
        GateUp::InTurn => split_in_turn(tensors),
    }
}

fn split_joint(tensors: &mut Tensors, target: &str, transposed: bool) -> Result<()> {
    let oriented = |array: &crate::mlx::Array| {
        if transposed { ops::swap_axes(array, -1, -2) } else { Ok(array.clone()) }
    };
    for name in tensors.names(|name| name.ends_with(".experts.gate_up_proj")) {
        let joint = oriented(&tensors.require(&name)?)?;
        let block = name.trim_end_matches(".experts.gate_up_proj");
        for (part, projection) in halves(&joint, 1)?.into_iter().zip(["gate_proj", "up_proj"]) {
            tensors.insert(format!("{block}.{target}.{projection}.weight"), part);
        }
    }
    for name in tensors.names(|name| name.ends_with(".experts.down_proj")) {
        let down = oriented(&tensors.require(&name)?)?;
        let block = name.trim_end_matches(".experts.down_proj");
        tensors.insert(format!("{block}.{target}.down_proj.weight"), down);
    }
    Ok(())
}

fn split_in_turn(tensors: &mut Tensors) -> Result<()> {
    for name in tensors.names(|name| name.contains(".experts.")) {
        let Some((block, leaf)) = name.rsplit_once(".experts.") else { continue };
        let Some((projection, leaf)) = ["gate_up_proj", "down_proj"]
            .into_iter()
            .find_map(|projection| Some((projection, leaf.strip_prefix(projection)?)))
        else {
            continue;
        };
        // What has a dot is in mlx-lm's layout already.
        let Some((leaf, axis)) = (match leaf {
            "_blocks" | "" => Some(("weight", 1)),
            "_scales" => Some(("scales", 1)),
            "_bias" => Some(("bias", 1)),
            _ => None,
        }) else {
            continue;
        };
        let mut array = tensors.require(&name)?;
        if name.ends_with("_blocks") {
            let words = ops::view(&array, Dtype::Uint32)?;
            let shape = words.shape();
            let (outer, last) = shape.split_at(shape.len().saturating_sub(2));
            let joined = [outer, &[last.iter().product()]].concat();
            array = ops::reshape(&words, &joined)?;
        } else if leaf == "weight" {
            array = ops::swap_axes(&array, -1, -2)?;
        }
        let target = |projection: &str| format!("{block}.experts.{projection}.{leaf}");
        if projection == "down_proj" {
            tensors.insert(target("down_proj"), array);
        } else {
            tensors.insert(target("gate_proj"), ops::every_second(&array, axis, 0)?);
            tensors.insert(target("up_proj"), ops::every_second(&array, axis, 1)?);
        }
    }
    Ok(())
}

/// MiniMax M3: MLPs of layers without experts by their own name, and gate and up by themselves,
/// also of an expert that sees every token and is published as one more of the others.
pub(super) fn minimax_m3(tensors: &mut Tensors, config: &ConfigFile) -> Result<()> {
    const PROJECTIONS: [&str; 3] = ["gate_proj", "up_proj", "down_proj"];
    tensors.rename(|name| match name.split_once(".block_sparse_moe.") {
        Some((layer, rest)) if PROJECTIONS.iter().any(|it| is_leaf_of(rest, it)) => {
            format!("{layer}.mlp.{rest}")
        }
        _ => name,
    });
    let experts = config.size("num_local_experts")?;
    for name in tensors.names(|name| name.contains(".block_sparse_moe.switch_mlp.")) {
        let Some(array) = tensors.get(&name).filter(|array| array.dim(0) == experts + 1) else {
            continue;
        };
        let of_some = ops::slice_axis(array, 0, 0, experts)?;
        let of_all = ops::squeeze(&ops::slice_axis(array, 0, experts, experts + 1)?, 0)?;
        tensors.insert(name.replace("switch_mlp", "shared_experts"), of_all);
        tensors.insert(name, of_some);
    }
    for name in tensors.names(|name| name.contains(".gate_up_proj.")) {
        let joint = tensors.require(&name)?;
        let axis = joint.ndim() - 2;
        for (part, projection) in halves(&joint, axis)?.into_iter().zip(["gate_proj", "up_proj"]) {
            tensors.insert(name.replace("gate_up_proj", projection), part);
        }
    }
    Ok(())
}

/// Whether a path is of a tensor of this module.
fn is_leaf_of(path: &str, module: &str) -> bool {
    path.strip_prefix(module).is_some_and(|leaf| leaf.starts_with('.'))
}
