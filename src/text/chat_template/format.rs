//! Python's two ways to format: `'%s' % value` and `'{}'.format(value)`.
//!
//! Reference: the Python Library Reference, "printf-style String Formatting" and "Format String
//! Syntax".

use std::iter::Peekable;
use std::str::Chars;

use minijinja::value::{Kwargs, ValueKind};
use minijinja::{Error, ErrorKind, Value};

use super::format_spec::{Spec, digits, parse_spec, real, text, whole};
use super::{limits, python};

/// `text % right`
pub(super) fn percent(text: &Value, right: &Value) -> Result<Value, Error> {
    let args = if right.is_tuple() { python::items(right)? } else { vec![right.clone()] };
    printf(text, &args, right)
}

/// The filter `format`, whose arguments come by position or by name.
pub(super) fn printf_with(text: &Value, args: &[Value]) -> Result<Value, Error> {
    let (positional, named) = split(args)?;
    match named {
        Some(_) if !positional.is_empty() => {
            Err(invalid("format takes arguments by position or by name, not both"))
        }
        Some(named) => printf(text, &[], &named),
        None => printf(text, positional, &Value::UNDEFINED),
    }
}

fn split(args: &[Value]) -> Result<(&[Value], Option<Value>), Error> {
    match args.split_last() {
        Some((last, rest)) if last.is_kwargs() => {
            let named = Kwargs::try_from(last.clone())?;
            let pairs: Result<Vec<(String, Value)>, Error> =
                named.args().map(|name| Ok((name.to_owned(), named.get(name)?))).collect();
            Ok((rest, Some(Value::from_pairs(pairs?))))
        }
        _ => Ok((args, None)),
    }
}

fn printf(text: &Value, args: &[Value], mapping: &Value) -> Result<Value, Error> {
    let template = python::display(text)?;
    let mut out = Out::new(text.is_safe());
    let mut unused = args.iter();
    let mut is_mapped = false;
    let mut characters = template.chars().peekable();
    while let Some(character) = characters.next() {
        if character != '%' {
            out.push(character);
            continue;
        }
        let key =
            if characters.next_if_eq(&'(').is_some() { Some(key(&mut characters)?) } else { None };
        let mut spec = Spec { align: Some('>'), ..Spec::default() };
        let mut zero = false;
        while let Some(flag) = characters.next_if(|it| "-+ #0".contains(*it)) {
            match flag {
                '-' => spec.align = Some('<'),
                '+' => spec.sign = '+',
                ' ' if spec.sign != '+' => spec.sign = ' ',
                '#' => spec.alternate = true,
                '0' => zero = true,
                _ => {}
            }
        }
        let mut next =
            || unused.next().ok_or_else(|| invalid("not enough arguments for the format"));
        if characters.next_if_eq(&'*').is_some() {
            let width = python::whole(next()?).ok_or_else(|| invalid("* wants a whole number"))?;
            if width < 0 {
                spec.align = Some('<');
            }
            spec.width = usize::try_from(width.unsigned_abs()).unwrap_or(usize::MAX);
        } else {
            spec.width = digits(&mut characters).unwrap_or(0);
        }
        if characters.next_if_eq(&'.').is_some() {
            spec.precision = Some(digits(&mut characters).unwrap_or(0));
        }
        while characters.next_if(|it| "hlL".contains(*it)).is_some() {}
        let kind = characters.next().ok_or_else(|| invalid("incomplete format"))?;
        if kind == '%' {
            out.push('%');
            continue;
        }
        let value = match key {
            Some(key) => {
                is_mapped = true;
                field(mapping, &key)?
            }
            None => next()?.clone(),
        };
        if zero && spec.align == Some('>') && kind != 's' && kind != 'r' {
            spec.fill = '0';
            spec.align = Some('=');
        }
        out.write(&percent_value(&value, kind, spec)?)?;
    }
    if unused.next().is_some() && !is_mapped && !matches!(mapping.kind(), ValueKind::Map) {
        return Err(invalid("not all arguments are used by the format"));
    }
    out.finish()
}

fn percent_value(value: &Value, kind: char, mut spec: Spec) -> Result<String, Error> {
    let wants_number = || {
        let found = python::type_name(value);
        invalid(format!("%{kind} format: a number is required, not {found}"))
    };
    match kind {
        's' => text(&python::display(value)?, &spec),
        'r' => text(&python::repr(value)?, &spec),
        'a' => text(&python::ascii(value)?, &spec),
        'c' => match (value.as_str(), python::whole(value)) {
            (Some(single), _) if single.chars().count() == 1 => text(single, &spec),
            (None, Some(code)) => {
                let code = u32::try_from(code).ok().and_then(char::from_u32);
                text(&code.ok_or_else(wants_number)?.to_string(), &spec)
            }
            _ => Err(invalid("%c requires a single character")),
        },
        'd' | 'i' | 'u' => {
            let number = match (python::whole(value), python::real(value)) {
                (Some(whole), _) => whole,
                (None, Some(real)) if real.is_finite() => real as i128,
                _ => return Err(wants_number()),
            };
            spec.kind = Some('d');
            whole(number, &spec)
        }
        'o' | 'x' | 'X' => {
            spec.kind = Some(kind);
            whole(python::whole(value).ok_or_else(wants_number)?, &spec)
        }
        'e' | 'E' | 'f' | 'F' | 'g' | 'G' => {
            spec.kind = Some(kind);
            real(python::real(value).ok_or_else(wants_number)?, &spec)
        }
        _ => Err(invalid(format!("unsupported format character '{kind}'"))),
    }
}

/// The text up to the closing bracket of `%(key)s`.
fn key(characters: &mut Peekable<Chars<'_>>) -> Result<String, Error> {
    let mut key = String::new();
    let mut depth = 1;
    for character in characters.by_ref() {
        match character {
            '(' => depth += 1,
            ')' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return Ok(key);
        }
        key.push(character);
    }
    Err(invalid("incomplete format key"))
}

fn field(mapping: &Value, key: &str) -> Result<Value, Error> {
    let object = mapping.as_object().filter(|_| mapping.kind() == ValueKind::Map);
    let object = object.ok_or_else(|| invalid("the format requires a mapping"))?;
    object.get_value(&Value::from(key)).ok_or_else(|| invalid(format!("no value for '{key}'")))
}

/// `template.format(args)`
pub(super) fn str_format(template: &Value, args: &[Value]) -> Result<Value, Error> {
    let (positional, named) = split(args)?;
    let mut fields = Fields { positional, named: named.unwrap_or_default(), next: Some(0) };
    let mut out = Out::new(template.is_safe());
    replace_fields(template.as_str().unwrap_or_default(), &mut fields, &mut out, 2)?;
    out.finish()
}

/// The arguments of `format`.
struct Fields<'a> {
    positional: &'a [Value],
    named: Value,
    /// The number of the next `{}`; none where fields are numbered.
    next: Option<usize>,
}

fn replace_fields(
    template: &str,
    fields: &mut Fields<'_>,
    out: &mut Out,
    depth: usize,
) -> Result<(), Error> {
    if depth == 0 && template.contains('{') {
        return Err(invalid("a format nested too deep"));
    }
    let mut rest = template;
    while let Some(index) = rest.find(['{', '}']) {
        out.write_plain(&rest[..index])?;
        let brace = &rest[index..=index];
        rest = &rest[index + 1..];
        if let Some(tail) = rest.strip_prefix(brace) {
            out.write_plain(brace)?;
            rest = tail;
            continue;
        }
        if brace == "}" {
            return Err(invalid("a single '}' in the format"));
        }
        let end = closing(rest).ok_or_else(|| invalid("a '{' without an end in the format"))?;
        let value = replacement(&rest[..end], fields, depth)?;
        out.write(&value)?;
        rest = &rest[end + 1..];
    }
    out.write_plain(rest)
}

/// Where the brace that is open closes.
fn closing(text: &str) -> Option<usize> {
    let mut depth = 0_usize;
    let mut in_key = false;
    for (index, character) in text.char_indices() {
        match character {
            '[' => in_key = true,
            ']' => in_key = false,
            '{' if !in_key => depth += 1,
            '}' if !in_key && depth == 0 => return Some(index),
            '}' if !in_key => depth -= 1,
            _ => {}
        }
    }
    None
}

fn replacement(field: &str, fields: &mut Fields<'_>, depth: usize) -> Result<String, Error> {
    let mut in_key = false;
    let end = field
        .find(|character| {
            in_key = character == '[' || (in_key && character != ']');
            !in_key && matches!(character, '!' | ':')
        })
        .unwrap_or(field.len());
    let (name, mut rest) = field.split_at(end);
    let value = lookup(name, fields)?;
    let mut conversion = None;
    if let Some(tail) = rest.strip_prefix('!') {
        conversion = tail.chars().next();
        rest = &tail[conversion.map_or(0, char::len_utf8)..];
        if !rest.is_empty() && !rest.starts_with(':') {
            return Err(invalid("expected ':' after the conversion of a format"));
        }
    }
    let mut spec = Out::new(false);
    replace_fields(
        rest.strip_prefix(':').unwrap_or(""),
        fields,
        &mut spec,
        depth.saturating_sub(1),
    )?;
    let spec = spec.text;
    match conversion {
        None => format_value(&value, &spec),
        Some('s') => format_value(&Value::from(python::display(&value)?), &spec),
        Some('r') => format_value(&Value::from(python::repr(&value)?), &spec),
        Some('a') => format_value(&Value::from(python::ascii(&value)?), &spec),
        Some(other) => Err(invalid(format!("unknown conversion '{other}' in a format"))),
    }
}

/// The value of `name`, `0`, or nothing, with attributes and items behind it.
fn lookup(path: &str, fields: &mut Fields<'_>) -> Result<Value, Error> {
    let end = path.find(['.', '[']).unwrap_or(path.len());
    let (first, mut rest) = path.split_at(end);
    let mut value = if first.is_empty() {
        let Some(index) = fields.next else {
            return Err(invalid("a format numbers its fields, or all or none"));
        };
        fields.next = Some(index + 1);
        positional(fields, index)?
    } else if first.bytes().all(|byte| byte.is_ascii_digit()) {
        if fields.next.is_some_and(|next| next > 0) {
            return Err(invalid("a format numbers its fields, or all or none"));
        }
        fields.next = None;
        positional(fields, first.parse().unwrap_or(usize::MAX))?
    } else {
        field(&fields.named, first)?
    };
    while !rest.is_empty() {
        let (key, tail) = if let Some(tail) = rest.strip_prefix('[') {
            let end =
                tail.find(']').ok_or_else(|| invalid("a '[' without an end in the format"))?;
            (&tail[..end], &tail[end + 1..])
        } else {
            let tail = &rest[1..];
            let end = tail.find(['.', '[']).unwrap_or(tail.len());
            tail.split_at(end)
        };
        value = match key.parse::<usize>() {
            Ok(index) if rest.starts_with('[') => value.get_item(&Value::from(index))?,
            _ => value.get_attr(key)?,
        };
        if value.is_undefined() {
            return Err(invalid(format!("no '{key}' in what the format names")));
        }
        rest = tail;
    }
    Ok(value)
}

fn positional(fields: &Fields<'_>, index: usize) -> Result<Value, Error> {
    let missing = || invalid("the format names more values than there are");
    fields.positional.get(index).cloned().ok_or_else(missing)
}

/// Python's `format(value, spec)`.
fn format_value(value: &Value, spec: &str) -> Result<String, Error> {
    if spec.is_empty() {
        return python::display(value);
    }
    let parsed = parse_spec(spec)?;
    let is_text = value.as_str().is_some();
    match parsed.kind {
        None | Some('s') if is_text => text(&python::display(value)?, &parsed),
        Some('e' | 'E' | 'f' | 'F' | 'g' | 'G' | '%' | 'n') | None
            if python::whole(value).is_none() && python::real(value).is_some() =>
        {
            real(python::real(value).unwrap_or(f64::NAN), &parsed)
        }
        Some('e' | 'E' | 'f' | 'F' | 'g' | 'G' | '%') if python::real(value).is_some() => {
            real(python::real(value).unwrap_or(f64::NAN), &parsed)
        }
        Some('c') if python::whole(value).is_some() => percent_value(value, 'c', parsed),
        None | Some('b' | 'd' | 'o' | 'x' | 'X' | 'n') if python::whole(value).is_some() => {
            whole(python::whole(value).unwrap_or(0), &parsed)
        }
        _ => {
            let name = python::type_name(value);
            Err(invalid(format!("the format \"{spec}\" does not fit a value of the type {name}")))
        }
    }
}

/// What is written. What goes into text that is marked as safe is escaped.
struct Out {
    text: String,
    is_safe: bool,
    counted: usize,
}

impl Out {
    fn new(is_safe: bool) -> Self {
        Self { text: String::new(), is_safe, counted: 0 }
    }

    fn push(&mut self, character: char) {
        self.text.push(character);
    }

    fn write(&mut self, value: &str) -> Result<(), Error> {
        if self.is_safe { self.write_plain(&python::html(value)) } else { self.write_plain(value) }
    }

    fn write_plain(&mut self, text: &str) -> Result<(), Error> {
        let length = self.text.len().saturating_add(text.len());
        limits::take_text(length.saturating_sub(self.counted))?;
        self.counted = length;
        self.text.push_str(text);
        Ok(())
    }

    fn finish(self) -> Result<Value, Error> {
        Ok(if self.is_safe { Value::from_safe_string(self.text) } else { Value::from(self.text) })
    }
}

fn invalid(message: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::new(ErrorKind::InvalidOperation, message)
}
