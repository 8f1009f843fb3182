//! LFM2, Llama 3.2 and 4, Gemma 3, ToolACE, OLMo 3: Python, `[get_weather(city="Paris")]`, with
//! markers or without.

use super::{Section, ToolFormat, standard};
use crate::text::output::call_grammar::Shape;
use crate::text::output::python_call;
use crate::text::output::reader::Reader;

pub(super) static FORMAT: ToolFormat = ToolFormat {
    bare: Some(python_call::guess),
    signs: &["<|tool_call_start|>", "<|tool_list_start|>", "<|python_start|>", "List of tools: ["],
    shape: Shape::Either {
        token: "<|tool_call_start|>",
        with: &Shape::Functions { around: ["<|tool_call_start|>[", "]<|tool_call_end|>"] },
        without: &Shape::Functions { around: ["[", "]"] },
    },
    ..standard("pythonic", OPENS, CLOSES, read)
};

const OPENS: &[&str] =
    &["<|tool_call_start|>", "<|python_start|>", "<function_calls>", "```tool_code"];
const CLOSES: &[&str] = &["<|tool_call_end|>", "<|python_end|>", "</function_calls>", "```"];

fn read(reader: Reader, opener: usize) -> Section {
    Box::pin(async move {
        python_call::calls(&reader, CLOSES.get(opener).copied().unwrap_or_default()).await
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
                    r#"<|tool_call_start|>[get_weather(city="Paris", days=3), now()]<|tool_call_end|>Let me see."#,
                    r#"get_weather{"city":"Paris","days":3} now{} "Let me see.""#,
                ),
                (
                    r#"[get_weather(city='it\'s', tags=['a', ("b",), {"c": None, 'd': True}], x=-.5, y=1_000)]"#,
                    r#"get_weather{"city":"it's","tags":["a",["b"],{"c":null,"d":true}],"x":-0.5,"y":1000}"#,
                ),
                (
                    r#"[get_weather(nested={"a": true, "b": null})]"#,
                    r#"get_weather{"nested":{"a":true,"b":null}}"#,
                ),
                ("[1, 2, 3]", r#""[1, 2, 3]""#),
                ("[get_weather] is a tool", r#""[get_weather] is a tool""#),
                ("[unknown(x=1)]", r#""[unknown(x=1)]""#),
                (
                    "<|tool_call_start|>[now(5)]<|tool_call_end|>",
                    r#"now{ !"<|tool_call_start|>[now(5)]<|tool_call_end|>""#,
                ),
                ("[now(a=1", r#"now{"a":1 !"[now(a=1""#),
            ],
        );
    }
}
