//! GLM 4.5 to 5, Laguna: `<tool_call>f<arg_key>x</arg_key><arg_value>1</arg_value></tool_call>`.

use super::{Section, ToolFormat, standard};
use crate::text::output::arg_pairs::{self, Tags};
use crate::text::output::call_grammar::Shape;
use crate::text::output::reader::Reader;

pub(super) static FORMAT: ToolFormat = ToolFormat {
    signs: &["<arg_key>"],
    written: &["<arg_key>"],
    shape: Shape::Elements {
        around: ["", ""],
        call: ["<tool_call>", "\n", "</tool_call>"],
        argument: ["<arg_key>", "</arg_key>\n<arg_value>", "</arg_value>\n"],
        kinds: ["", ""],
    },
    ..standard("glm", &["<tool_call>"], &["</tool_call>"], read)
};

const TAGS: Tags = Tags {
    name_end: "",
    close: "</tool_call>",
    key: "<arg_key>",
    key_end: "</arg_key>",
    value: "<arg_value>",
    value_end: "</arg_value>",
};

fn read(reader: Reader, _: usize) -> Section {
    Box::pin(async move { arg_pairs::call(&reader, &TAGS).await })
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
                    "<tool_call>get_weather\n<arg_key>city</arg_key>\n<arg_value>12</arg_value>\n<arg_key>days</arg_key>\n<arg_value>3</arg_value>\n</tool_call>",
                    r#"get_weather{"city":"12","days":3}"#,
                ),
                (
                    r#"So.<tool_call>f<arg_key>x</arg_key><arg_value>{"a": 1}</arg_value><arg_key>y</arg_key><arg_value>some text</arg_value></tool_call><tool_call>now</tool_call>"#,
                    r#""So." f{"x":{"a":1},"y":"some text"} now{}"#,
                ),
                (
                    "<tool_call>{\"name\": \"f\", \"arguments\": {\"x\": 1}}</tool_call><tool_call>f\n{\"x\": 2}\n</tool_call>.",
                    r#"f{"x":1} f{"x":2} ".""#,
                ),
                ("<tool_call>f x=1 y=2</tool_call>.", r#"!"<tool_call>f x=1 y=2</tool_call>" ".""#),
                (
                    "<tool_call>f<arg_key>x</arg_key>5</tool_call>!",
                    r#"f{"x": !"<tool_call>f<arg_key>x</arg_key>5</tool_call>" "!""#,
                ),
            ],
        );
    }
}
