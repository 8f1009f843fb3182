//! The names a template can use: Jinja2's filters, tests and functions, and those that transformers
//! adds.

use std::fmt;

use jiff::civil::DateTime;
use minijinja::syntax::SyntaxConfig;
use minijinja::value::{ObjectRepr, Rest, ValueKind, ValueOrKwargs};
use minijinja::{AutoEscape, Environment, Error, ErrorKind, State, UndefinedBehavior, Value};
use minijinja_contrib::{filters, globals};

use super::python::{self, is_namespace};
use super::syntax::names;
use super::{json, limits, methods, operators, sequences, slices, text_filters};

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
        let escapes = !matches!(state.auto_escape(), AutoEscape::None) && !value.is_safe();
        match value.as_str().filter(|_| !escapes) {
            Some(text) => {
                limits::write(text.len())?;
                out.write_str(text)?;
            }
            None => {
                let text = if escapes { python::escaped(value)? } else { python::display(value)? };
                limits::write(text.len())?;
                out.write_str(&text)?;
            }
        }
        Ok(())
    });
    functions(&mut environment);
    sequences::register(&mut environment);
    text_filters::register(&mut environment);
    environment.add_filter("tojson", json::tojson);
    environment.add_filter("items", items);
    environment.add_filter("attr", |value: &Value, name: &Value| match name.as_str() {
        // The fields of a dictionary are items, not attributes.
        Some(name) if value.kind() != ValueKind::Map || is_namespace(value) => value.get_attr(name),
        _ => Ok(Value::UNDEFINED),
    });
    environment.add_filter("default", default);
    environment.add_filter("d", default);
    environment.add_filter("random", filters::random);
    tests(&mut environment);
    Ok(environment)
}

fn functions(environment: &mut Environment<'static>) {
    // It prints every variable, which Jinja2 does not offer.
    environment.remove_global("debug");
    environment.add_function("raise_exception", raise_exception);
    environment.add_function("strftime_now", strftime_now);
    environment.add_function("range", range);
    environment.add_function("dict", dict);
    environment.add_function("namespace", namespace);
    environment.add_function("cycler", |items: Rest<Value>| globals::cycler(items.0));
    environment.add_function("joiner", globals::joiner);
    environment.add_function(names::CHAIN, operators::chain);
    environment.add_function(names::NEGATIVE, operators::negative);
    environment.add_function(names::CONCAT, operators::concat);
    environment.add_function(names::COMPARE, operators::compare);
    environment.add_function(names::SLICE, slices::slice);
    environment.add_function(names::KEY, operators::key);
    environment.add_function(names::EACH, slices::each);
    environment.add_function(names::ATTRIBUTE, attribute);
    environment.add_function(names::ITEM, item);
    environment.add_function(names::MARK, limits::mark);
    environment.add_function(names::PASS, |mark: Value, text: usize| {
        let mark = python::whole(&mark).and_then(|it| usize::try_from(it).ok());
        limits::pass(mark, text).map(|()| Value::UNDEFINED)
    });
    environment.add_function(names::LITERAL, |value: Value| {
        limits::take_list(value.len().unwrap_or(0))?;
        limits::weigh(&value)?;
        Ok(value)
    });
    environment.add_function(names::KEEP, keep);
}

fn tests(environment: &mut Environment<'static>) {
    environment.add_test("iterable", is_iterable);
    environment.add_test("sequence", |value: &Value| {
        is_iterable(value) && value.kind() != ValueKind::Iterable
    });
    environment.add_test("mapping", |value: &Value| {
        value.kind() == ValueKind::Map && !is_namespace(value)
    });
    environment.add_test("callable", is_callable);
    for (operator, tests) in [
        ("==", ["eq", "equalto", "=="]),
        ("!=", ["ne", "!=", "!="]),
        ("<", ["lt", "lessthan", "<"]),
        ("<=", ["le", "<=", "<="]),
        (">", ["gt", "greaterthan", ">"]),
        (">=", ["ge", ">=", ">="]),
        ("in", ["in", "in", "in"]),
    ] {
        for test in tests {
            environment.add_test(test, move |left: Value, right: Value| {
                operators::compare(Rest(vec![left, Value::from(operator), right]))
                    .map(|holds| holds.is_true())
            });
        }
    }
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

fn is_dictionary(value: &Value) -> bool {
    value.as_object().is_some_and(|object| object.repr() == ObjectRepr::Map) && !is_namespace(value)
}

fn method(owner: &Value, name: &str) -> Value {
    Value::from_object(methods::Method { owner: owner.clone(), name: name.to_owned() })
}

/// `dict(mapping or pairs, **fields)`.
fn dict(args: Rest<ValueOrKwargs>) -> Result<Value, Error> {
    let made = Value::from_pairs(fields(args.into_values())?);
    limits::weigh(&made)?;
    Ok(made)
}

/// The longest range in Jinja's sandbox.
const MAX_RANGE: usize = 100_000;

/// `range(stop)` or `range(start, stop, step)`
fn range(args: Rest<Value>) -> Result<Value, Error> {
    let bounds: Option<Vec<i128>> = args.iter().map(python::whole).collect();
    let (start, stop, step) = match bounds.as_deref() {
        Some([stop]) => (0, *stop, 1),
        Some([start, stop]) => (*start, *stop, 1),
        Some([start, stop, step]) if *step != 0 => (*start, *stop, *step),
        _ => return Err(invalid("range: expected up to three whole numbers, a step other than 0")),
    };
    let distance = if step > 0 { stop.saturating_sub(start) } else { start.saturating_sub(stop) };
    let count = distance.max(0).unsigned_abs().div_ceil(step.unsigned_abs());
    let count = usize::try_from(count).ok().filter(|count| *count <= MAX_RANGE);
    let Some(count) = count else {
        return Err(invalid(format!("range: more than {MAX_RANGE} numbers")));
    };
    limits::take_list(count)?;
    let mut next = start;
    let numbers = std::iter::repeat_with(|| {
        let number = next;
        next = next.saturating_add(step);
        Value::from(number)
    });
    Ok(numbers.take(count).collect())
}

/// `value` for the field `name` of a namespace, or for no certain one.
fn keep(value: Value, namespace: Option<Value>, name: Option<&str>) -> Result<Value, Error> {
    let previous = match (namespace, name) {
        (Some(namespace), Some(name)) => namespace.get_attr(name).unwrap_or_default(),
        _ => Value::UNDEFINED,
    };
    limits::keep(&value, &previous)?;
    Ok(value)
}

fn items(value: &Value) -> Result<Value, Error> {
    match value.kind() {
        ValueKind::Undefined => Ok(Value::from(Vec::<Value>::new())),
        ValueKind::Map => methods::dictionary(value, "items", &[]),
        _ => Err(invalid("items: expected a mapping")),
    }
}

/// `namespace(mapping or pairs, **fields)`: the one kind of value that `set` can change.
fn namespace(args: Rest<ValueOrKwargs>) -> Result<Value, Error> {
    let fields = fields(args.into_values())?;
    for (_, value) in &fields {
        limits::keep(value, &Value::UNDEFINED)?;
    }
    minijinja::functions::namespace(Some(Value::from_pairs(fields).into()))
}

fn fields(args: Vec<Value>) -> Result<Vec<(Value, Value)>, Error> {
    let mut fields = Vec::new();
    for source in args {
        let is_mapping = source.kind() == ValueKind::Map;
        for entry in python::items(&source)? {
            if is_mapping {
                let value = source.get_item(&entry)?;
                fields.push((entry, value));
            } else {
                let pair = python::items(&entry)?;
                let [key, value] = <[Value; 2]>::try_from(pair)
                    .map_err(|_| invalid("expected a mapping or pairs of key and value"))?;
                fields.push((operators::key(&key)?, value));
            }
        }
    }
    Ok(fields)
}

/// `default(default_value="", boolean=False)`: with `boolean`, for everything that is false.
fn default(value: &Value, args: Rest<ValueOrKwargs>) -> Result<Value, Error> {
    let [default, boolean] = python::bind(&args.into_values(), ["default_value", "boolean"])?;
    let by_truth = boolean.is_some_and(|it| it.is_true());
    let keep = !value.is_undefined() && (!by_truth || value.is_true());
    Ok(if keep { value.clone() } else { default.unwrap_or(Value::from("")) })
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
