//! xLAM 2 and Hammer: the answer is a list, `[{"name": …, "arguments": {…}}]`, without a marker.

use super::{ToolFormat, json_objects, standard};
use crate::text::output::bare_json;
use crate::text::output::call_grammar::Shape;

pub(super) static FORMAT: ToolFormat = ToolFormat {
    bare: Some(bare_json::guess),
    signs: &["    {\"name\": \"func_name1\", \"arguments\":"],
    written: &["[{\"name\":", "\"arguments\":"],
    shape: Shape::Object {
        around: ["[", ", ", "]"],
        each: ["", ""],
        fields: ["name", "arguments"],
    },
    ..standard("json-list", &[], &[], json_objects)
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
                    r#"[{"name": "get_weather", "arguments": {"city": "Ulm"}}, {"name": "now", "arguments": {}}]"#,
                    r#"get_weather{"city":"Ulm"} now{}"#,
                ),
                ("```json\n[{\"name\": \"now\", \"arguments\": {}}]\n```", r#"now{}"#),
                ("```json\n[1]\n```", r#""```json\n[1]\n```""#),
                ("[]", r#""[]""#),
                (r#"[{"name": "Ada"}]"#, r#""[{\"name\": \"Ada\"}]""#),
            ],
        );
    }
}
