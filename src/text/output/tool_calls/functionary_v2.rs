//! Functionary 2: `f\n<|content|>{…}`, where the prompt ends in the first `<|recipient|>`; what is for
//! `all` is text.

use super::{Section, ToolFormat, standard};
use crate::text::output::call_grammar::Shape;
use crate::text::output::json_call;
use crate::text::output::reader::{Guess, Read, Reader};
use crate::text::output::schemas::Tools;

pub(super) static FORMAT: ToolFormat = ToolFormat {
    bare: Some(guess),
    shape: Shape::Named {
        around: ["", ""],
        between: Some("\n<|from|>assistant\n<|recipient|>"),
        each: ["", "\n<|content|>", ""],
    },
    header: Some("all\n<|content|>"),
    ..standard(
        "functionary-v2",
        &["<|from|>assistant\n<|recipient|>", "<|recipient|>"],
        &["<|stop|>"],
        read,
    )
};

fn read(reader: Reader, _: usize) -> Section {
    Box::pin(async move { message(&reader).await })
}

async fn message(reader: &Reader) -> Read<()> {
    let (name, _) = reader.until(&["<|content|>"]).await?;
    if name.trim() == "all" {
        reader.end_raw();
        return Ok(());
    }
    reader.start_call(name.trim(), None);
    json_call::arguments(reader).await?;
    // The last call of an answer ends with it.
    let _ = reader.skip_space().await;
    reader.accept("<|stop|>").await;
    reader.end_call();
    Ok(())
}

/// Whether an answer begins with a recipient and its content.
fn guess(text: &str, tools: &Tools) -> Guess {
    const CONTENT: &str = "<|content|>";
    match text.split_once('\n') {
        Some((name, rest)) if name == "all" || tools.has(name) => match rest.starts_with(CONTENT) {
            true => Guess::Call,
            false if CONTENT.starts_with(rest) => Guess::Unknown,
            false => Guess::Text,
        },
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
                    "<|recipient|>all\n<|content|>I look.\n<|from|>assistant\n<|recipient|>get_weather\n<|content|>{\"city\": \"Ulm\"}<|stop|>",
                    r#""I look." get_weather{"city":"Ulm"}"#,
                ),
                (
                    "now\n<|content|>{}\n<|from|>assistant\n<|recipient|>get_weather\n<|content|>{\"days\": 1}",
                    r#"now{} get_weather{"days":1}"#,
                ),
                ("all\n<|content|>Hello", r#""Hello""#),
                ("all\nof it", r#""all\nof it""#),
                ("now\n<|conte", r#""now\n<|conte""#),
            ],
        );
    }
}
