//! Granite 20B function calling: `<function_call> {"name": …, "arguments": {…}}`.

use super::{ToolFormat, json_objects, standard};
use crate::text::output::call_grammar::Shape;

pub(super) static FORMAT: ToolFormat = ToolFormat {
    shape: Shape::Object {
        around: ["", "\n", ""],
        each: ["<function_call> ", ""],
        fields: ["name", "arguments"],
    },
    ..standard("granite-20b", &["<function_call>"], &["<function_call>"], json_objects)
};

#[cfg(test)]
mod tests {
    use super::FORMAT;
    use crate::text::output::golden::check;

    #[test]
    fn golden_cases() {
        check(
            &FORMAT,
            &[(
                "<function_call> {\"name\": \"now\", \"arguments\": {}}\n<function_call> {\"name\": \"get_weather\", \"arguments\": {\"days\": 2}}",
                r#"now{} get_weather{"days":2}"#,
            )],
        );
    }
}
