//! Solar Open: `<|tool_calls|><|tool_call:begin|>id<|tool_call:name|>f<|tool_call:args|>{…}<|tool_call:end|>`.

use super::{Section, ToolFormat, standard};
use crate::text::output::call_grammar::Shape;
use crate::text::output::json_call;
use crate::text::output::reader::{Read, Reader};
use crate::text::output::xml_call::next;

pub(super) static FORMAT: ToolFormat = ToolFormat {
    ends_reasoning: true,
    // Calls without an id get one from us.
    shape: Shape::Named {
        around: ["<|tool_calls|>", "<|calls|>"],
        between: Some(""),
        each: ["<|tool_call:begin|><|tool_call:name|>", "<|tool_call:args|>", "<|tool_call:end|>"],
    },
    ..standard("solar", &["<|tool_calls|>"], &["<|calls|>"], read)
};

fn read(reader: Reader, _: usize) -> Section {
    Box::pin(async move {
        while let Some(0) = next(&reader, &["<|tool_call:begin|>", "<|calls|>"]).await? {
            call(&reader).await?;
        }
        Ok(())
    })
}

async fn call(reader: &Reader) -> Read<()> {
    let (id, _) = reader.until(&["<|tool_call:name|>"]).await?;
    let (name, _) = reader.until(&["<|tool_call:args|>"]).await?;
    let id = Some(id.trim().to_owned()).filter(|id| !id.is_empty());
    reader.start_call(name.trim(), id);
    json_call::arguments(reader).await?;
    json_call::close(reader, "<|tool_call:end|>").await
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
                r#"<|tool_calls|><|tool_call:begin|>abc<|tool_call:name|>get_weather<|tool_call:args|>{"city": "Ulm"}<|tool_call:end|><|calls|>"#,
                r#"get_weather#abc{"city":"Ulm"}"#,
            )],
        );
    }
}
