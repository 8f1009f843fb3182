//! What templates see of Python: how values print, and how functions take their arguments.

use minijinja::value::{Kwargs, ValueKind};
use minijinja::{Error, ErrorKind, Value};

/// Deeper values are refused.
const MAX_DEPTH: usize = 200;

/// Python's `str(value)`; an undefined value prints nothing.
pub(super) fn display(value: &Value) -> Result<String, Error> {
    match value.kind() {
        ValueKind::Undefined => Ok(String::new()),
        ValueKind::String => Ok(value.as_str().unwrap_or_default().to_owned()),
        _ => repr(value),
    }
}

/// Python's `repr(value)`.
pub(super) fn repr(value: &Value) -> Result<String, Error> {
    let mut out = String::new();
    write_repr(value, 0, &mut out)?;
    Ok(out)
}

fn write_repr(value: &Value, depth: usize, out: &mut String) -> Result<(), Error> {
    if depth > MAX_DEPTH {
        return Err(Error::new(
            ErrorKind::InvalidOperation,
            format!("a value nested deeper than {MAX_DEPTH} levels cannot be printed"),
        ));
    }
    check_length(out.len())?;
    match value.kind() {
        ValueKind::Undefined => out.push_str("Undefined"),
        ValueKind::Number if !value.is_integer() => match f64::try_from(value.clone()) {
            Ok(number) => out.push_str(&float(number)),
            Err(_) => out.push_str(&value.to_string()),
        },
        ValueKind::Seq | ValueKind::Iterable if value.len().is_some() => {
            let (open, close) = if value.is_tuple() { ('(', ')') } else { ('[', ']') };
            out.push(open);
            for (index, item) in items(value)?.iter().enumerate() {
                if index > 0 {
                    out.push_str(", ");
                }
                write_repr(item, depth + 1, out)?;
            }
            if value.is_tuple() && value.len() == Some(1) {
                out.push(',');
            }
            out.push(close);
        }
        ValueKind::Map if value.as_object().is_some_and(|it| it.enumerator_len().is_some()) => {
            out.push('{');
            for (index, key) in items(value)?.iter().enumerate() {
                if index > 0 {
                    out.push_str(", ");
                }
                write_repr(key, depth + 1, out)?;
                out.push_str(": ");
                write_repr(&value.get_item(key)?, depth + 1, out)?;
            }
            out.push('}');
        }
        _ => out.push_str(&format!("{value:?}")),
    }
    Ok(())
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

/// The arguments of a call by parameter, as Python binds them. `None` counts as absent, which is what it
/// means for most functions.
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

/// The longest string a function may make, in bytes; the engine counts it only when it is there.
const MAX_LENGTH: usize = 16 << 20;

/// Refuses to make a string of `length` bytes if that is too long.
pub(super) fn check_length(length: usize) -> Result<(), Error> {
    if length > MAX_LENGTH {
        return Err(invalid(format!("a string of more than {MAX_LENGTH} bytes")));
    }
    Ok(())
}

/// Refuses a format with a width or precision that the formatter would allocate a lot for.
pub(super) fn check_width(format: &str) -> Result<(), Error> {
    if format.split(|c: char| !c.is_ascii_digit()).any(|digits| digits.len() > 5) {
        return Err(invalid("a width or precision of more than five digits".to_owned()));
    }
    Ok(())
}

fn invalid(message: String) -> Error {
    Error::new(ErrorKind::InvalidOperation, message)
}

/// The longest list that a function reads; the engine does not count what functions do.
const MAX_ITEMS: usize = 200_000;

/// The items of a list, or the keys of a dictionary.
pub(super) fn items(value: &Value) -> Result<Vec<Value>, Error> {
    let mut items = Vec::new();
    for item in value.try_iter()?.checked() {
        if items.len() == MAX_ITEMS {
            return Err(invalid(format!("a list of more than {MAX_ITEMS} items")));
        }
        items.push(item?);
    }
    Ok(items)
}
