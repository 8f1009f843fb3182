//! Kimi Linear and Kimi K3 as mlx-lm has them.

use super::super::config::ConfigFile;
use super::heads;
use super::tensors::Tensors;
use crate::error::Result;
use crate::mlx::ops;

/// Kimi Linear.
pub(super) fn linear(tensors: &mut Tensors, config: &ConfigFile) -> Result<()> {
    mixtures(tensors);
    deltas(tensors, None)?;
    heads::latent(tensors, config)
}

/// Kimi K3, which has the projections and the convolutions of a layer of linear attention in one.
pub(super) fn k3(tensors: &mut Tensors, config: &ConfigFile) -> Result<()> {
    mixtures(tensors);
    tensors.rename(|name| match name.rsplit_once('.') {
        Some((path, leaf @ ("proj_weight" | "norm_weight"))) if path.ends_with("_res") => {
            format!("{path}_{}", leaf.replace('_', "."))
        }
        _ => name,
    });
    let linear: serde_json::Value = config.require("linear_attn_config")?;
    let heads = linear["num_heads"].as_i64().and_then(|heads| i32::try_from(heads).ok());
    deltas(tensors, heads)?;
    for (leaf, joint) in [("conv.weight", "qkv_conv"), ("weight", "qkv_proj")]
        .into_iter()
        .chain(["scales", "biases"].map(|leaf| (leaf, "qkv_proj")))
    {
        let kind = joint.trim_start_matches("qkv");
        let ending = format!(".q{kind}.{leaf}");
        for first in tensors.names(|name| name.ends_with(&ending)) {
            let attention = first.trim_end_matches(&ending).to_owned();
            let part = |part: char| format!("{attention}.{part}{kind}.{leaf}");
            if ['k', 'v'].iter().all(|&it| tensors.has(&part(it))) {
                let parts = ['q', 'k', 'v'].map(|it| tensors.require(&part(it)));
                let [queries, keys, values] = parts;
                let all = ops::concatenate(&[&queries?, &keys?, &values?], 0)?;
                tensors.insert(format!("{attention}.{joint}.{leaf}"), all);
            }
        }
    }
    heads::latent(tensors, config)
}

/// Mixtures in the place of MLPs, with the router's correction as their own.
fn mixtures(tensors: &mut Tensors) {
    tensors.rename(|name| {
        let name = name.replace(".block_sparse_moe.", ".mlp.");
        name.replace(".mlp.gate.e_score_correction_bias", ".mlp.e_score_correction_bias")
    });
}

/// Linear attention: convolutions within modules of their own, numbers of heads without more axes
/// than one, and as many as there are `heads`.
fn deltas(tensors: &mut Tensors, heads: Option<i32>) -> Result<()> {
    let convolution = |name: &str| {
        ["q", "k", "v"].into_iter().find(|part| name.ends_with(&format!(".{part}_conv1d.weight")))
    };
    tensors.change(
        |name| convolution(name).is_some(),
        |_, array| if array.ndim() == 3 { ops::swap_axes(array, 1, 2) } else { Ok(array.clone()) },
    )?;
    tensors.rename(|name| match convolution(&name) {
        Some(_) => name.replace("_conv1d.weight", "_conv.conv.weight"),
        None => name,
    });
    tensors.change(
        |name| name.ends_with(".dt_bias") || heads.is_some() && name.ends_with(".A_log"),
        |name, array| {
            let flat = ops::reshape(array, &[-1])?;
            match heads.filter(|&heads| name.ends_with(".A_log") && flat.dim(0) > heads) {
                Some(heads) => ops::slice_axis(&flat, 0, 0, heads),
                None => Ok(flat),
            }
        },
    )
}
