//! Command R7B, Command A: `<|START_ACTION|>[{"tool_call_id": "0", "tool_name": …, "parameters": {…}}]<|END_ACTION|>`. The ids count
//! within one answer, so calls get ids of their own.

use super::{Section, ToolFormat, standard};
use crate::text::output::call_grammar::Shape;
use crate::text::output::json_call;
use crate::text::output::reader::Reader;

pub(super) static FORMAT: ToolFormat = ToolFormat {
    ends_reasoning: true,
    shape: Shape::Object {
        around: ["<|START_ACTION|>[\n    ", ",\n    ", "\n]<|END_ACTION|>"],
        each: ["", ""],
        fields: ["tool_name", "parameters"],
    },
    ..standard("cohere", &["<|START_ACTION|>"], &["<|END_ACTION|>"], read)
};

fn read(reader: Reader, _: usize) -> Section {
    Box::pin(async move { json_call::calls(&reader, "<|END_ACTION|>").await })
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
                    "<|START_ACTION|>[\n    {\"tool_call_id\": \"0\", \"tool_name\": \"get_weather\", \"parameters\": {\"city\": \"Ulm\"}}\n]<|END_ACTION|>",
                    r#"get_weather{"city":"Ulm"}"#,
                ),
                (r#"<|START_ACTION|>[{"tool_name": "now"}"#, "now{}"),
            ],
        );
    }
}
