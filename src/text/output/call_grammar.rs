//! Calls as grammars, in llguidance's dialect of Lark: what a model must write that calls one of
//! some tools, in its own format.

use std::fmt::Write as _;

use serde_json::{Map, Value, json};

use super::schemas::{self, Tool};
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
        /// What stands before and behind an argument's name, and behind its value, in which `{}`
        /// is the name.
        argument: [&'static str; 3],
        /// What stands directly behind an argument's name: for a string, and for anything else.
        kinds: [&'static str; 2],
    },
    /// Functions with named arguments: `[f(x=1), g()]`.
    Functions {
        /// What stands before and behind all calls.
        around: [&'static str; 2],
    },
    /// Gemma's objects, whose keys stand without quotes and whose strings between marks.
    Marked {
        /// What stands before and behind each call, whose name comes first.
        each: [&'static str; 2],
        /// What stands around a string.
        mark: &'static str,
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
    /// What the answer may be instead.
    pub other: Other,
    /// Brings a schema of a tool's arguments, or of one argument, into the form that is enforced.
    pub lower: &'a dyn Fn(&Tool, &Value) -> Result<Value>,
    /// Takes down what of a tool's schema is not enforced; an error where it has to be.
    pub leave_out: &'a dyn Fn(&Tool, &str) -> Result<()>,
    /// The model's tokenizer.
    pub tokenizer: &'a Tokenizer,
    /// What comes before the answer, where that is part of the grammar.
    pub lead: Option<Lead>,
}

/// What an answer may be besides calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Other {
    /// Nothing else.
    Nothing,
    /// The rule `@other`, instead of calls.
    Format,
    /// Any text, before calls or without them.
    Text,
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
pub(super) fn write(
    shape: Shape,
    opens: &[&str],
    has_bare: bool,
    calls: &Calls<'_>,
) -> Result<String> {
    let mut shape = shape;
    while let Shape::Either { token, with, without } = shape {
        shape = if calls.tokenizer.token_to_id(token).is_some() { *with } else { *without };
    }
    let mut writer =
        Writer { calls, opens, has_bare, rules: String::new(), count: 0, any_marked: None };
    let (begin, between, end) = match shape {
        Shape::Object { around: [begin, between, end], .. } => (begin, Some(between), end),
        Shape::Named { around: [begin, end], between, .. } => (begin, between, end),
        Shape::Elements { around: [begin, end], .. } => (begin, Some(""), end),
        Shape::Marked { .. } => ("", Some(""), ""),
        Shape::Functions { around: [begin, end] } => (begin, Some(", "), end),
        Shape::Unknown { bare } => {
            let body = writer.free(bare)?;
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

/// Schemas within others are followed this far.
const MAX_DEPTH: usize = 16;

/// Keywords that limit strings.
const OF_STRINGS: [&str; 4] = ["pattern", "minLength", "maxLength", "format"];

/// The only values that a schema allows, where it lists them.
fn listed(schema: &Value) -> Option<&[Value]> {
    let listed = schema.get("enum").and_then(Value::as_array).map(Vec::as_slice);
    listed.or_else(|| schema.get("const").map(std::slice::from_ref))
}

/// A schema with the definitions that its references may lead to.
fn with_definitions(schema: &Value, tool: &Tool) -> Value {
    let mut schema = schema.clone();
    for key in ["$defs", "definitions"] {
        if let (Some(schema), Some(definitions)) =
            (schema.as_object_mut(), tool.parameters.get(key))
        {
            schema.insert(key.to_owned(), definitions.clone());
        }
    }
    schema
}

/// A text as a regular expression.
fn escaped(text: &str) -> String {
    let one = |it: char| match it {
        '\n' => "\\n".to_owned(),
        '/' | '.' | '*' | '+' | '?' | '(' | ')' | '[' | ']' | '{' | '}' | '|' | '^' | '$'
        | '\\' | '&' | '~' => format!("\\{it}"),
        // Escaped, `<` and `>` would be borders of words.
        it => it.to_string(),
    };
    text.chars().map(one).collect()
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

/// Those that are `required` and some that are not, in their order, with commas between them.
fn joined(required: &[String], optional: &[String], comma: &str) -> String {
    let more = |rules: &[String]| -> String {
        rules.iter().map(|rule| format!(" (\"{comma}\" {rule})?")).collect()
    };
    if !required.is_empty() {
        return required.join(&format!(" \"{comma}\" ")) + &more(optional);
    }
    // The first one that comes has no comma before it.
    let firsts = optional.iter().enumerate();
    let each: Vec<String> =
        firsts.map(|(at, first)| format!("{first}{}", more(&optional[at + 1..]))).collect();
    if each.is_empty() { String::new() } else { format!("({})?", each.join(" | ")) }
}

/// Items with commas between them.
fn list(item: &str, least: u64, most: Option<u64>) -> String {
    let more = |least: u64| match most {
        Some(most) => format!("(\",\" {item}){{{least},{}}}", most.saturating_sub(1)),
        None => format!("(\",\" {item}){{{least},}}"),
    };
    match (least, most) {
        (_, Some(0)) => String::new(),
        (0, _) => format!("({item} {})?", more(0)),
        (least, _) => format!("{item} {}", more(least - 1)),
    }
}

/// An argument whose name would be read as something else.
fn unwritable(tool: &Tool, name: &str) -> Error {
    let message = format!("this model's format cannot write the argument {name:?}");
    Error::argument(format!("tools: {}", tool.name), message)
}

fn not_enforced() -> Error {
    let message = "this model's format of calls cannot be enforced; use 'auto', and tools that \
                   are not strict";
    Error::unsupported("toolChoice", message)
}

/// What values may be: strings as they are, and JSON.
#[derive(Default)]
struct Values {
    strings: Vec<String>,
    others: Vec<String>,
}

struct Writer<'a> {
    calls: &'a Calls<'a>,
    /// What begins calls.
    opens: &'a [&'a str],
    /// Whether a call may begin an answer without any of that.
    has_bare: bool,
    rules: String,
    count: usize,
    /// The rule of any value with Gemma's keys and strings, where it is needed.
    any_marked: Option<String>,
}

impl Writer<'_> {
    /// The whole grammar, where calls are `body`.
    fn finish(mut self, body: &str) -> String {
        let lead = self.calls.lead;
        let answer = lead.map(|lead| self.literal(lead.answer)).unwrap_or_default();
        let before = lead.map(|lead| self.lead(lead)).unwrap_or_default();
        let start = match (self.calls.other, lead) {
            (Other::Nothing, _) => "calls".to_owned(),
            (Other::Format, _) => format!("(calls | {answer} @other)"),
            (Other::Text, None) => format!("{}? calls?", self.free_text()),
            // Calls are messages of their own.
            (Other::Text, Some(_)) => format!("(calls | {answer} {}?)", self.free_text()),
        };
        format!("start: {before}{start}\ncalls: {body}\n{}", self.rules)
    }

    /// Text without a call, by the name of its terminal.
    fn free_text(&mut self) -> String {
        let mut limits = vec!["/(?s:.+)/".to_owned()];
        for open in self.opens {
            // A special token is no text in any case.
            if !self.literal(open).contains("<[") {
                limits.push(format!("~/(?s:.*){}(?s:.*)/", escaped(open)));
            }
        }
        if self.has_bare {
            limits.push("~/\\s*[\\[{](?s:.*)/".to_owned());
        }
        let name = self.name("TEXT");
        let _ = writeln!(self.rules, "{name}: {}", limits.join(" & "));
        name
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
    fn free(&mut self, bare: Option<[&str; 2]>) -> Result<String> {
        if self.calls.enforced || (self.opens.is_empty() && bare.is_none()) {
            return Err(not_enforced());
        }
        let mut begins: Vec<String> = self.opens.iter().map(|open| self.literal(open)).collect();
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
                if self.calls.other == Other::Format =>
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
            Shape::Marked { each: [before, behind], mark } => {
                let head = self.literal(&format!("{before}{}", tool.name));
                let arguments = self.marked_object(tool, &tool.parameters, mark, 0)?;
                let tail = self.literal(behind);
                format!("{head} {arguments} {tail}")
            }
            Shape::Functions { .. } => {
                let head = self.literal(&format!("{}(", tool.name));
                let arguments = self.named(tool)?;
                let tail = self.literal(")");
                format!("{head} {arguments} {tail}")
            }
            Shape::Elements { call: [before, between, behind], argument, kinds, .. } => {
                let head = self.literal(&format!("{before}{}{between}", tool.name));
                let arguments = self.elements(tool, argument, kinds)?;
                let tail = self.literal(behind);
                format!("{head} {arguments} {tail}")
            }
            Shape::Either { .. } | Shape::Unknown { .. } => return Err(not_enforced()),
        };
        Ok(self.rule(&body))
    }

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
    fn elements(
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
            let mut each = Vec::new();
            for (kind, values) in [(string, values.strings), (other, values.others)] {
                if !values.is_empty() {
                    let head = self.literal(&format!("{before}{name}{kind}{between}"));
                    each.push(format!("{head} ({})", values.join(" | ")));
                }
            }
            let rule = self.rule(&each.join(" | "));
            let _ = write!(written, " {rule}{}", if is_required { "" } else { "?" });
        }
        Ok(written)
    }

    /// Arguments as `name=value`, with commas between them.
    fn named(&mut self, tool: &Tool) -> Result<String> {
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

    /// An object with Gemma's keys and strings.
    fn marked_object(
        &mut self,
        tool: &Tool,
        schema: &Value,
        mark: &str,
        depth: usize,
    ) -> Result<String> {
        let (mut properties, mut names) = (Vec::new(), Vec::new());
        self.collect(tool, schema, &mut properties, &mut names, depth)?;
        let (mut required, mut optional) = (Vec::new(), Vec::new());
        for (name, schema) in properties {
            if name.is_empty() || name.contains([':', ',', '{', '}', '[', ']', '<', '\n']) {
                return Err(unwritable(tool, name));
            }
            let value = self.marked(tool, schema, mark, depth + 1)?;
            let rule = self.rule(&format!("{} ({value})", self.literal(&format!("{name}:"))));
            if names.contains(&name) { &mut required } else { &mut optional }.push(rule);
        }
        Ok(format!("\"{{\" {} \"}}\"", joined(&required, &optional, ",")))
    }

    /// A value with Gemma's keys and strings.
    fn marked(&mut self, tool: &Tool, schema: &Value, mark: &str, depth: usize) -> Result<String> {
        let schema = schemas::resolved(schema, &tool.parameters);
        if let Some(listed) = listed(schema) {
            let each = listed.iter().map(|value| match value {
                Value::String(text) => self.literal(&format!("{mark}{text}{mark}")),
                other => quoted(&other.to_string()),
            });
            return Ok(each.collect::<Vec<_>>().join(" | "));
        }
        if depth > MAX_DEPTH {
            return self.any_marked(mark);
        }
        for key in ["anyOf", "oneOf"] {
            if let Some(parts) = schema.get(key).and_then(Value::as_array) {
                let each = parts.iter().map(|part| self.marked(tool, part, mark, depth + 1));
                return Ok(each.collect::<Result<Vec<_>>>()?.join(" | "));
            }
        }
        let types: Vec<&str> = match schema.get("type") {
            Some(Value::Array(types)) => types.iter().filter_map(Value::as_str).collect(),
            Some(Value::String(name)) => vec![name],
            _ if schema.get("properties").is_some() => vec!["object"],
            _ => return self.any_marked(mark),
        };
        let mut each = Vec::new();
        for name in types {
            each.push(match name {
                "string" => {
                    format!("{} {}", self.literal(mark), self.string(tool, schema, mark)?)
                }
                "object" if schema.get("properties").is_some() => {
                    self.marked_object(tool, schema, mark, depth)?
                }
                "array" => {
                    let item = match schema.get("items") {
                        Some(items) => self.marked(tool, items, mark, depth + 1)?,
                        None => self.any_marked(mark)?,
                    };
                    let item = self.rule(&item);
                    let limit = |key: &str| schema.get(key).and_then(Value::as_u64);
                    let list = list(&item, limit("minItems").unwrap_or(0), limit("maxItems"));
                    format!("\"[\" {list} \"]\"")
                }
                "object" => self.any_marked(mark)?,
                scalar => {
                    let mut scalar_schema = with_definitions(schema, tool);
                    scalar_schema["type"] = scalar.into();
                    if let Some(fields) = scalar_schema.as_object_mut() {
                        OF_STRINGS.iter().for_each(|key| _ = fields.remove(*key));
                    }
                    self.json(tool, &scalar_schema)?
                }
            });
        }
        if schema.get("nullable") == Some(&Value::Bool(true)) {
            each.push("\"null\"".to_owned());
        }
        Ok(each.join(" | "))
    }

    /// Any value with Gemma's keys and strings.
    fn any_marked(&mut self, mark: &str) -> Result<String> {
        if self.any_marked.is_none() {
            let text = format!("{} {}", self.literal(mark), self.text(mark));
            let name = self.name("any");
            let _ = writeln!(
                self.rules,
                "{name}: {text} | NUMBER | \"true\" | \"false\" | \"null\" \
                 | \"[\" ({name} (\",\" {name})*)? \"]\" \
                 | \"{{\" (KEY {name} (\",\" KEY {name})*)? \"}}\"\n\
                 NUMBER: /-?[0-9]{{1,15}}([.][0-9]{{1,15}})?/\n\
                 KEY: /[A-Za-z_][A-Za-z0-9_]*:/"
            );
            self.any_marked = Some(name);
        }
        self.any_marked.clone().ok_or_else(not_enforced)
    }

    /// The properties of an object's schema, and the names of those that are required.
    fn collect<'a>(
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
    fn string(&mut self, tool: &Tool, schema: &Value, end: &str) -> Result<String> {
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
    fn text(&mut self, end: &str) -> String {
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
