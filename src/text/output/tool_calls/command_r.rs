//! Command R and R+: `Action:` and a list of JSON in a fence, `[{"tool_name": …, "parameters": {…}}]`.

use super::{Section, ToolFormat, standard};
use crate::text::output::call_grammar::Shape;
use crate::text::output::json_call;
use crate::text::output::reader::Reader;

pub(super) static FORMAT: ToolFormat = ToolFormat {
    signs: &["Action:"],
    shape: Shape::Object {
        around: ["Action: ```json\n[\n", ",\n", "\n]```"],
        each: ["", ""],
        fields: ["tool_name", "parameters"],
    },
    ..standard("command-r", &["Action:\n```json", "Action: ```json"], &["```"], read)
};

fn read(reader: Reader, _: usize) -> Section {
    Box::pin(async move { json_call::calls(&reader, "```").await })
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
                    "Action: ```json\n[\n    {\n        \"tool_name\": \"get_weather\",\n        \"parameters\": {\"city\": \"Ulm\"}\n    }\n]```",
                    r#"get_weather{"city":"Ulm"}"#,
                ),
                // No tool is wanted.
                (
                    "Action: ```json\n[\n    {\n        \"tool_name\": \"directly_answer\",\n        \"parameters\": {}\n    }\n]```\nUlm lies in Swabia.",
                    r#""Ulm lies in Swabia.""#,
                ),
                (
                    "Action: ```json\n[{\"tool_name\": \"directly_answer\", \"parameters\": {}}, {\"tool_name\": \"now\", \"parameters\": {}}]```",
                    "now{}",
                ),
                (
                    "Action: ```json\n[{\"tool_name\": \"directly_answer\", \"param",
                    r#"!"Action: ```json\n[{\"tool_name\": \"directly_answer\", \"param""#,
                ),
            ],
        );
    }
}
