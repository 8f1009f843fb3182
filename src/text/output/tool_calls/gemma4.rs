//! Gemma 4: `<|tool_call>call:f{x:<|"|>text<|"|>,n:1}<tool_call|>`.

use super::{Section, ToolFormat, standard};
use crate::text::output::call_grammar::Shape;
use crate::text::output::gemma_call;
use crate::text::output::reader::Reader;

pub(super) static FORMAT: ToolFormat = ToolFormat {
    ends_reasoning: true,
    shape: Shape::Marked { each: ["<|tool_call>call:", END], mark: MARK },
    ..standard("gemma4", &["<|tool_call>"], &[END], read)
};

const MARK: &str = "<|\"|>";

const END: &str = "<tool_call|>";

fn read(reader: Reader, _: usize) -> Section {
    Box::pin(async move { gemma_call::calls(&reader, MARK, END).await })
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
                (r#"<|tool_call>call:f{o:{"k":1}}<tool_call|>"#, r#"f{"o":{"k":1}}"#),
                (
                    r#"<|tool_call>call:get_weather{city:<|"|>a "b", {c}<|"|>,days:3,tags:[<|"|>x<|"|>,{y:null}],metric:true}<tool_call|><|tool_call>call:now{}<tool_call|>"#,
                    r#"get_weather{"city":"a \"b\", {c}","days":3,"tags":["x",{"y":null}],"metric":true} now{}"#,
                ),
                ("<|tool_call>now{}<tool_call|>", r#"!"<|tool_call>now{}<tool_call|>""#),
            ],
        );
    }
}
