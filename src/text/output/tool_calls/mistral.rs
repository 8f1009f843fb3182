//! Mistral: a list, `[TOOL_CALLS][{"name": …, "arguments": {…}, "id": …}]` (v3 to v7), or a name and
//! arguments, `[TOOL_CALLS]name[CALL_ID]id[ARGS]{…}` (v11 and later).

use super::{Section, ToolFormat, standard};
use crate::text::output::call_grammar::Shape;
use crate::text::output::json_call;
use crate::text::output::reader::{Read, Reader, invalid};

pub(super) static FORMAT: ToolFormat = ToolFormat {
    ends_reasoning: true,
    shape: Shape::Either { token: "[ARGS]", with: &NAMED, without: &LIST },
    ..standard("mistral", &["[TOOL_CALLS]"], &["[TOOL_CALLS]"], read)
};

const NAMED: Shape =
    Shape::Named { around: ["", ""], between: Some(""), each: ["[TOOL_CALLS]", "[ARGS]", ""] };
const LIST: Shape = Shape::Object {
    around: ["[TOOL_CALLS] [", ", ", "]"],
    each: ["", ""],
    fields: ["name", "arguments"],
};

const MARKS: [&str; 3] = ["[ARGS]", "[CALL_ID]", "{"];

fn read(reader: Reader, _: usize) -> Section {
    Box::pin(async move {
        reader.skip_space().await?;
        if reader.peek().await? == '[' {
            return json_call::calls(&reader, "").await;
        }
        named(&reader).await?;
        // Some models leave the marker of the next call out.
        let begins = |name: &str| [MARKS[0], MARKS[1]].map(|mark| format!("{name}{mark}"));
        let next: Vec<String> =
            reader.tools.all().iter().flat_map(|tool| begins(&tool.name)).collect();
        let next: Vec<&str> = next.iter().map(String::as_str).collect();
        while reader.comes_next(&next).await {
            named(&reader).await?;
        }
        Ok(())
    })
}

async fn named(reader: &Reader) -> Read<()> {
    let mut name = String::new();
    let mark = reader.stream_to(&MARKS, |text| name.push_str(text)).await?;
    let name = name.trim();
    if name.is_empty() || name.contains(char::is_whitespace) {
        return invalid("the call has no name");
    }
    let mut id = None;
    if mark == 1 {
        reader.accept(MARKS[1]).await;
        let mut text = String::new();
        reader.stream_to(&["[ARGS]"], |piece| text.push_str(piece)).await?;
        id = Some(text.trim().to_owned());
    }
    reader.accept(MARKS[0]).await;
    reader.start_call(name, id);
    json_call::arguments(reader).await?;
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
                (
                    r#"[TOOL_CALLS] [{"name": "get_weather", "arguments": {"city": "Paris"}, "id": "abcdefghi"}, {"name": "now", "arguments": {}}]"#,
                    r#"get_weather{"city":"Paris"} now{}"#,
                ),
                (
                    r#"[TOOL_CALLS]get_weather[ARGS]{"city": "Ulm"}[TOOL_CALLS]now[ARGS]{}"#,
                    r#"get_weather{"city":"Ulm"} now{}"#,
                ),
                (
                    r#"Wait. [TOOL_CALLS]now[CALL_ID]123456789[ARGS]{"a": [{}]}"#,
                    r#""Wait." now#123456789{"a":[{}]}"#,
                ),
                (r#"[TOOL_CALLS]now{"a": 1}"#, r#"now{"a":1}"#),
                (
                    r#"[TOOL_CALLS]now[ARGS]{} get_weather[CALL_ID]123456789[ARGS]{"days": 2} now[1]"#,
                    r#"now{} get_weather#123456789{"days":2} "now[1]""#,
                ),
                (
                    r#"[TOOL_CALLS]now[ARGS]{"a": }[TOOL_CALLS]now[ARGS]{}"#,
                    r#"now{"a": !"[TOOL_CALLS]now[ARGS]{\"a\": }" now{}"#,
                ),
            ],
        );
    }
}
