//! Kimi K3: `<|open|>tools<|sep|><|open|>call tool="f" index="1"<|sep|><|open|>argument key="x" type="string"<|sep|>…`.

use super::{Section, ToolFormat, standard};
use crate::text::output::call_grammar::Shape;
use crate::text::output::json_call;
use crate::text::output::reader::{Read, Reader};
use crate::text::output::value::Untyped;
use crate::text::output::xml_call::{self, Around, Element, Name, Xml, next};

pub(super) static FORMAT: ToolFormat = ToolFormat {
    ends_reasoning: true,
    shape: Shape::Elements {
        around: ["<|open|>tools<|sep|>", "<|close|>tools<|sep|>"],
        call: ["<|open|>call tool=\"", "\" index=\"{#}\"<|sep|>", "<|close|>call<|sep|>"],
        argument: ["<|open|>argument key=\"", "<|sep|>", "<|close|>argument<|sep|>"],
        kinds: ["\" type=\"string\"", "\" type=\"{}\""],
    },
    ..standard("kimi-k3", &["<|open|>tools<|sep|>"], &["<|close|>tools<|sep|>"], read)
};

const XML: Xml = Xml {
    call: Element {
        open: "<|open|>call",
        tag_end: "<|sep|>",
        close: "<|close|>call<|sep|>",
        name: Name::Attribute("tool"),
    },
    argument: Element {
        open: "<|open|>argument",
        tag_end: "<|sep|>",
        close: "<|close|>argument<|sep|>",
        name: Name::Attribute("key"),
    },
    around: Around::Nothing,
    untyped: Untyped::Json,
    type_attribute: Some("type"),
    unclosed: &[],
};

fn read(reader: Reader, _: usize) -> Section {
    Box::pin(async move {
        while let Some(0) = next(&reader, &[XML.call.open, "<|close|>tools<|sep|>"]).await? {
            call(&reader).await?;
        }
        Ok(())
    })
}

async fn call(reader: &Reader) -> Read<()> {
    let name = xml_call::start(reader, &XML).await?;
    reader.skip_space().await?;
    // All arguments may come as one object.
    if reader.accept("<|open|>json").await {
        reader.until(&["<|sep|>"]).await?;
        json_call::arguments(reader).await?;
        reader.expect("<|close|>json<|sep|>").await?;
        return json_call::close(reader, XML.call.close).await;
    }
    xml_call::arguments(reader, &XML, &name).await?;
    reader.end_call();
    Ok(())
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
                    r#"<|open|>tools<|sep|><|open|>call tool="get_weather" index="1"<|sep|><|open|>argument key="city" type="string"<|sep|>Ulm<|close|>argument<|sep|><|open|>argument key="days" type="number"<|sep|>7<|close|>argument<|sep|><|close|>call<|sep|><|close|>tools<|sep|>"#,
                    r#"get_weather{"city":"Ulm","days":7}"#,
                ),
                (
                    r#"<|open|>tools<|sep|><|open|>call tool="now" index="1"<|sep|><|open|>json type="object"<|sep|>{"a": 1}<|close|>json<|sep|><|close|>call<|sep|><|close|>tools<|sep|>"#,
                    r#"now{"a":1}"#,
                ),
            ],
        );
    }
}
