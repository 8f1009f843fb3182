//! Sizes that a configuration may leave out.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use serde_json::{Map, Value};

use super::ConfigFile;
use crate::error::Error;

/// By `model_type`: made of transformers' and mlx-lm's own configurations by
/// `tools/oracle/make.py defaults`.
static SIZES: LazyLock<BTreeMap<String, Map<String, Value>>> =
    LazyLock::new(|| serde_json::from_str(include_str!("defaults.json")).unwrap_or_default());

impl ConfigFile {
    /// The same configuration with the sizes that implementations of this `model_type`, or of the
    /// architecture that runs it, have where a file says nothing of them.
    pub(in crate::models) fn with_default_sizes(
        &self,
        model_type: &str,
        architecture: &str,
    ) -> Self {
        let whole = model_type.strip_suffix("_text").unwrap_or(model_type);
        let sizes = [model_type, whole, architecture].into_iter().find_map(|name| SIZES.get(name));
        Self { sizes, ..self.clone() }
    }

    /// An error of a model that this configuration describes, with the sizes that it leaves to the
    /// architecture.
    pub(in crate::models) fn with_used_sizes(&self, error: Error) -> Error {
        let used = self.used_sizes.borrow();
        if used.is_empty() {
            return error;
        }
        let value = |name: &str| self.sizes.and_then(|sizes| sizes.get(name)).unwrap_or_default();
        let used: Vec<_> = used.iter().map(|name| format!("{name:?} ({})", value(name))).collect();
        let note = "config.json does not say, so that usual values are taken:";
        error.with_note(&format!("{note} {}", used.join(", ")))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn file(text: &str) -> ConfigFile {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("config.json"), text).unwrap();
        ConfigFile::read(dir.path()).unwrap()
    }

    #[test]
    fn what_a_file_says_nothing_of_is_the_size_of_the_architecture() {
        let config = file(r#"{"hidden_size": 64, "q_lora_rank": null}"#);
        assert!(config.size("num_hidden_layers").is_err());
        let config = config.with_default_sizes("deepseek_v3", "deepseek_v3");
        assert_eq!(config.size("hidden_size").unwrap(), 64);
        assert_eq!(config.size("num_hidden_layers").unwrap(), 30);
        assert_eq!(config.optional::<i32>("q_lora_rank").unwrap(), None);
        assert_eq!(config.optional::<i32>("rope_theta").unwrap(), None);
    }

    #[test]
    fn other_names_of_a_field_and_an_architectures_own_defaults_win() {
        let config = file(r#"{"num_local_experts": 4}"#).with_default_sizes("afmoe", "afmoe");
        assert_eq!(config.size("num_experts").unwrap(), 4);
        assert_eq!(config.with_defaults([("head_dim", json!(8))]).size("head_dim").unwrap(), 8);
    }

    #[test]
    fn an_extended_rotation_counts_from_the_positions_of_the_architecture() {
        let rotates = |text: &str, model_type: &str| {
            file(text).with_default_sizes(model_type, model_type).rope(8, Some(1e4), false)
        };
        let dynamic = r#"{"rope_scaling": {"rope_type": "dynamic", "factor": 2.0}}"#;
        assert!(rotates(dynamic, "llama").is_ok());
        assert!(rotates(dynamic, "mamba").is_err());
        let null = r#"{"max_position_embeddings": null, "rope_scaling": {"type": "dynamic"}}"#;
        assert!(rotates(null, "llama").is_err());
        let plain = file("{}").with_default_sizes("llama", "llama");
        plain.rope(8, Some(1e4), false).unwrap();
        assert!(plain.used_sizes.borrow().is_empty());
    }

    #[test]
    fn a_text_part_has_the_sizes_of_the_whole() {
        let config = file("{}").with_default_sizes("gemma2_text", "gemma2");
        assert_eq!(config.size("head_dim").unwrap(), 256);
    }
}
