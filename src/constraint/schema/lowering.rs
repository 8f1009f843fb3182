//! The walk over a schema.

use std::collections::HashMap;

use serde_json::{Value, json};

use super::endless::can_end;
use super::formats::{Format, format};
use super::keywords::{ANNOTATIONS, APPLICATORS, allows_everything};
use super::references::{References, Resource};
use super::{Object, Problem};
use crate::constraint::pattern::{self, PatternError};

/// How many schemas one may have within, those counted again that several places refer to.
const MAX_SCHEMAS: usize = 10_000;

/// The largest factor of several `multipleOf`, in units of the smallest digit: the parser multiplies
/// them.
const MAX_FACTOR: f64 = 65_535.0;

/// The largest whole number that JavaScript has exactly, as all below it.
const WIDEST: f64 = 9_007_199_254_740_991.0;

type Result<T> = std::result::Result<T, Problem>;

/// Where a schema is.
#[derive(Clone)]
struct At {
    path: String,
    resource: Resource,
}

impl At {
    fn within(&self, name: &str) -> Self {
        let name = name.replace('~', "~0").replace('/', "~1");
        Self { path: format!("{}/{name}", self.path), resource: self.resource }
    }

    fn problem<T>(&self, message: impl Into<String>) -> Result<T> {
        Err(Problem { path: self.path.clone(), message: message.into() })
    }
}

/// A schema that references lead to, and its name in `$defs`.
struct Target<'a> {
    name: String,
    schema: &'a Value,
    at: At,
}

pub struct Lowering<'a> {
    root: &'a Value,
    references: References<'a>,
    strict: bool,
    warnings: Vec<String>,
    schemas: usize,
    /// The names of what references lead to, by address.
    names: HashMap<*const Value, String>,
    /// What references lead to and was not lowered yet.
    targets: Vec<Target<'a>>,
    /// The schemas that stand in the place of a reference around the one that is looked at.
    inlined: Vec<*const Value>,
    factors: Vec<f64>,
}

impl<'a> Lowering<'a> {
    pub fn new(root: &'a Value, strict: bool) -> Self {
        Self {
            root,
            references: References::new(root),
            strict,
            warnings: Vec::new(),
            schemas: 0,
            names: HashMap::new(),
            targets: Vec::new(),
            inlined: Vec::new(),
            factors: Vec::new(),
        }
    }

    /// The schema in the parser's form, and what it does not enforce.
    pub fn run(mut self) -> Result<(Object, Vec<String>)> {
        let at = At { path: "#".to_owned(), resource: 0 };
        let mut schema = match self.schema(self.root, &at)? {
            Value::Object(schema) => schema,
            Value::Bool(true) => Object::new(),
            _ => return at.problem("allows nothing: it is false"),
        };
        let mut definitions = Object::new();
        while let Some(Target { name, schema, at }) = self.targets.pop() {
            let lowered = self.schema(schema, &at)?;
            definitions.insert(name, lowered);
        }
        self.check_factors(&at)?;
        if !definitions.is_empty() {
            schema.insert("$defs".to_owned(), Value::Object(definitions));
        }
        if !can_end(&schema) {
            return at.problem("\"$ref\" leads back to what needs it: no JSON of this has an end");
        }
        Ok((schema, self.warnings))
    }

    /// Refuses a keyword, or goes on without it.
    fn unenforceable(&mut self, at: &At, what: &str) -> Result<()> {
        if self.strict {
            return at.problem(format!("{what} cannot be enforced (strict: false leaves it out)"));
        }
        self.warnings.push(format!("{what} is not enforced, at {}", at.path));
        Ok(())
    }

    fn schema(&mut self, schema: &'a Value, at: &At) -> Result<Value> {
        self.schemas += 1;
        if self.schemas > MAX_SCHEMAS {
            return at.problem(format!("has more than {MAX_SCHEMAS} schemas within"));
        }
        match schema {
            Value::Bool(_) => Ok(schema.clone()),
            Value::Object(map) => {
                let resource = self.references.resource_of(schema, at.resource);
                let lowered = self.object(map, &At { resource, ..at.clone() })?;
                Ok(lowered.map_or(Value::Bool(false), Value::Object))
            }
            _ => at.problem("is no schema: neither an object nor true or false"),
        }
    }

    /// The keywords of a schema; `None` where nothing is valid.
    fn object(&mut self, map: &'a Object, at: &At) -> Result<Option<Object>> {
        let mut out = Object::new();
        for (keyword, value) in map {
            let inside = at.within(keyword);
            match keyword.as_str() {
                "type" => {
                    check_type(value, &inside)?;
                    out.insert(keyword.clone(), value.clone());
                }
                "const" => {
                    check_literal(value, &inside)?;
                    out.insert(keyword.clone(), value.clone());
                }
                "enum" => {
                    let Value::Array(values) = value else {
                        return inside.problem("is no array");
                    };
                    if values.is_empty() {
                        return Ok(None);
                    }
                    check_literal(value, &inside)?;
                    out.insert(keyword.clone(), value.clone());
                }
                "$ref" => {
                    out.insert(keyword.clone(), self.reference(value, &inside)?);
                }
                "allOf" | "anyOf" | "oneOf" => {
                    let schemas = self.schemas(keyword, value, &inside)?;
                    out.insert(keyword.clone(), schemas);
                }
                "not" if allows_everything(value, &[]) => return Ok(None),
                "not" if *value == Value::Bool(false) => {}
                "if" if !map.contains_key("then") && !map.contains_key("else") => {}
                "then" | "else" => {}
                "$dynamicRef" | "$recursiveRef" | "not" | "if" => {
                    self.unenforceable(&inside, &format!("\"{keyword}\""))?;
                }
                "dependencies" | "dependentRequired" | "dependentSchemas"
                    if value.as_object().is_some_and(Object::is_empty) => {}
                "dependencies" | "dependentRequired" | "dependentSchemas" => {
                    self.unenforceable(&inside, &format!("\"{keyword}\""))?;
                }
                "minimum" | "maximum" => self.bound(map, keyword, value, &inside, &mut out)?,
                "exclusiveMinimum" | "exclusiveMaximum" => {
                    exclusive_bound(map, keyword, value, &inside, &mut out)?;
                }
                "multipleOf" => self.multiple_of(value, &inside, &mut out)?,
                "minLength" | "maxLength" | "minItems" | "maxItems" => {
                    let count = count(value, &inside)?;
                    out.insert(keyword.clone(), count.into());
                }
                "pattern" => {
                    let Value::String(pattern) = value else {
                        return inside.problem("is no string");
                    };
                    if let Some(pattern) = self.pattern(pattern, &inside)? {
                        out.insert(keyword.clone(), pattern.into());
                    }
                }
                "format" => self.format(map, value, &inside, &mut out)?,
                "items" | "prefixItems" | "additionalItems" => {
                    self.items(map, keyword, value, &inside, &mut out)?;
                }
                "unevaluatedItems" => {
                    self.unevaluated(map, ("items", "contains"), value, &inside, &mut out)?;
                }
                "uniqueItems" if *value == Value::Bool(false) => {}
                "uniqueItems" => self.unenforceable(&inside, "\"uniqueItems\"")?,
                "contains" => {
                    let least = map.get("minContains").and_then(Value::as_f64);
                    if least != Some(0.0) || map.contains_key("maxContains") {
                        self.unenforceable(&inside, "\"contains\"")?;
                    }
                }
                "minContains" | "maxContains" => drop(count(value, &inside)?),
                "required" => {
                    let names = value.as_array().filter(|it| it.iter().all(Value::is_string));
                    if names.is_none() {
                        return inside.problem("is no array of strings");
                    }
                    out.insert(keyword.clone(), value.clone());
                }
                "properties" | "patternProperties" => {
                    let schemas = self.properties(keyword, value, &inside)?;
                    out.insert(keyword.clone(), Value::Object(schemas));
                }
                "additionalProperties" => {
                    let schema = self.schema(value, &inside)?;
                    out.insert(keyword.clone(), schema);
                }
                "unevaluatedProperties" => {
                    let names = ("additionalProperties", "propertyNames");
                    self.unevaluated(map, names, value, &inside, &mut out)?;
                }
                // They look at the others.
                "propertyNames" | "minProperties" | "maxProperties" => {}
                keyword if ANNOTATIONS.contains(&keyword) => {}
                // Keywords that nobody knows are annotations.
                _ => {}
            }
        }
        bound_multiples(&mut out);
        self.property_names(map, at, &mut out)?;
        self.property_counts(map, at, &mut out)?;
        Ok(Some(out))
    }

    fn schemas(&mut self, keyword: &str, value: &'a Value, at: &At) -> Result<Value> {
        let Some(schemas) = value.as_array().filter(|schemas| !schemas.is_empty()) else {
            return at.problem("is no array of schemas");
        };
        let lowered: Result<Vec<Value>> = schemas
            .iter()
            .enumerate()
            .map(|(index, schema)| {
                let at = at.within(&index.to_string());
                // The parser tells schemas apart that it sees.
                if keyword == "oneOf" { self.inline(schema, &at) } else { self.schema(schema, &at) }
            })
            .collect();
        lowered.map(Value::Array)
    }

    /// A schema, or what it leads to where it is nothing but a reference.
    fn inline(&mut self, schema: &'a Value, at: &At) -> Result<Value> {
        let reference = schema.as_object().and_then(|map| {
            let reference = map.get("$ref")?.as_str()?;
            allows_everything(schema, &["$ref"]).then_some(reference)
        });
        let Some(reference) = reference else { return self.schema(schema, at) };
        let resource = self.references.resource_of(schema, at.resource);
        let (target, resource) = match self.references.resolve(reference, resource) {
            Ok(found) => found,
            Err(message) => return at.problem(message),
        };
        if self.inlined.contains(&std::ptr::from_ref(target)) {
            return self.schema(schema, at);
        }
        self.inlined.push(target);
        let lowered = self.inline(target, &At { path: at.path.clone(), resource });
        self.inlined.pop();
        lowered
    }

    fn reference(&mut self, value: &Value, at: &At) -> Result<Value> {
        let Value::String(reference) = value else { return at.problem("is no string") };
        let (schema, resource) = match self.references.resolve(reference, at.resource) {
            Ok(found) => found,
            Err(message) => return at.problem(message),
        };
        let next = self.names.len().to_string();
        let name = self.names.entry(schema).or_insert_with(|| next.clone()).clone();
        if name == next {
            let at = At { path: reference.clone(), resource };
            self.targets.push(Target { name: name.clone(), schema, at });
        }
        Ok(format!("#/$defs/{name}").into())
    }

    fn bound(
        &mut self,
        map: &Object,
        keyword: &str,
        value: &Value,
        at: &At,
        out: &mut Object,
    ) -> Result<()> {
        let value = bound(keyword == "minimum", value, at)?;
        // Draft 4 says with a flag that a bound is exclusive.
        let exclusive = if keyword == "minimum" { "exclusiveMinimum" } else { "exclusiveMaximum" };
        let keyword = match map.get(exclusive) {
            Some(Value::Bool(true)) => exclusive,
            _ => keyword,
        };
        out.insert(keyword.to_owned(), value);
        Ok(())
    }

    fn multiple_of(&mut self, value: &Value, at: &At, out: &mut Object) -> Result<()> {
        let factor = number(value, at)?;
        if factor <= 0.0 {
            return at.problem("is not above 0");
        }
        if !self.factors.contains(&factor) {
            self.factors.push(factor);
        }
        out.insert("multipleOf".to_owned(), value.clone());
        Ok(())
    }

    /// Several factors may meet in one number.
    fn check_factors(&self, at: &At) -> Result<()> {
        let digits = |factor: &f64| {
            let text = factor.to_string();
            text.split_once('.').map_or(0, |(_, digits)| digits.len() as i32)
        };
        let unit = 10_f64.powi(self.factors.iter().map(digits).max().unwrap_or(0));
        let too_large = |factor: &&f64| **factor * unit > MAX_FACTOR;
        match self.factors.iter().find(too_large).filter(|_| self.factors.len() > 1) {
            Some(factor) => at.problem(format!(
                "\"multipleOf\" {factor} cannot be enforced beside others that differ from it"
            )),
            None => Ok(()),
        }
    }

    fn pattern(&mut self, pattern: &str, at: &At) -> Result<Option<String>> {
        match pattern::translate(pattern) {
            Ok(pattern) => Ok(Some(pattern)),
            Err(PatternError::Invalid(reason)) => {
                at.problem(format!("is no regular expression: {reason}"))
            }
            Err(PatternError::Unenforceable(what)) => {
                self.unenforceable(
                    at,
                    &format!("the pattern /{}/, because {what},", short(pattern)),
                )?;
                Ok(None)
            }
        }
    }

    fn format(&mut self, map: &Object, value: &Value, at: &At, out: &mut Object) -> Result<()> {
        let Value::String(name) = value else { return at.problem("is no string") };
        match format(name, map.contains_key("pattern")) {
            Format::Nothing => {}
            Format::Known => drop(out.insert("format".to_owned(), value.clone())),
            Format::Pattern(pattern) => constrain(out, json!({ "pattern": pattern })),
            Format::Unknown => {
                self.unenforceable(at, &format!("the format \"{}\"", short(name)))?;
            }
        }
        Ok(())
    }

    /// Items, as drafts before 2020-12 write them, too: `items` may be an array of schemas, and
    /// `additionalItems` are for those behind it.
    fn items(
        &mut self,
        map: &Object,
        keyword: &str,
        value: &'a Value,
        at: &At,
        out: &mut Object,
    ) -> Result<()> {
        let old = map.get("items").is_some_and(Value::is_array);
        match (keyword, value) {
            ("items" | "prefixItems", Value::Array(schemas)) => {
                if keyword == "items" && map.contains_key("prefixItems") {
                    return at.problem("is an array beside \"prefixItems\"");
                }
                let lowered: Result<Vec<Value>> = schemas
                    .iter()
                    .enumerate()
                    .map(|(index, schema)| self.schema(schema, &at.within(&index.to_string())))
                    .collect();
                out.insert("prefixItems".to_owned(), Value::Array(lowered?));
            }
            ("prefixItems", _) => return at.problem("is no array of schemas"),
            ("additionalItems", _) if !old => {}
            _ => {
                let schema = self.schema(value, at)?;
                out.insert("items".to_owned(), schema);
            }
        }
        Ok(())
    }

    /// What no other keyword has evaluated is what `plain` speaks of, where nothing else looks at
    /// the same value.
    fn unevaluated(
        &mut self,
        map: &Object,
        (plain, looks): (&str, &str),
        value: &'a Value,
        at: &At,
        out: &mut Object,
    ) -> Result<()> {
        if allows_everything(value, &[]) {
            return Ok(());
        }
        let applies = |keyword: &&str| map.contains_key(*keyword);
        let contains = looks == "contains" && map.contains_key(looks);
        if contains || APPLICATORS.iter().any(applies) {
            let keyword = at.path.rsplit('/').next().unwrap_or_default();
            return self.unenforceable(at, &format!("\"{keyword}\" beside other schemas"));
        }
        let before = map.get(plain).is_some_and(|it| plain != "items" || !it.is_array());
        let old = plain == "items" && map.contains_key("additionalItems");
        if !before && !old {
            let schema = self.schema(value, at)?;
            out.insert(plain.to_owned(), schema);
        }
        Ok(())
    }

    fn properties(&mut self, keyword: &str, value: &'a Value, at: &At) -> Result<Object> {
        let Value::Object(map) = value else { return at.problem("is no object of schemas") };
        let mut out = Object::new();
        for (name, schema) in map {
            let inside = at.within(name);
            let lowered = self.schema(schema, &inside)?;
            match keyword {
                "patternProperties" => {
                    if let Some(pattern) = self.pattern(name, &inside)? {
                        out.insert(pattern, lowered);
                    }
                }
                _ => drop(out.insert(name.clone(), lowered)),
            }
        }
        Ok(out)
    }

    /// `propertyNames` says nothing new, or lists names, or is a pattern for all properties.
    fn property_names(&mut self, map: &'a Object, at: &At, out: &mut Object) -> Result<()> {
        let Some(value) = map.get("propertyNames") else { return Ok(()) };
        let at = at.within("propertyNames");
        let is_string = |names: &Object| names.get("type").is_none_or(|it| it == "string");
        let Value::Object(names) = value else {
            match value {
                Value::Bool(true) => {}
                Value::Bool(false) => constrain(out, json!({ "maxProperties": 0 })),
                _ => return at.problem("is no schema: neither an object nor true or false"),
            }
            return Ok(());
        };
        if is_string(names) && allows_everything(value, &["type"]) {
            return Ok(());
        }
        let plain = !out.contains_key("properties") && !out.contains_key("patternProperties");
        let others = out.get("additionalProperties").cloned().unwrap_or(Value::Bool(true));
        let listed = match names.get("enum") {
            Some(Value::Array(listed)) => Some(listed.clone()),
            _ => names.get("const").map(|only| vec![only.clone()]),
        };
        if plain && is_string(names) {
            if let Some(listed) = listed
                && allows_everything(value, &["type", "enum", "const"])
            {
                let named = listed.iter().filter_map(Value::as_str);
                let properties = named.map(|name| (name.to_owned(), others.clone()));
                out.insert("properties".to_owned(), Value::Object(properties.collect()));
                out.insert("additionalProperties".to_owned(), Value::Bool(false));
                return Ok(());
            }
            if allows_everything(value, &["type", "pattern"])
                && let Some(Value::String(pattern)) = names.get("pattern")
            {
                if let Some(pattern) = self.pattern(pattern, &at)? {
                    out.insert("patternProperties".to_owned(), json!({ pattern: others }));
                    out.insert("additionalProperties".to_owned(), Value::Bool(false));
                }
                return Ok(());
            }
            if allows_everything(value, &["type", "minLength", "maxLength"]) {
                let bound = |keyword: &str| names.get(keyword).map(|it| count(it, &at)).transpose();
                let low = bound("minLength")?.unwrap_or(0);
                let high = bound("maxLength")?.map_or_else(String::new, |high| high.to_string());
                let pattern = format!("^(?s:.{{{low},{high}}})$");
                out.insert("patternProperties".to_owned(), json!({ pattern: others }));
                out.insert("additionalProperties".to_owned(), Value::Bool(false));
                return Ok(());
            }
        }
        self.unenforceable(&at, "\"propertyNames\"")
    }

    /// The parser counts properties only where all that have a name are required, and does not see
    /// when a property that has none comes twice, which counts once.
    fn property_counts(&mut self, map: &Object, at: &At, out: &mut Object) -> Result<()> {
        let bound = |keyword: &str| -> Result<Option<u64>> {
            let value = map.get(keyword).map(|value| count(value, &at.within(keyword)));
            value.transpose()
        };
        let (least, most) = (bound("minProperties")?, bound("maxProperties")?);
        let length = |keyword: &str| -> u64 {
            match out.get(keyword) {
                Some(Value::Object(map)) => map.len() as u64,
                Some(Value::Array(names)) => {
                    let mut names: Vec<&str> = names.iter().filter_map(Value::as_str).collect();
                    names.sort_unstable();
                    names.dedup();
                    names.len() as u64
                }
                _ => 0,
            }
        };
        let (named, required) = (length("properties"), length("required"));
        let required_names: Vec<&str> = out
            .get("required")
            .and_then(Value::as_array)
            .map(|names| names.iter().filter_map(Value::as_str).collect())
            .unwrap_or_default();
        let optional = out.get("properties").and_then(Value::as_object).is_some_and(|properties| {
            properties.keys().any(|name| !required_names.contains(&name.as_str()))
        });
        let closed = out.get("additionalProperties") == Some(&Value::Bool(false))
            && length("patternProperties") == 0;
        // A bound that holds anyway.
        let least = least.filter(|&least| least > required);
        let most = most.filter(|&most| !(closed && most >= named.max(required)));
        let single = closed
            && least.unwrap_or(0) <= required + 1
            && most.is_none_or(|most| most == required + 1);
        let countable = !optional || single;
        if let Some(least) = least {
            if countable && least <= required + 1 {
                out.insert("minProperties".to_owned(), least.into());
            } else {
                self.unenforceable(
                    &at.within("minProperties"),
                    "\"minProperties\" of this size here",
                )?;
            }
        }
        if let Some(most) = most {
            if countable {
                out.insert("maxProperties".to_owned(), most.into());
            } else {
                self.unenforceable(
                    &at.within("maxProperties"),
                    "\"maxProperties\" beside optional ones",
                )?;
            }
        }
        Ok(())
    }
}

/// Multiples have an end: behind digits enough, another one may be all that can complete a number.
fn bound_multiples(out: &mut Object) {
    if !out.contains_key("multipleOf") {
        return;
    }
    let bounds =
        [("minimum", "exclusiveMinimum", -WIDEST), ("maximum", "exclusiveMaximum", WIDEST)];
    for (bound, exclusive, widest) in bounds {
        if !out.contains_key(exclusive) {
            out.entry(bound).or_insert_with(|| widest.into());
        }
    }
}

/// Adds a further schema that a value must have.
fn constrain(out: &mut Object, schema: Value) {
    match out.get_mut("allOf") {
        Some(Value::Array(schemas)) => schemas.push(schema),
        _ => drop(out.insert("allOf".to_owned(), Value::Array(vec![schema]))),
    }
}

fn exclusive_bound(
    map: &Object,
    keyword: &str,
    value: &Value,
    at: &At,
    out: &mut Object,
) -> Result<()> {
    match value {
        Value::Bool(_) => {
            let plain = if keyword == "exclusiveMinimum" { "minimum" } else { "maximum" };
            match map.contains_key(plain) {
                true => Ok(()),
                false => at.problem(format!("is a flag, without \"{plain}\"")),
            }
        }
        _ => {
            let value = bound(keyword == "exclusiveMinimum", value, at)?;
            out.insert(keyword.to_owned(), value);
            Ok(())
        }
    }
}

/// A bound that the parser can count to. One that is wider than any whole number of a `f64` is as
/// good as the widest.
fn bound(is_lower: bool, value: &Value, at: &At) -> Result<Value> {
    let bound = number(value, at)?;
    if bound.abs() <= WIDEST {
        return Ok(value.clone());
    }
    match is_lower == (bound < 0.0) {
        true => Ok(WIDEST.copysign(bound).into()),
        false => at.problem("is beyond the numbers that can be enforced"),
    }
}

fn number(value: &Value, at: &At) -> Result<f64> {
    match value.as_f64() {
        Some(number) => Ok(number),
        None => at.problem("is no number"),
    }
}

/// A number of things: whole, and not below 0.
fn count(value: &Value, at: &At) -> Result<u64> {
    match value.as_f64() {
        Some(count) if count >= 0.0 && count.fract() == 0.0 && count <= f64::from(u32::MAX) => {
            Ok(count as u64)
        }
        _ => at.problem("is no whole number from 0 to 4294967295"),
    }
}

fn check_type(value: &Value, at: &At) -> Result<()> {
    const TYPES: [&str; 7] = ["array", "boolean", "integer", "null", "number", "object", "string"];
    let known = |it: &Value| it.as_str().is_some_and(|name| TYPES.contains(&name));
    let fine = match value {
        Value::Array(types) => !types.is_empty() && types.iter().all(known),
        other => known(other),
    };
    match fine {
        true => Ok(()),
        false => at.problem(format!("is none of {}", TYPES.join(", "))),
    }
}

/// Refuses values that cannot be written without escapes that the parser does not allow.
fn check_literal(value: &Value, at: &At) -> Result<()> {
    let writable = |text: &str| {
        !text.chars().any(|it| it.is_ascii_control() && !"\u{8}\u{c}\n\r\t".contains(it))
    };
    match value {
        Value::String(text) if !writable(text) => {
            at.problem("has a control character that cannot be enforced")
        }
        Value::Array(values) => values.iter().try_for_each(|value| check_literal(value, at)),
        Value::Object(map) => map.values().try_for_each(|value| check_literal(value, at)),
        _ => Ok(()),
    }
}

fn short(text: &str) -> String {
    const LONGEST: usize = 60;
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}
