//! Names of modules, which differ between mlx-lm, transformers and the checkpoints of each.

/// One name for a module, however its path is written: without the parts that only say where the
/// language model is, and with the experts' projections by their usual names.
pub fn canonical(path: &str) -> String {
    let path = path.strip_prefix("base_model.model.").unwrap_or(path);
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('.') {
        let within_experts = parts.contains(&"experts");
        parts.push(match part {
            "model" if parts.is_empty() => continue,
            "language_model" | "switch_glu" => continue,
            "switch_mlp" => "experts",
            "w1" if within_experts => "gate_proj",
            "w2" | "fc2" if within_experts => "down_proj",
            "w3" | "fc1" if within_experts => "up_proj",
            other => other,
        });
    }
    parts.join(".")
}

/// A module of one expert: the path without its number, and the number.
pub(super) fn single_expert(canonical: &str) -> Option<(String, usize)> {
    let (block, rest) = canonical.split_once(".experts.")?;
    let (number, projection) = rest.split_once('.')?;
    Some((format!("{block}.experts.{projection}"), number.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_module_has_one_name_in_all_layouts() {
        for (paths, name) in [
            (
                &[
                    "model.layers.0.self_attn.q_proj",
                    "language_model.model.layers.0.self_attn.q_proj",
                    "base_model.model.model.layers.0.self_attn.q_proj",
                    "base_model.model.model.language_model.layers.0.self_attn.q_proj",
                ][..],
                "layers.0.self_attn.q_proj",
            ),
            (
                &[
                    "model.layers.1.block_sparse_moe.switch_mlp.down_proj",
                    "model.layers.1.block_sparse_moe.experts.w2",
                ],
                "layers.1.block_sparse_moe.experts.down_proj",
            ),
            (&["model.layers.0.experts.switch_glu.up_proj"], "layers.0.experts.up_proj"),
            (&["lm_head", "language_model.lm_head", "base_model.model.lm_head"], "lm_head"),
        ] {
            for path in paths {
                assert_eq!(canonical(path), name);
            }
        }
        let name = canonical("base_model.model.model.layers.0.mlp.experts.12.w3");
        let expected = ("layers.0.mlp.experts.up_proj".to_owned(), 12);
        assert_eq!(single_expert(&name), Some(expected));
        assert_eq!(single_expert("layers.0.mlp.experts.gate_proj"), None);
    }
}
