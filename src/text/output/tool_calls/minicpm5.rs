//! MiniCPM5: `<function name="f"><param name="x">1</param></function>`, one behind the other.

use super::{Section, ToolFormat, standard};
use crate::text::output::call_grammar::Shape;
use crate::text::output::reader::Reader;
use crate::text::output::value::Untyped;
use crate::text::output::xml_call::{self, Around, Element, Name, Xml};

pub(super) static FORMAT: ToolFormat = ToolFormat {
    shape: Shape::Elements {
        around: ["", ""],
        call: ["<function name=\"", "\">", "</function>"],
        argument: ["<param name=\"", "\">", "</param>"],
        kinds: ["", ""],
    },
    ..standard("minicpm5", &["<function name="], &["</function>"], read)
};

const XML: Xml = Xml {
    call: Element {
        open: "<function name=",
        tag_end: ">",
        close: "</function>",
        name: Name::Whole,
    },
    argument: Element { open: "<param name=", tag_end: ">", close: "</param>", name: Name::Whole },
    around: Around::Nothing,
    untyped: Untyped::Container,
    type_attribute: None,
    unclosed: &[],
};

fn read(reader: Reader, _: usize) -> Section {
    Box::pin(async move { xml_call::call(&reader, &XML).await })
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
                    r#"<function name="get_weather"><param name="city">Ulm</param><param name="days">2</param></function><function name="now"></function>"#,
                    r#"get_weather{"city":"Ulm","days":2} now{}"#,
                ),
                (
                    "<function name=\"get_weather\"><param name=\"city\"><![CDATA[a < b\n]]></param></function>",
                    r#"get_weather{"city":"a < b\n"}"#,
                ),
            ],
        );
    }
}
