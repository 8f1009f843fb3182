//! Adapters as mlx-lm writes them: `lora_a`, `lora_b` and `m` of each module.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use super::config::{AdapterConfig, AdapterKind};
use super::names::canonical;
use super::tensors::AdapterTensors;
use super::update::{LowRank, Module, Update};
use crate::error::Result;
use crate::mlx::ops;

pub(super) fn read(
    config: &AdapterConfig,
    tensors: &AdapterTensors,
) -> Result<(AdapterKind, BTreeMap<String, Module>)> {
    let name = config.optional::<String>("fine_tune_type")?;
    let kind = match name.as_deref().unwrap_or("lora") {
        "lora" => AdapterKind::Lora,
        "dora" => AdapterKind::Dora,
        "full" => AdapterKind::Full,
        other => {
            let message = format!("\"fine_tune_type\" is \"{other}\", expected lora, dora or full");
            return Err(config.error(message));
        }
    };
    let modules = match kind {
        AdapterKind::Full => replaced(tensors)?,
        _ => low_rank(config, kind, tensors)?,
    };
    Ok((kind, modules))
}

fn scale(config: &AdapterConfig) -> Result<f32> {
    let parameters = config.optional::<Map<String, Value>>("lora_parameters")?.unwrap_or_default();
    match parameters.get("scale") {
        Some(scale) => config.number("lora_parameters.scale", scale),
        None => Err(config.error("\"lora_parameters\" has no \"scale\"")),
    }
}

/// Refuses matrices of another rank than the configuration says.
fn check_rank(config: &AdapterConfig, path: &str, rank: i32) -> Result<()> {
    let parameters = config.optional::<Map<String, Value>>("lora_parameters")?.unwrap_or_default();
    match parameters.get("rank").filter(|said| !said.is_null()) {
        Some(said) if said.as_i64() != Some(i64::from(rank)) => {
            let message =
                format!("\"lora_parameters.rank\" is {said}, and the rank of \"{path}\" {rank}");
            Err(config.error(message))
        }
        _ => Ok(()),
    }
}

fn low_rank(
    config: &AdapterConfig,
    kind: AdapterKind,
    tensors: &AdapterTensors,
) -> Result<BTreeMap<String, Module>> {
    let scale = scale(config)?;
    let mut paths = BTreeSet::new();
    for name in tensors.names() {
        match name.rsplit_once('.') {
            Some((path, "lora_a" | "lora_b")) => paths.insert(path),
            Some((path, "m")) if kind == AdapterKind::Dora => paths.insert(path),
            _ => return Err(tensors.error(format!("tensor \"{name}\" is no adapter's"))),
        };
    }
    let mut modules = BTreeMap::new();
    for path in paths {
        let matrix = |leaf: &str| tensors.take(&format!("{path}.{leaf}"), &[2, 3]);
        let (a, b) = (matrix("lora_a")?, matrix("lora_b")?);
        let update = if a.ndim() == 3 && b.ndim() == 3 && kind == AdapterKind::Lora {
            let [down, up] = tensors.low_rank(path, [a, b], scale)?;
            check_rank(config, path, down.dim(1))?;
            Update::Experts { down, up }
        } else if a.ndim() == 2 && b.ndim() == 2 {
            let turned = [ops::transpose(&a, &[1, 0])?, ops::transpose(&b, &[1, 0])?];
            let [down, up] = tensors.low_rank(path, turned, scale)?;
            check_rank(config, path, down.dim(0))?;
            let magnitude = match kind {
                AdapterKind::Dora => Some(tensors.take(&format!("{path}.m"), &[1])?),
                _ => None,
            };
            Update::LowRank(LowRank { down, up, magnitude, in_head: true })
        } else {
            let (a, b) = (a.shape(), b.shape());
            let message = format!("the matrices of \"{path}\" do not fit: {a:?} and {b:?}");
            return Err(tensors.error(message));
        };
        modules.insert(canonical(path), Module { name: path.to_owned(), update });
    }
    Ok(modules)
}

/// Whole weights, by the names of the model's own.
fn replaced(tensors: &AdapterTensors) -> Result<BTreeMap<String, Module>> {
    let mut modules = BTreeMap::new();
    for name in tensors.names() {
        let Some(path) = name.strip_suffix(".weight") else {
            let path = name.strip_suffix(".bias");
            if path.is_some_and(|path| tensors.names().any(|it| it == format!("{path}.weight"))) {
                continue;
            }
            return Err(tensors.error(format!("tensor \"{name}\" belongs to no matrix")));
        };
        let bias = format!("{path}.bias");
        let bias = match tensors.names().any(|name| name == bias) {
            true => Some(tensors.take(&bias, &[1])?),
            false => None,
        };
        let update = Update::Replaced { weight: tensors.take(name, &[1, 2, 3])?, bias };
        modules.insert(canonical(path), Module { name: path.to_owned(), update });
    }
    Ok(modules)
}
