//! The `tojson` filter: what Python's `json.dumps` writes, with transformers' defaults.

use minijinja::value::{Rest, ValueKind, ValueOrKwargs};
use minijinja::{Error, ErrorKind, Value};

use super::limits::{self, MAX_DEPTH};
use super::{convert, python, sequences};

/// `value | tojson(ensure_ascii=False, indent=None, separators=None, sort_keys=False)`. Unlike
/// Jinja's own filter, nothing is escaped for HTML.
pub(super) fn tojson(value: &Value, args: Rest<ValueOrKwargs>) -> Result<String, Error> {
    let [ensure_ascii, indent, separators, sort_keys] = python::arguments(
        &args.into_values(),
        ["ensure_ascii", "indent", "separators", "sort_keys"],
    )?;
    let truthy = |option: Option<Value>| option.is_some_and(|it| it.is_true());
    let indent = indent.map(|it| indentation(&it)).transpose()?;
    let (item_separator, key_separator) = match separators {
        Some(pair) => {
            let parts: Vec<Value> = pair.try_iter()?.collect();
            match parts.as_slice() {
                [item, key] => (item.to_string(), key.to_string()),
                _ => return Err(invalid("separators: expected (item, key)")),
            }
        }
        None if indent.is_some() => (",".to_owned(), ": ".to_owned()),
        None => (", ".to_owned(), ": ".to_owned()),
    };
    let mut writer = Writer {
        out: String::new(),
        ensure_ascii: truthy(ensure_ascii),
        sort_keys: truthy(sort_keys),
        indent,
        item_separator,
        key_separator,
        depth: 0,
        counted: 0,
    };
    writer.value(value)?;
    Ok(writer.out)
}

/// JSON with a space behind each comma and colon, as Python writes it.
pub fn spaced(json: &serde_json::Value) -> String {
    let written = tojson(&convert::value(json.clone()), Rest(Vec::new()));
    written.unwrap_or_else(|_| json.to_string())
}

/// `indent` is a number of spaces or the indentation itself.
fn indentation(value: &Value) -> Result<String, Error> {
    if let Some(text) = value.as_str() {
        return Ok(text.to_owned());
    }
    match value.as_i64() {
        Some(width) if width <= 64 => Ok(" ".repeat(usize::try_from(width).unwrap_or(0))),
        _ => Err(invalid("indent: expected a string or at most 64 spaces")),
    }
}

struct Writer {
    out: String,
    ensure_ascii: bool,
    sort_keys: bool,
    indent: Option<String>,
    item_separator: String,
    key_separator: String,
    depth: usize,
    /// How much of `out` the meter knows.
    counted: usize,
}

impl Writer {
    fn value(&mut self, value: &Value) -> Result<(), Error> {
        limits::take_text(self.out.len() - self.counted)?;
        self.counted = self.out.len();
        match value.kind() {
            ValueKind::None => self.out.push_str("null"),
            ValueKind::Bool => self.out.push_str(if value.is_true() { "true" } else { "false" }),
            ValueKind::Number => self.out.push_str(&number(value)),
            ValueKind::String => {
                let text = value.as_str().unwrap_or_default();
                limits::take_text(text.len())?;
                self.string(text);
            }
            ValueKind::Seq | ValueKind::Iterable => {
                let items = python::items(value)?;
                self.container('[', ']', &items, |writer, item| writer.value(item))?;
            }
            ValueKind::Map => {
                let mut keys = python::items(value)?;
                if self.sort_keys {
                    sequences::sort(&mut keys)?;
                }
                self.container('{', '}', &keys, |writer, key| {
                    writer.key(key)?;
                    writer.out.push_str(&writer.key_separator);
                    writer.value(&value.get_item(key)?)
                })?;
            }
            _ => {
                return Err(Error::new(
                    ErrorKind::BadSerialization,
                    format!("an {} value cannot be written as JSON", value.kind()),
                ));
            }
        }
        Ok(())
    }

    fn container<'a, T>(
        &mut self,
        open: char,
        close: char,
        items: &'a [T],
        mut write: impl FnMut(&mut Self, &'a T) -> Result<(), Error>,
    ) -> Result<(), Error> {
        if self.depth == MAX_DEPTH {
            return Err(limits::too_deep());
        }
        self.out.push(open);
        self.depth += 1;
        for (index, item) in items.iter().enumerate() {
            if index > 0 {
                self.out.push_str(&self.item_separator);
            }
            self.line()?;
            write(self, item)?;
        }
        self.depth -= 1;
        if !items.is_empty() {
            self.line()?;
        }
        self.out.push(close);
        Ok(())
    }

    fn line(&mut self) -> Result<(), Error> {
        if let Some(indent) = &self.indent {
            limits::step(1)?;
            limits::take_text(indent.len().saturating_mul(self.depth))?;
            self.out.push('\n');
            for _ in 0..self.depth {
                self.out.push_str(indent);
            }
        }
        Ok(())
    }

    /// Keys become strings the way Python does it: `True` is `"true"`, 1.5 is `"1.5"`.
    fn key(&mut self, key: &Value) -> Result<(), Error> {
        match key.kind() {
            ValueKind::String => self.string(key.as_str().unwrap_or_default()),
            ValueKind::None => self.string("null"),
            ValueKind::Bool => self.string(if key.is_true() { "true" } else { "false" }),
            ValueKind::Number => self.string(&number(key)),
            kind => return Err(invalid(format!("tojson: a {kind} cannot be a key"))),
        }
        Ok(())
    }

    fn string(&mut self, text: &str) {
        self.out.push('"');
        for character in text.chars() {
            match character {
                '"' => self.out.push_str("\\\""),
                '\\' => self.out.push_str("\\\\"),
                '\n' => self.out.push_str("\\n"),
                '\r' => self.out.push_str("\\r"),
                '\t' => self.out.push_str("\\t"),
                '\u{8}' => self.out.push_str("\\b"),
                '\u{c}' => self.out.push_str("\\f"),
                ' '..='~' => self.out.push(character),
                '\0'..='\u{1f}' => self.escape(character),
                _ if self.ensure_ascii => self.escape(character),
                _ => self.out.push(character),
            }
        }
        self.out.push('"');
    }

    fn escape(&mut self, character: char) {
        for unit in character.encode_utf16(&mut [0; 2]) {
            self.out.push_str(&format!("\\u{unit:04x}"));
        }
    }
}

fn number(value: &Value) -> String {
    if value.is_integer() {
        return value.to_string();
    }
    match f64::try_from(value.clone()) {
        Ok(float) if float.is_nan() => "NaN".to_owned(),
        Ok(float) if float.is_infinite() => {
            if float > 0.0 { "Infinity" } else { "-Infinity" }.to_owned()
        }
        Ok(float) => python::float(float),
        Err(_) => value.to_string(),
    }
}

fn invalid(message: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::new(ErrorKind::InvalidOperation, message)
}
