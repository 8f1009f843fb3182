//! Chat templates against transformers' `apply_chat_template`: every folder of
//! `fixtures/chat-templates` is a template with its cases. Adding a case is adding it to a file
//! there (see tools/oracle/README.md).
#![allow(clippy::expect_used, reason = "tests")]

use std::fs;
use std::path::Path;

use nodemlx::error::Error;
use nodemlx::text::{ChatTemplate, ChatTemplateOptions};
use serde_json::Value;

/// What transformers refuses and this renderer takes: attributes with an underscore, which are a
/// danger in Python only.
const TAKEN: [&str; 1] = ["errors: an underscore in a namespace"];

/// What minijinja cannot do: macros that take any number of arguments.
const REFUSED: [&str; 1] = ["macros: varargs and kwargs"];

/// Histories that transformers hands over as they come, and that are brought into the form which the
/// template takes first: a turn for each call, ids of nine characters, text of JSON as `tojson`
/// writes it. What comes of it is tested in `text/chat_template`.
const ARRANGED: [&str; 5] = [
    "gpt-oss: two calls in a turn",
    "llama3: two calls in a turn",
    "mistral: an id that is too short",
    "mistral: a call without an id",
    "qwen3: arguments that are already text",
];

#[test]
fn templates_render_as_in_transformers() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/chat-templates");
    let mut folders: Vec<_> =
        fs::read_dir(&root).expect("the fixtures").map(|it| it.expect("an entry").path()).collect();
    folders.sort();
    let mut failures = Vec::new();
    let mut cases = 0;
    for folder in &folders {
        let suite: Value =
            serde_json::from_slice(&fs::read(folder.join("cases.json")).expect("cases.json"))
                .expect("JSON");
        for case in suite["cases"].as_array().expect("cases") {
            cases += 1;
            let of = folder.file_name().expect("a name").to_string_lossy();
            let name = format!("{of}: {}", text(case, "name"));
            match (check(folder, &suite, case), ARRANGED.contains(&&*name)) {
                (Ok(()), false) | (Err(_), true) => {}
                (Ok(()), true) => failures.push(format!("{name}: is the same: take it off")),
                (Err(failure), false) => failures.push(format!("{name}: {failure}")),
            }
        }
    }
    assert!(cases > 300, "only {cases} cases in {}", root.display());
    assert!(failures.is_empty(), "{} of {cases}:\n{}", failures.len(), failures.join("\n"));
}

fn check(folder: &Path, suite: &Value, case: &Value) -> Result<(), String> {
    let rendered = render(folder, suite, case);
    let name = text(case, "name");
    let Some(error) = case.get("error") else {
        let expected = text(case, "expected");
        return match (rendered, REFUSED.contains(&name)) {
            (Ok(found), false) if found == expected => Ok(()),
            (Err(_), true) => Ok(()),
            (Ok(_), true) => Err("renders now: take it off the list".to_owned()),
            (Ok(found), _) => Err(format!("expected\n{expected:?}\nfound\n{found:?}")),
            (Err(error), _) => Err(format!("expected\n{expected:?}\nfound the error {error}")),
        };
    };
    let found = match (rendered, TAKEN.contains(&name)) {
        (Ok(_), true) => return Ok(()),
        (Ok(found), false) => return Err(format!("expected the error {error}\nfound {found:?}")),
        (Err(_), true) => return Err("is refused now: take it off the list".to_owned()),
        (Err(found), false) => found,
    };
    let message = found.to_string();
    match (text(error, "kind"), error["line"].as_u64()) {
        ("raised", _) if message == text(error, "message") => Ok(()),
        ("raised", _) => Err(format!("expected {error}\nfound {message:?}")),
        ("input", _) if matches!(found, Error::InvalidArgument { .. }) => Ok(()),
        ("input", _) => Err(format!("expected an argument error\nfound {message:?}")),
        (_, Some(line)) if message.contains(&format!("line {line}:")) => Ok(()),
        (_, None) if matches!(found, Error::Template { .. }) => Ok(()),
        _ => Err(format!("expected {error}\nfound {message:?}")),
    }
}

fn render(folder: &Path, suite: &Value, case: &Value) -> nodemlx::error::Result<String> {
    let default = |key: &str| case.get(key).or_else(|| suite.get("defaults")?.get(key));
    let mut variables = suite["special_tokens"].as_object().cloned().unwrap_or_default();
    variables.extend(default("kwargs").and_then(Value::as_object).cloned().unwrap_or_default());
    let flag = |key: &str| case.get(key).and_then(Value::as_bool).unwrap_or(false);
    let continued = case.get("continue_final_message").filter(|it| **it != Value::Bool(false));
    let options = ChatTemplateOptions {
        tools: case.get("tools").cloned(),
        documents: case.get("documents").cloned(),
        add_generation_prompt: flag("add_generation_prompt"),
        continue_final_message: continued.is_some(),
        continue_field: continued.and_then(Value::as_str).map(str::to_owned),
        template: case.get("template_name").and_then(Value::as_str).map(str::to_owned),
        now: Some(text(suite, "now").to_owned()),
        reasoning: None,
        calls: None,
        variables,
    };
    let file = folder.join("template.jinja");
    let template = match case.get("template").and_then(Value::as_str) {
        Some(source) => ChatTemplate::from_source(source)?,
        None if file.exists() => {
            ChatTemplate::from_source(&fs::read_to_string(file).expect("UTF-8"))?
        }
        None => ChatTemplate::from_dir(folder, None)?.expect("a template"),
    };
    template.render(default("messages").unwrap_or(&Value::Null), &options)
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_default()
}
