//! MiniMax-M3: `]<]minimax[>[<tool_call>]<]minimax[>[<invoke name="f">]<]minimax[>[<x>1]<]minimax[>[</x>…`: an argument is an
//! element of its name.

use super::{Section, ToolFormat, standard};
use crate::text::output::call_grammar::Shape;
use crate::text::output::reader::{Read, Reader, invalid};
use crate::text::output::value::{Untyped, quoted, typed};
use crate::text::output::xml_call::{attribute, next};

pub(super) static FORMAT: ToolFormat = ToolFormat {
    ends_reasoning: true,
    shape: Shape::Elements {
        around: ["]<]minimax[>[<tool_call>", "]<]minimax[>[</tool_call>"],
        call: ["]<]minimax[>[<invoke name=\"", "\">", "]<]minimax[>[</invoke>"],
        argument: ["]<]minimax[>[<", ">", "]<]minimax[>[</{}>"],
        kinds: ["", ""],
    },
    ..standard("minimax-m3", &["]<]minimax[>[<tool_call>"], &[END], read)
};

const MARK: &str = "]<]minimax[>[";
const CALL: &str = "]<]minimax[>[<invoke ";
const CALL_END: &str = "]<]minimax[>[</invoke>";
const END: &str = "]<]minimax[>[</tool_call>";

fn read(reader: Reader, _: usize) -> Section {
    Box::pin(async move {
        while let Some(0) = next(&reader, &[CALL, END]).await? {
            call(&reader).await?;
        }
        Ok(())
    })
}

async fn call(reader: &Reader) -> Read<()> {
    let (tag, _) = reader.until(&[">"]).await?;
    let Some(name) = attribute(&tag, "name") else {
        return invalid("the call has no name");
    };
    reader.start_call(&name, None);
    reader.arguments("{");
    let mut first = true;
    loop {
        reader.skip_space().await?;
        if reader.accept(CALL_END).await {
            break;
        }
        reader.expect(MARK).await?;
        reader.expect("<").await?;
        let (key, _) = reader.until(&[">"]).await?;
        let close = format!("{MARK}</{key}>");
        let (value, _) = reader.until(&[&close]).await?;
        if value.contains(MARK) {
            return invalid(format!("the elements within {key:?} are of no kind that is read"));
        }
        if !first {
            reader.arguments(",");
        }
        first = false;
        reader.arguments(&quoted(&key));
        reader.arguments(":");
        reader.arguments(&typed(&value, reader.tools.types(&name, &key), Untyped::Json));
    }
    reader.arguments("}");
    reader.end_call();
    Ok(())
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
                "]<]minimax[>[<tool_call>\n]<]minimax[>[<invoke name=\"get_weather\">]<]minimax[>[<city>Ulm]<]minimax[>[</city>]<]minimax[>[<days>2]<]minimax[>[</days>]<]minimax[>[</invoke>\n]<]minimax[>[</tool_call>",
                r#"get_weather{"city":"Ulm","days":2}"#,
            )],
        );
    }
}
