//! GigaChat 3: `<|function_call|>{"name": …, "arguments": {…}}`, or behind a header of the turn.

use super::{Section, ToolFormat, standard};
use crate::text::output::call_grammar::Shape;
use crate::text::output::json_call;
use crate::text::output::reader::Reader;
pub(super) static FORMAT: ToolFormat = ToolFormat {
    shape: Shape::Object { around: ["", "", ""], each: ["<|function_call|>", ""], fields: ["name", "arguments"] },
    ..standard("gigachat", &["<|function_call|>", "function call<|role_sep|>\n"], &[], read)
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
                (r#"<|function_call|>{"name": "now", "arguments": {}}"#, "now{}"),
                ("function call<|role_sep|>\n{\"name\": \"get_weather\", \"arguments\": {\"days\": 3}}", r#"get_weather{"days":3}"#),
            ],
        );
    }
}
