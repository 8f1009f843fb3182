//! FunctionGemma: `<start_function_call>call:f{x:<escape>text<escape>,n:1}<end_function_call>`.

use super::{Section, ToolFormat, standard};
use crate::text::output::call_grammar::Shape;
use crate::text::output::gemma_call;
use crate::text::output::reader::Reader;

pub(super) static FORMAT: ToolFormat = ToolFormat {
    shape: Shape::Marked { each: ["<start_function_call>call:", END], mark: MARK },
    ..standard("function-gemma", &["<start_function_call>"], &[END], read)
};

const MARK: &str = "<escape>";

const END: &str = "<end_function_call>";

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
                (
                    "<start_function_call>call:get_weather{city:<escape>Ulm<escape>,days:3}<end_function_call>",
                    r#"get_weather{"city":"Ulm","days":3}"#,
                ),
                (
                    "<start_function_call>call:get_weather{city:Ulm am Rhein}<end_function_call>",
                    r#"get_weather{"city":"Ulm am Rhein"}"#,
                ),
            ],
        );
    }
}
