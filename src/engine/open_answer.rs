//! The part of an answer that its prompt has begun.

use serde_json::Value;

use super::request::Prompt;
use crate::constraint::Begun;
use crate::error::Result;
use crate::text::chat_template::parse_json;
use crate::text::{ReasoningFormat, Tokenizer};

/// Whether the options of a template leave the text of an answer open, and not its reasoning or
/// anything else.
pub fn leaves_text_open(continues: bool, field: Option<&str>) -> bool {
    continues && field.is_none_or(|field| field == "content")
}

/// The text of the answer that a prompt, which reads `rendered`, leaves open, without reasoning that
/// stands before it; empty where the answer has yet to begin.
///
/// # Errors
/// [`crate::error::Error::InvalidArgument`] for what is no JSON.
pub fn open_text(
    prompt: &Prompt,
    rendered: &str,
    reasoning: Option<&ReasoningFormat>,
) -> Result<String> {
    let Prompt::Messages { messages, .. } = prompt else { return Ok(String::new()) };
    let messages = parse_json("messages", messages)?;
    let last = messages.as_array().and_then(|it| it.last());
    let text = match last.and_then(|message| message.get("content")) {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Array(parts)) => {
            let texts =
                parts.iter().filter_map(|part| part.as_str().or(part.get("text")?.as_str()));
            texts.collect()
        }
        _ => return Ok(String::new()),
    };
    // Templates may trim it.
    let forms = [text.as_str(), text.trim_end(), text.trim_start(), text.trim()];
    let text = forms.into_iter().find(|it| rendered.ends_with(it)).unwrap_or(&text);
    Ok(reasoning.map_or(text, |it| behind_reasoning(text, it)).to_owned())
}

/// An answer without the reasoning that it begins with, written out.
fn behind_reasoning<'a>(text: &'a str, reasoning: &ReasoningFormat) -> &'a str {
    let begins = reasoning.opens.iter().any(|it| text.trim_start().starts_with(it.trim_end()));
    let ends = reasoning.closes.iter().filter_map(|it| Some(text.find(it)? + it.len())).min();
    let Some(end) = ends.filter(|_| begins) else { return text };
    let mut rest = text[end..].trim_start();
    while let Some(behind) = reasoning.wrappers.iter().find_map(|it| rest.strip_prefix(it)) {
        rest = behind.trim_start();
    }
    rest
}

/// An open answer as a constraint takes it. Special tokens are no text, unless `plain` says so.
///
/// # Errors
/// Those of the tokenizer.
pub fn begun(text: &str, tokenizer: &Tokenizer, plain: bool) -> Result<Vec<Begun>> {
    let mut begun = Vec::new();
    let mut rest = text;
    let tokens = if plain { Vec::new() } else { tokenizer.encode(text, false)? };
    for token in tokens.into_iter().filter(|&token| tokenizer.is_special(token)) {
        let Some(written) = tokenizer.id_to_token(token) else { continue };
        let Some((before, behind)) = rest.split_once(written.as_str()) else { continue };
        begun.push(Begun::Text(before.to_owned()));
        begun.push(Begun::Token(token));
        rest = behind;
    }
    begun.push(Begun::Text(rest.to_owned()));
    Ok(begun)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn open(content: Value, rendered: &str) -> String {
        let messages = json!([{ "role": "assistant", "content": content }]).to_string();
        let prompt = Prompt::Messages { messages, options: "{}".to_owned() };
        open_text(&prompt, rendered, ReasoningFormat::named("think")).unwrap()
    }

    #[test]
    fn it_is_the_text_that_the_template_has_written() {
        assert_eq!(open(json!("{\"a\": "), "<bot>{\"a\": "), "{\"a\": ");
        assert_eq!(open(json!(" {\"a\": "), "<bot>{\"a\":"), "{\"a\":");
        let parts = json!([{ "type": "text", "text": "on" }, { "type": "text", "text": "e" }]);
        assert_eq!(open(parts, "<bot>one"), "one");
        assert_eq!(open(json!(null), "<bot>"), "");
    }

    #[test]
    fn reasoning_before_it_is_no_part_of_it() {
        for (content, expected) in [
            ("<think>\nHm.\n</think>\n\n[1,", "[1,"),
            ("<think></think>", ""),
            ("1 </think> 2", "1 </think> 2"),
        ] {
            assert_eq!(open(json!(content), content), expected);
        }
    }
}
