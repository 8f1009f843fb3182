//! Kimi K2: `<|tool_calls_section_begin|><|tool_call_begin|>functions.f:0<|tool_call_argument_begin|>{…}<|tool_call_end|>…`.
//! The id holds the name.

use super::{Section, ToolFormat, standard};
use crate::text::output::call_grammar::Shape;
use crate::text::output::json_call;
use crate::text::output::reader::{Read, Reader, invalid};
use crate::text::output::xml_call::next;

pub(super) static FORMAT: ToolFormat = ToolFormat {
    ends_reasoning: true,
    shape: Shape::Named {
        around: ["<|tool_calls_section_begin|>", "<|tool_calls_section_end|>"],
        between: Some(""),
        each: [
            "<|tool_call_begin|>functions.",
            ":{#}<|tool_call_argument_begin|>",
            "<|tool_call_end|>",
        ],
    },
    ..standard("kimi-k2", &["<|tool_calls_section_begin|>"], &[END], read)
};

const END: &str = "<|tool_calls_section_end|>";
const CALL_END: &str = "<|tool_call_end|>";

fn read(reader: Reader, _: usize) -> Section {
    Box::pin(async move {
        while let Some(0) = next(&reader, &["<|tool_call_begin|>", END]).await? {
            call(&reader).await?;
        }
        Ok(())
    })
}

async fn call(reader: &Reader) -> Read<()> {
    let (id, _) = reader.until(&["<|tool_call_argument_begin|>"]).await?;
    let id = id.trim();
    let name = id.strip_prefix("functions.").unwrap_or(id);
    let name = match name.rsplit_once(':') {
        Some((name, number)) if number.bytes().all(|it| it.is_ascii_digit()) => name,
        _ => name,
    };
    if name.is_empty() {
        return invalid("the call has no name");
    }
    reader.start_call(name, Some(id.to_owned()));
    if reader.comes_next(&[CALL_END]).await {
        reader.arguments("{}");
    } else {
        json_call::arguments(reader).await?;
    }
    json_call::close(reader, CALL_END).await
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
                    r#"Well.<|tool_calls_section_begin|><|tool_call_begin|>functions.get_weather:0<|tool_call_argument_begin|>{"city": "Ulm"}<|tool_call_end|><|tool_call_begin|>functions.now:1<|tool_call_argument_begin|>{}<|tool_call_end|><|tool_calls_section_end|>"#,
                    r#""Well." get_weather#functions.get_weather:0{"city":"Ulm"} now#functions.now:1{}"#,
                ),
                (
                    "<|tool_calls_section_begin|><|tool_call_begin|>functions.now:0<|tool_call_argument_begin|><|tool_call_end|><|tool_calls_section_end|>",
                    "now#functions.now:0{}",
                ),
                (
                    r#"<|tool_calls_section_begin|><|tool_call_begin|>functions.now:0<|tool_call_argument_begin|>{"a""#,
                    r#"now#functions.now:0{"a" !"<|tool_calls_section_begin|><|tool_call_begin|>functions.now:0<|tool_call_argument_begin|>{\"a\"""#,
                ),
            ],
        );
    }
}
