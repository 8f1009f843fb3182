//! Which tokens end a text.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::files;
use super::tokenizer::Tokenizer;
use crate::error::Error;
use crate::warning::{Warning, WarningCode};

/// All end tokens of the model in `dir`, without doubles: those of `generation_config.json` if it
/// names any, else those of `config.json` (its `text_config` included), and the tokenizer's
/// `eos_token` in either case. mlx-lm 0.32.2 decides in the same way, without `text_config`.
///
/// What is no token of the `vocabulary_size` that the model has is left out, with a warning. So is
/// a file that cannot be read.
pub fn end_tokens(
    dir: &Path,
    tokenizer: Option<&Tokenizer>,
    vocabulary_size: usize,
    warnings: &mut Vec<Warning>,
) -> Vec<u32> {
    let mut found = EndTokens { vocabulary_size, tokens: Vec::new(), warnings };
    for file in ["generation_config.json", "config.json"] {
        let path = dir.join(file);
        match files::read_object(&path, |message| Error::config(&path, message)) {
            Ok(Some(config)) => found.collect(&config, &path),
            Ok(None) => {}
            Err(error) => {
                let message = format!("{}; the file is left out", error.message());
                found.warn(WarningCode::UnusableFile, &path, message);
            }
        }
        if !found.tokens.is_empty() {
            break;
        }
    }
    if let Some(tokenizer) = tokenizer
        && let Some(token) = tokenizer.eos_token().and_then(|it| tokenizer.token_to_id(it))
    {
        let path = tokenizer.path().to_owned();
        found.add(&Value::from(token), "eos_token", path);
    }
    found.tokens
}

struct EndTokens<'a> {
    vocabulary_size: usize,
    tokens: Vec<u32>,
    warnings: &'a mut Vec<Warning>,
}

impl EndTokens<'_> {
    fn collect(&mut self, config: &Value, path: &Path) {
        let fields = [
            ("eos_token_id", Some(config)),
            ("text_config.eos_token_id", config.get("text_config")),
        ];
        for (field, config) in fields {
            match config.and_then(|config| config.get("eos_token_id")) {
                None | Some(Value::Null) => {}
                Some(Value::Array(list)) => {
                    list.iter().for_each(|value| self.add(value, field, path.to_owned()));
                }
                Some(value) => self.add(value, field, path.to_owned()),
            }
            if !self.tokens.is_empty() {
                break;
            }
        }
    }

    fn add(&mut self, value: &Value, field: &str, path: PathBuf) {
        let whole = value.as_f64().filter(|id| id.fract() == 0.0 && *id >= 0.0);
        match whole.filter(|id| *id < self.vocabulary_size as f64) {
            Some(id) if !self.tokens.contains(&(id as u32)) => self.tokens.push(id as u32),
            Some(_) => {}
            None => {
                let message = format!(
                    "\"{field}\" is {value}, which is no token of the model; it is left out"
                );
                self.warn(WarningCode::UnusableField, &path, message);
            }
        }
    }

    fn warn(&mut self, code: WarningCode, path: &Path, message: String) {
        self.warnings.push(Warning::new(code, path, message));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::test_folder::TestFolder;

    /// The end tokens of a model of 1000 tokens with these files, and the warnings.
    fn with_warnings(files: &[(&str, &str)]) -> (Vec<u32>, Vec<String>) {
        let folder = TestFolder::new();
        for (name, content) in files {
            folder.write(name, content);
        }
        let mut warnings = Vec::new();
        let tokens = end_tokens(folder.path(), None, 1000, &mut warnings);
        (tokens, warnings.into_iter().map(|warning| warning.message).collect())
    }

    fn found(files: &[(&str, &str)]) -> Vec<u32> {
        let (tokens, warnings) = with_warnings(files);
        assert!(warnings.is_empty(), "{warnings:?}");
        tokens
    }

    #[test]
    fn the_generation_configuration_wins() {
        let config = ("config.json", r#"{"eos_token_id": 2}"#);
        assert_eq!(found(&[config]), [2]);
        let several = ("generation_config.json", r#"{"eos_token_id": [7, 8, 7]}"#);
        assert_eq!(found(&[config, several]), [7, 8]);
        let silent = ("generation_config.json", r#"{"temperature": 1}"#);
        assert_eq!(found(&[config, silent]), [2]);
        assert!(found(&[]).is_empty());
    }

    #[test]
    fn numbers_that_json_lacks_are_read() {
        let config = r#"{"time_step_limit": [0.0, Infinity], "eos_token_id": 2}"#;
        assert_eq!(found(&[("config.json", config)]), [2]);
    }

    #[test]
    fn a_nested_text_configuration_counts() {
        let nested = r#"{"eos_token_id": null, "text_config": {"eos_token_id": [1, 106]}}"#;
        assert_eq!(found(&[("config.json", nested)]), [1, 106]);
    }

    #[test]
    fn the_tokenizer_adds_its_own() {
        let folder = TestFolder::new();
        let model = r#"{"added_tokens": [{"id": 1, "content": "</s>", "special": true, "lstrip": false,
            "rstrip": false, "normalized": false, "single_word": false}],
            "model": {"type": "WordLevel", "vocab": {"a": 0, "</s>": 1}, "unk_token": "a"}}"#;
        folder.write("tokenizer.json", model);
        folder.write("tokenizer_config.json", r#"{"eos_token": {"content": "</s>"}}"#);
        folder.write("config.json", r#"{"eos_token_id": 5}"#);
        let tokenizer = Tokenizer::from_dir(folder.path()).unwrap();
        let mut warnings = Vec::new();
        let mut tokens = |size| end_tokens(folder.path(), tokenizer.as_ref(), size, &mut warnings);
        assert_eq!(tokens(6), [5, 1]);
        assert_eq!(tokens(5), [1]);
        assert!(tokens(1).is_empty());
        assert!(warnings[0].message.contains("\"eos_token_id\" is 5"), "{warnings:?}");
        assert!(warnings[2].message.contains("tokenizer.json: \"eos_token\" is 1"), "{warnings:?}");
    }

    #[test]
    fn what_is_no_token_is_left_out_with_a_warning() {
        for wrong in ["\"x\"", "-1", "2.5", "{}", "4294967296", "1000"] {
            let config = format!("{{\"text_config\": {{\"eos_token_id\": [{wrong}, 7]}}}}");
            let (tokens, warnings) = with_warnings(&[("config.json", &config)]);
            assert_eq!(tokens, [7]);
            let named = format!("config.json: \"text_config.eos_token_id\" is {wrong}");
            assert!(warnings.len() == 1 && warnings[0].contains(&named), "{warnings:?}");
        }
        let (none, config) =
            (r#"{"eos_token_id": -1}"#, ("config.json", r#"{"eos_token_id": 2.0}"#));
        let (tokens, warnings) = with_warnings(&[("generation_config.json", none), config]);
        assert_eq!((tokens.as_slice(), warnings.len()), (&[2][..], 1));
    }

    #[test]
    fn a_broken_file_is_left_out_with_a_warning() {
        for broken in ["", "{\"eos_token_id\": 1,}", "[1]"] {
            let config = ("config.json", r#"{"eos_token_id": 2}"#);
            let (tokens, warnings) = with_warnings(&[("generation_config.json", broken), config]);
            assert_eq!(tokens, [2]);
            assert!(warnings[0].contains("generation_config.json"), "{warnings:?}");
        }
    }
}
