//! Qwen3-Coder, Qwen 3.5 and later, Nemotron 3, Step 3.5, Seed-OSS: tags with one argument each:
//! `<tool_call><function=get_weather><parameter=city>Paris</parameter></function></tool_call>`.

use super::{Section, ToolFormat, standard};
use crate::text::output::call_grammar::Shape;
use crate::text::output::reader::Reader;
use crate::text::output::value::Untyped;
use crate::text::output::xml_call::{self, Around, Element, Name, Xml};

pub(super) static FORMAT: ToolFormat = ToolFormat {
    signs: &["<function="],
    shape: Shape::Elements {
        around: ["", ""],
        call: ["<tool_call>\n<function=", ">\n", "</function>\n</tool_call>"],
        argument: ["<parameter=", ">\n", "\n</parameter>\n"],
        kinds: ["", ""],
    },
    ..standard("qwen3-coder", OPENS, &["</tool_call>", "</seed:tool_call>"], read)
};

/// Some models leave the outer tag out.
const OPENS: &[&str] = &["<tool_call>", "<seed:tool_call>", "<function="];

const XML: Xml = Xml {
    call: Element { open: "<function=", tag_end: ">", close: "</function>", name: Name::Whole },
    argument: Element {
        open: "<parameter=",
        tag_end: ">",
        close: "</parameter>",
        name: Name::Whole,
    },
    around: Around::Line,
    untyped: Untyped::Container,
    type_attribute: None,
    unclosed: &["\n</function>\n</tool_call>", "\n</function>\n</seed:tool_call>", "\n<parameter="],
};

fn read(reader: Reader, opener: usize) -> Section {
    Box::pin(async move {
        match opener {
            0 => xml_call::calls(&reader, &XML, "</tool_call>").await,
            1 => xml_call::calls(&reader, &XML, "</seed:tool_call>").await,
            _ => {
                xml_call::call(&reader, &XML).await?;
                // The outer tag may be closed all the same.
                if reader.skip_space().await.is_ok() {
                    reader.accept("</tool_call>").await;
                }
                Ok(())
            }
        }
    })
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
                    "Well.\n\n<tool_call>\n<function=get_weather>\n<parameter=city>\nParis\n</parameter>\n<parameter=days>\n3\n</parameter>\n</function>\n</tool_call>",
                    r#""Well." get_weather{"city":"Paris","days":3}"#,
                ),
                (
                    "<function=get_weather><parameter=city>007</parameter><parameter=tags>[\"a\", 1]</parameter><parameter=other>5</parameter></function></tool_call>",
                    r#"get_weather{"city":"007","tags":["a",1],"other":"5"}"#,
                ),
                (
                    "<seed:tool_call>\n<function=get_weather>\n<parameter=city>\na\n\n\"b\"\n\n</parameter>\n</function>\n<function=now>\n</function>\n</seed:tool_call>",
                    r#"get_weather{"city":"a\n\n\"b\"\n"} now{}"#,
                ),
                (
                    "<tool_call>\n<function=f>\n<parameter=x>\n1\n</function>\n</tool_call>",
                    r#"f{"x":"1"}"#,
                ),
                (
                    "<tool_call>\n<function=get_weather>\n<parameter=city>\nUlm\n<parameter=days>\n3\n</function>\n</tool_call>\nDone.",
                    r#"get_weather{"city":"Ulm","days":3} "Done.""#,
                ),
                (
                    "<tool_call>\n<function=f>\n<parameter=x>\n1\n</tool_call>",
                    r#"f{"x": !"<tool_call>\n<function=f>\n<parameter=x>\n1\n</tool_call>""#,
                ),
            ],
        );
    }
}
