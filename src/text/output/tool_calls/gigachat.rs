//! GigaChat 3: `<|function_call|>{"name": …, "arguments": {…}}`, or behind a header of the turn.

use super::{ToolFormat, json_objects, standard};
use crate::text::output::call_grammar::Shape;

pub(super) static FORMAT: ToolFormat = ToolFormat {
    shape: Shape::Object {
        around: ["", "", ""],
        each: ["<|function_call|>", ""],
        fields: ["name", "arguments"],
    },
    ..standard("gigachat", &["<|function_call|>", "function call<|role_sep|>\n"], &[], json_objects)
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
                (r#"<|function_call|>{"name": "now", "arguments": {}}"#, "now{}"),
                (
                    "function call<|role_sep|>\n{\"name\": \"get_weather\", \"arguments\": {\"days\": 3}}",
                    r#"get_weather{"days":3}"#,
                ),
            ],
        );
    }
}
