//! Hermes, Qwen 2.5 and 3, Granite 4 and many more: `<tool_call>{"name": …, "arguments": {…}}</tool_call>`.

use super::{Section, ToolFormat, standard};
use crate::text::output::call_grammar::Shape;
use crate::text::output::json_call;
use crate::text::output::reader::Reader;

pub(super) static FORMAT: ToolFormat = ToolFormat {
    shape: Shape::Object {
        around: ["", "\n", ""],
        each: ["<tool_call>\n", "\n</tool_call>"],
        fields: ["name", "arguments"],
    },
    ..standard("hermes", &["<tool_call>"], &["</tool_call>"], read)
};

fn read(reader: Reader, _: usize) -> Section {
    Box::pin(async move { json_call::calls(&reader, "</tool_call>").await })
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
                ("a <tool_call> b", r#""a" !"<tool_call> b""#),
                ("1 < 2 <tool_cal", r#""1 < 2 <tool_cal""#),
            ],
        );
    }
}
