//! InternLM 2: `<|action_start|><|plugin|>{"name": …, "parameters": {…}}<|action_end|>`.

use super::{Section, ToolFormat, standard};
use crate::text::output::call_grammar::Shape;
use crate::text::output::json_call;
use crate::text::output::reader::Reader;

pub(super) static FORMAT: ToolFormat = ToolFormat {
    signs: &["<|action_start|>"],
    shape: Shape::Object {
        around: ["", "", ""],
        each: ["<|action_start|><|plugin|>\n", "<|action_end|>"],
        fields: ["name", "parameters"],
    },
    ..standard("internlm2", &["<|action_start|><|plugin|>"], &["<|action_end|>"], read)
};

fn read(reader: Reader, _: usize) -> Section {
    Box::pin(async move { json_call::calls(&reader, "<|action_end|>").await })
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
                "<|action_start|><|plugin|>\n{\"name\": \"now\", \"parameters\": {}}<|action_end|>",
                "now{}",
            )],
        );
    }
}
