//! DeepSeek V3.2 and V4: `<｜DSML｜function_calls><｜DSML｜invoke name="f"><｜DSML｜parameter name="x" string="true">…`;
//! an argument that is no string is JSON.

use super::{Section, ToolFormat, standard};
use crate::text::output::call_grammar::Shape;
use crate::text::output::reader::Reader;
use crate::text::output::value::Untyped;
use crate::text::output::xml_call::{self, Around, Element, Name, Xml};

pub(super) static FORMAT: ToolFormat = ToolFormat {
    ends_reasoning: true,
    signs: &["｜DSML｜"],
    shape: Shape::Elements {
        around: ["<｜DSML｜function_calls>\n", "</｜DSML｜function_calls>"],
        call: ["<｜DSML｜invoke name=\"", "\">\n", "</｜DSML｜invoke>\n"],
        argument: ["<｜DSML｜parameter name=\"", "\">", "</｜DSML｜parameter>\n"],
        kinds: ["\" string=\"true", "\" string=\"false"],
    },
    ..standard("deepseek-v3.2", OPENS, CLOSES, read)
};

const OPENS: &[&str] = &["<｜DSML｜function_calls>", "<｜DSML｜tool_calls>"];
const CLOSES: &[&str] = &["</｜DSML｜function_calls>", "</｜DSML｜tool_calls>"];

const XML: Xml = Xml {
    call: Element {
        open: "<｜DSML｜invoke",
        tag_end: ">",
        close: "</｜DSML｜invoke>",
        name: Name::Attribute("name"),
    },
    argument: Element {
        open: "<｜DSML｜parameter",
        tag_end: ">",
        close: "</｜DSML｜parameter>",
        name: Name::Attribute("name"),
    },
    around: Around::Nothing,
    untyped: Untyped::Json,
    type_attribute: Some("string"),
    unclosed: &[],
};

fn read(reader: Reader, opener: usize) -> Section {
    Box::pin(async move { xml_call::calls(&reader, &XML, CLOSES[opener]).await })
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
                    "<｜DSML｜function_calls>\n<｜DSML｜invoke name=\"get_weather\">\n<｜DSML｜parameter name=\"city\" string=\"true\">7</｜DSML｜parameter>\n<｜DSML｜parameter name=\"days\" string=\"false\">3</｜DSML｜parameter>\n</｜DSML｜invoke>\n</｜DSML｜function_calls>",
                    r#"get_weather{"city":"7","days":3}"#,
                ),
                (
                    r#"<｜DSML｜tool_calls><｜DSML｜invoke name="now"></｜DSML｜invoke></｜DSML｜tool_calls>"#,
                    "now{}",
                ),
            ],
        );
    }
}
