//! Jinja2's filters for text and numbers.

use minijinja::value::{Kwargs, Rest, ValueOrKwargs};
use minijinja::{Environment, Error, ErrorKind, State, Value};
use minijinja_contrib::filters;

use super::python::{self, arguments, is_space};
use super::{format, limits, methods};

type Args = Rest<ValueOrKwargs>;

pub(super) fn register(environment: &mut Environment<'static>) {
    // What Jinja2 does not have.
    for name in ["bool", "chain", "lines", "split", "zip"] {
        environment.remove_filter(name);
    }
    for name in ["upper", "lower", "capitalize"] {
        environment.add_filter(name, move |value: &Value| method(value, name, &[]));
    }
    environment.add_filter("trim", |value: &Value, args: Args| {
        method(value, "strip", &args.into_values())
    });
    environment.add_filter("title", title);
    environment.add_filter("replace", replace);
    environment.add_filter("format", |value: &Value, args: Args| {
        format::printf_with(value, &args.into_values())
    });
    environment.add_filter("string", string);
    environment
        .add_filter("safe", |value: &Value| python::display(value).map(Value::from_safe_string));
    environment.add_filter("pprint", |value: &Value| python::repr(value));
    environment.add_filter("int", int);
    environment.add_filter("float", float);
    environment.add_filter("abs", abs);
    environment.add_filter("round", round);
    environment.add_filter("center", center);
    environment.add_filter("wordcount", |value: &Value| {
        let text = python::display(value)?;
        Ok(text
            .split(|c: char| !(c.is_alphanumeric() || c == '_'))
            .filter(|it| !it.is_empty())
            .count())
    });
    environment.add_filter("wordwrap", wordwrap);
    environment.add_filter("indent", indent);
    environment.add_filter("escape", escape);
    environment.add_filter("e", escape);
    environment.add_filter("forceescape", |value: &Value| {
        let text = Value::from(python::display(value)?);
        python::escaped(&text).map(Value::from_safe_string)
    });
    environment.add_filter("urlencode", urlencode);
    environment.add_filter("filesizeformat", filters::filesizeformat);
    environment.add_filter("striptags", |value: &Value| {
        let text = python::display(value)?;
        limits::take_text(text.len())?;
        Ok::<_, Error>(filters::striptags(text))
    });
    environment.add_filter("truncate", truncate);
}

/// A method of the value's text.
fn method(value: &Value, name: &str, args: &[Value]) -> Result<Value, Error> {
    methods::string(&string(value)?, name, args)
}

fn string(value: &Value) -> Result<Value, Error> {
    Ok(match value.as_str() {
        Some(_) => value.clone(),
        None => Value::from(python::display(value)?),
    })
}

/// Every word begins with a capital; a word ends at white space, a hyphen or an opening bracket.
fn title(value: &Value) -> Result<String, Error> {
    let text = python::display(value)?;
    limits::take_text(text.len().saturating_mul(3))?;
    let mut out = String::with_capacity(text.len());
    let mut in_word = false;
    for character in text.chars() {
        if in_word {
            out.extend(character.to_lowercase());
        } else {
            out.extend(character.to_uppercase());
        }
        in_word = !(is_space(character) || "-({[<".contains(character));
    }
    Ok(out)
}

fn replace(value: &Value, args: Args) -> Result<Value, Error> {
    let [old, new, count] = arguments(&args.into_values(), ["old", "new", "count"])?;
    let text = |value: Option<Value>| string(&value.unwrap_or_default());
    let args = [text(old)?, text(new)?, count.unwrap_or(Value::from(()))];
    method(value, "replace", &args)
}

fn escape(value: &Value) -> Result<Value, Error> {
    python::escaped(value).map(Value::from_safe_string)
}

fn urlencode(value: &Value) -> Result<String, Error> {
    limits::weigh_times(value, 3)?;
    minijinja::filters::urlencode(value)
}

/// Python's `int`, or `default` for what is not a number.
fn int(value: &Value, args: Args) -> Result<Value, Error> {
    let [default, base] = arguments(&args.into_values(), ["default", "base"])?;
    let default = default.unwrap_or(Value::from(0));
    let base = base.map_or(Ok(10), u32::try_from)?;
    let Some(text) = value.as_str() else {
        return Ok(match f64::try_from(value.clone()) {
            Ok(number) if !value.is_integer() && number.is_finite() => Value::from(number as i128),
            Ok(_) if value.is_integer() => value.clone(),
            _ => i128::try_from(value.clone()).map_or(default, Value::from),
        });
    };
    let text = text.trim_matches(is_space).replace('_', "");
    let digits = match base {
        16 => text.trim_start_matches("0x").trim_start_matches("0X"),
        8 => text.trim_start_matches("0o").trim_start_matches("0O"),
        2 => text.trim_start_matches("0b").trim_start_matches("0B"),
        10 => &text,
        _ => return Err(invalid("int: expected base 2, 8, 10 or 16")),
    };
    if let Ok(number) = i128::from_str_radix(digits, base) {
        return Ok(Value::from(number));
    }
    Ok(match text.parse::<f64>() {
        Ok(number) if base == 10 && number.is_finite() => Value::from(number as i128),
        _ => default,
    })
}

/// Python's `float`, or `default` for what is not a number.
fn float(value: &Value, args: Args) -> Result<Value, Error> {
    let [default] = arguments(&args.into_values(), ["default"])?;
    let number = match value.as_str() {
        Some(text) => text.trim_matches(is_space).replace('_', "").parse::<f64>().ok(),
        None => f64::try_from(value.clone()).ok(),
    };
    Ok(number.map_or(default.unwrap_or(Value::from(0.0)), Value::from))
}

/// The absolute number.
fn abs(value: &Value) -> Result<Value, Error> {
    if let Some(number) = python::whole(value) {
        return Ok(Value::from(number.saturating_abs()));
    }
    let number = python::real(value).ok_or_else(|| invalid("abs: expected a number"))?;
    Ok(Value::from(number.abs()))
}

/// `round(precision=0, method="common")`; halves go to the even neighbour, as in Python.
fn round(value: &Value, args: Args) -> Result<Value, Error> {
    let [precision, method] = arguments(&args.into_values(), ["precision", "method"])?;
    let precision = precision.map_or(Ok(0), i32::try_from)?;
    let number = python::real(value).ok_or_else(|| invalid("round: expected a number"))?;
    let scale = 10_f64.powi(precision);
    Ok(Value::from(match method.as_ref().and_then(|method| method.as_str()) {
        None | Some("common") if python::whole(value).is_some() && precision >= 0 => {
            return Ok(value.clone());
        }
        None | Some("common") if precision < 0 => (number * scale).round_ties_even() / scale,
        None | Some("common") => {
            let places = usize::try_from(precision.min(400)).unwrap_or(0);
            format!("{number:.places$}").parse().unwrap_or(number)
        }
        Some("ceil") => (number * scale).ceil() / scale,
        Some("floor") => (number * scale).floor() / scale,
        Some(_) => return Err(invalid("round: the method is common, ceil or floor")),
    }))
}

fn center(value: &Value, args: Args) -> Result<Value, Error> {
    let [width] = arguments(&args.into_values(), ["width"])?;
    method(value, "center", &[width.unwrap_or(Value::from(80))])
}

/// Arguments that come by position or by name, all by name, as these filters want them.
fn named<const N: usize>(args: Args, names: [&str; N]) -> Result<Kwargs, Error> {
    let bound = arguments(&args.into_values(), names)?;
    Ok(names.into_iter().zip(bound).filter_map(|(name, value)| Some((name, value?))).collect())
}

fn truncate(state: &mut State<'_, '_>, value: &Value, args: Args) -> Result<Value, Error> {
    filters::truncate(state, value, named(args, ["length", "killwords", "end", "leeway"])?)
}

fn wordwrap(value: &Value, args: Args) -> Result<Value, Error> {
    let names = ["width", "break_long_words", "wrapstring", "break_on_hyphens"];
    let args = args.into_values();
    let [width, _, end, _] = arguments(&args, names)?;
    let width = width.as_ref().and_then(python::whole).unwrap_or(79).max(1);
    let text = python::display(value)?;
    let breaks = text.len() / usize::try_from(width).unwrap_or(usize::MAX)
        + text.split(|c: char| is_space(c) || c == '-').count();
    let end = end.as_ref().and_then(|end| end.as_str()).map_or(1, str::len);
    limits::take_text(text.len().saturating_add(breaks.saturating_mul(end)))?;
    let args = Rest(args.into_iter().map(ValueOrKwargs::from).collect());
    filters::wordwrap(value, named(args, names)?)
}

/// `indent(width=4, first=False, blank=False)`, where `width` may be the indentation itself.
fn indent(value: &Value, args: Args) -> Result<String, Error> {
    let [width, first, blank] = arguments(&args.into_values(), ["width", "first", "blank"])?;
    let truthy = |option: Option<Value>| option.is_some_and(|it| it.is_true());
    let (first, blank) = (truthy(first), truthy(blank));
    let indentation = match &width {
        Some(width) if width.as_str().is_some() => width.to_string(),
        Some(width) => {
            let width = usize::try_from(python::whole(width).unwrap_or(0)).unwrap_or(0);
            limits::take_text(width)?;
            " ".repeat(width)
        }
        None => " ".repeat(4),
    };
    let text = python::display(value)?;
    // Jinja2 adds a line break, so that text without an end keeps its last line.
    let text = text + "\n";
    let lines = python::lines(&text).count();
    limits::take_text(text.len().saturating_add(lines.saturating_mul(indentation.len() + 1)))?;
    let mut indented = String::with_capacity(text.len());
    for (index, (line, _)) in python::lines(&text).enumerate() {
        if index > 0 {
            indented.push('\n');
        }
        if if index == 0 { first } else { blank || !line.is_empty() } {
            indented.push_str(&indentation);
        }
        indented.push_str(line);
    }
    Ok(indented)
}

fn invalid(message: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::new(ErrorKind::InvalidOperation, message)
}
