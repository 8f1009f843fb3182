//! What Python's string methods do, without their arguments' forms.

use minijinja::{Error, ErrorKind, Value};

use super::limits;
use super::python::{is_printable, is_space};

/// The methods without arguments that say something about a string.
pub(super) fn predicate(method: &str) -> Option<fn(&str) -> bool> {
    fn all(text: &str, test: fn(char) -> bool) -> bool {
        !text.is_empty() && text.chars().all(test)
    }
    Some(match method {
        "isalnum" => |text| all(text, char::is_alphanumeric),
        "isalpha" => |text| all(text, char::is_alphabetic),
        "isascii" => str::is_ascii,
        "isdecimal" => |text| all(text, is_decimal),
        "isdigit" => |text| all(text, |c| is_decimal(c) || is_raised_digit(c)),
        "isidentifier" => |text| {
            let mut characters = text.chars();
            characters.next().is_some_and(|c| c == '_' || c.is_alphabetic())
                && characters.all(|c| c == '_' || c.is_alphanumeric())
        },
        "islower" => {
            |text| text.chars().any(char::is_lowercase) && !text.chars().any(char::is_uppercase)
        }
        "isnumeric" => |text| all(text, char::is_numeric),
        "isprintable" => |text| text.chars().all(is_printable),
        "isspace" => |text| all(text, is_space),
        "istitle" => |text| text.chars().any(is_cased) && text == title(text),
        "isupper" => {
            |text| text.chars().any(char::is_uppercase) && !text.chars().any(char::is_lowercase)
        }
        _ => return None,
    })
}

/// The methods without arguments that change the case of a string.
pub(super) fn change(method: &str) -> Option<fn(&str) -> String> {
    Some(match method {
        "capitalize" => |text| {
            let mut characters = text.chars();
            let first: String = characters.next().map(titled).unwrap_or_default();
            first + &characters.as_str().to_lowercase()
        },
        "casefold" => |text| text.chars().map(folded).collect(),
        "lower" => str::to_lowercase,
        "swapcase" => |text| {
            let swapped = text.chars().map(|c| {
                let c = c.to_string();
                if c.chars().any(char::is_uppercase) { c.to_lowercase() } else { c.to_uppercase() }
            });
            swapped.collect()
        },
        "title" => title,
        "upper" => str::to_uppercase,
        _ => return None,
    })
}

/// A character at the beginning of a title: of what becomes several capitals, only the first is
/// one.
fn titled(character: char) -> String {
    let digraph = match character {
        'Ǆ'..='ǆ' => Some('ǅ'),
        'Ǉ'..='ǉ' => Some('ǈ'),
        'Ǌ'..='ǌ' => Some('ǋ'),
        'Ǳ'..='ǳ' => Some('ǲ'),
        _ => None,
    };
    if let Some(digraph) = digraph {
        return digraph.to_string();
    }
    let mut capitals = character.to_uppercase();
    let first: String = capitals.next().into_iter().collect();
    first + &capitals.flat_map(char::to_lowercase).collect::<String>()
}

/// A character for comparison without case: what its capitals are in small letters.
fn folded(character: char) -> String {
    if character == 'ı' {
        return character.to_string();
    }
    let small = character.to_lowercase().flat_map(char::to_uppercase);
    small.flat_map(char::to_lowercase).collect()
}

fn is_cased(character: char) -> bool {
    character.is_uppercase() || character.is_lowercase()
}

/// Every letter after something that is no letter becomes a capital, also in `it's`.
fn title(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut in_word = false;
    for character in text.chars() {
        if in_word {
            out.extend(character.to_lowercase());
        } else {
            out.push_str(&titled(character));
        }
        in_word = is_cased(character);
    }
    out
}

/// The zeros of the decimal digits in Unicode's basic plane (general category Nd); nine more follow
/// each.
const ZEROS: [u32; 37] = [
    0x30, 0x660, 0x6F0, 0x7C0, 0x966, 0x9E6, 0xA66, 0xAE6, 0xB66, 0xBE6, 0xC66, 0xCE6, 0xD66,
    0xDE6, 0xE50, 0xED0, 0xF20, 0x1040, 0x1090, 0x17E0, 0x1810, 0x1946, 0x19D0, 0x1A80, 0x1A90,
    0x1B50, 0x1BB0, 0x1C40, 0x1C50, 0xA620, 0xA8D0, 0xA900, 0xA9D0, 0xA9F0, 0xAA50, 0xABF0, 0xFF10,
];

fn is_decimal(character: char) -> bool {
    let code = u32::from(character);
    ZEROS.iter().any(|&zero| (zero..zero + 10).contains(&code))
}

fn is_raised_digit(character: char) -> bool {
    matches!(character, '²' | '³' | '¹' | '⁰' | '⁴'..='⁹' | '₀'..='₉' | '①'..='⑨')
}

/// `text[start:end]` in characters, with the index of its first one; `None` if `start` lies behind
/// the end of the text, where not even the empty string is found.
pub(super) fn section(
    text: &str,
    start: Option<Value>,
    end: Option<Value>,
) -> Result<Option<(usize, &str)>, Error> {
    if start.is_none() && end.is_none() {
        return Ok(Some((0, text)));
    }
    let length = text.chars().count();
    let absolute = |index: Option<Value>, default: usize| {
        let Some(index) = index else { return Ok::<_, Error>(default) };
        let index = i64::try_from(index)?;
        let from_end = usize::try_from(index.unsigned_abs()).unwrap_or(usize::MAX);
        Ok(if index < 0 { length.saturating_sub(from_end) } else { from_end })
    };
    let (start, end) = (absolute(start, 0)?, absolute(end, length)?.min(length));
    if start > end {
        return Ok(None);
    }
    let byte = |index| text.char_indices().nth(index).map_or(text.len(), |(byte, _)| byte);
    Ok(Some((start, &text[byte(start)..byte(end)])))
}

/// Splits at white space, at most `limit` times; what is left then keeps its end.
pub(super) fn split_words(text: &str, limit: usize) -> Vec<&str> {
    let mut words = Vec::new();
    let mut rest = text.trim_start_matches(is_space);
    while !rest.is_empty() {
        let end = if words.len() == limit { None } else { rest.find(is_space) };
        let (word, tail) = rest.split_at(end.unwrap_or(rest.len()));
        words.push(word);
        rest = tail.trim_start_matches(is_space);
    }
    words
}

pub(super) fn rsplit_words(text: &str, limit: usize) -> Vec<&str> {
    let mut words = Vec::new();
    let mut rest = text.trim_end_matches(is_space);
    while !rest.is_empty() {
        let start = if words.len() == limit {
            None
        } else {
            rest.char_indices().rfind(|(_, c)| is_space(*c))
        };
        let (head, word) = rest.split_at(start.map_or(0, |(index, c)| index + c.len_utf8()));
        words.push(word);
        rest = head.trim_end_matches(is_space);
    }
    words.reverse();
    words
}

pub(super) fn reversed<'a>(parts: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let mut parts: Vec<_> = parts.collect();
    parts.reverse();
    parts
}

/// The number of parts that a separator, or white space, divides `text` into; or more.
pub(super) fn count_parts(text: &str, separator: Option<&str>) -> usize {
    match separator {
        None => text.split(is_space).filter(|word| !word.is_empty()).count() + 1,
        Some("") => 0,
        Some(separator) => text.matches(separator).count() + 1,
    }
}

pub(super) fn pad(text: &str, method: &str, width: usize, fill: &str) -> Result<String, Error> {
    let missing = width.saturating_sub(text.chars().count());
    let fill = if method == "zfill" { "0" } else { fill };
    if fill.chars().count() != 1 {
        return Err(invalid("fillchar: expected one character"));
    }
    limits::take_text(text.len().saturating_add(missing.saturating_mul(fill.len())))?;
    // Where an odd number is to be divided, Python puts the odd one left if the width is odd too.
    let left = match method {
        "ljust" => 0,
        "center" => missing / 2 + (missing & width & 1),
        _ => missing,
    };
    let (sign, digits) = match text.strip_prefix(['+', '-']) {
        Some(digits) if method == "zfill" => text.split_at(text.len() - digits.len()),
        _ => ("", text),
    };
    Ok(format!("{sign}{}{digits}{}", fill.repeat(left), fill.repeat(missing - left)))
}

pub(super) fn expand_tabs(text: &str, size: usize) -> String {
    let mut expanded = String::new();
    let mut column = 0;
    for character in text.chars() {
        match character {
            '\t' => {
                let width = size.checked_rem(size).map_or(0, |_| size - column % size);
                expanded.push_str(&" ".repeat(width));
                column += width;
            }
            '\n' | '\r' => {
                expanded.push(character);
                column = 0;
            }
            _ => {
                expanded.push(character);
                column += 1;
            }
        }
    }
    expanded
}

fn invalid(message: &'static str) -> Error {
    Error::new(ErrorKind::InvalidOperation, message)
}
