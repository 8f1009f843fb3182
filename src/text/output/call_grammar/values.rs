//! Arguments one by one: as elements or by their names, with strings as they are.

use std::fmt::Write as _;

use serde_json::{Map, Value, json};

use super::{CallHead, MAX_DEPTH, OF_STRINGS, Writer, escaped, joined, listed, with_definitions};
use crate::error::{Error, Result};
use crate::text::output::schemas::{self, Tool, Types};
use crate::text::output::value::quoted;

/// Keywords that limit numbers.
const OF_NUMBERS: [&str; 5] =
    ["minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"];

/// Keywords that limit arrays.
pub(super) const OF_ARRAYS: [&str; 8] = [
    "items",
    "prefixItems",
    "additionalItems",
    "unevaluatedItems",
    "minItems",
    "maxItems",
    "uniqueItems",
    "contains",
];

/// Keywords that limit objects.
pub(super) const OF_OBJECTS: [&str; 11] = [
    "properties",
    "required",
    "patternProperties",
    "additionalProperties",
    "unevaluatedProperties",
    "minProperties",
    "maxProperties",
    "propertyNames",
    "dependentRequired",
    "dependentSchemas",
    "dependencies",
];

/// Keywords that limit values of every kind, besides types.
const OF_ALL: [&str; 10] = [
    "enum",
    "const",
    "allOf",
    "anyOf",
    "oneOf",
    "not",
    "if",
    "then",
    "$dynamicRef",
    "$recursiveRef",
];

/// All keywords that a value may break, besides types.
fn demands() -> impl Iterator<Item = &'static str> {
    let kinds = OF_STRINGS.iter().chain(&OF_NUMBERS).chain(&OF_ARRAYS).chain(&OF_OBJECTS);
    OF_ALL.iter().chain(kinds).copied()
}

/// Whether a keyword with this value excludes anything.
fn is_demand(key: &str, value: &Value) -> bool {
    match value {
        Value::Bool(true) => key == "uniqueItems",
        Value::Bool(false) => key != "uniqueItems",
        Value::Object(schema) => !schema.is_empty(),
        Value::Array(list) => !list.is_empty(),
        Value::Number(count) => {
            !key.starts_with("min") || key == "minimum" || count.as_u64() != Some(0)
        }
        _ => true,
    }
}

/// The names of the types that are no strings, of those that a schema allows.
fn json_types(types: Option<Types>) -> Vec<&'static str> {
    let every = Types {
        string: true,
        integer: true,
        number: true,
        boolean: true,
        null: true,
        container: true,
    };
    let types = types.unwrap_or(every);
    let names = [
        (types.number || types.integer, "number"),
        (types.boolean, "boolean"),
        (types.null, "null"),
        (types.container, "object"),
        (types.container, "array"),
    ];
    names.into_iter().filter(|(is_allowed, _)| *is_allowed).map(|(_, name)| name).collect()
}

/// A pattern that is looked for within a text as one for the whole text; `None` where its ends are
/// said elsewhere than at its ends.
fn whole(pattern: &str) -> Option<String> {
    let (begins, rest) = match pattern.strip_prefix('^') {
        Some(rest) => (true, rest),
        None => (false, pattern),
    };
    let (ends, rest) = match rest.strip_suffix('$') {
        Some(rest) if !rest.ends_with('\\') => (true, rest),
        _ => (false, rest),
    };
    let (mut depth, mut in_class, mut is_escaped, mut has_choice) = (0_i32, false, false, false);
    let mut written = String::with_capacity(rest.len());
    for character in rest.chars() {
        if character == '/' && !is_escaped {
            // It would end the expression.
            written.push('\\');
        }
        written.push(character);
        match character {
            _ if is_escaped => is_escaped = false,
            '\\' => is_escaped = true,
            '[' => in_class = true,
            ']' => in_class = false,
            _ if in_class => {}
            '^' | '$' => return None,
            '(' => depth += 1,
            ')' => depth -= 1,
            '|' if depth == 0 => has_choice = true,
            _ => {}
        }
    }
    if has_choice && (begins || ends) {
        return None;
    }
    let any = |is_bound: bool| if is_bound { "" } else { "(?s:.*)" };
    Some(format!("{}(?:{}){}", any(begins), written, any(ends)))
}

/// A schema's least and most number of something.
pub(super) fn limits(
    tool: &Tool,
    schema: &Value,
    [least, most]: [&str; 2],
) -> Result<(u64, Option<u64>)> {
    let limit = |key: &str| schema.get(key).and_then(Value::as_u64);
    match (limit(least).unwrap_or(0), limit(most)) {
        (low, Some(high)) if low > high => {
            let message = format!("\"{least}\" is more than \"{most}\": nothing is valid");
            Err(Error::argument(format!("tools: {}", tool.name), message))
        }
        limits => Ok(limits),
    }
}

/// An argument whose name would be read as something else.
pub(super) fn unwritable(tool: &Tool, name: &str) -> Error {
    let message = format!("this model's format cannot write the argument {name:?}");
    Error::argument(format!("tools: {}", tool.name), message)
}

/// What values may be: strings as they are, and JSON.
#[derive(Default)]
struct Values {
    strings: Vec<String>,
    others: Vec<String>,
}

impl Writer<'_> {
    /// The arguments, those that are required first, and whether each is.
    fn sorted<'a>(&self, tool: &'a Tool) -> Result<Vec<(&'a str, &'a Value, bool)>> {
        let (mut properties, mut required) = (Vec::new(), Vec::new());
        self.collect(tool, &tool.parameters, &mut properties, &mut required, 0)?;
        let with_need = |(name, schema)| (name, schema, required.contains(&name));
        let mut all: Vec<_> = properties.into_iter().map(with_need).collect();
        all.sort_by_key(|(_, _, is_required)| !is_required);
        Ok(all)
    }

    /// Arguments as elements.
    pub(super) fn elements(
        &mut self,
        tool: &Tool,
        [before, between, behind]: [&str; 3],
        [string, other]: [&str; 2],
    ) -> Result<String> {
        let mut written = String::new();
        for (name, schema, is_required) in self.sorted(tool)? {
            if name.contains(['<', '>', '"', '\n', '\r']) {
                return Err(unwritable(tool, name));
            }
            let mut values = Values::default();
            self.values(tool, schema, &behind.replace("{}", name), &mut values, 0)?;
            let types = json_types(schemas::types_of(schema, &tool.parameters));
            let other = match other.split_once("{}") {
                Some((begin, end)) => types.iter().map(|it| format!("{begin}{it}{end}")).collect(),
                None => vec![other.to_owned()],
            };
            for kind in other.iter().filter(|_| !values.others.is_empty()) {
                let may_be_text = !values.strings.is_empty() && kind == string;
                let head = CallHead::new(format!("{before}{name}{kind}{between}"));
                self.heads.push(CallHead { may_be_text, ..head });
            }
            let mut each = Vec::new();
            for (kinds, values) in
                [(vec![string.to_owned()], values.strings), (other, values.others)]
            {
                if !values.is_empty() {
                    let head =
                        |kind: &String| self.literal(&format!("{before}{name}{kind}{between}"));
                    let heads: Vec<String> = kinds.iter().map(head).collect();
                    each.push(format!("({}) ({})", heads.join(" | "), values.join(" | ")));
                }
            }
            let rule = self.rule(&each.join(" | "));
            let _ = write!(written, " {rule}{}", if is_required { "" } else { "?" });
        }
        Ok(written)
    }

    /// Arguments as `name=value`, with commas between them.
    pub(super) fn named(&mut self, tool: &Tool) -> Result<String> {
        let (mut required, mut optional) = (Vec::new(), Vec::new());
        for (name, schema, is_required) in self.sorted(tool)? {
            let is_letter = |it: char| it.is_alphanumeric() || it == '_';
            if name.starts_with(|it: char| it.is_numeric()) || !name.chars().all(is_letter) {
                return Err(unwritable(tool, name));
            }
            let schema = self.target(tool, schema)?;
            let mut value = self.json(tool, &with_definitions(schema, tool))?;
            // Python's words, where the type is all that the schema says.
            if listed(schema).is_none() {
                let allows = |name: &str| match schema.get("type") {
                    Some(Value::Array(types)) => types.iter().any(|it| it == name),
                    other => other.is_some_and(|it| it == name),
                };
                let words = [("boolean", "\"True\" | \"False\""), ("null", "\"None\"")];
                for (_, words) in words.into_iter().filter(|(name, _)| allows(name)) {
                    value = format!("{value} | {words}");
                }
            }
            let head = format!("{name}=");
            self.heads.push(CallHead::new(head.clone()));
            let head = self.literal(&head);
            let rule = self.rule(&format!("{head} ({value})"));
            if is_required { &mut required } else { &mut optional }.push(rule);
        }
        Ok(joined(&required, &optional, ", "))
    }

    /// The properties of an object's schema, and the names of those that are required.
    pub(super) fn collect<'a>(
        &self,
        tool: &'a Tool,
        schema: &'a Value,
        properties: &mut Vec<(&'a str, &'a Value)>,
        required: &mut Vec<&'a str>,
        depth: usize,
    ) -> Result<()> {
        let schema = self.target(tool, schema)?;
        let named = schema.get("properties").and_then(Value::as_object).into_iter().flatten();
        properties.extend(named.map(|(name, property)| (name.as_str(), property)));
        let names = schema.get("required").and_then(Value::as_array).into_iter().flatten();
        required.extend(names.filter_map(Value::as_str));
        let known =
            ["allOf", "properties", "required", "additionalProperties", "unevaluatedProperties"];
        let known = [&known[..], &OF_STRINGS, &OF_NUMBERS, &OF_ARRAYS].concat();
        self.leave_out(tool, schema, &known, " of the arguments as a whole")?;
        let all = schema.get("allOf").and_then(Value::as_array).into_iter().flatten();
        for part in all.filter(|_| depth < MAX_DEPTH) {
            self.collect(tool, part, properties, required, depth + 1)?;
        }
        Ok(())
    }

    /// What a schema leads to, where it is a reference: what stands beside that is not enforced.
    pub(super) fn target<'a>(&self, tool: &'a Tool, schema: &'a Value) -> Result<&'a Value> {
        if schema.get("$ref").is_some() {
            self.leave_out(tool, schema, &[], " beside \"$ref\"")?;
        }
        Ok(schemas::resolved(schema, &tool.parameters))
    }

    /// Leaves out what a schema demands besides these keywords.
    pub(super) fn leave_out(
        &self,
        tool: &Tool,
        schema: &Value,
        known: &[&str],
        place: &str,
    ) -> Result<()> {
        let is_said = |key: &&str| schema.get(*key).is_some_and(|it| is_demand(key, it));
        for key in demands().filter(|key| !known.contains(key)).filter(is_said) {
            (self.calls.leave_out)(tool, &format!("\"{key}\"{place}"))?;
        }
        Ok(())
    }

    /// Leaves out what a schema demands of all values, and with keywords `of` a kind that are not
    /// `known`.
    pub(super) fn leave_out_of(
        &self,
        tool: &Tool,
        schema: &Value,
        known: &[&str],
        of: &[&str],
    ) -> Result<()> {
        let others: Vec<&str> =
            demands().filter(|key| !OF_ALL.contains(key) && !of.contains(key)).collect();
        self.leave_out(tool, schema, &[known, &others].concat(), "")
    }

    /// The alternatives of a schema, each with what the schema demands beside them.
    pub(super) fn alternatives(&self, tool: &Tool, schema: &Value) -> Result<Option<Vec<Value>>> {
        let keys = ["anyOf", "oneOf"];
        let Some((key, parts)) =
            keys.iter().find_map(|key| Some((*key, schema.get(*key)?.as_array()?)))
        else {
            return Ok(None);
        };
        let mut beside = schema.as_object().cloned().unwrap_or_default();
        beside.shift_remove(key);
        let mut all: Vec<Value> = Vec::with_capacity(parts.len());
        for part in parts {
            let mut merged = beside.clone();
            let part = self.target(tool, part)?;
            for (name, value) in part.as_object().into_iter().flatten() {
                let is_demand = name == "type" || demands().any(|it| it == name);
                match merged.insert(name.clone(), value.clone()) {
                    Some(other) if is_demand && other != *value => {
                        (self.calls.leave_out)(tool, &format!("\"{key}\" beside \"{name}\""))?;
                    }
                    _ => {}
                }
            }
            all.push(Value::Object(merged));
        }
        if key == "oneOf" && !self.are_apart(tool, &all) {
            (self.calls.leave_out)(tool, "\"oneOf\" of schemas that are not told apart")?;
        }
        Ok(Some(all))
    }

    /// Whether no value is of two schemas, as their types or constants say.
    fn are_apart(&self, tool: &Tool, schemas: &[Value]) -> bool {
        let values = |schema: &Value| listed(schema).map(<[Value]>::to_vec);
        let names = |schema: &Value| json_types(schemas::types_of(schema, &tool.parameters));
        let text = |schema: &Value| {
            schemas::types_of(schema, &tool.parameters).is_none_or(|types| types.string)
        };
        schemas.iter().enumerate().all(|(at, one)| {
            schemas[at + 1..].iter().all(|other| match (values(one), values(other)) {
                (Some(one), Some(other)) => one.iter().all(|it| !other.contains(it)),
                _ => {
                    !(text(one) && text(other))
                        && names(one).iter().all(|it| !names(other).contains(it))
                }
            })
        })
    }

    /// The values that a schema lists, of those that all else in it allows.
    pub(super) fn listed(&self, tool: &Tool, schema: &Value) -> Result<Option<Vec<Value>>> {
        let Some(values) = self.listed_of_type(tool, schema)? else { return Ok(None) };
        let is_container = |it: &Value| it.is_array() || it.is_object();
        if values.iter().any(is_container) {
            self.leave_out(tool, schema, &["enum", "const"], " beside \"enum\"")?;
            return Ok(Some(values));
        }
        let mut beside = with_definitions(schema, tool);
        let Some(fields) = beside.as_object_mut() else { return Ok(Some(values)) };
        let of_others = OF_ARRAYS.iter().chain(&OF_OBJECTS).copied();
        for key in of_others.chain(["type", "enum", "nullable"]) {
            fields.shift_remove(key);
        }
        if !schema.as_object().is_some_and(|it| it.contains_key("enum")) {
            fields.shift_remove("const");
        }
        let is_said = |key: &&str| fields.get(*key).is_some_and(|it| is_demand(key, it));
        let keys: Vec<String> = demands().filter(is_said).map(|key| format!("\"{key}\"")).collect();
        if keys.is_empty() {
            return Ok(Some(values));
        }
        let values = (self.calls.allowed)(tool, &beside, values)?;
        if values.is_empty() {
            let key = if schema.get("enum").is_some() { "enum" } else { "const" };
            let message = format!("\"{key}\" has no value that {} allows", keys.join(" and "));
            return Err(Error::argument(format!("tools: {}", tool.name), message));
        }
        Ok(Some(values))
    }

    /// The values that a schema lists, of those that its type allows.
    fn listed_of_type(&self, tool: &Tool, schema: &Value) -> Result<Option<Vec<Value>>> {
        let Some(values) = listed(schema) else { return Ok(None) };
        let types = match schema.get("type") {
            Some(Value::String(name)) => vec![name.as_str()],
            Some(Value::Array(names)) => names.iter().filter_map(Value::as_str).collect(),
            _ => return Ok(Some(values.to_vec())),
        };
        let nullable = schema.get("nullable") == Some(&Value::Bool(true));
        let is_of = |value: &&Value| {
            let names: &[&str] = match value {
                Value::Null if nullable => return true,
                Value::Null => &["null"],
                Value::Bool(_) => &["boolean"],
                Value::Number(number) if number.is_f64() => &["number"],
                Value::Number(_) => &["number", "integer"],
                Value::String(_) => &["string"],
                Value::Array(_) => &["array"],
                Value::Object(_) => &["object"],
            };
            names.iter().any(|it| types.contains(it))
        };
        let values: Vec<Value> = values.iter().filter(is_of).cloned().collect();
        if values.is_empty() {
            let message = "\"enum\" has no value of the type that stands beside it";
            return Err(Error::argument(format!("tools: {}", tool.name), message));
        }
        Ok(Some(values))
    }

    /// What a value of a schema may be, with `end` behind it: strings stand as they are, everything
    /// else is JSON.
    fn values(
        &mut self,
        tool: &Tool,
        schema: &Value,
        end: &str,
        written: &mut Values,
        depth: usize,
    ) -> Result<()> {
        let schema = self.target(tool, schema)?;
        if let Some(listed) = self.listed(tool, schema)? {
            let end = self.literal(end);
            for value in &listed {
                match value {
                    Value::String(text) if text.is_empty() => written.strings.push(end.clone()),
                    Value::String(text) => written.strings.push(format!("{} {end}", quoted(text))),
                    other => written.others.push(format!("{} {end}", quoted(&other.to_string()))),
                }
            }
            return Ok(());
        }
        if depth < MAX_DEPTH
            && let Some(parts) = self.alternatives(tool, schema)?
        {
            let each = |part: &Value| self.values(tool, part, end, written, depth + 1);
            return parts.iter().try_for_each(each);
        }
        let types = schemas::types_of(schema, &tool.parameters);
        if types.is_none() {
            // What is no string is read as JSON.
            self.leave_out(tool, schema, &OF_STRINGS, " without a type")?;
        }
        match types {
            Some(types) if !types.string => {
                let json = self.json(tool, &with_definitions(schema, tool))?;
                written.others.push(format!("{json} {}", self.literal(end)));
            }
            Some(types) if !types.only_string() => {
                let others = schema.get("type").and_then(Value::as_array).into_iter().flatten();
                let others: Vec<&Value> = others.filter(|it| **it != "string").collect();
                let mut other = with_definitions(schema, tool);
                other["type"] = match others.is_empty() {
                    // OpenAPI's `nullable`.
                    true => "null".into(),
                    false => json!(others),
                };
                if let Some(fields) = other.as_object_mut() {
                    OF_STRINGS.iter().chain(&["nullable"]).for_each(|key| _ = fields.remove(*key));
                }
                let json = self.json(tool, &other)?;
                written.others.push(format!("{json} {}", self.literal(end)));
                written.strings.push(self.string(tool, schema, end)?);
            }
            _ => written.strings.push(self.string(tool, schema, end)?),
        }
        Ok(())
    }

    /// A string of a schema as it is, and `end` behind it.
    pub(super) fn string(&mut self, tool: &Tool, schema: &Value, end: &str) -> Result<String> {
        self.leave_out_of(tool, schema, &OF_STRINGS, &OF_STRINGS)?;
        let mut own = Map::new();
        own.insert("type".to_owned(), "string".into());
        for key in OF_STRINGS {
            if let Some(value) = schema.get(key) {
                own.insert(key.to_owned(), value.clone());
            }
        }
        if own.len() == 1 {
            return Ok(self.text(end));
        }
        let lowered = (self.calls.lower)(tool, &Value::Object(own))?;
        let mut patterns = Vec::new();
        let (least, most) = limits(tool, &lowered, ["minLength", "maxLength"])?;
        if least > 0 || most.is_some() {
            let most = most.map_or(String::new(), |most| most.to_string());
            patterns.push(format!("/(?s:.{{{least},{most}}})/"));
        }
        let parts = lowered.get("allOf").and_then(Value::as_array).into_iter().flatten();
        for part in std::iter::once(&lowered).chain(parts) {
            if let Some(pattern) = part.get("pattern").and_then(Value::as_str) {
                match whole(pattern) {
                    Some(pattern) => patterns.push(format!("/{pattern}/")),
                    None => (self.calls.leave_out)(tool, &format!("the pattern {pattern:?}"))?,
                }
            }
            if let Some(format) = part.get("format").and_then(Value::as_str) {
                (self.calls.leave_out)(tool, &format!("the format {format:?}"))?;
            }
        }
        if patterns.is_empty() {
            return Ok(self.text(end));
        }
        let name = self.name("LIMITED");
        // A special token is no text in any case.
        let literal = self.literal(end);
        if !literal.starts_with("<[") {
            patterns.push(format!("~/(?s:.*){}(?s:.*)/", escaped(end)));
        }
        let _ = writeln!(self.rules, "{name}: {}", patterns.join(" & "));
        Ok(format!("{name} {literal}"))
    }

    /// Any text, and `end` behind it.
    pub(super) fn text(&mut self, end: &str) -> String {
        let literal = self.literal(end);
        // A special token is no text, so it ends one by itself.
        if literal.starts_with("<[") {
            return format!("/(?s:.*)/ {literal}");
        }
        let pattern = escaped(end);
        let name = self.name("text");
        let _ = writeln!(self.rules, "{name}[lazy]: /(?s:.*){pattern}/");
        name
    }
}
