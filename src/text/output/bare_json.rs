//! Tells an answer that is a call in JSON, without a marker, from one that is JSON.

use super::reader::Guess;
use super::schemas::Tools;

const FENCE: &str = "```";
const LANGUAGE: &str = "json";

/// Whether an answer begins with an object, or a list of objects, that names one of the tools.
/// There may be a fence of Markdown before it.
pub(super) fn guess(text: &str, tools: &Tools) -> Guess {
    let text = match text.strip_prefix(FENCE) {
        Some(inner) if LANGUAGE.starts_with(inner) => return Guess::Unknown,
        Some(inner) => inner.strip_prefix(LANGUAGE).unwrap_or(inner).trim_start(),
        None if FENCE.starts_with(text) => return Guess::Unknown,
        None => text,
    };
    let mut rest = text.strip_prefix('[').unwrap_or(text).trim_start();
    if rest.is_empty() {
        return Guess::Unknown;
    }
    // An object, then `"type": "function"`, an id, or the name.
    for opener in ['{', ',', ','] {
        match rest.strip_prefix(opener) {
            Some(inner) => rest = inner.trim_start(),
            None if rest.is_empty() => return Guess::Unknown,
            None => return Guess::Text,
        }
        let key = match string(rest) {
            Ok((key, behind)) => {
                rest = behind.trim_start();
                key
            }
            Err(guess) => return guess,
        };
        match rest.strip_prefix(':') {
            Some(inner) => rest = inner.trim_start(),
            None if rest.is_empty() => return Guess::Unknown,
            None => return Guess::Text,
        }
        let is_name = matches!(key, "name" | "tool_name");
        if key == "function" && rest.starts_with('{') {
            return guess(rest, tools);
        }
        if !is_name && !matches!(key, "type" | "id" | "function") {
            return Guess::Text;
        }
        match string(rest) {
            Ok((value, _)) if is_name || (key == "function" && tools.has(value)) => {
                return if tools.has(value) { Guess::Call } else { Guess::Text };
            }
            Ok((_, behind)) => rest = behind.trim_start(),
            // A name that no tool begins with decides early.
            Err(Guess::Unknown) if is_name && rest.len() > 1 && !tools.begins(&rest[1..]) => {
                return Guess::Text;
            }
            Err(guess) => return guess,
        }
    }
    Guess::Text
}

/// A string without escapes at the beginning of `text`, and what stands behind it.
fn string(text: &str) -> Result<(&str, &str), Guess> {
    let Some(inner) = text.strip_prefix('"') else {
        return Err(if text.is_empty() { Guess::Unknown } else { Guess::Text });
    };
    match inner.find(['"', '\\']) {
        Some(end) if inner[end..].starts_with('"') => Ok((&inner[..end], &inner[end + 1..])),
        Some(_) => Err(Guess::Text),
        None => Err(Guess::Unknown),
    }
}
