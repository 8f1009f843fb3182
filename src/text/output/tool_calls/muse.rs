//! Muse: `<atem:function_calls><atem:invoke name="f"><atem:parameter name="x">1</atem:parameter></atem:invoke></atem:function_calls>`.

use super::{Section, ToolFormat, standard};
use crate::text::output::call_grammar::Shape;
use crate::text::output::reader::Reader;
use crate::text::output::value::Untyped;
use crate::text::output::xml_call::{self, Around, Element, Name, Xml};

pub(super) static FORMAT: ToolFormat = ToolFormat {
    shape: Shape::Elements {
        around: ["<atem:function_calls>\n", "</atem:function_calls>"],
        call: ["<atem:invoke name=\"", "\">\n", "</atem:invoke>\n"],
        argument: ["<atem:parameter name=\"", "\">", "</atem:parameter>\n"],
        kinds: ["", ""],
    },
    ..standard("muse", &["<atem:function_calls>"], &["</atem:function_calls>"], read)
};

const XML: Xml = Xml {
    call: Element {
        open: "<atem:invoke",
        tag_end: ">",
        close: "</atem:invoke>",
        name: Name::Attribute("name"),
    },
    argument: Element {
        open: "<atem:parameter",
        tag_end: ">",
        close: "</atem:parameter>",
        name: Name::Attribute("name"),
    },
    around: Around::Nothing,
    untyped: Untyped::Json,
    type_attribute: None,
    unclosed: &[],
};

fn read(reader: Reader, _: usize) -> Section {
    Box::pin(async move { xml_call::calls(&reader, &XML, "</atem:function_calls>").await })
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
                "<atem:function_calls>\n<atem:invoke name=\"get_weather\">\n<atem:parameter name=\"city\">Ulm</atem:parameter>\n<atem:parameter name=\"other\">{\"a\": [1]}</atem:parameter>\n</atem:invoke>\n</atem:function_calls>",
                r#"get_weather{"city":"Ulm","other":{"a":[1]}}"#,
            )],
        );
    }
}
