//! Calls as grammars, in llguidance's dialect of Lark: what a model must write that calls one of
//! some tools, in its own format.

mod marked;
mod values;

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::schemas::Tool;
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
        /// What stands before the name, between it and the arguments, and behind them; `{#}` is the
        /// call's number.
        each: [&'static str; 3],
    },
    /// Elements.
    Elements {
        /// What stands before and behind all calls.
        around: [&'static str; 2],
        /// What stands before and behind a call's name, and behind all arguments; `{#}` is the call's
        /// number.
        call: [&'static str; 3],
        /// What stands before and behind an argument's name, and behind its value, in which `{}`
        /// is the name.
        argument: [&'static str; 3],
        /// What stands directly behind an argument's name: for a string, and for anything else, in
        /// which `{}` is the type.
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
    /// It is not told.
    Unknown,
}

/// What of a format a grammar is written of.
#[derive(Debug, Clone, Copy)]
pub(super) struct Format<'a> {
    /// How a call is written.
    pub shape: Shape,
    /// What begins calls.
    pub opens: &'a [&'a str],
    /// Whether a call may begin an answer without any of that.
    pub has_bare: bool,
    /// What an answer begins with that is no call, where calls begin with their name.
    pub header: Option<&'static str>,
}

/// Gives those of some values that a schema of a tool allows.
type Allowed<'a> = dyn Fn(&Tool, &Value, Vec<Value>) -> Result<Vec<Value>> + 'a;

/// What of calls a grammar is to describe.
pub struct Calls<'a> {
    /// The tools that may be called.
    pub tools: &'a [&'a Tool],
    /// Whether there may be several calls.
    pub parallel: bool,
    /// What the answer may be instead.
    pub other: Other,
    /// Brings a schema of a tool's arguments, or of one argument, into the form that is enforced.
    pub lower: &'a dyn Fn(&Tool, &Value) -> Result<Value>,
    /// Those of some values that a schema of a tool allows.
    pub allowed: &'a Allowed<'a>,
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

/// A grammar of calls.
#[derive(Debug)]
pub struct CallGrammar {
    /// The grammar.
    pub lark: String,
    /// What JSON begins behind.
    pub heads: Vec<CallHead>,
    /// Whether text may stand around it, besides an answer in a format.
    pub has_text: bool,
}

/// What JSON begins behind where text stands around it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallHead {
    /// The text, special tokens as they are written.
    pub text: String,
    /// Whether a text may stand there, too.
    pub may_be_text: bool,
    /// What stands around strings instead of quotes.
    pub mark: Option<String>,
    /// Whether the answer stands there, which may be no JSON.
    pub is_answer: bool,
}

impl CallHead {
    fn new(text: String) -> Self {
        Self { text, may_be_text: false, mark: None, is_answer: false }
    }

    /// What an answer stands behind.
    fn of_answer(text: String) -> Self {
        Self { is_answer: true, ..Self::new(text) }
    }
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
pub(super) fn write(format: Format<'_>, calls: &Calls<'_>) -> Result<CallGrammar> {
    let Format { shape, opens, has_bare, header } = format;
    let mut shape = shape;
    while let Shape::Either { token, with, without } = shape {
        shape = if calls.tokenizer.token_to_id(token).is_some() { *with } else { *without };
    }
    let mut writer = Writer {
        calls,
        opens,
        has_bare,
        header,
        heads: Vec::new(),
        rules: String::new(),
        count: 0,
        any_marked: None,
    };
    let (begin, between, end) = match shape {
        // What else begins like JSON has to be made of the same pieces as JSON.
        Shape::Object { around: ["[", _, "]"], each: ["", ""], .. }
            if calls.other == Other::Format =>
        {
            ("", None, "")
        }
        Shape::Object { around: [begin, between, end], .. } => (begin, Some(between), end),
        Shape::Named { around: [begin, end], between, .. } => (begin, between, end),
        Shape::Elements { around: [begin, end], .. } => (begin, Some(""), end),
        Shape::Marked { .. } => ("", Some(""), ""),
        Shape::Functions { around: [begin, end] } => (begin, Some(", "), end),
        Shape::Unknown | Shape::Either { .. } => return Err(not_enforced()),
    };
    let written = writer.each(shape)?;
    let _ = writeln!(writer.rules, "call: {written}");
    let more = match between.filter(|_| calls.parallel) {
        Some(between) => format!(" ({} call)*", writer.literal(between)),
        None => String::new(),
    };
    let end = writer.literal(end);
    // The rest of a call whose opener was part of what is before it.
    let mut behind = None;
    if calls.other == Other::Text && calls.lead.is_none() {
        behind = match (header, between) {
            (Some(_), Some(between)) => Some((between.trim(), "calls".to_owned())),
            _ => match opens.iter().find_map(|open| Some((open, shape.behind(begin, open)?))) {
                Some((open, (begin, first))) => {
                    let first = match first {
                        Some(shape) => format!("({})", writer.each(shape)?),
                        None => "call".to_owned(),
                    };
                    Some((*open, format!("{} {first}{more} {end}", writer.literal(begin))))
                }
                None => None,
            },
        };
    }
    let begin = writer.literal(begin);
    let has_text = matches!(shape, Shape::Elements { .. } | Shape::Marked { .. })
        || calls.other == Other::Text
        || calls.lead.is_some();
    let answer = calls.lead.map(|lead| lead.answer).or(header);
    let answer = answer.filter(|_| calls.other == Other::Format);
    writer.heads.extend(answer.map(|it| CallHead::of_answer(it.to_owned())));
    let heads = std::mem::take(&mut writer.heads);
    let lark = writer.finish(&format!("{begin} call{more} {end}"), behind);
    Ok(CallGrammar { lark, heads, has_text })
}

/// The grammar of an answer without calls, the rule `@other`, behind messages of reasoning.
pub fn write_answer(lead: Lead, tokenizer: &Tokenizer) -> CallGrammar {
    let nothing = |_: &Tool, _: &Value| Ok(Value::Null);
    let calls = Calls {
        tools: &[],
        parallel: false,
        other: Other::Format,
        lower: &nothing,
        leave_out: &|_, _| Ok(()),
        allowed: &|_, _, values| Ok(values),
        tokenizer,
        lead: Some(lead),
    };
    let mut writer = Writer {
        calls: &calls,
        opens: &[],
        has_bare: false,
        header: None,
        heads: Vec::new(),
        rules: String::new(),
        count: 0,
        any_marked: None,
    };
    let before = writer.lead(lead);
    let answer = writer.literal(lead.answer);
    let lark = format!("start: {before}{answer} @other\n{}", writer.rules);
    let heads = vec![CallHead::of_answer(lead.answer.to_owned())];
    CallGrammar { lark, heads, has_text: true }
}

impl Shape {
    /// What calls begin with behind `open`, which is the beginning of the first; and the shape of the
    /// first call, where that differs from others.
    fn behind(self, begin: &'static str, open: &str) -> Option<(&'static str, Option<Self>)> {
        if !begin.is_empty() {
            return Some((begin.strip_prefix(open)?, None));
        }
        let shape = match self {
            Self::Object { around, each: [before, behind], fields } => {
                Self::Object { around, each: [before.strip_prefix(open)?, behind], fields }
            }
            Self::Named { around, between, each: [before, middle, behind] } => {
                Self::Named { around, between, each: [before.strip_prefix(open)?, middle, behind] }
            }
            Self::Elements { around, call: [before, middle, behind], argument, kinds } => {
                let call = [before.strip_prefix(open)?, middle, behind];
                Self::Elements { around, call, argument, kinds }
            }
            Self::Marked { each: [before, behind], mark } => {
                Self::Marked { each: [before.strip_prefix(open)?, behind], mark }
            }
            Self::Functions { .. } | Self::Either { .. } | Self::Unknown => return None,
        };
        Some(("", Some(shape)))
    }
}

/// The place of a call's number.
pub(super) const NUMBER: &str = "{#}";

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

/// The schema of a call that is an object with these two fields.
fn call_schema(tool: &Tool, [name, arguments]: [&str; 2]) -> Value {
    let call = json!({
        "type": "object",
        "properties": {
            name: { "const": tool.name },
            arguments: { "type": "object", "allOf": [tool.parameters] },
        },
        "required": [name, arguments],
        "additionalProperties": false,
    });
    with_definitions(&call, tool)
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

/// Numbers of a schema that says no more than their type: the parser's own have no end.
fn plain_number(schema: &Value) -> Option<&'static str> {
    let is_plain = schema
        .as_object()?
        .keys()
        .all(|key| matches!(key.as_str(), "type" | "x-guidance" | "$defs"));
    match schema.get("type")?.as_str()? {
        "integer" if is_plain => Some("-?(0|[1-9][0-9]{0,15})"),
        "number" if is_plain => {
            Some("-?(0|[1-9][0-9]{0,15})(\\.[0-9]{1,16})?([eE][+-]?[0-9]{1,2})?")
        }
        _ => None,
    }
}

fn not_enforced() -> Error {
    let message = "this model's format of calls cannot be enforced; use 'auto', and tools that \
                   are not strict";
    Error::unsupported("toolChoice", message)
}

struct Writer<'a> {
    calls: &'a Calls<'a>,
    /// What begins calls.
    opens: &'a [&'a str],
    /// Whether a call may begin an answer without any of that.
    has_bare: bool,
    /// What an answer begins with that is no call, where calls begin with their name.
    header: Option<&'static str>,
    /// What JSON has begun behind so far.
    heads: Vec<CallHead>,
    rules: String,
    count: usize,
    /// The rule of any value with Gemma's keys and strings, where it is needed.
    any_marked: Option<String>,
}

impl Writer<'_> {
    /// Calls of all tools, each of which may come.
    fn each(&mut self, shape: Shape) -> Result<String> {
        let calls: Vec<String> =
            self.calls.tools.iter().map(|tool| self.call(shape, tool)).collect::<Result<_>>()?;
        Ok(calls.join(" | "))
    }

    /// The whole grammar, where calls are `body`, and those behind text a text and what comes
    /// `behind` it.
    fn finish(mut self, body: &str, behind: Option<(&str, String)>) -> String {
        let lead = self.calls.lead;
        let header = lead.map(|lead| lead.answer).or(self.header);
        let answer = header.map(|header| self.literal(header)).unwrap_or_default();
        let before = lead.map(|lead| self.lead(lead)).unwrap_or_default();
        let start = match (self.calls.other, lead) {
            (Other::Nothing, _) => "calls".to_owned(),
            (Other::Format, _) => format!("(calls | {answer} @other)"),
            (Other::Text, None) => {
                let text = self.free_text();
                let more = behind.map(|(open, rest)| self.behind_text(&text, open, &rest));
                match (more, self.header) {
                    (Some(more), Some(_)) => format!("(calls | {answer} ({text} | {more})?)"),
                    (Some(more), None) if self.has_bare => format!("({text} | calls | {more})?"),
                    (Some(more), None) => format!("({text} | {more})?"),
                    (None, _) => format!("({text} | calls)?"),
                }
            }
            // Calls are messages of their own.
            (Other::Text, Some(_)) => format!("(calls | {answer} {}?)", self.free_text()),
        };
        format!("start: {before}{start}\ncalls: {body}\n{}", self.rules)
    }

    /// Calls behind `open`, with `text` before that or without.
    fn behind_text(&mut self, text: &str, open: &str, rest: &str) -> String {
        // A special token ends a text by itself.
        let special = self.special(open).first().and_then(|(_, written)| open.find(written));
        let (head, tail) = open.split_at(special.unwrap_or(open.len()));
        let tail = self.literal(tail);
        if head.is_empty() {
            return format!("{text}? {tail} {rest}");
        }
        let name = self.name("before");
        let _ = writeln!(self.rules, "{name}[lazy]: /(?s:.*){}/", escaped(head));
        format!("{name} {tail} {rest}")
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

    fn call(&mut self, shape: Shape, tool: &Tool) -> Result<String> {
        let body = match shape {
            // What else begins like JSON has to be made of the same pieces as JSON.
            Shape::Object { around: ["", _, ""], each: ["", ""], fields }
                if self.calls.other == Other::Format =>
            {
                let schema = (self.calls.lower)(tool, &call_schema(tool, fields))?;
                self.json_rule(&schema)
            }
            Shape::Object { around: ["[", _, "]"], each: ["", ""], fields }
                if self.calls.other == Other::Format =>
            {
                let mut list = json!({
                    "type": "array",
                    "items": call_schema(tool, fields),
                    "minItems": 1,
                });
                if !self.calls.parallel {
                    list["maxItems"] = 1.into();
                }
                let schema = (self.calls.lower)(tool, &with_definitions(&list, tool))?;
                self.json_rule(&schema)
            }
            Shape::Object { each: [before, behind], fields: [name, arguments], .. } => {
                let head = format!(
                    "{before}{{{}: {}, {}: ",
                    quoted(name),
                    quoted(&tool.name),
                    quoted(arguments)
                );
                self.heads.push(CallHead::new(head.clone()));
                let (head, tail) = (self.literal(&head), self.literal(&format!("}}{behind}")));
                format!("{head} {} {tail}", self.arguments(tool)?)
            }
            Shape::Named { each: [before, between, behind], .. } => {
                let head = self.head(before, tool, between);
                self.heads.push(CallHead::new(match between.split_once(NUMBER) {
                    Some((_, behind)) => behind.to_owned(),
                    None => format!("{before}{}{between}", tool.name),
                }));
                let tail = self.literal(behind);
                format!("{head} {} {tail}", self.arguments(tool)?)
            }
            Shape::Marked { each: [before, behind], mark } => {
                let head = format!("{before}{}", tool.name);
                let mark_of = Some(mark.to_owned());
                self.heads.push(CallHead { mark: mark_of, ..CallHead::new(head.clone()) });
                let head = self.literal(&head);
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
                let head = self.head(before, tool, between);
                let arguments = self.elements(tool, argument, kinds)?;
                let tail = self.literal(behind);
                format!("{head} {arguments} {tail}")
            }
            Shape::Either { .. } | Shape::Unknown => return Err(not_enforced()),
        };
        Ok(self.rule(&body))
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
        if let Some(pattern) = plain_number(schema) {
            let name = self.name("NUMBER");
            let _ = writeln!(self.rules, "{name}: /{pattern}/");
            return name;
        }
        let name = self.name("json");
        let _ = writeln!(self.rules, "{name}: %json {schema}");
        name
    }

    /// A call up to its arguments. The number of a call is the model's own.
    fn head(&self, before: &str, tool: &Tool, between: &str) -> String {
        let written = format!("{before}{}{between}", tool.name);
        match between.split_once(NUMBER) {
            Some((_, behind)) => {
                let begin = &written[..written.len() - behind.len() - NUMBER.len()];
                format!("{} /[0-9]{{1,3}}/ {}", self.literal(begin), self.literal(behind))
            }
            None => self.literal(&written),
        }
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
        let mut parts = Vec::new();
        let mut rest = text;
        for (token, written) in self.special(text) {
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

    /// The special tokens in a text, in order.
    fn special(&self, text: &str) -> Vec<(u32, String)> {
        let tokenizer = self.calls.tokenizer;
        let tokens = tokenizer.encode(text, false).unwrap_or_default().into_iter();
        tokens
            .filter(|&token| tokenizer.is_special(token))
            .filter_map(|token| Some((token, tokenizer.id_to_token(token)?)))
            .collect()
    }
}
