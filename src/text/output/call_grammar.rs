//! Calls as grammars, in llguidance's dialect of Lark: what a model must write that calls one of
//! some tools, in its own format.

use std::fmt::Write as _;

use serde_json::{Value, json};

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
        /// What stands between two calls; `None` where there is only one.
        between: Option<&'static str>,
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
    /// It cannot be told but by how calls begin: with one of the format's markers, or so.
    Unknown {
        /// What stands before and behind the name of the first tool, where there is no marker.
        bare: Option<[&'static str; 2]>,
    },
}

/// What of calls a grammar is to describe.
pub struct Calls<'a> {
    /// The tools that may be called.
    pub tools: &'a [&'a Tool],
    /// Whether there may be several calls.
    pub parallel: bool,
    /// Whether every call has to be one that the tools' schemas allow, in a format without a shape,
    /// too.
    pub enforced: bool,
    /// Whether the answer may be something else, as the rule `@other`.
    pub or_other: bool,
    /// Brings a schema of a tool's arguments, or of one argument, into the form that is enforced.
    pub lower: &'a dyn Fn(&Tool, &Value) -> Result<Value>,
    /// The model's tokenizer.
    pub tokenizer: &'a Tokenizer,
    /// What comes before the answer, where that is part of the grammar.
    pub lead: Option<Lead>,
}

/// What a model writes before calls or an answer: messages of reasoning.
#[derive(Debug, Clone, Copy)]
pub struct Lead {
    /// What stands before and behind the reasoning of a message.
    pub message: [&'static str; 2],
    /// What begins the answer, where it is no call.
    pub answer: &'static str,
    /// Whether the prompt ends within a message of reasoning.
    pub open: bool,
}

/// The grammar of an answer that calls tools, or is something else.
///
/// # Errors
/// [`Error::Unsupported`] where a format without a shape has to be enforced; those of `lower`.
pub(super) fn write(shape: Shape, opens: &[&str], calls: &Calls<'_>) -> Result<String> {
    let shape = match shape {
        Shape::Either { token, with, .. } if calls.tokenizer.token_to_id(token).is_some() => *with,
        Shape::Either { without, .. } => *without,
        other => other,
    };
    let mut writer = Writer { calls, rules: String::new(), count: 0 };
    let (begin, between, end) = match shape {
        Shape::Object { around: [begin, between, end], .. } => (begin, Some(between), end),
        Shape::Named { around: [begin, end], between, .. } => (begin, between, end),
        Shape::Elements { around: [begin, end], .. } => (begin, Some(""), end),
        Shape::Unknown { bare } => {
            let body = writer.free(opens, bare)?;
            return Ok(writer.finish(&body));
        }
        Shape::Either { .. } => return Err(not_enforced()),
    };
    let written: Vec<String> =
        calls.tools.iter().map(|tool| writer.call(shape, tool)).collect::<Result<_>>()?;
    let [begin, end] = [begin, end].map(|text| writer.literal(text));
    let more = match between.filter(|_| calls.parallel) {
        Some(between) => format!(" ({} call)*", writer.literal(between)),
        None => String::new(),
    };
    let _ = writeln!(writer.rules, "call: {}", written.join(" | "));
    Ok(writer.finish(&format!("{begin} call{more} {end}")))
}

fn not_enforced() -> Error {
    let message = "toolChoice: this model's format of calls cannot be enforced; use 'auto', and \
                   tools that are not strict";
    Error::Unsupported(message.to_owned())
}

struct Writer<'a> {
    calls: &'a Calls<'a>,
    rules: String,
    count: usize,
}

impl Writer<'_> {
    /// The whole grammar, where calls are `body`.
    fn finish(mut self, body: &str) -> String {
        let lead = self.calls.lead;
        let other = match (self.calls.or_other, lead) {
            (false, _) => String::new(),
            (true, None) => " | @other".to_owned(),
            (true, Some(lead)) => format!(" | {} @other", self.literal(lead.answer)),
        };
        let lead = lead.map(|lead| self.lead(lead)).unwrap_or_default();
        format!("start: {lead}(calls{other})\ncalls: {body}\n{}", self.rules)
    }

    /// Messages of reasoning, as many as come.
    fn lead(&mut self, lead: Lead) -> String {
        let [before, behind] = lead.message;
        let (before, thought) = (self.literal(before), self.text(behind));
        let message = self.rule(&format!("{before} {thought}"));
        let open = if lead.open { format!("{thought} ") } else { String::new() };
        format!("{open}{message}* ")
    }

    /// Anything behind what begins a call.
    fn free(&mut self, opens: &[&str], bare: Option<[&str; 2]>) -> Result<String> {
        if self.calls.enforced || (opens.is_empty() && bare.is_none()) {
            return Err(not_enforced());
        }
        let mut begins: Vec<String> = opens.iter().map(|open| self.literal(open)).collect();
        if let Some([before, behind]) = bare {
            let names = self.calls.tools.iter().map(|tool| quoted(&tool.name));
            let names = names.collect::<Vec<_>>().join(" | ");
            begins.push(format!("{} ({names}) {}", self.literal(before), self.literal(behind)));
        }
        Ok(format!("({}) <[*]>*", begins.join(" | ")))
    }

    fn call(&mut self, shape: Shape, tool: &Tool) -> Result<String> {
        let body = match shape {
            // What else begins like JSON has to be made of the same pieces as JSON.
            Shape::Object { around: ["", _, ""], each: ["", ""], fields: [name, arguments] }
                if self.calls.or_other =>
            {
                let call = json!({
                    "type": "object",
                    "properties": {
                        name: { "const": tool.name },
                        arguments: { "type": "object", "allOf": [tool.parameters] },
                    },
                    "required": [name, arguments],
                    "additionalProperties": false,
                });
                let schema = (self.calls.lower)(tool, &call)?;
                self.json_rule(&schema)
            }
            Shape::Object { each: [before, behind], fields: [name, arguments], .. } => {
                let head = format!(
                    "{before}{{{}: {}, {}: ",
                    quoted(name),
                    quoted(&tool.name),
                    quoted(arguments)
                );
                let (head, tail) = (self.literal(&head), self.literal(&format!("}}{behind}")));
                format!("{head} {} {tail}", self.arguments(tool)?)
            }
            Shape::Named { each: [before, between, behind], .. } => {
                let head = self.literal(&format!("{before}{}{between}", tool.name));
                let tail = self.literal(behind);
                format!("{head} {} {tail}", self.arguments(tool)?)
            }
            Shape::Elements { call: [before, between, behind], argument, .. } => {
                let head = self.literal(&format!("{before}{}{between}", tool.name));
                let arguments = self.elements(tool, argument)?;
                let tail = self.literal(behind);
                format!("{head} {arguments} {tail}")
            }
            Shape::Either { .. } | Shape::Unknown { .. } => return Err(not_enforced()),
        };
        Ok(self.rule(&body))
    }

    /// The arguments, those that are required first.
    fn elements(&mut self, tool: &Tool, [before, between, behind]: [&str; 3]) -> Result<String> {
        let schema = &tool.parameters;
        let Some(properties) = schema.get("properties").and_then(Value::as_object) else {
            return Ok(String::new());
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
                false => self.value(tool, property, types, behind)?,
            };
            let rule = self.rule(&format!("{head} {value}"));
            let optional = if required.contains(&name.as_str()) { "" } else { "?" };
            let _ = write!(written, " {rule}{optional}");
        }
        Ok(written)
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

    /// A value of a property's schema, and `end` behind it.
    fn value(
        &mut self,
        tool: &Tool,
        property: &Value,
        types: Option<Types>,
        end: &str,
    ) -> Result<String> {
        let end = self.literal(end);
        let texts = property.get("enum").and_then(Value::as_array);
        if let Some(texts) = texts.filter(|_| types.is_none_or(Types::only_string)) {
            let texts = texts.iter().filter_map(Value::as_str).map(quoted).collect::<Vec<_>>();
            return Ok(format!("({}) {end}", texts.join(" | ")));
        }
        let mut schema = property.clone();
        for key in ["$defs", "definitions"] {
            let definitions = tool.parameters.get(key);
            if let (Some(schema), Some(definitions)) = (schema.as_object_mut(), definitions) {
                schema.insert(key.to_owned(), definitions.clone());
            }
        }
        Ok(format!("{} {end}", self.json(tool, &schema)?))
    }

    /// The arguments of a call, which are an object whatever the schema leaves open.
    fn arguments(&mut self, tool: &Tool) -> Result<String> {
        let mut schema = tool.parameters.clone();
        if let Some(schema) = schema.as_object_mut() {
            schema.entry("type").or_insert_with(|| "object".into());
        }
        self.json(tool, &schema)
    }

    /// JSON of a schema, spaced as Python spaces it.
    fn json(&mut self, tool: &Tool, schema: &Value) -> Result<String> {
        let mut schema = (self.calls.lower)(tool, schema)?;
        if let Some(guidance) = schema.get_mut("x-guidance").and_then(Value::as_object_mut) {
            guidance.remove("whitespace_pattern");
            guidance.insert("item_separator".to_owned(), ", ".into());
            guidance.insert("key_separator".to_owned(), ": ".into());
        }
        Ok(self.json_rule(&schema))
    }

    fn json_rule(&mut self, schema: &Value) -> String {
        let name = self.name("json");
        let _ = writeln!(self.rules, "{name}: %json {schema}");
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
        let tokens = self.calls.tokenizer.encode(text, false).unwrap_or_default();
        let special: Vec<(u32, String)> = tokens
            .into_iter()
            .filter(|&token| self.calls.tokenizer.is_special(token))
            .filter_map(|token| Some((token, self.calls.tokenizer.id_to_token(token)?)))
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
