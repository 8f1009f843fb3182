//! Slices, and what loops go through.

use std::sync::Arc;

use minijinja::value::{Enumerator, Object, ObjectRepr, ValueKind};
use minijinja::{Error, ErrorKind, Value};

use super::operators::list_like;
use super::{limits, python};

/// `value[start:stop:step]`
pub(super) fn slice(
    value: &Value,
    start: &Value,
    stop: &Value,
    step: &Value,
) -> Result<Value, Error> {
    if value.is_undefined() {
        return Err(Error::new(ErrorKind::UndefinedError, "a slice of an undefined value"));
    }
    let bounds = [bound(start), bound(stop), bound(step)];
    // Jinja2 finds nothing where Python's slice has the wrong types.
    let [Some(start), Some(stop), Some(step)] = bounds else { return Ok(Value::UNDEFINED) };
    let step = step.unwrap_or(1);
    if step == 0 {
        return Err(invalid("the step of a slice cannot be 0"));
    }
    if let Some(text) = value.as_str() {
        limits::take_text(text.len())?;
        if step == 1 && text.is_ascii() {
            let (first, last) = range(text.len(), start, stop, step);
            let part = text.get(index(first)..index(last.max(first))).unwrap_or_default();
            return Ok(like_text(value, part.to_owned()));
        }
        limits::take(text.len().saturating_mul(size_of::<char>()))?;
        let characters: Vec<char> = text.chars().collect();
        let chosen = positions(characters.len(), start, stop, step);
        return Ok(like_text(value, chosen.map(|position| characters[position]).collect()));
    }
    match value.kind() {
        ValueKind::Seq | ValueKind::Iterable => {
            let items = python::items(value)?;
            let chosen = positions(items.len(), start, stop, step);
            Ok(list_like(value, chosen.map(|position| items[position].clone()).collect()))
        }
        _ => Ok(Value::UNDEFINED),
    }
}

fn like_text(model: &Value, text: String) -> Value {
    if model.is_safe() { Value::from_safe_string(text) } else { Value::from(text) }
}

/// A bound of a slice, which may be absent; `None` for what is no bound.
fn bound(value: &Value) -> Option<Option<i128>> {
    match python::whole(value) {
        Some(bound) => Some(Some(bound)),
        None => value.is_none().then_some(None),
    }
}

/// The first position, and the one behind the last, as Python's `slice.indices` gives them.
fn range(length: usize, start: Option<i128>, stop: Option<i128>, step: i128) -> (i128, i128) {
    let length = i128::try_from(length).unwrap_or(i128::MAX);
    let (lowest, highest) = if step < 0 { (-1, length - 1) } else { (0, length) };
    let resolved = |bound: Option<i128>, default: i128| match bound {
        None => default,
        Some(bound) if bound < 0 => bound.saturating_add(length).max(lowest),
        Some(bound) => bound.min(highest),
    };
    if step < 0 {
        (resolved(start, highest), resolved(stop, lowest))
    } else {
        (resolved(start, lowest), resolved(stop, highest))
    }
}

fn positions(
    length: usize,
    start: Option<i128>,
    stop: Option<i128>,
    step: i128,
) -> impl Iterator<Item = usize> {
    let (first, last) = range(length, start, stop, step);
    let mut at = first;
    std::iter::from_fn(move || {
        let is_inside = if step < 0 { at > last } else { at < last };
        is_inside.then(|| {
            let position = index(at);
            at = at.saturating_add(step);
            position
        })
    })
}

fn index(position: i128) -> usize {
    usize::try_from(position).unwrap_or(0)
}

/// What a loop goes through: lists as they are, and the characters of a string with their number.
pub(super) fn each(value: &Value) -> Result<Value, Error> {
    if value.as_str().is_some() {
        return Ok(Value::from_object(Characters(value.clone())));
    }
    match value.kind() {
        ValueKind::Undefined => Ok(Value::from(Vec::<Value>::new())),
        ValueKind::Seq | ValueKind::Iterable => Ok(value.clone()),
        ValueKind::Map if !python::is_namespace(value) => Ok(value.clone()),
        _ => Err(invalid(format!(
            "a value of the type {} is not iterable",
            python::type_name(value)
        ))),
    }
}

/// The characters of a string.
#[derive(Debug)]
struct Characters(Value);

impl Object for Characters {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Iterable
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        let left = self.0.as_str().map_or(0, |text| text.chars().count());
        Enumerator::Iter(Box::new(CharacterIter { text: self.0.clone(), at: 0, left }))
    }
}

struct CharacterIter {
    text: Value,
    at: usize,
    left: usize,
}

impl Iterator for CharacterIter {
    type Item = Value;

    fn next(&mut self) -> Option<Value> {
        let character = self.text.as_str()?.get(self.at..)?.chars().next()?;
        self.at += character.len_utf8();
        self.left -= 1;
        Some(Value::from(character))
    }

    /// The exact number, so that `loop.length` and `loop.last` are known.
    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

fn invalid(message: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::new(ErrorKind::InvalidOperation, message)
}
