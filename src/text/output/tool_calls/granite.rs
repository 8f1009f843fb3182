//! Granite 3: `<|tool_call|>[{"name": …, "arguments": {…}}]`.

use super::{ToolFormat, json_objects, standard};
use crate::text::output::call_grammar::Shape;

pub(super) static FORMAT: ToolFormat = ToolFormat {
    shape: Shape::Object {
        around: ["<|tool_call|>[", ", ", "]"],
        each: ["", ""],
        fields: ["name", "arguments"],
    },
    ..standard("granite", &["<|tool_call|>"], &[], json_objects)
};

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
                    r#"<|tool_call|>[{"name": "get_weather", "arguments": {"city": "Ulm"}}]"#,
                    r#"get_weather{"city":"Ulm"}"#,
                ),
                (r#"<|tool_call|> {"name": "now", "arguments": {}}"#, "now{}"),
                ("<|tool_call|>now", r#"!"<|tool_call|>now""#),
            ],
        );
    }
}
