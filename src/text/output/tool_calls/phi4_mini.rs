//! Phi-4-mini: `<|tool_call|>[{"name": …, "arguments": {…}}]<|/tool_call|>`.

use super::{Section, ToolFormat, standard};
use crate::text::output::call_grammar::Shape;
use crate::text::output::json_call;
use crate::text::output::reader::Reader;

pub(super) static FORMAT: ToolFormat = ToolFormat {
    signs: &["<|/tool_call|>", "<|/tool|>"],
    shape: Shape::Object {
        around: ["<|tool_call|>[", ", ", "]<|/tool_call|>"],
        each: ["", ""],
        fields: ["name", "arguments"],
    },
    ..standard("phi4-mini", &["<|tool_call|>"], &["<|/tool_call|>"], read)
};

fn read(reader: Reader, _: usize) -> Section {
    Box::pin(async move { json_call::calls(&reader, "<|/tool_call|>").await })
}

#[cfg(test)]
mod tests {
    use super::FORMAT;
    use crate::text::output::golden::check;

    #[test]
    fn golden_cases() {
        check(
            &FORMAT,
            &[(r#"<|tool_call|>[{"name": "now", "arguments": {}}]<|/tool_call|>"#, "now{}")],
        );
    }
}
