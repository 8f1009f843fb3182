//! Which tokens end a text.

use std::path::Path;

use serde_json::Value;

use super::files;
use super::tokenizer::Tokenizer;
use crate::error::{Error, Result};

/// All end tokens of the model in `dir`, without doubles: those of `generation_config.json` if it
/// names any, else those of `config.json` (its `text_config` included), and the tokenizer's
/// `eos_token` in either case. mlx-lm 0.32.2 decides in the same way, without `text_config`.
///
/// # Errors
/// [`Error::Config`] if one of the files is not JSON or `eos_token_id` is not a token or a list of
/// tokens.
pub fn end_tokens(dir: &Path, tokenizer: Option<&Tokenizer>) -> Result<Vec<u32>> {
    let mut tokens = Vec::new();
    for file in ["generation_config.json", "config.json"] {
        let path = dir.join(file);
        let Some(config) = files::read_object(&path, |message| Error::config(&path, message))?
        else {
            continue;
        };
        collect(&config, &path, "", &mut tokens)?;
        if tokens.is_empty()
            && let Some(text) = config.get("text_config")
        {
            collect(text, &path, "text_config.", &mut tokens)?;
        }
        if !tokens.is_empty() {
            break;
        }
    }
    let named = tokenizer.and_then(|it| it.token_to_id(it.eos_token()?));
    tokens.extend(named);
    let mut unique = Vec::with_capacity(tokens.len());
    for token in tokens {
        if !unique.contains(&token) {
            unique.push(token);
        }
    }
    Ok(unique)
}

fn collect(config: &Value, path: &Path, prefix: &str, tokens: &mut Vec<u32>) -> Result<()> {
    let invalid = |value: &Value| {
        let message =
            format!("{prefix}eos_token_id: expected a token id or a list of them, found {value}");
        Error::config(path, message)
    };
    let one = |value: &Value| {
        value.as_u64().and_then(|id| u32::try_from(id).ok()).ok_or_else(|| invalid(value))
    };
    match config.get("eos_token_id") {
        None | Some(Value::Null) => {}
        Some(Value::Array(list)) => {
            for value in list {
                tokens.push(one(value)?);
            }
        }
        Some(value) => tokens.push(one(value)?),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::test_folder::TestFolder;

    fn found(files: &[(&str, &str)]) -> Result<Vec<u32>> {
        let folder = TestFolder::new();
        for (name, content) in files {
            folder.write(name, content);
        }
        end_tokens(folder.path(), None)
    }

    #[test]
    fn the_generation_configuration_wins() {
        let config = ("config.json", r#"{"eos_token_id": 2}"#);
        assert_eq!(found(&[config]).unwrap(), [2]);
        let several = ("generation_config.json", r#"{"eos_token_id": [7, 8, 7]}"#);
        assert_eq!(found(&[config, several]).unwrap(), [7, 8]);
        let silent = ("generation_config.json", r#"{"temperature": 1}"#);
        assert_eq!(found(&[config, silent]).unwrap(), [2]);
        assert!(found(&[]).unwrap().is_empty());
    }

    #[test]
    fn numbers_that_json_lacks_are_read() {
        let config = r#"{"time_step_limit": [0.0, Infinity], "eos_token_id": 2}"#;
        assert_eq!(found(&[("config.json", config)]).unwrap(), [2]);
    }

    #[test]
    fn a_nested_text_configuration_counts() {
        let nested = r#"{"eos_token_id": null, "text_config": {"eos_token_id": [1, 106]}}"#;
        assert_eq!(found(&[("config.json", nested)]).unwrap(), [1, 106]);
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
        assert_eq!(end_tokens(folder.path(), tokenizer.as_ref()).unwrap(), [5, 1]);
    }

    #[test]
    fn wrong_types_are_named() {
        for wrong in ["\"x\"", "-1", "[1, 2.5]", "{}", "4294967296"] {
            let config = format!("{{\"text_config\": {{\"eos_token_id\": {wrong}}}}}");
            let message = found(&[("config.json", &config)]).unwrap_err().to_string();
            assert!(message.contains("config.json: text_config.eos_token_id"), "{message}");
        }
        for broken in ["", "{\"eos_token_id\": 1", "[1]"] {
            let error = found(&[("generation_config.json", broken)]).unwrap_err();
            assert_eq!(error.code(), "INVALID_CONFIG");
        }
    }
}
