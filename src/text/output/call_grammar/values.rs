//! Arguments one by one: as elements or by their names, with strings as they are.

use std::fmt::Write as _;

use serde_json::{Map, Value, json};

use super::{MAX_DEPTH, OF_STRINGS, Writer, escaped, joined, listed, with_definitions};
use crate::error::{Error, Result};
use crate::text::output::schemas::{self, Tool, Types};
use crate::text::output::value::quoted;

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
            let schema = schemas::resolved(schema, &tool.parameters);
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
            let head = self.literal(&format!("{name}="));
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
        let schema = schemas::resolved(schema, &tool.parameters);
        let named = schema.get("properties").and_then(Value::as_object).into_iter().flatten();
        properties.extend(named.map(|(name, property)| (name.as_str(), property)));
        let names = schema.get("required").and_then(Value::as_array).into_iter().flatten();
        required.extend(names.filter_map(Value::as_str));
        for key in ["anyOf", "oneOf", "patternProperties"] {
            if schema.get(key).is_some() {
                (self.calls.leave_out)(tool, &format!("\"{key}\" of the arguments as a whole"))?;
            }
        }
        let all = schema.get("allOf").and_then(Value::as_array).into_iter().flatten();
        for part in all.filter(|_| depth < MAX_DEPTH) {
            self.collect(tool, part, properties, required, depth + 1)?;
        }
        Ok(())
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
        let schema = schemas::resolved(schema, &tool.parameters);
        if let Some(listed) = listed(schema) {
            let end = self.literal(end);
            for value in listed {
                match value {
                    Value::String(text) if text.is_empty() => written.strings.push(end.clone()),
                    Value::String(text) => written.strings.push(format!("{} {end}", quoted(text))),
                    other => written.others.push(format!("{} {end}", quoted(&other.to_string()))),
                }
            }
            return Ok(());
        }
        for key in ["anyOf", "oneOf"] {
            if let Some(parts) = schema.get(key).and_then(Value::as_array)
                && depth < MAX_DEPTH
            {
                let each = |part: &Value| self.values(tool, part, end, written, depth + 1);
                return parts.iter().try_for_each(each);
            }
        }
        let types = schemas::types_of(schema, &tool.parameters);
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
        let mut limits = Vec::new();
        let number = |key: &str| lowered.get(key).and_then(Value::as_u64);
        let (least, most) = (number("minLength"), number("maxLength"));
        if least.is_some() || most.is_some() {
            let most = most.map_or(String::new(), |most| most.to_string());
            limits.push(format!("/(?s:.{{{},{most}}})/", least.unwrap_or(0)));
        }
        let parts = lowered.get("allOf").and_then(Value::as_array).into_iter().flatten();
        for part in std::iter::once(&lowered).chain(parts) {
            if let Some(pattern) = part.get("pattern").and_then(Value::as_str) {
                match whole(pattern) {
                    Some(pattern) => limits.push(format!("/{pattern}/")),
                    None => (self.calls.leave_out)(tool, &format!("the pattern {pattern:?}"))?,
                }
            }
            if let Some(format) = part.get("format").and_then(Value::as_str) {
                (self.calls.leave_out)(tool, &format!("the format {format:?}"))?;
            }
        }
        if limits.is_empty() {
            return Ok(self.text(end));
        }
        let name = self.name("LIMITED");
        // A special token is no text in any case.
        let literal = self.literal(end);
        if !literal.starts_with("<[") {
            limits.push(format!("~/(?s:.*){}(?s:.*)/", escaped(end)));
        }
        let _ = writeln!(self.rules, "{name}: {}", limits.join(" & "));
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
