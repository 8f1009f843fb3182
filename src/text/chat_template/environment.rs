//! The names a template can use: Jinja2's filters, tests and functions, and those that transformers
//! adds.

use std::fmt;

use jiff::civil::DateTime;
use minijinja::formatting::{FormatStyle, format};
use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Kwargs, ObjectRepr, Rest, ValueKind, ValueOrKwargs};
use minijinja::{AutoEscape, Environment, Error, ErrorKind, State, UndefinedBehavior, Value};
use minijinja_contrib::{filters, globals};

use super::python::{self, arguments, is_space};
use super::{json, methods, source};

/// The variable that holds the time for `strftime_now`; absent for the present.
pub(super) const NOW: &str = "__now";

/// An environment without templates, set up as transformers sets up Jinja2.
pub(super) fn new() -> Result<Environment<'static>, Error> {
    let mut environment = Environment::new();
    let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build()?;
    environment.set_syntax(syntax);
    environment.set_undefined_behavior(UndefinedBehavior::Lenient);
    environment.set_auto_escape_callback(|_| AutoEscape::None);
    // Errors then name the undefined variable.
    environment.set_debug(true);
    environment.set_unknown_method_callback(methods::call);
    environment.set_formatter(|out, state, value| {
        if !matches!(state.auto_escape(), AutoEscape::None) {
            out.write_str(&escape(value)?.to_string())?;
            return Ok(());
        }
        match value.as_str() {
            Some(text) => out.write_str(text)?,
            None => out.write_str(&python::display(value)?)?,
        }
        Ok(())
    });

    // It prints every variable, which Jinja2 does not offer.
    environment.remove_global("debug");
    environment.add_function("raise_exception", raise_exception);
    environment.add_function("strftime_now", strftime_now);
    environment.add_function("dict", dict);
    environment.add_function("namespace", namespace);
    environment.add_function("cycler", |items: Rest<Value>| globals::cycler(items.0));
    environment.add_function("joiner", globals::joiner);
    environment.add_function(source::PERCENT, percent);
    environment.add_function(source::ATTRIBUTE, attribute);
    environment.add_function(source::ITEM, item);
    environment.add_function(source::LIST, list);

    environment.add_filter("tojson", json::tojson);
    environment.add_filter("string", |value: &Value| python::display(value));
    // minijinja's own indents, which makes deep values very long.
    environment.add_filter("pprint", |value: &Value| python::repr(value));
    environment.add_filter("join", join);
    environment.add_filter("int", int);
    environment.add_filter("float", float);
    environment.add_filter("center", center);
    environment.add_filter("wordcount", filters::wordcount);
    environment.add_filter("wordwrap", wordwrap);
    environment.add_filter("dictsort", dictsort);
    environment.add_filter("indent", indent);
    environment.add_filter("default", default);
    environment.add_filter("d", default);
    environment.add_filter("escape", escape);
    environment.add_filter("e", escape);
    environment.add_filter("forceescape", |value: &Value| Ok(html(&python::display(value)?)));
    environment.add_filter("random", filters::random);
    environment.add_filter("filesizeformat", filters::filesizeformat);
    environment.add_filter("striptags", filters::striptags);
    environment.add_filter("truncate", truncate);

    environment.add_test("iterable", is_iterable);
    environment.add_test("sequence", |value: &Value| {
        is_iterable(value) && value.kind() != ValueKind::Iterable
    });
    environment.add_test("callable", is_callable);
    Ok(environment)
}

/// What a template says with `raise_exception`.
#[derive(Debug)]
pub(super) struct Raised(pub String);

impl fmt::Display for Raised {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Raised {}

fn raise_exception(message: &Value) -> Result<Value, Error> {
    let raised = Raised(python::display(message)?);
    Err(Error::new(ErrorKind::InvalidOperation, "raise_exception").with_source(raised))
}

/// The local time in the format of C's `strftime`, in English.
fn strftime_now(state: &State<'_, '_>, format: &str) -> Result<String, Error> {
    let now = match state.lookup(NOW) {
        Some(now) => now.to_string().parse().map_err(invalid)?,
        None => jiff::Zoned::now().datetime(),
    };
    strftime(now, format).map_err(invalid)
}

fn strftime(now: DateTime, format: &str) -> Result<String, jiff::Error> {
    let config = jiff::fmt::strtime::Config::new().lenient(true);
    jiff::fmt::strtime::BrokenDownTime::from(now).to_string_with_config(&config, format)
}

/// `value.name` for a name that Python's dictionaries have as a method, whatever their keys.
fn attribute(value: &Value, name: &str) -> Result<Value, Error> {
    if is_dictionary(value) { Ok(method(value, name)) } else { value.get_attr(name) }
}

/// `value['name']` for such a name: the field, else the method.
fn item(value: &Value, name: &str) -> Result<Value, Error> {
    let found = value.get_attr(name)?;
    let is_missing = found.is_undefined() && is_dictionary(value);
    Ok(if is_missing { method(value, name) } else { found })
}

/// A slice, read once.
fn list(slice: &Value) -> Result<Value, Error> {
    Ok(match slice.kind() {
        ValueKind::Iterable => Value::from(python::items(slice)?),
        _ => slice.clone(),
    })
}

fn is_dictionary(value: &Value) -> bool {
    value.as_object().is_some_and(|object| {
        object.repr() == ObjectRepr::Map && !object.type_name().contains("Namespace")
    })
}

fn method(owner: &Value, name: &str) -> Value {
    Value::from_object(methods::Method { owner: owner.clone(), name: name.to_owned() })
}

/// `dict(mapping or pairs, **fields)`.
fn dict(args: Rest<ValueOrKwargs>) -> Result<Value, Error> {
    fields(args.into_values()).map(Value::from_pairs)
}

/// `namespace(mapping or pairs, **fields)`: the one kind of value that `set` can change.
fn namespace(args: Rest<ValueOrKwargs>) -> Result<Value, Error> {
    let fields = fields(args.into_values())?;
    minijinja::functions::namespace(Some(Value::from_pairs(fields).into()))
}

fn fields(args: Vec<Value>) -> Result<Vec<(Value, Value)>, Error> {
    let mut fields = Vec::new();
    for source in args {
        let is_mapping = source.kind() == ValueKind::Map;
        for entry in source.try_iter()?.checked() {
            let entry = entry?;
            if is_mapping {
                let value = source.get_item(&entry)?;
                fields.push((entry, value));
            } else {
                let pair = entry.try_iter()?.checked().collect::<Result<Vec<_>, _>>()?;
                let [key, value] = <[Value; 2]>::try_from(pair)
                    .map_err(|_| invalid("expected a mapping or pairs of key and value"))?;
                fields.push((key, value));
            }
        }
    }
    Ok(fields)
}

/// The operator `%`: formats a string on the left, else gives the remainder with the sign of the right
/// operand.
fn percent(left: &Value, right: &Value) -> Result<Value, Error> {
    if let Some(text) = left.as_str() {
        python::check_width(text)?;
        let args = if right.is_tuple() { right.try_iter()?.collect() } else { vec![right.clone()] };
        return format(FormatStyle::Printf, text, &args).map(Value::from);
    }
    let unsupported = || {
        invalid(format!(
            "tried to use % operator on unsupported types {} and {}",
            left.kind(),
            right.kind()
        ))
    };
    if let (Ok(left), Ok(right)) = (i128::try_from(left.clone()), i128::try_from(right.clone())) {
        let remainder = left.checked_rem(right).ok_or_else(|| invalid("modulo by zero"))?;
        let adjusted = remainder != 0 && (remainder < 0) != (right < 0);
        return Ok(Value::from(if adjusted { remainder + right } else { remainder }));
    }
    let (Ok(left), Ok(right)) = (f64::try_from(left.clone()), f64::try_from(right.clone())) else {
        return Err(unsupported());
    };
    if right == 0.0 {
        return Err(invalid("modulo by zero"));
    }
    Ok(Value::from(left - right * (left / right).floor()))
}

fn join(value: &Value, args: Rest<ValueOrKwargs>) -> Result<String, Error> {
    let [separator, attribute] = arguments(&args.into_values(), ["d", "attribute"])?;
    let separator = separator.as_ref().map(python::display).transpose()?.unwrap_or_default();
    let mut joined = String::new();
    for (index, mut item) in python::items(value)?.into_iter().enumerate() {
        if let Some(attribute) = &attribute {
            for part in attribute.to_string().split('.') {
                item = match part.parse::<usize>() {
                    Ok(index) => item.get_item(&Value::from(index))?,
                    Err(_) => item.get_attr(part)?,
                };
            }
        }
        if index > 0 {
            joined.push_str(&separator);
        }
        joined.push_str(&python::display(&item)?);
        python::check_length(joined.len())?;
    }
    Ok(joined)
}

/// `default(default_value="", boolean=False)`: with `boolean`, for everything that is false.
fn default(value: &Value, args: Rest<ValueOrKwargs>) -> Result<Value, Error> {
    let [default, boolean] = python::bind(&args.into_values(), ["default_value", "boolean"])?;
    let by_truth = boolean.is_some_and(|it| it.is_true());
    let keep = !value.is_undefined() && (!by_truth || value.is_true());
    Ok(if keep { value.clone() } else { default.unwrap_or(Value::from("")) })
}

fn escape(value: &Value) -> Result<Value, Error> {
    Ok(if value.is_safe() { value.clone() } else { html(&python::display(value)?) })
}

/// `text` for HTML, with the entities that Jinja2 writes.
fn html(text: &str) -> Value {
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
    Value::from_safe_string(escaped)
}

/// Python's `int`, or `default` for what is not a number.
fn int(value: &Value, args: Rest<ValueOrKwargs>) -> Result<Value, Error> {
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
fn float(value: &Value, args: Rest<ValueOrKwargs>) -> Result<Value, Error> {
    let [default] = arguments(&args.into_values(), ["default"])?;
    let number = match value.as_str() {
        Some(text) => text.trim_matches(is_space).replace('_', "").parse::<f64>().ok(),
        None => f64::try_from(value.clone()).ok(),
    };
    Ok(number.map_or(default.unwrap_or(Value::from(0.0)), Value::from))
}

fn center(state: &mut State<'_, '_>, value: &Value, width: Option<i64>) -> Result<Value, Error> {
    let text = Value::from(python::display(value)?);
    methods::call(state, &text, "center", &[Value::from(width.unwrap_or(80))])
}

/// Arguments that come by position or by name, all by name, as these filters want them.
fn named<const N: usize>(args: Rest<ValueOrKwargs>, names: [&str; N]) -> Result<Kwargs, Error> {
    let bound = arguments(&args.into_values(), names)?;
    Ok(names.into_iter().zip(bound).filter_map(|(name, value)| Some((name, value?))).collect())
}

fn truncate(
    state: &mut State<'_, '_>,
    value: &Value,
    args: Rest<ValueOrKwargs>,
) -> Result<Value, Error> {
    filters::truncate(state, value, named(args, ["length", "killwords", "end", "leeway"])?)
}

fn wordwrap(value: &Value, args: Rest<ValueOrKwargs>) -> Result<Value, Error> {
    let names = ["width", "break_long_words", "wrapstring", "break_on_hyphens"];
    filters::wordwrap(value, named(args, names)?)
}

fn dictsort(value: &Value, args: Rest<ValueOrKwargs>) -> Result<Value, Error> {
    minijinja::filters::dictsort(value, named(args, ["case_sensitive", "by", "reverse"])?)
}

/// `indent(width=4, first=False, blank=False)`, where `width` may be the indentation itself.
fn indent(value: &Value, args: Rest<ValueOrKwargs>) -> Result<String, Error> {
    let [width, first, blank] = arguments(&args.into_values(), ["width", "first", "blank"])?;
    let truthy = |option: Option<Value>| option.is_some_and(|it| it.is_true());
    let (first, blank) = (truthy(first), truthy(blank));
    let indentation = match &width {
        Some(width) if width.as_str().is_some() => width.to_string(),
        Some(width) => {
            let width = usize::try_from(width.clone())?;
            python::check_length(width)?;
            " ".repeat(width)
        }
        None => " ".repeat(4),
    };
    let text = python::display(value)?;
    let mut indented = String::with_capacity(text.len());
    for (index, line) in text.split('\n').enumerate() {
        if index > 0 {
            indented.push('\n');
        }
        if if index == 0 { first } else { blank || !line.is_empty() } {
            indented.push_str(&indentation);
        }
        indented.push_str(line);
        python::check_length(indented.len())?;
    }
    Ok(indented)
}

fn is_iterable(value: &Value) -> bool {
    matches!(
        value.kind(),
        ValueKind::Undefined
            | ValueKind::String
            | ValueKind::Seq
            | ValueKind::Map
            | ValueKind::Iterable
    )
}

/// Functions and macros are objects that hold nothing, not even an empty list.
fn is_callable(value: &Value) -> bool {
    value.kind() == ValueKind::Plain
        || (value.kind() == ValueKind::Map && value.to_string().starts_with("<macro "))
}

fn invalid(message: impl ToString) -> Error {
    Error::new(ErrorKind::InvalidOperation, message.to_string())
}
