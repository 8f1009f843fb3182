//! Calls as grammars, in llguidance's dialect of Lark: what a model must write that has to call one
//! of some tools, in its own format.

use std::fmt::Write as _;

use serde_json::{Map, Value, json};

use super::schemas::{Tool, Types};
use super::value::quoted;
use crate::error::{Error, Result};
use crate::text::tokenizer::Tokenizer;

/// How a format writes a call, as far as it can be told to.
#[derive(Debug, Clone, Copy)]
pub(super) enum Shape {
    /// An object of JSON with these two fields.
    Object {
        /// What stands before and behind all calls, and between two.
        around: [&'static str; 3],
        /// What stands before and behind each call.
        each: [&'static str; 2],
        /// The names of the two fields.
        fields: [&'static str; 2],
    },
    /// A name and JSON.
    Named {
        /// What stands before and behind all calls.
        around: [&'static str; 2],
        /// What stands before the name, between it and the arguments, and behind them.
        each: [&'static str; 3],
    },
    /// Elements.
    Elements {
        /// What stands before and behind all calls.
        around: [&'static str; 2],
        /// What stands before and behind a call's name, and behind all arguments.
        call: [&'static str; 3],
        /// What stands before and behind an argument's name, and behind its value.
        argument: [&'static str; 3],
    },
    /// One of two, by whether the tokenizer has a token.
    Either {
        /// The token.
        token: &'static str,
        /// The shape where there is one.
        with: &'static Shape,
        /// The shape where there is none.
        without: &'static Shape,
    },
    /// It cannot be told.
    Unknown,
}

/// The grammar of one or more calls of `tools`.
///
/// # Errors
/// [`Error::Unsupported`] for a format without a grammar.
pub(super) fn write(
    shape: Shape,
    tools: &[&Tool],
    parallel: bool,
    tokenizer: &Tokenizer,
) -> Result<String> {
    let shape = match shape {
        Shape::Either { token, with, .. } if tokenizer.token_to_id(token).is_some() => *with,
        Shape::Either { without, .. } => *without,
        other => other,
    };
    let mut writer = Writer { tokenizer, rules: String::new(), count: 0 };
    let (begin, between, end) = match shape {
        Shape::Object { around: [begin, between, end], .. } => (begin, between, end),
        Shape::Named { around: [begin, end], .. }
        | Shape::Elements { around: [begin, end], .. } => (begin, "", end),
        Shape::Either { .. } | Shape::Unknown => {
            let message = "toolChoice: this model's format of calls cannot be enforced; use 'auto'";
            return Err(Error::Unsupported(message.to_owned()));
        }
    };
    let calls: Vec<String> =
        tools.iter().map(|tool| writer.call(shape, tool)).collect::<Result<_>>()?;
    let [begin, between, end] = [begin, between, end].map(|text| writer.literal(text));
    let more = if parallel { format!(" ({between} call)*") } else { String::new() };
    let rules = writer.rules;
    Ok(format!("start: {begin} call{more} {end}\ncall: {}\n{rules}", calls.join(" | ")))
}

struct Writer<'a> {
    tokenizer: &'a Tokenizer,
    rules: String,
    count: usize,
}

impl Writer<'_> {
    fn call(&mut self, shape: Shape, tool: &Tool) -> Result<String> {
        let body = match shape {
            Shape::Object { each: [before, behind], fields: [name, arguments], .. } => {
                let head = format!(
                    "{before}{{{}: {}, {}: ",
                    quoted(name),
                    quoted(&tool.name),
                    quoted(arguments)
                );
                let (head, tail) = (self.literal(&head), self.literal(&format!("}}{behind}")));
                format!("{head} {} {tail}", self.json(&tool.parameters))
            }
            Shape::Named { each: [before, between, behind], .. } => {
                let head = self.literal(&format!("{before}{}{between}", tool.name));
                let tail = self.literal(behind);
                format!("{head} {} {tail}", self.json(&tool.parameters))
            }
            Shape::Elements { call: [before, between, behind], argument, .. } => {
                let head = self.literal(&format!("{before}{}{between}", tool.name));
                let arguments = self.elements(tool, argument);
                let tail = self.literal(behind);
                format!("{head} {arguments} {tail}")
            }
            Shape::Either { .. } | Shape::Unknown => String::new(),
        };
        Ok(self.rule(&body))
    }

    /// The arguments, those that are required first.
    fn elements(&mut self, tool: &Tool, [before, between, behind]: [&str; 3]) -> String {
        let schema = &tool.parameters;
        let Some(properties) = schema.get("properties").and_then(Value::as_object) else {
            return String::new();
        };
        let required: Vec<&str> = schema
            .get("required")
            .and_then(Value::as_array)
            .map(|names| names.iter().filter_map(Value::as_str).collect())
            .unwrap_or_default();
        let mut all: Vec<(&String, &Value)> = properties.iter().collect();
        all.sort_by_key(|(name, _)| !required.contains(&name.as_str()));
        let mut written = String::new();
        for (name, property) in all {
            let head = self.literal(&format!("{before}{name}{between}"));
            let types = super::schemas::types_of(property, schema);
            let value = match types.is_none_or(Types::only_string) && property.get("enum").is_none()
            {
                true => self.text(behind),
                false => self.value(property, schema, types, behind),
            };
            let rule = self.rule(&format!("{head} {value}"));
            let optional = if required.contains(&name.as_str()) { "" } else { "?" };
            let _ = write!(written, " {rule}{optional}");
        }
        written
    }

    /// Any text, and `end` behind it.
    fn text(&mut self, end: &str) -> String {
        let literal = self.literal(end);
        // A special token is no text, so it ends one by itself.
        if literal.starts_with("<[") {
            return format!("/(?s:.*)/ {literal}");
        }
        let pattern: String = end
            .chars()
            .map(|it| match it {
                '\n' => "\\n".to_owned(),
                '/' | '.' | '*' | '+' | '?' | '(' | ')' | '[' | ']' | '{' | '}' | '|' | '^'
                | '$' | '\\' => format!("\\{it}"),
                // Escaped, `<` and `>` would be borders of words.
                it => it.to_string(),
            })
            .collect();
        let name = self.name("text");
        let _ = writeln!(self.rules, "{name}[lazy]: /(?s:.*){pattern}/");
        name
    }

    /// A value of the property's schema, and `end` behind it.
    fn value(&mut self, property: &Value, root: &Value, types: Option<Types>, end: &str) -> String {
        let end = self.literal(end);
        let texts = property.get("enum").and_then(Value::as_array);
        if let Some(texts) = texts.filter(|_| types.is_none_or(Types::only_string)) {
            let texts = texts.iter().filter_map(Value::as_str).map(quoted).collect::<Vec<_>>();
            return format!("({}) {end}", texts.join(" | "));
        }
        let mut schema = property.clone();
        for key in ["$defs", "definitions"] {
            if let (Some(schema), Some(definitions)) = (schema.as_object_mut(), root.get(key)) {
                schema.insert(key.to_owned(), definitions.clone());
            }
        }
        format!("{} {end}", self.json(&schema))
    }

    /// JSON of a schema, spaced as Python spaces it.
    fn json(&mut self, schema: &Value) -> String {
        let mut schema = schema.as_object().cloned().unwrap_or_else(Map::new);
        if schema.is_empty() {
            schema.insert("type".to_owned(), "object".into());
        }
        let spacing = json!({
            "whitespace_flexible": false,
            "item_separator": ", ",
            "key_separator": ": ",
        });
        schema.insert("x-guidance".to_owned(), spacing);
        let name = self.name("json");
        let _ = writeln!(self.rules, "{name}: %json {}", Value::Object(schema));
        name
    }

    fn rule(&mut self, body: &str) -> String {
        let name = self.name("rule");
        let _ = writeln!(self.rules, "{name}: {body}");
        name
    }

    fn name(&mut self, kind: &str) -> String {
        self.count += 1;
        format!("{kind}{}", self.count)
    }

    /// A text in which special tokens are themselves.
    fn literal(&self, text: &str) -> String {
        let tokens = self.tokenizer.encode(text, false).unwrap_or_default();
        let special: Vec<(u32, String)> = tokens
            .into_iter()
            .filter(|&token| self.tokenizer.is_special(token))
            .filter_map(|token| Some((token, self.tokenizer.id_to_token(token)?)))
            .collect();
        let mut parts = Vec::new();
        let mut rest = text;
        for (token, written) in special {
            let Some((before, behind)) = rest.split_once(written.as_str()) else { continue };
            if !before.is_empty() {
                parts.push(quoted(before));
            }
            parts.push(format!("<[{token}]>"));
            rest = behind;
        }
        if !rest.is_empty() {
            parts.push(quoted(rest));
        }
        parts.join(" ")
    }
}
