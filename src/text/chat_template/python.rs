//! What templates see of Python: how values print, and how functions take their arguments.

use minijinja::value::{Kwargs, ObjectRepr, ValueKind};
use minijinja::{Error, ErrorKind, Value};

use super::limits::{self, MAX_DEPTH};

/// Python's `str(value)`; an undefined value prints nothing.
pub(super) fn display(value: &Value) -> Result<String, Error> {
    if value.is_undefined() {
        return Ok(String::new());
    }
    match value.as_str() {
        Some(text) => {
            limits::step(text.len() / 64)?;
            Ok(text.to_owned())
        }
        None => repr(value),
    }
}

/// Python's `repr(value)`.
pub(super) fn repr(value: &Value) -> Result<String, Error> {
    let mut writer = Repr { out: String::new(), counted: 0, ascii: false };
    writer.value(value, 0)?;
    Ok(writer.out)
}

/// Python's `ascii(value)`.
pub(super) fn ascii(value: &Value) -> Result<String, Error> {
    let mut writer = Repr { out: String::new(), counted: 0, ascii: true };
    writer.value(value, 0)?;
    Ok(writer.out)
}

struct Repr {
    out: String,
    /// How much of it the meter knows.
    counted: usize,
    ascii: bool,
}

impl Repr {
    fn value(&mut self, value: &Value, depth: usize) -> Result<(), Error> {
        if depth > MAX_DEPTH {
            return Err(limits::too_deep());
        }
        limits::take_text(self.out.len() - self.counted)?;
        self.counted = self.out.len();
        match value.kind() {
            ValueKind::Undefined => self.out.push_str("Undefined"),
            ValueKind::None => self.out.push_str("None"),
            ValueKind::Bool => self.out.push_str(if value.is_true() { "True" } else { "False" }),
            ValueKind::Number => self.out.push_str(&number(value)),
            ValueKind::String => {
                let text = value.as_str().unwrap_or_default();
                limits::take_text(text.len())?;
                if value.is_safe() {
                    self.out.push_str("Markup(");
                    self.text(text);
                    self.out.push(')');
                } else {
                    self.text(text);
                }
            }
            ValueKind::Seq | ValueKind::Iterable if value.len().is_some() => {
                let (open, close) = if value.is_tuple() { ('(', ')') } else { ('[', ']') };
                self.out.push(open);
                for (index, item) in items(value)?.iter().enumerate() {
                    if index > 0 {
                        self.out.push_str(", ");
                    }
                    self.value(item, depth + 1)?;
                }
                if value.is_tuple() && value.len() == Some(1) {
                    self.out.push(',');
                }
                self.out.push(close);
            }
            ValueKind::Map if value.as_object().is_some_and(|it| it.enumerator_len().is_some()) => {
                let is_namespace = is_namespace(value);
                self.out.push_str(if is_namespace { "<Namespace {" } else { "{" });
                for (index, key) in items(value)?.iter().enumerate() {
                    if index > 0 {
                        self.out.push_str(", ");
                    }
                    self.value(key, depth + 1)?;
                    self.out.push_str(": ");
                    self.value(&value.get_item(key)?, depth + 1)?;
                }
                self.out.push_str(if is_namespace { "}>" } else { "}" });
            }
            _ => self.out.push_str(&value.to_string()),
        }
        Ok(())
    }

    /// A string in quotes; what cannot be printed is escaped.
    fn text(&mut self, text: &str) {
        let quote = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
        self.out.push(quote);
        for character in text.chars() {
            let code = u32::from(character);
            match character {
                '\\' => self.out.push_str("\\\\"),
                '\n' => self.out.push_str("\\n"),
                '\r' => self.out.push_str("\\r"),
                '\t' => self.out.push_str("\\t"),
                _ if character == quote => {
                    self.out.push('\\');
                    self.out.push(quote);
                }
                ' '..='~' => self.out.push(character),
                _ if !self.ascii && is_printable(character) => self.out.push(character),
                _ if code < 0x100 => self.out.push_str(&format!("\\x{code:02x}")),
                _ if code < 0x1_0000 => self.out.push_str(&format!("\\u{code:04x}")),
                _ => self.out.push_str(&format!("\\U{code:08x}")),
            }
        }
        self.out.push(quote);
    }
}

/// Whether Python's `str.isprintable` holds: neither a space (but for U+0020), nor of Unicode's
/// categories Other.
pub(super) fn is_printable(character: char) -> bool {
    if character.is_ascii() {
        return matches!(character, ' '..='~');
    }
    // Rust's escapes for debugging follow the same rule, but for marks that combine at the
    // beginning.
    let text: String = ['a', character].iter().collect();
    text.escape_debug().nth(1) == Some(character)
}

fn number(value: &Value) -> String {
    match real(value) {
        Some(number) if whole(value).is_none() && !value.is_integer() => float(number),
        _ => value.to_string(),
    }
}

/// Python's `repr` of a float: the shortest digits that read back as the same number, in scientific
/// notation below 1e-4 and from 1e16 on.
pub(super) fn float(number: f64) -> String {
    if number.is_nan() {
        return "nan".to_owned();
    }
    if number.is_infinite() {
        return if number > 0.0 { "inf" } else { "-inf" }.to_owned();
    }
    let scientific = format!("{number:e}");
    let Some((mantissa, exponent)) = scientific.split_once('e') else { return scientific };
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if number != 0.0 && !(-4..16).contains(&exponent) {
        let sign = if exponent < 0 { '-' } else { '+' };
        return format!("{mantissa}e{sign}{:02}", exponent.abs());
    }
    let plain = number.to_string();
    if plain.contains('.') { plain } else { plain + ".0" }
}

/// A whole number; `True` and `False` are 1 and 0.
pub(super) fn whole(value: &Value) -> Option<i128> {
    match value.kind() {
        ValueKind::Bool => Some(i128::from(value.is_true())),
        ValueKind::Number if value.is_integer() => i128::try_from(value.clone()).ok(),
        _ => None,
    }
}

/// A number.
pub(super) fn real(value: &Value) -> Option<f64> {
    match value.kind() {
        ValueKind::Bool => Some(f64::from(u8::from(value.is_true()))),
        ValueKind::Number => f64::try_from(value.clone()).ok(),
        _ => None,
    }
}

/// The name of a value's type in Python.
pub(super) fn type_name(value: &Value) -> &'static str {
    match value.kind() {
        ValueKind::Undefined => "undefined",
        ValueKind::None => "none",
        ValueKind::Bool => "bool",
        ValueKind::Number if value.is_integer() => "int",
        ValueKind::Number => "float",
        ValueKind::String => "str",
        ValueKind::Seq | ValueKind::Iterable if value.is_tuple() => "tuple",
        ValueKind::Seq | ValueKind::Iterable => "list",
        ValueKind::Map if is_namespace(value) => "namespace",
        ValueKind::Map => "dict",
        _ => "object",
    }
}

pub(super) fn is_namespace(value: &Value) -> bool {
    value.as_object().is_some_and(|object| {
        object.repr() == ObjectRepr::Map && object.type_name().contains("Namespace")
    })
}

/// `text` for HTML, with the entities that Jinja2 writes.
pub(super) fn html(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '\'' => escaped.push_str("&#39;"),
            '"' => escaped.push_str("&#34;"),
            _ => escaped.push(character),
        }
    }
    escaped
}

/// A value's text for HTML; what is marked as safe is so already.
pub(super) fn escaped(value: &Value) -> Result<String, Error> {
    let text = display(value)?;
    if value.is_safe() {
        return Ok(text);
    }
    // An entity has up to five bytes more than its character.
    limits::take(text.len().saturating_mul(6))?;
    Ok(html(&text))
}

/// The arguments of a call by parameter, as Python binds them. `None` counts as absent, which is
/// what it means for most functions.
pub(super) fn arguments<const N: usize>(
    args: &[Value],
    parameters: [&str; N],
) -> Result<[Option<Value>; N], Error> {
    Ok(bind(args, parameters)?.map(|argument| argument.filter(|value| !value.is_none())))
}

/// The arguments of a call by parameter.
pub(super) fn bind<const N: usize>(
    args: &[Value],
    parameters: [&str; N],
) -> Result<[Option<Value>; N], Error> {
    let too_many = |message: String| Error::new(ErrorKind::TooManyArguments, message);
    let (positional, named) = match args.split_last() {
        Some((last, rest)) if last.is_kwargs() => (rest, Kwargs::try_from(last.clone())?),
        _ => (args, Kwargs::try_from(Value::UNDEFINED)?),
    };
    if positional.len() > N {
        return Err(too_many(format!("expected at most {N}, found {}", positional.len())));
    }
    let mut bound = [const { None }; N];
    for (index, parameter) in parameters.into_iter().enumerate() {
        let by_name: Option<Value> = named.get(parameter)?;
        bound[index] = match (positional.get(index).cloned(), by_name) {
            (Some(_), Some(_)) => return Err(too_many(format!("{parameter} is given twice"))),
            (by_position, by_name) => by_position.or(by_name),
        };
    }
    named.assert_all_used()?;
    Ok(bound)
}

/// Whether Python's `str.isspace` holds: Unicode white space and four separators of ASCII.
pub(super) fn is_space(character: char) -> bool {
    character.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&character)
}

/// Whether a line ends here, as `str.splitlines` sees it.
pub(super) fn is_line_end(character: char) -> bool {
    matches!(
        character,
        '\n' | '\r' | '\u{b}' | '\u{c}' | '\u{1c}'..='\u{1e}' | '\u{85}' | '\u{2028}' | '\u{2029}'
    )
}

/// The lines of `text`, each with its end.
pub(super) fn lines(text: &str) -> impl Iterator<Item = (&str, &str)> {
    let mut rest = text;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let end = rest.find(is_line_end).unwrap_or(rest.len());
        let (line, tail) = rest.split_at(end);
        let length = if tail.starts_with("\r\n") {
            2
        } else {
            tail.chars().next().map_or(0, char::len_utf8)
        };
        let (end, next) = tail.split_at(length);
        rest = next;
        Some((line, end))
    })
}

/// The items of a list, or the keys of a dictionary.
pub(super) fn items(value: &Value) -> Result<Vec<Value>, Error> {
    let mut items = Vec::new();
    if let Some(length) = value.len() {
        limits::take_list(length)?;
        items.reserve(length);
    }
    for item in value.try_iter()?.checked() {
        limits::step(1)?;
        items.push(item?);
        if items.len().is_power_of_two() && value.len().is_none() {
            limits::take_list(items.len())?;
        }
    }
    Ok(items)
}
