//! Jinja2's filters for lists.

use std::cmp::Ordering;

use minijinja::value::{Kwargs, Rest, Tuple, ValueKind, ValueOrKwargs};
use minijinja::{Environment, Error, ErrorKind, State, Value, filters};

use super::python::{self, arguments, bind};
use super::{limits, operators};

type Args = Rest<ValueOrKwargs>;

pub(super) fn register(environment: &mut Environment<'static>) {
    environment.add_filter("length", length);
    environment.add_filter("count", length);
    environment.add_filter("list", |value: &Value| listed(value).map(Value::from));
    environment.add_filter("first", |value: &Value| Ok(end(listed(value)?, 0)));
    environment.add_filter("last", |value: &Value| {
        let items = listed(value)?;
        let last = items.len().wrapping_sub(1);
        Ok(end(items, last))
    });
    environment.add_filter("reverse", reverse);
    environment.add_filter("min", |value: &Value, args: Args| extreme(value, args, Ordering::Less));
    environment
        .add_filter("max", |value: &Value, args: Args| extreme(value, args, Ordering::Greater));
    environment.add_filter("sum", sum);
    environment.add_filter("sort", sort_by);
    environment.add_filter("unique", unique);
    environment.add_filter("dictsort", dictsort);
    environment.add_filter("groupby", groupby);
    environment.add_filter("batch", batch);
    environment.add_filter("slice", slice);
    environment.add_filter("join", join);
    environment.add_filter("map", map);
    environment.add_filter("select", |state: &mut State<'_, '_>, value: &Value, args: Args| {
        chosen(state, value, args.into_values(), false, true)
    });
    environment.add_filter("reject", |state: &mut State<'_, '_>, value: &Value, args: Args| {
        chosen(state, value, args.into_values(), false, false)
    });
    environment.add_filter("selectattr", |state: &mut State<'_, '_>, value: &Value, args: Args| {
        chosen(state, value, args.into_values(), true, true)
    });
    environment.add_filter("rejectattr", |state: &mut State<'_, '_>, value: &Value, args: Args| {
        chosen(state, value, args.into_values(), true, false)
    });
}

/// The items of a list, the keys of a dictionary or the characters of a string.
fn listed(value: &Value) -> Result<Vec<Value>, Error> {
    if value.is_undefined() {
        return Ok(Vec::new());
    }
    if let Some(text) = value.as_str() {
        limits::take_list(text.len())?;
        return Ok(text.chars().map(Value::from).collect());
    }
    match value.kind() {
        ValueKind::Seq | ValueKind::Iterable | ValueKind::Map => python::items(value),
        _ => Err(invalid(format!(
            "a value of the type {} is not iterable",
            python::type_name(value)
        ))),
    }
}

fn length(value: &Value) -> Result<usize, Error> {
    if let Some(text) = value.as_str() {
        limits::step(1 + text.len() / 64)?;
        return Ok(text.chars().count());
    }
    match value.kind() {
        ValueKind::Undefined => Ok(0),
        ValueKind::Seq | ValueKind::Map | ValueKind::Iterable => match value.len() {
            Some(length) => Ok(length),
            None => listed(value).map(|items| items.len()),
        },
        _ => {
            Err(invalid(format!("a value of the type {} has no length", python::type_name(value))))
        }
    }
}

fn end(mut items: Vec<Value>, index: usize) -> Value {
    if index < items.len() { items.swap_remove(index) } else { Value::UNDEFINED }
}

fn reverse(value: &Value) -> Result<Value, Error> {
    if let Some(text) = value.as_str() {
        limits::take_text(text.len())?;
        return Ok(Value::from(text.chars().rev().collect::<String>()));
    }
    let mut items = listed(value)?;
    items.reverse();
    Ok(Value::from(items))
}

/// `item.attribute`, where the attribute may be a path with dots, or a position.
fn attribute(item: &Value, path: &Value) -> Result<Value, Error> {
    let Some(path) = path.as_str() else { return item.get_item(path) };
    let mut found = item.clone();
    for part in path.split('.') {
        if found.is_undefined() {
            return Err(Error::from(ErrorKind::UndefinedError));
        }
        found = match part.parse::<usize>() {
            Ok(index) => found.get_item(&Value::from(index))?,
            Err(_) => found.get_attr(part)?,
        };
    }
    Ok(found)
}

/// What items are compared by: an attribute, and small letters unless case counts.
struct Key {
    attribute: Option<Value>,
    case_sensitive: bool,
}

impl Key {
    fn new(attribute: Option<Value>, case_sensitive: Option<Value>) -> Self {
        Self { attribute, case_sensitive: is_true(case_sensitive) }
    }

    fn of(&self, item: &Value) -> Result<Value, Error> {
        let Some(path) = &self.attribute else { return self.folded(item.clone()) };
        let Some(several) = path.as_str().filter(|path| path.contains(',')) else {
            return self.folded(attribute(item, path)?);
        };
        let keys = several.split(',').map(|path| self.folded(attribute(item, &Value::from(path))?));
        Ok(Value::from(keys.collect::<Result<Vec<_>, _>>()?))
    }

    fn folded(&self, value: Value) -> Result<Value, Error> {
        match value.as_str().filter(|_| !self.case_sensitive) {
            Some(text) => {
                limits::take_text(text.len().saturating_mul(3))?;
                Ok(Value::from(text.to_lowercase()))
            }
            None => Ok(value),
        }
    }

    fn keyed(&self, items: Vec<Value>) -> Result<Vec<(Value, Value)>, Error> {
        limits::take_list(items.len().saturating_mul(2))?;
        items.into_iter().map(|item| Ok((self.of(&item)?, item))).collect()
    }
}

fn is_true(option: Option<Value>) -> bool {
    option.is_some_and(|it| it.is_true())
}

/// Sorts as Python does: values of unlike types have no order.
pub(super) fn sort(items: &mut [Value]) -> Result<(), Error> {
    sort_with(items, |value| value)
}

fn sort_with<T>(items: &mut [T], key: impl Fn(&T) -> &Value) -> Result<(), Error> {
    let mut failed = None;
    items.sort_by(|left, right| {
        if failed.is_some() {
            return Ordering::Equal;
        }
        operators::order(key(left), key(right)).map_or_else(
            |error| {
                failed = Some(error);
                Ordering::Equal
            },
            |order| order.unwrap_or(Ordering::Equal),
        )
    });
    failed.map_or(Ok(()), Err)
}

fn sort_by(value: &Value, args: Args) -> Result<Value, Error> {
    let names = ["reverse", "case_sensitive", "attribute"];
    let [reverse, case_sensitive, attribute] = arguments(&args.into_values(), names)?;
    let mut keyed = Key::new(attribute, case_sensitive).keyed(listed(value)?)?;
    let reverse = is_true(reverse);
    // Equal items keep their order in both directions.
    if reverse {
        keyed.reverse();
    }
    sort_with(&mut keyed, |(key, _)| key)?;
    if reverse {
        keyed.reverse();
    }
    Ok(keyed.into_iter().map(|(_, item)| item).collect())
}

fn extreme(value: &Value, args: Args, wanted: Ordering) -> Result<Value, Error> {
    let [case_sensitive, attribute] =
        arguments(&args.into_values(), ["case_sensitive", "attribute"])?;
    let mut best: Option<(Value, Value)> = None;
    for (key, item) in Key::new(attribute, case_sensitive).keyed(listed(value)?)? {
        let is_better = match &best {
            Some((other, _)) => operators::order(&key, other)? == Some(wanted),
            None => true,
        };
        if is_better {
            best = Some((key, item));
        }
    }
    Ok(best.map_or(Value::UNDEFINED, |(_, item)| item))
}

fn sum(value: &Value, args: Args) -> Result<Value, Error> {
    let [path, start] = arguments(&args.into_values(), ["attribute", "start"])?;
    let mut sum = start.unwrap_or(Value::from(0));
    for item in listed(value)? {
        limits::step(1)?;
        let item = match &path {
            Some(path) => attribute(&item, path)?,
            None => item,
        };
        sum = operators::chain(Rest(vec![sum, Value::from("+"), item]))?;
    }
    Ok(sum)
}

fn unique(value: &Value, args: Args) -> Result<Value, Error> {
    let [case_sensitive, attribute] =
        arguments(&args.into_values(), ["case_sensitive", "attribute"])?;
    let mut keyed = Vec::new();
    for (index, (key, item)) in
        Key::new(attribute, case_sensitive).keyed(listed(value)?)?.into_iter().enumerate()
    {
        keyed.push((operators::key(&key)?, index, item));
    }
    // Of equal keys, which stand together now, the first stays.
    keyed.sort_by(|left, right| left.0.cmp(&right.0));
    limits::step(keyed.len())?;
    let mut kept: Vec<(Value, usize, Value)> = Vec::with_capacity(keyed.len());
    for entry in keyed {
        match kept.last() {
            Some(last) if operators::equal(&last.0, &entry.0)? => {}
            _ => kept.push(entry),
        }
    }
    kept.sort_by_key(|(_, index, _)| *index);
    Ok(kept.into_iter().map(|(_, _, item)| item).collect())
}

fn dictsort(value: &Value, args: Args) -> Result<Value, Error> {
    let [case_sensitive, by, reverse] =
        arguments(&args.into_values(), ["case_sensitive", "by", "reverse"])?;
    if value.kind() != ValueKind::Map {
        return Err(invalid("dictsort: expected a dictionary"));
    }
    let position = match by.as_ref().and_then(|by| by.as_str()) {
        None | Some("key") => 0,
        Some("value") => 1,
        Some(_) => return Err(invalid("dictsort: by is \"key\" or \"value\"")),
    };
    let keys = python::items(value)?;
    limits::take_list(keys.len().saturating_mul(3))?;
    let pairs = keys.into_iter().map(|key| {
        let item = value.get_item(&key)?;
        Ok::<_, Error>(Value::from(Tuple::from([key, item])))
    });
    let pairs = pairs.collect::<Result<Vec<_>, _>>()?;
    let key = Key::new(Some(Value::from(position)), case_sensitive);
    let mut keyed = key.keyed(pairs)?;
    let reverse = is_true(reverse);
    if reverse {
        keyed.reverse();
    }
    sort_with(&mut keyed, |(key, _)| key)?;
    if reverse {
        keyed.reverse();
    }
    Ok(keyed.into_iter().map(|(_, pair)| pair).collect())
}

/// Groups items by an attribute, whose values must have an order.
fn groupby(value: &Value, args: Args) -> Result<Value, Error> {
    let names = ["attribute", "default", "case_sensitive"];
    let [path, default, case_sensitive] = bind(&args.into_values(), names)?;
    let path = path.ok_or_else(|| Error::new(ErrorKind::MissingArgument, "attribute"))?;
    let items = listed(value)?;
    let mut previous: Option<Value> = None;
    for item in &items {
        let mut key = attribute(item, &path)?;
        if key.is_undefined() {
            key = default.clone().unwrap_or_default();
        }
        if let Some(previous) = previous {
            operators::order(&previous, &key)?;
        }
        previous = Some(key);
    }
    limits::take_list(items.len().saturating_mul(4))?;
    let options = [("default", default), ("case_sensitive", case_sensitive)];
    let options: Kwargs =
        options.into_iter().filter_map(|(name, value)| Some((name, value?))).collect();
    let grouped = filters::groupby(Value::from(items), path.as_str(), options)?;
    limits::weigh(&grouped)?;
    Ok(grouped)
}

fn batch(value: &Value, args: Args) -> Result<Value, Error> {
    let [size, fill] = arguments(&args.into_values(), ["linecount", "fill_with"])?;
    let size = count(size)?;
    let items = listed(value)?;
    limits::take_list(items.len())?;
    let mut rows: Vec<Vec<Value>> = items.chunks(size).map(<[Value]>::to_vec).collect();
    if let (Some(fill), Some(last)) = (fill, rows.last_mut()) {
        limits::take_list(size)?;
        last.resize(size, fill);
    }
    rows_of(rows)
}

fn slice(value: &Value, args: Args) -> Result<Value, Error> {
    let [slices, fill] = arguments(&args.into_values(), ["slices", "fill_with"])?;
    let slices = count(slices)?;
    let items = listed(value)?;
    limits::take_list(items.len().saturating_add(slices.saturating_mul(3)))?;
    let (each, longer) = (items.len() / slices, items.len() % slices);
    let mut rows = Vec::with_capacity(slices);
    let mut rest = items.as_slice();
    for index in 0..slices {
        let (row, tail) = rest.split_at(each + usize::from(index < longer));
        let mut row = row.to_vec();
        if let Some(fill) = fill.as_ref().filter(|_| index >= longer) {
            row.push(fill.clone());
        }
        rows.push(row);
        rest = tail;
    }
    rows_of(rows)
}

fn rows_of(rows: Vec<Vec<Value>>) -> Result<Value, Error> {
    let rows: Value = rows.into_iter().map(Value::from).collect();
    limits::weigh(&rows)?;
    Ok(rows)
}

fn count(value: Option<Value>) -> Result<usize, Error> {
    let count = value.as_ref().and_then(python::whole).and_then(|it| usize::try_from(it).ok());
    count.filter(|count| *count > 0).ok_or_else(|| invalid("expected a whole number from 1"))
}

fn join(value: &Value, args: Args) -> Result<Value, Error> {
    let [separator, path] = arguments(&args.into_values(), ["d", "attribute"])?;
    let separator = separator.as_ref().map(python::display).transpose()?.unwrap_or_default();
    let mut parts = Vec::new();
    let mut length = 0_usize;
    for item in listed(value)? {
        let item = match &path {
            Some(path) => attribute(&item, path)?,
            None => item,
        };
        let part = python::display(&item)?;
        let more = part.len().saturating_add(separator.len());
        limits::take(more)?;
        length = length.saturating_add(more);
        parts.push(part);
    }
    limits::take_text(length)?;
    Ok(Value::from(parts.join(&separator)))
}

fn map(state: &mut State<'_, '_>, value: &Value, args: Args) -> Result<Value, Error> {
    let args = args.into_values();
    let items = if value.is_true() { listed(value)? } else { Vec::new() };
    let mut mapped = Vec::with_capacity(items.len());
    let is_named = args.first().is_some_and(Value::is_kwargs);
    if is_named {
        let [path, default] = bind(&args, ["attribute", "default"])?;
        let path = path.ok_or_else(|| invalid("map: expected a filter or an attribute"))?;
        for item in items {
            let found = attribute(&item, &path)?;
            let missing = found.is_undefined();
            mapped.push(default.clone().filter(|_| missing).unwrap_or(found));
        }
    } else {
        let Some((Some(name), rest)) = args.split_first().map(|(it, rest)| (it.as_str(), rest))
        else {
            return Err(invalid("map: expected the name of a filter"));
        };
        for item in items {
            limits::step(1)?;
            let mut all = vec![item];
            all.extend_from_slice(rest);
            mapped.push(state.apply_filter(name, &all)?);
        }
    }
    Ok(Value::from(mapped))
}

/// The items for which a test holds, or does not; the truth is tested if none is named.
fn chosen(
    state: &mut State<'_, '_>,
    value: &Value,
    args: Vec<Value>,
    by_attribute: bool,
    wanted: bool,
) -> Result<Value, Error> {
    let mut rest = args.as_slice();
    let path = if by_attribute {
        let Some((path, tail)) = rest.split_first() else {
            return Err(Error::new(ErrorKind::MissingArgument, "attribute"));
        };
        rest = tail;
        Some(path)
    } else {
        None
    };
    let test = rest.split_first().map(|(name, args)| (name.as_str().unwrap_or_default(), args));
    let mut kept = Vec::new();
    let items = if value.is_true() { listed(value)? } else { Vec::new() };
    for item in items {
        limits::step(1)?;
        let tested = match path {
            Some(path) => attribute(&item, path)?,
            None => item.clone(),
        };
        let holds = match test {
            Some((name, args)) => {
                let mut all = vec![tested];
                all.extend_from_slice(args);
                state.perform_test(name, &all)?
            }
            None => tested.is_true(),
        };
        if holds == wanted {
            kept.push(item);
        }
    }
    Ok(Value::from(kept))
}

fn invalid(message: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::new(ErrorKind::InvalidOperation, message)
}
