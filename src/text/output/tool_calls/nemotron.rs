//! Nemotron Nano 2: `<TOOLCALL>[{"name": …, "arguments": {…}}]</TOOLCALL>`.

use super::{Section, ToolFormat, standard};
use crate::text::output::call_grammar::Shape;
use crate::text::output::json_call;
use crate::text::output::reader::Reader;

pub(super) static FORMAT: ToolFormat = ToolFormat {
    shape: Shape::Object {
        around: ["<TOOLCALL>[", ", ", "]</TOOLCALL>"],
        each: ["", ""],
        fields: ["name", "arguments"],
    },
    ..standard("nemotron", &["<TOOLCALL>"], &["</TOOLCALL>"], read)
};

fn read(reader: Reader, _: usize) -> Section {
    Box::pin(async move { json_call::calls(&reader, "</TOOLCALL>").await })
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
                    r#"<TOOLCALL>[{"name": "get_weather", "arguments": {"city": "Ulm"}}, {"name": "now", "arguments": {}}]</TOOLCALL>"#,
                    r#"get_weather{"city":"Ulm"} now{}"#,
                ),
                (
                    r#"Hm. <TOOLCALL>[{"name": 5}]</TOOLCALL>!"#,
                    r#""Hm." !"<TOOLCALL>[{\"name\": 5}]</TOOLCALL>" "!""#,
                ),
            ],
        );
    }
}
