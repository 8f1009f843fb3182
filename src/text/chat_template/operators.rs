//! Python's operators.

use std::cmp::Ordering;

use minijinja::value::{ObjectRepr, Rest, Tuple, ValueKind};
use minijinja::{Error, ErrorKind, Value};

use super::limits::{self, MAX_DEPTH};
use super::{format, python};

/// Operators of one precedence, applied from left to right.
pub(super) fn chain(args: Rest<Value>) -> Result<Value, Error> {
    let mut args = args.0.into_iter();
    let mut left = args.next().unwrap_or_default();
    while let (Some(operator), Some(right)) = (args.next(), args.next()) {
        let operator = operator.as_str().unwrap_or_default().to_owned();
        left = binary(&left, &operator, &right)?;
    }
    Ok(left)
}

fn binary(left: &Value, operator: &str, right: &Value) -> Result<Value, Error> {
    let formats = operator == "%" && left.as_str().is_some();
    if !formats && (left.is_undefined() || right.is_undefined()) {
        let message = format!("an undefined value is an operand of {operator}");
        return Err(Error::new(ErrorKind::UndefinedError, message));
    }
    let unsupported = || {
        let (left, right) = (python::type_name(left), python::type_name(right));
        invalid(format!("unsupported operand types for {operator}: {left} and {right}"))
    };
    match operator {
        "+" => match (left.as_str(), right.as_str()) {
            (Some(first), Some(second)) => add_text(left, first, right, second),
            _ => add(left, right).unwrap_or_else(|| Err(unsupported())),
        },
        "*" => match repetition(left, right).or_else(|| repetition(right, left)) {
            Some((repeated, times)) => repeat(repeated, times),
            None => number(left, operator, right).unwrap_or_else(|| Err(unsupported())),
        },
        "%" if left.as_str().is_some() => format::percent(left, right),
        _ => number(left, operator, right).unwrap_or_else(|| Err(unsupported())),
    }
}

/// Text that is marked as safe stays so, and what is added to it is escaped.
fn add_text(left: &Value, first: &str, right: &Value, second: &str) -> Result<Value, Error> {
    if !left.is_safe() && !right.is_safe() {
        limits::take_text(first.len().saturating_add(second.len()))?;
        return Ok(Value::from([first, second].concat()));
    }
    let (left, right) = (python::escaped(left)?, python::escaped(right)?);
    limits::take_text(left.len().saturating_add(right.len()))?;
    Ok(Value::from_safe_string(left + &right))
}

fn add(left: &Value, right: &Value) -> Option<Result<Value, Error>> {
    let is_sequence = |value: &Value| value.kind() == ValueKind::Seq;
    if is_sequence(left) && is_sequence(right) && left.is_tuple() == right.is_tuple() {
        return Some(add_lists(left, right));
    }
    number(left, "+", right)
}

fn add_lists(left: &Value, right: &Value) -> Result<Value, Error> {
    limits::take_list(left.len().unwrap_or(0).saturating_add(right.len().unwrap_or(0)))?;
    let mut items = python::items(left)?;
    items.extend(python::items(right)?);
    Ok(list_like(left, items))
}

/// A list of `items`, or a tuple if `model` is one.
pub(super) fn list_like(model: &Value, items: Vec<Value>) -> Value {
    if model.is_tuple() { Value::from(Tuple::from(items)) } else { Value::from(items) }
}

/// What is repeated, and how often.
fn repetition<'a>(repeated: &'a Value, times: &Value) -> Option<(&'a Value, usize)> {
    let is_sequence = repeated.as_str().is_some() || repeated.kind() == ValueKind::Seq;
    let times = python::whole(times).filter(|_| is_sequence)?;
    Some((repeated, usize::try_from(times.max(0)).unwrap_or(usize::MAX)))
}

fn repeat(value: &Value, times: usize) -> Result<Value, Error> {
    if let Some(text) = value.as_str() {
        limits::take_text(text.len().saturating_mul(times))?;
        let repeated = text.repeat(times);
        return Ok(if value.is_safe() {
            Value::from_safe_string(repeated)
        } else {
            Value::from(repeated)
        });
    }
    limits::weigh_times(value, times)?;
    limits::take_list(value.len().unwrap_or(0).saturating_mul(times))?;
    let items = python::items(value)?;
    if items.is_empty() {
        return Ok(value.clone());
    }
    let mut repeated = Vec::with_capacity(items.len() * times);
    for _ in 0..times {
        limits::step(items.len())?;
        repeated.extend_from_slice(&items);
    }
    Ok(list_like(value, repeated))
}

/// Arithmetic; `None` if one is no number.
fn number(left: &Value, operator: &str, right: &Value) -> Option<Result<Value, Error>> {
    if let (Some(left), Some(right)) = (python::whole(left), python::whole(right)) {
        return whole(left, operator, right);
    }
    let (left, right) = (python::real(left)?, python::real(right)?);
    let by_zero = || Err(invalid("division by zero"));
    Some(match operator {
        "+" => Ok(left + right),
        "-" => Ok(left - right),
        "*" => Ok(left * right),
        "/" | "//" | "%" if right == 0.0 => return Some(by_zero()),
        "/" => Ok(left / right),
        "//" => Ok(((left - remainder(left, right)) / right).round()),
        "%" => Ok(remainder(left, right)),
        "**" => Ok(left.powf(right)),
        _ => return None,
    })
    .map(|result: Result<f64, Error>| result.map(Value::from))
}

/// The remainder with the sign of the divisor.
fn remainder(left: f64, right: f64) -> f64 {
    let remainder = left % right;
    if remainder == 0.0 {
        return 0.0_f64.copysign(right);
    }
    if (remainder < 0.0) == (right < 0.0) { remainder } else { remainder + right }
}

fn whole(left: i128, operator: &str, right: i128) -> Option<Result<Value, Error>> {
    let divides = matches!(operator, "/" | "//" | "%");
    if divides && right == 0 {
        return Some(Err(invalid("division by zero")));
    }
    let result = match operator {
        "+" => left.checked_add(right),
        "-" => left.checked_sub(right),
        "*" => left.checked_mul(right),
        "/" => return Some(Ok(Value::from(left as f64 / right as f64))),
        "//" => left.checked_div(right).map(|quotient| {
            let rounds_up = left % right != 0 && (left < 0) != (right < 0);
            quotient - i128::from(rounds_up)
        }),
        "%" => left.checked_rem(right).map(|remainder| {
            let adjusts = remainder != 0 && (remainder < 0) != (right < 0);
            remainder + if adjusts { right } else { 0 }
        }),
        "**" if right < 0 && left == 0 => return Some(Err(invalid("division by zero"))),
        "**" if right < 0 => return Some(Ok(Value::from((left as f64).powf(right as f64)))),
        "**" => u32::try_from(right).ok().and_then(|power| left.checked_pow(power)),
        _ => return None,
    };
    Some(result.map(Value::from).ok_or_else(|| {
        invalid(
            "a whole number of more than 38 digits, which chat templates cannot count with here",
        )
    }))
}

/// `-value`
pub(super) fn negative(value: &Value) -> Result<Value, Error> {
    if let Some(number) = python::whole(value) {
        return Ok(number.checked_neg().map_or_else(|| Value::from(-(number as f64)), Value::from));
    }
    match python::real(value) {
        Some(number) => Ok(Value::from(-number)),
        None if value.is_undefined() => Err(Error::from(ErrorKind::UndefinedError)),
        None => Err(invalid(format!("bad operand type for unary -: {}", python::type_name(value)))),
    }
}

/// `a ~ b ~ c`
pub(super) fn concat(args: Rest<Value>) -> Result<Value, Error> {
    let mut parts = Vec::with_capacity(args.len());
    for value in args.iter() {
        parts.push(python::display(value)?);
    }
    limits::take_text(parts.iter().map(|part| part.len()).sum())?;
    Ok(Value::from(parts.concat()))
}

/// `a < b <= c`: every neighbours must compare so.
pub(super) fn compare(args: Rest<Value>) -> Result<Value, Error> {
    let mut args = args.0.into_iter();
    let mut left = args.next().unwrap_or_default();
    while let (Some(operator), Some(right)) = (args.next(), args.next()) {
        if !holds(&left, operator.as_str().unwrap_or_default(), &right)? {
            return Ok(Value::from(false));
        }
        left = right;
    }
    Ok(Value::from(true))
}

fn holds(left: &Value, operator: &str, right: &Value) -> Result<bool, Error> {
    Ok(match operator {
        "==" => equal(left, right)?,
        "!=" => !equal(left, right)?,
        "in" => contains(right, left)?,
        "not in" => !contains(right, left)?,
        "<" => order(left, right)? == Some(Ordering::Less),
        "<=" => matches!(order(left, right)?, Some(Ordering::Less | Ordering::Equal)),
        ">" => order(left, right)? == Some(Ordering::Greater),
        _ => matches!(order(left, right)?, Some(Ordering::Greater | Ordering::Equal)),
    })
}

/// Python's `==`.
pub(super) fn equal(left: &Value, right: &Value) -> Result<bool, Error> {
    equal_within(left, right, 0)
}

fn equal_within(left: &Value, right: &Value, depth: usize) -> Result<bool, Error> {
    if depth > MAX_DEPTH {
        return Err(limits::too_deep());
    }
    limits::step(1)?;
    if let (Some(left), Some(right)) = (left.as_str(), right.as_str()) {
        limits::step(left.len().min(right.len()) / 64)?;
        return Ok(left == right);
    }
    if let (Some(left), Some(right)) = (python::whole(left), python::whole(right)) {
        return Ok(left == right);
    }
    if let (Some(left), Some(right)) = (python::real(left), python::real(right)) {
        return Ok(left == right);
    }
    let is_empty = |value: &Value| value.is_none() || value.is_undefined();
    let (Some(first), Some(second)) = (left.as_object(), right.as_object()) else {
        return Ok(is_empty(left) && is_empty(right) && left.is_none() == right.is_none());
    };
    match (first.repr(), second.repr()) {
        (ObjectRepr::Map, ObjectRepr::Map) => {
            let keys = python::items(left)?;
            if Some(keys.len()) != right.len() {
                return Ok(false);
            }
            for key in keys {
                let (Some(left), Some(right)) = (first.get_value(&key), second.get_value(&key))
                else {
                    return Ok(false);
                };
                if !equal_within(&left, &right, depth + 1)? {
                    return Ok(false);
                }
            }
            Ok(true)
        }
        (ObjectRepr::Seq | ObjectRepr::Iterable, ObjectRepr::Seq | ObjectRepr::Iterable) => {
            if left.is_tuple() != right.is_tuple() || left.len() != right.len() {
                return Ok(false);
            }
            for (left, right) in python::items(left)?.iter().zip(&python::items(right)?) {
                if !equal_within(left, right, depth + 1)? {
                    return Ok(false);
                }
            }
            Ok(true)
        }
        _ => Ok(left == right),
    }
}

/// Python's order; `None` for what is not a number.
pub(super) fn order(left: &Value, right: &Value) -> Result<Option<Ordering>, Error> {
    order_within(left, right, 0)
}

fn order_within(left: &Value, right: &Value, depth: usize) -> Result<Option<Ordering>, Error> {
    if depth > MAX_DEPTH {
        return Err(limits::too_deep());
    }
    limits::step(1)?;
    if let (Some(left), Some(right)) = (left.as_str(), right.as_str()) {
        limits::step(left.len().min(right.len()) / 64)?;
        return Ok(Some(left.cmp(right)));
    }
    if let (Some(left), Some(right)) = (python::whole(left), python::whole(right)) {
        return Ok(Some(left.cmp(&right)));
    }
    if let (Some(left), Some(right)) = (python::real(left), python::real(right)) {
        return Ok(left.partial_cmp(&right));
    }
    let is_sequence = |value: &Value| value.kind() == ValueKind::Seq;
    if is_sequence(left) && is_sequence(right) && left.is_tuple() == right.is_tuple() {
        let (left, right) = (python::items(left)?, python::items(right)?);
        for (left, right) in left.iter().zip(&right) {
            if !equal_within(left, right, depth + 1)? {
                return order_within(left, right, depth + 1);
            }
        }
        return Ok(Some(left.len().cmp(&right.len())));
    }
    let (left, right) = (python::type_name(left), python::type_name(right));
    Err(invalid(format!("a value of the type {left} is compared with one of the type {right}")))
}

/// `item in container`
pub(super) fn contains(container: &Value, item: &Value) -> Result<bool, Error> {
    if let Some(text) = container.as_str() {
        limits::step(1 + text.len() / 64)?;
        let Some(part) = item.as_str() else {
            let found = python::type_name(item);
            return Err(invalid(format!("`in` a string requires a string, found {found}")));
        };
        return Ok(text.contains(part));
    }
    match (container.kind(), container.as_object()) {
        (ValueKind::Undefined, _) => Ok(false),
        (ValueKind::Map, Some(object)) => Ok(object.get_value(&key(item)?).is_some()),
        (ValueKind::Seq | ValueKind::Iterable, _) => {
            for candidate in container.try_iter()?.checked() {
                if equal(&candidate?, item)? {
                    return Ok(true);
                }
            }
            Ok(false)
        }
        _ => {
            let found = python::type_name(container);
            Err(invalid(format!("argument of type {found} is not iterable")))
        }
    }
}

/// A key of a dictionary: a string, a number, or a tuple of keys.
pub(super) fn key(value: &Value) -> Result<Value, Error> {
    let is_hashable = match value.kind() {
        ValueKind::Seq if value.is_tuple() => {
            python::items(value)?.iter().try_for_each(|item| key(item).map(drop))?;
            true
        }
        kind => !matches!(kind, ValueKind::Seq | ValueKind::Map | ValueKind::Iterable),
    };
    if is_hashable {
        Ok(value.clone())
    } else {
        Err(invalid(format!("a {} cannot be the key of a dictionary", python::type_name(value))))
    }
}

fn invalid(message: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::new(ErrorKind::InvalidOperation, message)
}
