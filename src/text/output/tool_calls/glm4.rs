//! GLM-4: the answer is a name and, on the next line, JSON: `f\n{…}`.

use super::{Section, ToolFormat, standard};
use crate::text::output::call_grammar::Shape;
use crate::text::output::json_call;
use crate::text::output::reader::{Guess, Read, Reader};
use crate::text::output::schemas::Tools;

pub(super) static FORMAT: ToolFormat = ToolFormat {
    bare: Some(guess),
    signs: &["<|observation|>", "[gMASK]<sop>"],
    shape: Shape::Named { around: ["", ""], between: None, each: ["", "\n", ""] },
    ..standard("glm4", &[], &[], read)
};

fn read(reader: Reader, _: usize) -> Section {
    Box::pin(async move { call(&reader).await })
}

async fn call(reader: &Reader) -> Read<()> {
    let (name, _) = reader.until(&["\n"]).await?;
    reader.start_call(name.trim(), None);
    json_call::arguments(reader).await?;
    reader.end_call();
    Ok(())
}

/// Whether an answer begins with a tool's name and an object on the next line.
fn guess(text: &str, tools: &Tools) -> Guess {
    match text.split_once('\n') {
        Some((name, rest)) if tools.has(name.trim()) => match rest.trim_start().chars().next() {
            Some('{') => Guess::Call,
            Some(_) => Guess::Text,
            None => Guess::Unknown,
        },
        None if tools.begins(text) => Guess::Unknown,
        _ => Guess::Text,
    }
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
                ("get_weather\n{\"city\": \"Ulm\"}", r#"get_weather{"city":"Ulm"}"#),
                ("now is the time", r#""now is the time""#),
            ],
        );
    }
}
