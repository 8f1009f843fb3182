//! Functionary 3.2: `>>>f\n{…}`, where the prompt ends in the first `>>>`; what is for `all` is text.

use super::{Section, ToolFormat, standard};
use crate::text::output::call_grammar::Shape;
use crate::text::output::json_call;
use crate::text::output::reader::{Guess, Read, Reader, invalid};
use crate::text::output::schemas::Tools;

pub(super) static FORMAT: ToolFormat = ToolFormat {
    bare: Some(guess),
    signs: &[">>>all"],
    header: Some("all\n"),
    shape: Shape::Named { around: ["", ""], between: Some(">>>"), each: ["", "\n", ""] },
    ..standard("functionary-v3.2", &[">>>"], &[">>>"], read)
};

fn read(reader: Reader, _: usize) -> Section {
    Box::pin(async move { message(&reader).await })
}

async fn message(reader: &Reader) -> Read<()> {
    let (name, _) = reader.until(&["\n"]).await?;
    match name.trim() {
        "" => invalid("the call has no name"),
        "all" => {
            reader.end_raw();
            Ok(())
        }
        name => {
            reader.start_call(name, None);
            json_call::arguments(reader).await?;
            reader.end_call();
            Ok(())
        }
    }
}

/// Whether an answer begins with a recipient and a line break.
fn guess(text: &str, tools: &Tools) -> Guess {
    match text.split_once('\n') {
        Some((name, _)) if name == "all" || tools.has(name) => Guess::Call,
        None if "all".starts_with(text) || tools.begins(text) => Guess::Unknown,
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
                (
                    "all\nI look.>>>get_weather\n{\"city\": \"Ulm\"}",
                    r#""I look." get_weather{"city":"Ulm"}"#,
                ),
                ("now\n{}>>>get_weather\n{\"days\": 1}", r#"now{} get_weather{"days":1}"#),
                ("allover\nit", r#""allover\nit""#),
            ],
        );
    }
}
