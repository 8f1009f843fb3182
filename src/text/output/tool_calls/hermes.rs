//! Hermes, Qwen 2.5 and 3, Granite 4 and many more: `<tool_call>{"name": …, "arguments": {…}}</tool_call>`.

use super::{Section, ToolFormat, standard};
use crate::text::output::call_grammar::Shape;
use crate::text::output::json_call;
use crate::text::output::reader::{Read, Reader};

pub(super) static FORMAT: ToolFormat = ToolFormat {
    shape: Shape::Object {
        around: ["", "\n", ""],
        each: ["<tool_call>\n", "\n</tool_call>"],
        fields: ["name", "arguments"],
    },
    ..standard("hermes", &[BEGIN], &[END], read)
};

const BEGIN: &str = "<tool_call>";
const END: &str = "</tool_call>";

fn read(reader: Reader, _: usize) -> Section {
    Box::pin(async move { section(&reader).await })
}

/// Small models write the marker twice, or put a fence around the JSON.
async fn section(reader: &Reader) -> Read<()> {
    let mut more = 0;
    reader.skip_space().await?;
    while reader.accept(BEGIN).await {
        more += 1;
        reader.skip_space().await?;
    }
    match reader.accept_any(&["```json", "```"]).await {
        Some(_) => {
            json_call::calls(reader, "```").await?;
            json_call::end(reader, END).await?;
        }
        None => json_call::calls_before(reader, END, &[BEGIN]).await?,
    }
    for _ in 0..more {
        if reader.skip_space().await.is_err() || !reader.accept(END).await {
            break;
        }
    }
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
                    "<tool_call>\n```json\n{\"name\": \"now\", \"arguments\": {}}\n```\n</tool_call>Yes.",
                    r#"now{} "Yes.""#,
                ),
                (
                    "<tool_call>\n<tool_call>\n{\"name\": \"now\"}\n</tool_call>\n</tool_call>\nYes.",
                    r#"now{} "Yes.""#,
                ),
                ("<tool_call><tool_call>{\"name\": \"now\"}</tool_call> Yes.", r#"now{} "Yes.""#),
                (
                    "<tool_call>\n{\"name\": \"get_weather\", \"arguments\": {\"city\": \"Paris\", \"days\": 3}}\n</tool_call>",
                    r#"get_weather{"city":"Paris","days":3}"#,
                ),
                (
                    "I look.\n<tool_call>{\"name\":\"now\"}</tool_call>\n<tool_call>\n{\"arguments\": {\"city\": \"Ulm\"}, \"name\": \"get_weather\"}\n</tool_call>\nDone.",
                    r#""I look." now{} get_weather{"city":"Ulm"} "Done.""#,
                ),
                (
                    r#"<tool_call>{"name": "f", "arguments": "{\"a\": [1, null, true]}"}"#,
                    r#"f{"a":[1,null,true]}"#,
                ),
                (
                    r#"<tool_call>{"type": "function", "function": {"name": "f", "arguments": {"a": "\u00e9\ud83d\ude00\n</tool_call>"}}}</tool_call>"#,
                    "f{\"a\":\"é\\ud83d\\ude00\\n</tool_call>\"}",
                ),
                (
                    "<tool_call>{\"name\": \"f\", \"arguments\": {\"a\": 1</tool_call> more",
                    r#"f{"a":1 !"<tool_call>{\"name\": \"f\", \"arguments\": {\"a\": 1</tool_call>" "more""#,
                ),
                (
                    "<tool_call>{\"arguments\": {}}</tool_call>",
                    r#"!"<tool_call>{\"arguments\": {}}</tool_call>""#,
                ),
                (
                    "<tool_call>{\"name\": \"now\"}\n<tool_call>{\"name\": \"f\"}</tool_call>.",
                    r#"now{} f{} ".""#,
                ),
                ("a <tool_call> b", r#""a" !"<tool_call> b""#),
                ("1 < 2 <tool_cal", r#""1 < 2 <tool_cal""#),
            ],
        );
    }
}
