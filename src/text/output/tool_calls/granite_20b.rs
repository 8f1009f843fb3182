//! Granite 20B function calling: `<function_call> {"name": …, "arguments": {…}}`.

use super::{Section, ToolFormat, standard};
use crate::text::output::call_grammar::Shape;
use crate::text::output::json_call;
use crate::text::output::reader::Reader;
pub(super) static FORMAT: ToolFormat = ToolFormat {
    shape: Shape::Object { around: ["", "\n", ""], each: ["<function_call> ", ""], fields: ["name", "arguments"] },
    ..standard("granite-20b", &["<function_call>"], &["<function_call>"], read)
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
                ("<function_call> {\"name\": \"now\", \"arguments\": {}}\n<function_call> {\"name\": \"get_weather\", \"arguments\": {\"days\": 2}}", r#"now{} get_weather{"days":2}"#),
            ],
        );
    }
}
