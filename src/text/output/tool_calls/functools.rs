//! Firefunction, Phi-4-mini: `functools[{"name": …, "arguments": {…}}]`.

use super::{ToolFormat, json_objects, standard};
use crate::text::output::call_grammar::Shape;

pub(super) static FORMAT: ToolFormat = ToolFormat {
    signs: &["functools[", "\"functools\""],
    shape: Shape::Object {
        around: ["functools[", ", ", "]"],
        each: ["", ""],
        fields: ["name", "arguments"],
    },
    ..standard("functools", &["functools"], &[], json_objects)
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
                r#"functools[{"name": "get_weather", "arguments": {"city": "Ulm"}}, {"name": "now", "arguments": {}}]"#,
                r#"get_weather{"city":"Ulm"} now{}"#,
            )],
        );
    }
}
