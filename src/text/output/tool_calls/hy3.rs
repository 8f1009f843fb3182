//! Hunyuan 3: `<tool_calls:opensource><tool_call:opensource>f<tool_sep:opensource><arg_key:opensource>…`.

use super::{Section, ToolFormat, standard};
use crate::text::output::arg_pairs::{self, Tags};
use crate::text::output::call_grammar::Shape;
use crate::text::output::reader::Reader;
use crate::text::output::xml_call::next;

pub(super) static FORMAT: ToolFormat = ToolFormat {
    shape: Shape::Elements {
        around: ["<tool_calls:opensource>\n", "</tool_calls:opensource>"],
        call: ["<tool_call:opensource>", "<tool_sep:opensource>\n", "</tool_call:opensource>\n"],
        argument: [
            "<arg_key:opensource>",
            "</arg_key:opensource>\n<arg_value:opensource>",
            "</arg_value:opensource>\n",
        ],
        kinds: ["", ""],
    },
    ..standard("hy3", &["<tool_calls:opensource>"], &["</tool_calls:opensource>"], read)
};

const TAGS: Tags = Tags {
    name_end: "<tool_sep:opensource>",
    close: "</tool_call:opensource>",
    key: "<arg_key:opensource>",
    key_end: "</arg_key:opensource>",
    value: "<arg_value:opensource>",
    value_end: "</arg_value:opensource>",
};

fn read(reader: Reader, _: usize) -> Section {
    Box::pin(async move {
        while let Some(0) =
            next(&reader, &["<tool_call:opensource>", "</tool_calls:opensource>"]).await?
        {
            arg_pairs::call(&reader, &TAGS).await?;
        }
        Ok(())
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
            &[(
                "<tool_calls:opensource>\n<tool_call:opensource>get_weather<tool_sep:opensource>\n<arg_key:opensource>city</arg_key:opensource>\n<arg_value:opensource>Ulm</arg_value:opensource>\n</tool_call:opensource>\n<tool_call:opensource>now<tool_sep:opensource>\n</tool_call:opensource>\n</tool_calls:opensource>",
                r#"get_weather{"city":"Ulm"} now{}"#,
            )],
        );
    }
}
