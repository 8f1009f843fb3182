//! Values as models write them, read as they come and handed on as compact JSON.

use serde_json::Value;

use super::reader::{Read, Reader, invalid};
use super::schemas::{Declared, Types};

/// How a format writes values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Syntax {
    /// JSON; line breaks in strings are let pass.
    Json,
    /// Python's literals, and JSON's names of them.
    Python,
    /// Gemma's: keys without quotes, and strings between two of this marker; a word without it is
    /// a string, too.
    Marked(&'static str),
}

/// Deeper values than this are refused.
const MAX_DEPTH: usize = 256;

/// Where in a container the next character stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// An element or a key, or the end right after the beginning.
    First,
    /// An element or a key after a comma.
    Next,
    /// A comma or the end.
    After,
}

/// Reads one value, handing its JSON on piece by piece.
pub(super) async fn value(
    reader: &Reader,
    syntax: Syntax,
    out: &mut (dyn FnMut(&str) + Send),
) -> Read<()> {
    declared_value(reader, syntax, None, out).await
}

/// [`value`]; strings that stand for what is `declared` become that.
pub(super) async fn declared_value(
    reader: &Reader,
    syntax: Syntax,
    declared: Option<Declared<'_>>,
    out: &mut (dyn FnMut(&str) + Send),
) -> Read<()> {
    let mut open: Vec<(char, Place)> = Vec::new();
    // What is declared of the containers that are open.
    let mut around: Vec<Option<Declared<'_>>> = Vec::new();
    let mut current = declared;
    loop {
        reader.skip_space().await?;
        let next = reader.peek().await?;
        if let Some((close, place)) = open.last_mut() {
            let ends = next == *close && (*place != Place::Next || syntax != Syntax::Json);
            if ends {
                reader.next().await?;
                out(if *close == '}' { "}" } else { "]" });
                open.pop();
                around.pop();
                if open.is_empty() {
                    return Ok(());
                }
                continue;
            }
            if *place == Place::After {
                if next != ',' {
                    return invalid(format!("expected , or {close} in a value, found {next:?}"));
                }
                reader.next().await?;
                *place = Place::Next;
                continue;
            }
            if *place == Place::Next {
                out(",");
            }
            *place = Place::After;
            let parent = around.last().copied().flatten();
            if *close == '}' {
                let mut name = String::new();
                let mut take = |piece: &str| {
                    name.push_str(piece);
                    out(piece);
                };
                key(reader, syntax, &mut take).await?;
                let name = serde_json::from_str::<String>(name.trim_end_matches(':')).ok();
                current = parent.and_then(|it| it.property(&name?));
                reader.skip_space().await?;
            } else {
                current = parent.and_then(Declared::item);
            }
        }
        let next = reader.peek().await?;
        let close = match next {
            '{' => Some('}'),
            '[' => Some(']'),
            '(' if syntax == Syntax::Python => Some(')'),
            _ => None,
        };
        match close {
            Some(close) if open.len() == MAX_DEPTH => {
                return invalid(format!("a value is nested deeper than {MAX_DEPTH} ({close})"));
            }
            Some(close) => {
                reader.next().await?;
                out(if close == '}' { "{" } else { "[" });
                open.push((close, Place::First));
                around.push(current);
            }
            None => {
                match current {
                    Some(declared) => coerced(reader, syntax, declared, out).await?,
                    None => scalar(reader, syntax, out).await?,
                }
                if open.is_empty() {
                    return Ok(());
                }
            }
        }
    }
}

/// Reads a key and the colon behind it.
async fn key(reader: &Reader, syntax: Syntax, out: &mut (dyn FnMut(&str) + Send)) -> Read<()> {
    reader.skip_space().await?;
    let next = reader.peek().await?;
    match syntax {
        Syntax::Marked(mark) if !reader.accept(mark).await => {
            let mut name = String::new();
            while reader.peek().await? != ':' {
                name.push(reader.next().await?);
            }
            // Some are quoted as JSON's are.
            let name = name.trim();
            let inner = name.strip_prefix('"').and_then(|name| name.strip_suffix('"'));
            out(&quoted(inner.unwrap_or(name)));
        }
        Syntax::Marked(mark) => marked(reader, mark, out).await?,
        _ if next == '"' || (next == '\'' && syntax == Syntax::Python) => {
            string(reader, syntax, out).await?;
        }
        _ => return invalid(format!("expected a key, found {next:?}")),
    }
    reader.expect(":").await?;
    out(":");
    Ok(())
}

async fn scalar(reader: &Reader, syntax: Syntax, out: &mut (dyn FnMut(&str) + Send)) -> Read<()> {
    if let Syntax::Marked(mark) = syntax
        && reader.accept(mark).await
    {
        return marked(reader, mark, out).await;
    }
    let next = reader.peek().await?;
    if next == '"' || (next == '\'' && syntax == Syntax::Python) {
        return string(reader, syntax, out).await;
    }
    let mut word = String::new();
    loop {
        let next = match reader.peek().await {
            Ok(next) => next,
            // A bare word may be the last of an answer.
            Err(_) if !word.is_empty() => break,
            Err(stop) => return Err(stop),
        };
        let ends = match syntax {
            Syntax::Marked(_) => matches!(next, ',' | '}' | ']'),
            _ => !(next.is_alphanumeric() || matches!(next, '+' | '-' | '.' | '_')),
        };
        if ends {
            break;
        }
        word.push(reader.next().await?);
    }
    let word = word.trim();
    match bare(word, syntax) {
        Some(json) => out(&json),
        None if word.is_empty() => return invalid(format!("expected a value, found {next:?}")),
        None => return invalid(format!("{word:?} is no value")),
    }
    Ok(())
}

/// [`scalar`], where a string that stands for what is declared becomes that.
async fn coerced(
    reader: &Reader,
    syntax: Syntax,
    declared: Declared<'_>,
    out: &mut (dyn FnMut(&str) + Send),
) -> Read<()> {
    if !declared.wants_other_than_string() {
        return scalar(reader, syntax, out).await;
    }
    let mut json = String::new();
    scalar(reader, syntax, &mut |piece| json.push_str(piece)).await?;
    let text = serde_json::from_str::<String>(&json).ok();
    out(text.and_then(|it| declared.coerced(&it)).as_ref().unwrap_or(&json));
    Ok(())
}

/// The JSON of a word without quotes.
fn bare(word: &str, syntax: Syntax) -> Option<String> {
    match (word, syntax) {
        ("true" | "false" | "null", _) => return Some(word.to_owned()),
        ("True", Syntax::Python) => return Some("true".to_owned()),
        ("False", Syntax::Python) => return Some("false".to_owned()),
        ("None", Syntax::Python) => return Some("null".to_owned()),
        _ => {}
    }
    if let Some(number) = number(word, syntax) {
        return Some(number);
    }
    (matches!(syntax, Syntax::Marked(_)) && !word.is_empty()).then(|| quoted(word))
}

/// A number as JSON writes it.
fn number(word: &str, syntax: Syntax) -> Option<String> {
    if is_json_number(word) {
        return Some(word.to_owned());
    }
    if syntax != Syntax::Python {
        return None;
    }
    let plain = word.replace('_', "");
    let plain = plain.strip_prefix('+').unwrap_or(&plain);
    let (sign, digits) = plain.strip_prefix('-').map_or(("", plain), |digits| ("-", digits));
    let mut written = match digits.strip_prefix('.') {
        Some(fraction) => format!("{sign}0.{fraction}"),
        None => plain.to_owned(),
    };
    if written.ends_with('.') {
        written.push('0');
    }
    is_json_number(&written).then_some(written)
}

fn is_json_number(word: &str) -> bool {
    let begins = |it: u8| it.is_ascii_digit() || it == b'-';
    word.bytes().next().is_some_and(begins)
        && word.bytes().last().is_some_and(|it| it.is_ascii_digit())
        && serde_json::from_str::<serde_json::Number>(word).is_ok()
}

/// Reads a string to the marker that ends it.
async fn marked(reader: &Reader, mark: &str, out: &mut (dyn FnMut(&str) + Send)) -> Read<()> {
    out("\"");
    reader.stream_to(&[mark], |text| out(&escaped(text))).await?;
    reader.accept(mark).await;
    out("\"");
    Ok(())
}

/// Reads a string in quotes.
async fn string(reader: &Reader, syntax: Syntax, out: &mut (dyn FnMut(&str) + Send)) -> Read<()> {
    let quote = reader.next().await?;
    out("\"");
    let mut buffer = [0; 4];
    loop {
        let next = reader.next().await?;
        if next == quote {
            break;
        }
        if next == '\\' {
            out(&escape(reader, syntax).await?);
        } else {
            out(&escaped(next.encode_utf8(&mut buffer)));
        }
    }
    out("\"");
    Ok(())
}

/// Reads what follows a backslash.
async fn escape(reader: &Reader, syntax: Syntax) -> Read<String> {
    let python = syntax == Syntax::Python;
    let next = reader.next().await?;
    Ok(match next {
        '"' => "\\\"".to_owned(),
        '\\' => "\\\\".to_owned(),
        '/' => "/".to_owned(),
        'b' | 'f' | 'n' | 'r' | 't' => format!("\\{next}"),
        'u' => {
            let unit = hex(reader, 4).await?;
            match char::from_u32(unit) {
                Some(character) => escaped(character.encode_utf8(&mut [0; 4])),
                // Half of a pair; JSON's readers put both together.
                None => format!("\\u{unit:04x}"),
            }
        }
        '\'' if python => "'".to_owned(),
        '\n' if python => String::new(),
        '0' if python => "\\u0000".to_owned(),
        'x' if python => format!("\\u{:04x}", hex(reader, 2).await?),
        'U' if python => match char::from_u32(hex(reader, 8).await?) {
            Some(character) => escaped(character.encode_utf8(&mut [0; 4])),
            None => return invalid("\\U is followed by no character's number"),
        },
        _ if python => format!("\\\\{}", escaped(next.encode_utf8(&mut [0; 4]))),
        _ => return invalid(format!("\\{next} is no escape of JSON")),
    })
}

async fn hex(reader: &Reader, digits: usize) -> Read<u32> {
    let mut number = 0;
    for _ in 0..digits {
        let next = reader.next().await?;
        match next.to_digit(16) {
            Some(digit) => number = number << 4 | digit,
            None => return invalid(format!("{next:?} is no hexadecimal digit")),
        }
    }
    Ok(number)
}

/// `text` as it stands between the quotes of a JSON string.
pub(super) fn escaped(text: &str) -> String {
    let quoted = quoted(text);
    quoted[1..quoted.len() - 1].to_owned()
}

/// `text` as a JSON string.
pub(super) fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}

/// What to make of a value whose schema does not say its type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Untyped {
    /// JSON where it is JSON, else a string.
    Json,
    /// An object or an array where it is one, else a string.
    Container,
}

/// The JSON of a value that is written without quotes, as XML-like formats do, by its schema.
pub(super) fn typed(text: &str, types: Option<Types>, untyped: Untyped) -> String {
    let trimmed = text.trim();
    let json = || serde_json::from_str::<Value>(trimmed).ok();
    let Some(types) = types else {
        let value = json().filter(|value| {
            untyped == Untyped::Json || value.is_object() || value.is_array() || value.is_null()
        });
        return value.map_or_else(|| quoted(text), |value| value.to_string());
    };
    let lower = trimmed.to_ascii_lowercase();
    let word = |wanted: bool, words: &[&str]| wanted && words.contains(&lower.as_str());
    if word(types.null || !types.string, &["null", "none"]) {
        return "null".to_owned();
    }
    if (types.integer || types.number)
        && let Some(number) = number(trimmed, Syntax::Python)
    {
        return number;
    }
    if word(types.boolean, &["true", "yes", "on"])
        || (types.boolean && !types.integer && !types.number && trimmed == "1")
    {
        return "true".to_owned();
    }
    if word(types.boolean, &["false", "no", "off"])
        || (types.boolean && !types.integer && !types.number && trimmed == "0")
    {
        return "false".to_owned();
    }
    if types.container {
        if let Some(value) = json().filter(|it| it.is_object() || it.is_array()) {
            return value.to_string();
        }
        if let Some(value) = super::whole_value(trimmed, Syntax::Python, None) {
            return value;
        }
    }
    if types.string {
        return quoted(text);
    }
    json().map_or_else(|| quoted(text), |value| value.to_string())
}
