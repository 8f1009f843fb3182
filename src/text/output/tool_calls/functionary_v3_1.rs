//! Functionary 3.1, custom tools of Llama 3.1: `<function=f>{…}</function>`.

use super::{Section, ToolFormat, standard};
use crate::text::output::call_grammar::Shape;
use crate::text::output::json_call;
use crate::text::output::reader::Reader;

pub(super) static FORMAT: ToolFormat = ToolFormat {
    shape: Shape::Named {
        around: ["", ""],
        between: Some(""),
        each: ["<function=", ">", "</function>"],
    },
    ..standard("functionary-v3.1", &["<function="], &["</function>"], read)
};

fn read(reader: Reader, _: usize) -> Section {
    Box::pin(async move {
        let (name, _) = reader.until(&[">"]).await?;
        reader.start_call(name.trim(), None);
        json_call::arguments(&reader).await?;
        json_call::close(&reader, "</function>").await
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
                r#"Well. <function=get_weather>{"city": "Ulm"}</function><function=now>{}</function>"#,
                r#""Well." get_weather{"city":"Ulm"} now{}"#,
            )],
        );
    }
}
