//! JSON, and JSON values as the template engine's.

use minijinja::Value;
use serde::Deserialize;
use serde_json::{Map, Value as Json};

use super::messages::MAX_DEPTH;
use crate::error::{Error, Result};

/// Begins a string that stands for a whole number for which [`serde_json::Number`] has no room; the
/// character is one that Unicode leaves to programs.
const WHOLE: &str = "\u{f8ff}nodemlx-whole-number ";

/// Parses JSON for a template: whole numbers keep all their digits, as in Python.
///
/// # Errors
/// [`Error::InvalidArgument`] for `option` if it is no JSON, or nested too deep.
pub fn parse_json(option: &str, text: &str) -> Result<Json> {
    let (text, depth) = marked(text);
    if depth > MAX_DEPTH {
        let problem = format!("nested deeper than {MAX_DEPTH} levels");
        return Err(Error::argument(option, problem));
    }
    let mut parser = serde_json::Deserializer::from_str(&text);
    parser.disable_recursion_limit();
    let parsed = Json::deserialize(&mut parser);
    let parsed = parsed.and_then(|value| parser.end().map(|()| value));
    parsed.map_err(|error| Error::argument(option, error.to_string()).caused_by(error))
}

/// JSON with whole numbers of 19 digits and more as strings, and how deep it is nested.
fn marked(text: &str) -> (String, usize) {
    let mut out = String::with_capacity(text.len());
    let (mut depth, mut deepest) = (0_usize, 0);
    let mut rest = text;
    while let Some(index) =
        rest.find(|c: char| c == '"' || c == '-' || c.is_ascii_digit() || "[]{}".contains(c))
    {
        out.push_str(&rest[..index]);
        rest = &rest[index..];
        let length = match rest.as_bytes()[0] {
            b'"' => string_length(rest),
            b'[' | b'{' => {
                depth += 1;
                deepest = deepest.max(depth);
                1
            }
            b']' | b'}' => {
                depth = depth.saturating_sub(1);
                1
            }
            _ => rest
                .find(|c: char| !(c.is_ascii_alphanumeric() || "+-.".contains(c)))
                .unwrap_or(rest.len()),
        };
        let (token, tail) = rest.split_at(length);
        let digits = token.strip_prefix('-').unwrap_or(token);
        let is_whole = digits.bytes().all(|byte| byte.is_ascii_digit()) && !digits.starts_with('0');
        if is_whole && digits.len() >= 19 && token.parse::<i128>().is_ok() {
            out.push_str(&format!("\"{WHOLE}{token}\""));
        } else {
            out.push_str(token);
        }
        rest = tail;
    }
    out.push_str(rest);
    (out, deepest)
}

/// The length of the string at the beginning of `text`, its quotes included.
fn string_length(text: &str) -> usize {
    let mut characters = text.char_indices().skip(1);
    while let Some((index, character)) = characters.next() {
        match character {
            '\\' => drop(characters.next()),
            '"' => return index + 1,
            _ => {}
        }
    }
    text.len()
}

/// `json` as a template sees it: objects keep the order of their fields.
pub(super) fn value(json: Json) -> Value {
    match json {
        Json::Null => Value::from(()),
        Json::Bool(flag) => Value::from(flag),
        Json::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(integer), _) => Value::from(integer),
            (None, Some(integer)) => Value::from(integer),
            (None, None) => Value::from(number.as_f64().unwrap_or(f64::NAN)),
        },
        Json::String(text) => match text.strip_prefix(WHOLE).map(str::parse::<i128>) {
            Some(Ok(whole)) => Value::from(whole),
            _ => Value::from(text),
        },
        Json::Array(items) => Value::from(items.into_iter().map(value).collect::<Vec<_>>()),
        Json::Object(fields) => {
            Value::from_pairs(fields.into_iter().map(|(key, field)| (key, value(field))))
        }
    }
}

/// About how many bytes `fields` take as JSON.
pub(super) fn size(fields: &Map<String, Json>) -> usize {
    fields.iter().map(|(key, field)| key.len() + 4 + size_of_value(field)).sum()
}

fn size_of_value(json: &Json) -> usize {
    match json {
        Json::Null | Json::Bool(_) | Json::Number(_) => 8,
        Json::String(text) => text.len() + 4,
        Json::Array(items) => items.iter().map(|item| 4 + size_of_value(item)).sum(),
        Json::Object(fields) => size(fields),
    }
}
