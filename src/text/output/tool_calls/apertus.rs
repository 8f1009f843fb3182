//! Apertus: `<|tools_prefix|>[{"f": {…}}]<|tools_suffix|>`: the name is the key.

use super::{Section, ToolFormat, standard};
use crate::text::output::call_grammar::Shape;
use crate::text::output::json_call::{self, text};
use crate::text::output::reader::{Read, Reader};

pub(super) static FORMAT: ToolFormat = ToolFormat {
    shape: Shape::Named {
        around: ["<|tools_prefix|>[", "]<|tools_suffix|>"],
        between: Some(", "),
        each: ["{\"", "\": ", "}"],
    },
    ..standard("apertus", &["<|tools_prefix|>"], &["<|tools_suffix|>"], read)
};

fn read(reader: Reader, _: usize) -> Section {
    Box::pin(async move { calls(&reader).await })
}

async fn calls(reader: &Reader) -> Read<()> {
    reader.expect("[").await?;
    loop {
        reader.skip_space().await?;
        if reader.accept("]").await {
            break;
        }
        reader.expect("{").await?;
        reader.skip_space().await?;
        let name = text(reader).await?;
        reader.expect(":").await?;
        reader.start_call(&name, None);
        json_call::arguments(reader).await?;
        json_call::close(reader, "}").await?;
        reader.skip_space().await?;
        reader.accept(",").await;
    }
    json_call::end(reader, "<|tools_suffix|>").await
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
                r#"<|tools_prefix|>[{"get_weather": {"city": "Ulm"}}, {"now": {}}]<|tools_suffix|>Well."#,
                r#"get_weather{"city":"Ulm"} now{} "Well.""#,
            )],
        );
    }
}
