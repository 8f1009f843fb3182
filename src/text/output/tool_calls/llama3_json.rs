//! Llama 3.1 to 3.3 and 4: the answer is an object, `{"name": …, "parameters": {…}}`, or there is one
//! behind `<|python_tag|>`, where a built-in tool is called as `brave_search.call(query="…")`.

use super::{Section, ToolFormat, json_objects, standard};
use crate::text::output::call_grammar::Shape;
use crate::text::output::reader::{Read, Reader};
use crate::text::output::{bare_json, json_call, python_call};

pub(super) static FORMAT: ToolFormat = ToolFormat {
    bare: Some(bare_json::guess),
    signs: &["\"parameters\": "],
    shape: Shape::Object { around: ["", "; ", ""], each: ["", ""], fields: ["name", "parameters"] },
    ..standard("llama3-json", &["<|python_tag|>"], &[], read)
};

fn read(reader: Reader, _: usize) -> Section {
    Box::pin(async move {
        reader.skip_space().await?;
        match reader.peek().await? {
            '{' | '[' => objects(&reader).await,
            '`' => json_objects(reader, 0).await,
            _ => built_in(&reader).await,
        }
    })
}

/// Reads calls one behind the other.
async fn objects(reader: &Reader) -> Read<()> {
    loop {
        json_call::calls(reader, "").await?;
        if reader.skip_space().await.is_err() {
            return Ok(());
        }
        if reader.accept_any(&[";", ","]).await.is_some() {
            reader.skip_space().await?;
        }
        match reader.peek().await? {
            '{' | '[' => {}
            _ => return Ok(()),
        }
    }
}

async fn built_in(reader: &Reader) -> Read<()> {
    let name = python_call::identifier(reader).await?;
    reader.expect("(").await?;
    reader.start_call(name.strip_suffix(".call").unwrap_or(&name), None);
    python_call::arguments(reader).await?;
    reader.end_call();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::FORMAT;
    use crate::text::output::golden::check;

    #[test]
    fn golden_cases() {
        check(
            &FORMAT,
            &[
                ("```json\n{\"name\": \"now\", \"parameters\": {}}\n```", r#"now{}"#),
                (
                    r#"{"name": "get_weather", "parameters": {"city": "Paris"}}"#,
                    r#"get_weather{"city":"Paris"}"#,
                ),
                (
                    r#"<|python_tag|>{"type": "function", "name": "now", "parameters": {}}; {"name": "get_weather", "parameters": {"days": 2}}"#,
                    r#"now{} get_weather{"days":2}"#,
                ),
                (
                    r#"<|python_tag|>brave_search.call(query="who \"is\"")"#,
                    r#"brave_search{"query":"who \"is\""}"#,
                ),
                // An object that calls nobody is an answer.
                (r#"{"name": "Ada", "age": 36}"#, r#""{\"name\": \"Ada\", \"age\": 36}""#),
                ("{}", r#""{}""#),
                (r#"{"name": "get_w"#, r#""{\"name\": \"get_w""#),
                ("A set: {\"name\": \"now\"}", r#""A set: {\"name\": \"now\"}""#),
                (
                    r#"{"name": "now", "parameters": {"a": "#,
                    r#"now{"a": !"{\"name\": \"now\", \"parameters\": {\"a\": ""#,
                ),
            ],
        );
    }
}
