//! Where a model's templates are kept.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::error::{Error, Result};
use crate::text::files;

/// The name of the template that is used unless another one is asked for.
pub(super) const DEFAULT: &str = "default";

/// A template's text, and the name errors give it.
#[derive(Debug)]
pub(super) struct Source {
    pub origin: String,
    pub text: String,
}

/// All templates of the model in `dir`, by name. As in transformers, template files win over
/// `tokenizer_config.json` altogether. `chat_template.json`, where old processors of vision models
/// keep theirs, is read when there is nothing else.
pub(super) fn sources(dir: &Path) -> Result<BTreeMap<String, Source>> {
    let mut sources = BTreeMap::new();
    if let Some(source) = read_text(&dir.join("chat_template.jinja"), "chat_template.jinja")? {
        sources.insert(DEFAULT.to_owned(), source);
    }
    let folder = dir.join("additional_chat_templates");
    if let Ok(entries) = fs::read_dir(&folder) {
        for entry in entries {
            let path = entry.map_err(|error| Error::io(&folder, error))?.path();
            let (Some("jinja"), Some(name)) = (
                path.extension().and_then(|it| it.to_str()),
                path.file_stem().and_then(|it| it.to_str()),
            ) else {
                continue;
            };
            let origin = format!("additional_chat_templates/{name}.jinja");
            if let Some(source) = read_text(&path, &origin)? {
                sources.insert(name.to_owned(), source);
            }
        }
    }
    for file in ["tokenizer_config.json", "chat_template.json"] {
        if sources.is_empty() {
            let path = dir.join(file);
            let broken = |message: String| Error::tokenizer(&path, message);
            if let Some(config) = files::read_object(&path, broken)? {
                sources = from_config(&config, file)
                    .map_err(|message| Error::tokenizer(&path, message))?;
            }
        }
    }
    Ok(sources)
}

fn read_text(path: &Path, origin: &str) -> Result<Option<Source>> {
    let Some(bytes) = files::read(path)? else { return Ok(None) };
    let text = String::from_utf8(bytes).map_err(|error| {
        Error::template(format!("{}: not UTF-8: {error}", path.display())).caused_by(error)
    })?;
    Ok(Some(Source { origin: origin.to_owned(), text }))
}

/// `chat_template`: a string, a list of `{name, template}`, or an object of templates by name.
fn from_config(config: &Value, file: &str) -> Result<BTreeMap<String, Source>, String> {
    let mut sources = BTreeMap::new();
    let mut add = |name: &str, text: &str| {
        let origin = if name == DEFAULT { file.to_owned() } else { format!("{file} ({name})") };
        sources.insert(name.to_owned(), Source { origin, text: text.to_owned() });
    };
    match config.get("chat_template") {
        None | Some(Value::Null) => {}
        Some(Value::String(text)) => add(DEFAULT, text),
        Some(Value::Array(list)) => {
            for (index, entry) in list.iter().enumerate() {
                let field = |key: &str| {
                    entry
                        .get(key)
                        .and_then(Value::as_str)
                        .ok_or_else(|| format!("chat_template[{index}].{key}: expected a string"))
                };
                add(field("name")?, field("template")?);
            }
        }
        Some(Value::Object(named)) => {
            for (name, text) in named {
                let text = text
                    .as_str()
                    .ok_or_else(|| format!("chat_template.{name}: expected a string"))?;
                add(name, text);
            }
        }
        Some(other) => {
            return Err(format!("chat_template: expected a string or a list, found {other}"));
        }
    }
    Ok(sources)
}
