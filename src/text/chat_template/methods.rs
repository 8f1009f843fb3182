//! The methods of Python's strings, dictionaries and lists. Those that change a value are refused, as
//! in Jinja's immutable sandbox.

use std::fmt;
use std::sync::Arc;

use minijinja::formatting::{FormatStyle, format};
use minijinja::value::{Object, ObjectRepr, Tuple, ValueKind};
use minijinja::{Error, ErrorKind, State, Value};

use super::python::{self, arguments, check_length, check_width, is_space};

/// Calls `value.method(args)`; an [`ErrorKind::UnknownMethod`] error if there is no such method.
pub(super) fn call(
    _: &mut State<'_, '_>,
    value: &Value,
    method: &str,
    args: &[Value],
) -> Result<Value, Error> {
    match (value.kind(), value.as_str()) {
        (_, Some(text)) => string(text, method, args),
        (ValueKind::Map, _) => dictionary(value, method, args),
        (ValueKind::Seq | ValueKind::Iterable, _) => list(value, method, args),
        _ => Err(unknown()),
    }
}

/// A method of a dictionary that is not called at once. It is true, and most often nothing else is done
/// with it.
#[derive(Debug)]
pub(super) struct Method {
    pub owner: Value,
    pub name: String,
}

impl Object for Method {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Plain
    }

    fn call(self: &Arc<Self>, _: &mut State<'_, '_>, args: &[Value]) -> Result<Value, Error> {
        dictionary(&self.owner, &self.name, args)
    }

    fn render(self: &Arc<Self>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<built-in method {} of dict object>", self.name)
    }
}

fn dictionary(value: &Value, method: &str, args: &[Value]) -> Result<Value, Error> {
    let keys = || python::items(value);
    match method {
        "get" => {
            let [key, default] = arguments(args, ["key", "default"])?;
            let key = key.unwrap_or(Value::from(()));
            let found = value.as_object().and_then(|object| object.get_value(&key));
            Ok(found.or(default).unwrap_or(Value::from(())))
        }
        "keys" => {
            let [] = arguments(args, [])?;
            Ok(Value::from(keys()?))
        }
        "values" => {
            let [] = arguments(args, [])?;
            let values =
                keys()?.iter().map(|key| value.get_item(key)).collect::<Result<Vec<_>, _>>();
            Ok(Value::from(values?))
        }
        "items" => {
            let [] = arguments(args, [])?;
            let pairs = keys()?.into_iter().map(|key| {
                let item = value.get_item(&key)?;
                Ok(Value::from(Tuple::from([key, item])))
            });
            Ok(Value::from(pairs.collect::<Result<Vec<Value>, Error>>()?))
        }
        "copy" => {
            let [] = arguments(args, [])?;
            Ok(value.clone())
        }
        "clear" | "pop" | "popitem" | "setdefault" | "update" => Err(immutable("dictionary")),
        _ => Err(unknown()),
    }
}

fn list(value: &Value, method: &str, args: &[Value]) -> Result<Value, Error> {
    match method {
        "count" | "index" => {
            let [wanted] = arguments(args, ["value"])?;
            let wanted = wanted.unwrap_or(Value::from(()));
            let mut count = 0;
            for (index, item) in python::items(value)?.into_iter().enumerate() {
                if item == wanted {
                    if method == "index" {
                        return Ok(Value::from(index));
                    }
                    count += 1;
                }
            }
            if method == "index" {
                return Err(invalid(format!("{} is not in the list", python::repr(&wanted)?)));
            }
            Ok(Value::from(count))
        }
        "copy" => {
            let [] = arguments(args, [])?;
            Ok(value.clone())
        }
        "append" | "clear" | "extend" | "insert" | "pop" | "remove" | "reverse" | "sort" => {
            Err(immutable("list"))
        }
        _ => Err(unknown()),
    }
}

fn string(text: &str, method: &str, args: &[Value]) -> Result<Value, Error> {
    if let Some(test) = predicate(method) {
        let [] = arguments(args, [])?;
        return Ok(Value::from(test(text)));
    }
    if let Some(change) = change(method) {
        let [] = arguments(args, [])?;
        return Ok(Value::from(change(text)));
    }
    Ok(match method {
        "strip" | "lstrip" | "rstrip" => {
            let [chars] = arguments(args, ["chars"])?;
            let chars = chars.as_ref().map(string_of).transpose()?;
            let strips = |c: char| chars.map_or_else(|| is_space(c), |set| set.contains(c));
            Value::from(match method {
                "strip" => text.trim_matches(strips),
                "lstrip" => text.trim_start_matches(strips),
                _ => text.trim_end_matches(strips),
            })
        }
        "split" | "rsplit" => {
            let [separator, maxsplit] = arguments(args, ["sep", "maxsplit"])?;
            let limit = maxsplit.map_or(Ok(-1), i64::try_from)?;
            let limit = usize::try_from(limit).unwrap_or(usize::MAX);
            let parts = match separator.as_ref().map(string_of).transpose()? {
                Some("") => return Err(invalid("split: empty separator")),
                Some(separator) if method == "split" => {
                    text.splitn(limit.saturating_add(1), separator).collect()
                }
                Some(separator) => reversed(text.rsplitn(limit.saturating_add(1), separator)),
                None if method == "split" => split_words(text, limit),
                None => rsplit_words(text, limit),
            };
            parts.into_iter().map(Value::from).collect()
        }
        "splitlines" => {
            let [keep_ends] = arguments(args, ["keepends"])?;
            split_lines(text, keep_ends.is_some_and(|it| it.is_true()))
        }
        "partition" | "rpartition" => {
            let [separator] = arguments(args, ["sep"])?;
            let separator = required(separator.as_ref(), "sep")?;
            if separator.is_empty() {
                return Err(invalid("partition: empty separator"));
            }
            let parts = if method == "partition" {
                let (head, tail) = text.split_once(separator).unwrap_or((text, ""));
                [head, if head.len() < text.len() { separator } else { "" }, tail]
            } else {
                let (head, tail) = text.rsplit_once(separator).unwrap_or(("", text));
                [head, if tail.len() < text.len() { separator } else { "" }, tail]
            };
            Value::from(Tuple::from(parts.map(Value::from)))
        }
        "startswith" | "endswith" => {
            let [affix, start, end] = arguments(args, ["prefix", "start", "end"])?;
            let Some(affix) = affix else { return Err(missing("prefix")) };
            let Some((_, text)) = section(text, start, end)? else { return Ok(Value::from(false)) };
            let holds = |affix: &Value| {
                let affix = string_of(affix)?;
                Ok::<_, Error>(match method {
                    "startswith" => text.starts_with(affix),
                    _ => text.ends_with(affix),
                })
            };
            if !affix.is_tuple() {
                return Ok(Value::from(holds(&affix)?));
            }
            for candidate in affix.try_iter()? {
                if holds(&candidate)? {
                    return Ok(Value::from(true));
                }
            }
            Value::from(false)
        }
        "find" | "rfind" | "index" | "rindex" => {
            let [wanted, start, end] = arguments(args, ["sub", "start", "end"])?;
            let wanted = required(wanted.as_ref(), "sub")?;
            let found = section(text, start, end)?.and_then(|(offset, section)| {
                let at = match method {
                    "find" | "index" => section.find(wanted)?,
                    _ => section.rfind(wanted)?,
                };
                Some(offset + section[..at].chars().count())
            });
            match found {
                Some(index) => Value::from(index),
                None if method.ends_with("find") => Value::from(-1),
                None => return Err(invalid("substring not found")),
            }
        }
        "count" => {
            let [wanted, start, end] = arguments(args, ["sub", "start", "end"])?;
            let wanted = required(wanted.as_ref(), "sub")?;
            let count = section(text, start, end)?.map_or(0, |(_, it)| it.matches(wanted).count());
            Value::from(count)
        }
        "replace" => {
            let [old, new, count] = arguments(args, ["old", "new", "count"])?;
            let (old, new) = (required(old.as_ref(), "old")?, required(new.as_ref(), "new")?);
            let limit = count.map_or(Ok(-1), i64::try_from)?;
            let limit = usize::try_from(limit).unwrap_or(usize::MAX);
            let times = text.matches(old).count().min(limit);
            check_length(text.len().saturating_add(times.saturating_mul(new.len())))?;
            Value::from(text.replacen(old, new, limit))
        }
        "removeprefix" => {
            let [prefix] = arguments(args, ["prefix"])?;
            Value::from(text.strip_prefix(required(prefix.as_ref(), "prefix")?).unwrap_or(text))
        }
        "removesuffix" => {
            let [suffix] = arguments(args, ["suffix"])?;
            Value::from(text.strip_suffix(required(suffix.as_ref(), "suffix")?).unwrap_or(text))
        }
        "join" => {
            let [items] = arguments(args, ["iterable"])?;
            let Some(items) = items else { return Err(missing("iterable")) };
            let mut joined = String::new();
            for (index, item) in python::items(&items)?.iter().enumerate() {
                if index > 0 {
                    joined.push_str(text);
                }
                joined.push_str(string_of(item)?);
                check_length(joined.len())?;
            }
            Value::from(joined)
        }
        "center" | "ljust" | "rjust" | "zfill" => {
            let [width, fill] = arguments(args, ["width", "fillchar"])?;
            let width = width.map_or(Err(missing("width")), i64::try_from)?;
            let fill = fill.as_ref().map_or(Ok(" "), string_of)?;
            Value::from(pad(text, method, usize::try_from(width).unwrap_or(0), fill)?)
        }
        "expandtabs" => {
            let [size] = arguments(args, ["tabsize"])?;
            let size = usize::try_from(size.map_or(Ok(8), i64::try_from)?).unwrap_or(0);
            check_length(text.len().saturating_mul(size.max(1)))?;
            Value::from(expand_tabs(text, size))
        }
        "format" => {
            check_width(text)?;
            Value::from(format(FormatStyle::StrFormat, text, args)?)
        }
        _ => return Err(unknown()),
    })
}

/// The methods without arguments that say something about a string.
fn predicate(method: &str) -> Option<fn(&str) -> bool> {
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
        "isprintable" => {
            |text| text.chars().all(|c| c == ' ' || !(c.is_control() || c.is_whitespace()))
        }
        "isspace" => |text| all(text, is_space),
        "istitle" => |text| text.chars().any(is_cased) && text == title(text),
        "isupper" => {
            |text| text.chars().any(char::is_uppercase) && !text.chars().any(char::is_lowercase)
        }
        _ => return None,
    })
}

/// The methods without arguments that change the case of a string.
fn change(method: &str) -> Option<fn(&str) -> String> {
    Some(match method {
        "capitalize" => |text| {
            let mut characters = text.chars();
            let first: String =
                characters.next().into_iter().flat_map(char::to_uppercase).collect();
            first + &characters.as_str().to_lowercase()
        },
        "casefold" => |text| text.to_lowercase().replace('ß', "ss"),
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

fn is_cased(character: char) -> bool {
    character.is_uppercase() || character.is_lowercase()
}

/// Every letter after something that is no letter becomes a capital, also in `it's`.
fn title(text: &str) -> String {
    let mut titled = String::with_capacity(text.len());
    let mut in_word = false;
    for character in text.chars() {
        if in_word {
            titled.extend(character.to_lowercase());
        } else {
            titled.extend(character.to_uppercase());
        }
        in_word = is_cased(character);
    }
    titled
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

/// `text[start:end]` in characters, with the index of its first one; `None` if `start` lies behind the
/// end of the text, where not even the empty string is found.
fn section(
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
fn split_words(text: &str, limit: usize) -> Vec<&str> {
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

fn rsplit_words(text: &str, limit: usize) -> Vec<&str> {
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

fn reversed<'a>(parts: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let mut parts: Vec<_> = parts.collect();
    parts.reverse();
    parts
}

fn split_lines(text: &str, keep_ends: bool) -> Value {
    let is_end = |c: char| {
        matches!(
            c,
            '\n' | '\r' | '\u{b}' | '\u{c}' | '\u{1c}'
                ..='\u{1e}' | '\u{85}' | '\u{2028}' | '\u{2029}'
        )
    };
    let mut lines = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let end = rest.find(is_end).unwrap_or(rest.len());
        let (line, tail) = rest.split_at(end);
        let next = tail.strip_prefix("\r\n").unwrap_or_else(|| {
            let mut characters = tail.chars();
            characters.next();
            characters.as_str()
        });
        let kept = if keep_ends { &rest[..rest.len() - next.len()] } else { line };
        lines.push(Value::from(kept));
        rest = next;
    }
    Value::from(lines)
}

fn pad(text: &str, method: &str, width: usize, fill: &str) -> Result<String, Error> {
    let missing = width.saturating_sub(text.chars().count());
    let fill = if method == "zfill" { "0" } else { fill };
    if fill.chars().count() != 1 {
        return Err(invalid("fillchar: expected one character"));
    }
    check_length(missing.saturating_mul(fill.len()))?;
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

fn expand_tabs(text: &str, size: usize) -> String {
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

fn string_of(value: &Value) -> Result<&str, Error> {
    value.as_str().ok_or_else(|| invalid(format!("expected a string, found a {}", value.kind())))
}

fn required<'a>(value: Option<&'a Value>, parameter: &'static str) -> Result<&'a str, Error> {
    value.map_or_else(|| Err(missing(parameter)), string_of)
}

fn missing(parameter: &'static str) -> Error {
    Error::new(ErrorKind::MissingArgument, parameter)
}

fn invalid(message: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::new(ErrorKind::InvalidOperation, message)
}

fn immutable(kind: &str) -> Error {
    invalid(format!("a chat template cannot change a {kind}"))
}

fn unknown() -> Error {
    Error::from(ErrorKind::UnknownMethod)
}
