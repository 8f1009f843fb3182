//! MiniMax-M2: `<minimax:tool_call><invoke name="f"><parameter name="x">1</parameter></invoke></minimax:tool_call>`.

use super::{Section, ToolFormat, standard};
use crate::text::output::call_grammar::Shape;
use crate::text::output::reader::Reader;
use crate::text::output::value::Untyped;
use crate::text::output::xml_call::{self, Around, Element, Name, Xml};

pub(super) static FORMAT: ToolFormat = ToolFormat {
    ends_reasoning: true,
    shape: Shape::Elements {
        around: ["<minimax:tool_call>\n", "</minimax:tool_call>"],
        call: ["<invoke name=\"", "\">\n", "</invoke>\n"],
        argument: ["<parameter name=\"", "\">", "</parameter>\n"],
        kinds: ["", ""],
    },
    ..standard("minimax-m2", &["<minimax:tool_call>"], &["</minimax:tool_call>"], read)
};

const XML: Xml = Xml {
    call: Element {
        open: "<invoke",
        tag_end: ">",
        close: "</invoke>",
        name: Name::Attribute("name"),
    },
    argument: Element {
        open: "<parameter",
        tag_end: ">",
        close: "</parameter>",
        name: Name::Attribute("name"),
    },
    around: Around::Nothing,
    untyped: Untyped::Container,
    type_attribute: None,
    unclosed: &[],
};

fn read(reader: Reader, _: usize) -> Section {
    Box::pin(async move { xml_call::calls(&reader, &XML, "</minimax:tool_call>").await })
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
                    "<minimax:tool_call>\n<invoke name=\"get_weather\">\n<parameter name=\"city\">Ulm</parameter>\n<parameter name=\"days\">2</parameter>\n<parameter name=\"metric\">true</parameter>\n</invoke>\n<invoke name=\"now\">\n</invoke>\n</minimax:tool_call>",
                    r#"get_weather{"city":"Ulm","days":2,"metric":true} now{}"#,
                ),
                (
                    r#"<minimax:tool_call><invoke><parameter name="a">1</parameter></invoke></minimax:tool_call>."#,
                    r#"!"<minimax:tool_call><invoke><parameter name=\"a\">1</parameter></invoke></minimax:tool_call>" ".""#,
                ),
            ],
        );
    }
}
