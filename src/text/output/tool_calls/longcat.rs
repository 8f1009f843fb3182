//! LongCat: `<longcat_tool_call>f<longcat_arg_key>x</longcat_arg_key><longcat_arg_value>1</longcat_arg_value></longcat_tool_call>`,
//! or an object of JSON.

use super::{Section, ToolFormat, standard};
use crate::text::output::arg_pairs::{self, Tags};
use crate::text::output::call_grammar::Shape;
use crate::text::output::json_call;
use crate::text::output::reader::Reader;

pub(super) static FORMAT: ToolFormat = ToolFormat {
    shape: Shape::Elements {
        around: ["", ""],
        call: ["<longcat_tool_call>", "\n", "</longcat_tool_call>"],
        argument: [
            "<longcat_arg_key>",
            "</longcat_arg_key>\n<longcat_arg_value>",
            "</longcat_arg_value>\n",
        ],
        kinds: ["", ""],
    },
    ..standard("longcat", &["<longcat_tool_call>"], &["</longcat_tool_call>"], read)
};

const TAGS: Tags = Tags {
    name_end: "",
    close: "</longcat_tool_call>",
    key: "<longcat_arg_key>",
    key_end: "</longcat_arg_key>",
    value: "<longcat_arg_value>",
    value_end: "</longcat_arg_value>",
};

fn read(reader: Reader, _: usize) -> Section {
    Box::pin(async move {
        reader.skip_space().await?;
        match reader.peek().await? {
            '{' => json_call::calls(&reader, TAGS.close).await,
            _ => arg_pairs::call(&reader, &TAGS).await,
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
                    "<longcat_tool_call>get_weather\n<longcat_arg_key>days</longcat_arg_key>\n<longcat_arg_value>3</longcat_arg_value>\n</longcat_tool_call>",
                    r#"get_weather{"days":3}"#,
                ),
                (r#"<longcat_tool_call>{"name": "now"}</longcat_tool_call>"#, "now{}"),
            ],
        );
    }
}
