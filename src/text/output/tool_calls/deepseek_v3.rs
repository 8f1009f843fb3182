//! DeepSeek V3, R1 and V3.1: `<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>f`, then JSON in a fence, or
//! `…begin｜>f<｜tool▁sep｜>{…}<｜tool▁call▁end｜>`.

use super::{Section, ToolFormat, standard};
use crate::text::output::call_grammar::Shape;
use crate::text::output::json_call;
use crate::text::output::reader::{Read, Reader, invalid};
use crate::text::output::xml_call::next;

pub(super) static FORMAT: ToolFormat = ToolFormat {
    ends_reasoning: true,
    shape: Shape::Named {
        around: ["<｜tool▁calls▁begin｜>", "<｜tool▁calls▁end｜>"],
        between: Some(""),
        each: ["<｜tool▁call▁begin｜>", "<｜tool▁sep｜>", "<｜tool▁call▁end｜>"],
    },
    ..standard("deepseek-v3", &["<｜tool▁calls▁begin｜>"], &[END], read)
};

const CALL: &str = "<｜tool▁call▁begin｜>";
const CALL_END: &str = "<｜tool▁call▁end｜>";
const END: &str = "<｜tool▁calls▁end｜>";

fn read(reader: Reader, _: usize) -> Section {
    Box::pin(async move {
        while let Some(0) = next(&reader, &[CALL, END]).await? {
            call(&reader).await?;
        }
        Ok(())
    })
}

async fn call(reader: &Reader) -> Read<()> {
    let (first, _) = reader.until(&["<｜tool▁sep｜>"]).await?;
    // A type, and the name behind it, or the name.
    reader.skip_space().await?;
    let mut name = first.trim().to_owned();
    if reader.peek().await? != '{' {
        name.clear();
        reader.stream_to(&["```json", "{"], |text| name.push_str(text)).await?;
    }
    let name = name.trim();
    if name.is_empty() {
        return invalid("the call has no name");
    }
    let fenced = reader.accept("```json").await;
    reader.start_call(name, None);
    json_call::arguments(reader).await?;
    if fenced {
        reader.expect("```").await?;
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
                    "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>get_weather\n```json\n{\"city\": \"Ulm\"}\n```<｜tool▁call▁end｜>\n<｜tool▁call▁begin｜>function<｜tool▁sep｜>now\n```json\n{}\n```<｜tool▁call▁end｜><｜tool▁calls▁end｜>",
                    r#"get_weather{"city":"Ulm"} now{}"#,
                ),
                (
                    r#"<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>get_weather<｜tool▁sep｜>{"days": 3}<｜tool▁call▁end｜><｜tool▁calls▁end｜>"#,
                    r#"get_weather{"days":3}"#,
                ),
            ],
        );
    }
}
