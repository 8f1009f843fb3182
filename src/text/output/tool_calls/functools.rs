//! Firefunction, Phi-4-mini: `functools[{"name": …, "arguments": {…}}]`.

use super::{Section, ToolFormat, standard};
use crate::text::output::call_grammar::Shape;
use crate::text::output::json_call;
use crate::text::output::reader::Reader;
pub(super) static FORMAT: ToolFormat = ToolFormat {
    signs: &["functools["],
    shape: Shape::Object { around: ["functools[", ", ", "]"], each: ["", ""], fields: ["name", "arguments"] },
    ..standard("functools", &["functools"], &[], read)
};

fn read(reader: Reader, _: usize) -> Section {
    Box::pin(async move { json_call::calls(&reader, "").await })
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
                (r#"functools[{"name": "get_weather", "arguments": {"city": "Ulm"}}, {"name": "now", "arguments": {}}]"#, r#"get_weather{"city":"Ulm"} now{}"#),
            ],
        );
    }
}
