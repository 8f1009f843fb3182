//! Nemotron Mini: `<toolcall> {"name": …, "arguments": {…}} </toolcall>`.

use super::{Section, ToolFormat, standard};
use crate::text::output::call_grammar::Shape;
use crate::text::output::json_call;
use crate::text::output::reader::Reader;

pub(super) static FORMAT: ToolFormat = ToolFormat {
    signs: &["<toolcall>", "<extra_id_0>System"],
    shape: Shape::Object {
        around: ["", "\n", ""],
        each: ["<toolcall> ", " </toolcall>"],
        fields: ["name", "arguments"],
    },
    ..standard("nemotron-mini", &["<toolcall>"], &["</toolcall>"], read)
};

fn read(reader: Reader, _: usize) -> Section {
    Box::pin(async move { json_call::calls(&reader, "</toolcall>").await })
}

#[cfg(test)]
mod tests {
    use super::FORMAT;
    use crate::text::output::golden::check;

    #[test]
    fn golden_cases() {
        check(
            &FORMAT,
            &[(
                r#"<toolcall> {"name": "get_weather", "arguments": {"city": "Ulm"}} </toolcall>"#,
                r#"get_weather{"city":"Ulm"}"#,
            )],
        );
    }
}
