//! The methods of Python's strings, dictionaries and lists. Those that change a value are refused,
//! as in Jinja's immutable sandbox.

use std::fmt;
use std::sync::Arc;

use minijinja::value::{Object, ObjectRepr, Tuple, ValueKind};
use minijinja::{Error, ErrorKind, State, Value};

use super::python::{self, arguments, is_space};
use super::strings::{self, section};
use super::{format, limits, operators};

/// Calls `value.method(args)`; an [`ErrorKind::UnknownMethod`] error if there is no such method.
pub(super) fn call(
    _: &mut State<'_, '_>,
    value: &Value,
    method: &str,
    args: &[Value],
) -> Result<Value, Error> {
    match (value.kind(), value.as_str()) {
        (_, Some(_)) => string(value, method, args),
        (ValueKind::Map, _) => dictionary(value, method, args),
        (ValueKind::Seq | ValueKind::Iterable, _) => list(value, method, args),
        _ => Err(unknown()),
    }
}

/// Calls a method of a string. What is made of text that is marked as safe is so, too.
pub(super) fn string(value: &Value, method: &str, args: &[Value]) -> Result<Value, Error> {
    let text = value.as_str().unwrap_or_default();
    limits::step(1 + text.len() / 64)?;
    if method == "format" {
        return format::str_format(value, args);
    }
    let made = of_text(text, method, args)?;
    if !value.is_safe() {
        return Ok(made);
    }
    let safe = |text: &str| Value::from_safe_string(text.to_owned());
    if let Some(text) = made.as_str() {
        return Ok(safe(text));
    }
    if made.kind() != ValueKind::Seq {
        return Ok(made);
    }
    let parts = python::items(&made)?.into_iter().map(|part| match part.as_str() {
        Some(text) => safe(text),
        None => part,
    });
    Ok(if made.is_tuple() {
        Value::from(Tuple::from(parts.collect::<Vec<_>>()))
    } else {
        parts.collect()
    })
}

/// A method of a dictionary that is not called at once. It is true, and most often nothing else is
/// done with it.
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

pub(super) fn dictionary(value: &Value, method: &str, args: &[Value]) -> Result<Value, Error> {
    let keys = || python::items(value);
    match method {
        "get" => {
            let [key, default] = arguments(args, ["key", "default"])?;
            let key = key.unwrap_or(Value::from(()));
            let key = operators::key(&key)?;
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
            let keys = keys()?;
            limits::take_list(keys.len().saturating_mul(3))?;
            let pairs = keys.into_iter().map(|key| {
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
                if operators::equal(&item, &wanted)? {
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

fn of_text(text: &str, method: &str, args: &[Value]) -> Result<Value, Error> {
    if let Some(test) = strings::predicate(method) {
        let [] = arguments(args, [])?;
        return Ok(Value::from(test(text)));
    }
    if let Some(change) = strings::change(method) {
        let [] = arguments(args, [])?;
        // Some characters become three when their case changes.
        limits::take_text(text.len().saturating_mul(3))?;
        return Ok(Value::from(change(text)));
    }
    Ok(match method {
        "strip" | "lstrip" | "rstrip" => {
            let [chars] = arguments(args, ["chars"])?;
            let chars = chars.as_ref().map(string_of).transpose()?;
            limits::take_text(text.len())?;
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
            limits::take_text(text.len())?;
            let separator = separator.as_ref().map(string_of).transpose()?;
            limits::take_list(strings::count_parts(text, separator).min(limit.saturating_add(1)))?;
            let parts = match separator {
                Some("") => return Err(invalid("split: empty separator")),
                Some(separator) if method == "split" => {
                    text.splitn(limit.saturating_add(1), separator).collect()
                }
                Some(separator) => {
                    strings::reversed(text.rsplitn(limit.saturating_add(1), separator))
                }
                None if method == "split" => strings::split_words(text, limit),
                None => strings::rsplit_words(text, limit),
            };
            parts.into_iter().map(Value::from).collect()
        }
        "splitlines" => {
            let [keep_ends] = arguments(args, ["keepends"])?;
            limits::take_text(text.len())?;
            limits::take_list(python::lines(text).count())?;
            let keep_ends = keep_ends.is_some_and(|it| it.is_true());
            let lines = python::lines(text).map(|(line, end)| {
                if keep_ends { Value::from([line, end].concat()) } else { Value::from(line) }
            });
            lines.collect()
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
            limits::take_text(text.len().saturating_add(times.saturating_mul(new.len())))?;
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
            let items = python::items(&items)?;
            let parts = items.iter().map(string_of).collect::<Result<Vec<_>, _>>()?;
            let between = text.len().saturating_mul(parts.len().saturating_sub(1));
            let length = parts.iter().map(|part| part.len()).sum::<usize>();
            limits::take_text(length.saturating_add(between))?;
            Value::from(parts.join(text))
        }
        "center" | "ljust" | "rjust" | "zfill" => {
            let [width, fill] = arguments(args, ["width", "fillchar"])?;
            let width = width.map_or(Err(missing("width")), i64::try_from)?;
            let fill = fill.as_ref().map_or(Ok(" "), string_of)?;
            Value::from(strings::pad(text, method, usize::try_from(width).unwrap_or(0), fill)?)
        }
        "expandtabs" => {
            let [size] = arguments(args, ["tabsize"])?;
            let size = usize::try_from(size.map_or(Ok(8), i64::try_from)?).unwrap_or(0);
            let tabs = text.matches('\t').count();
            limits::take_text(text.len().saturating_add(tabs.saturating_mul(size)))?;
            Value::from(strings::expand_tabs(text, size))
        }
        _ => return Err(unknown()),
    })
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
