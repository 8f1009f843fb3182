//! Hunyuan, Jamba, MiniMax-M1, Apriel: `<tool_calls>[{"name": …, "arguments": {…}}]</tool_calls>`, or an object a line.

use super::{Section, ToolFormat, standard};
use crate::text::output::call_grammar::Shape;
use crate::text::output::json_call;
use crate::text::output::reader::Reader;

pub(super) static FORMAT: ToolFormat = ToolFormat {
    shape: Shape::Object {
        around: ["<tool_calls>[", ", ", "]</tool_calls>"],
        each: ["", ""],
        fields: ["name", "arguments"],
    },
    ..standard("hunyuan", &["<tool_calls>"], &["</tool_calls>"], read)
};

fn read(reader: Reader, _: usize) -> Section {
    Box::pin(async move { json_call::calls(&reader, "</tool_calls>").await })
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
                    r#"<tool_calls>[{"name": "now", "arguments": {}, "id": "1"}]</tool_calls>"#,
                    "now{}",
                ),
                (
                    "<tool_calls>\n{\"name\": \"now\", \"arguments\": {}}\n{\"name\": \"get_weather\", \"arguments\": {\"days\": 1}}\n</tool_calls>",
                    r#"now{} get_weather{"days":1}"#,
                ),
            ],
        );
    }
}
