//! Calls of earlier turns in a model's own format, for chat templates that write none.

use std::fmt::Write as _;

use serde_json::{Map, Value};

use super::call_grammar::{NUMBER, Shape};
use super::tool_calls::ToolFormat;
use super::value::quoted;
use crate::text::chat_template::{CallWriter, WrittenCall, spaced_json};

impl ToolFormat {
    /// What writes calls in this format, for a tokenizer that has some tokens.
    pub fn writer(&self, has_token: impl Fn(&str) -> bool) -> CallWriter {
        let mut shape = self.shape;
        while let Shape::Either { token, with, without } = shape {
            shape = if has_token(token) { *with } else { *without };
        }
        CallWriter::new(move |calls| written(shape, calls))
    }
}

/// These calls in a format of this shape.
fn written(shape: Shape, calls: &[WrittenCall]) -> String {
    let each = |write: &dyn Fn(&WrittenCall) -> String| calls.iter().map(write).collect::<Vec<_>>();
    match shape {
        Shape::Object { around: [begin, between, end], each: [before, behind], fields } => {
            let calls = each(&|call| {
                let [name, arguments] = fields.map(quoted);
                let (tool, json) = (quoted(&call.name), json(&call.arguments));
                format!("{before}{{{name}: {tool}, {arguments}: {json}}}{behind}")
            });
            format!("{begin}{}{end}", calls.join(between))
        }
        Shape::Named { around: [begin, end], between, each: [before, middle, behind] } => {
            let calls = each(&|call| {
                let middle = numbered(middle, call);
                format!("{before}{}{middle}{}{behind}", call.name, json(&call.arguments))
            });
            // A format of one call in a turn has none between two.
            format!("{begin}{}{end}", calls.join(between.unwrap_or("\n")))
        }
        Shape::Elements {
            around: [begin, end],
            call: [before, middle, behind],
            argument,
            kinds,
        } => {
            let calls = each(&|call| {
                let middle = numbered(middle, call);
                let mut text = format!("{before}{}{middle}", call.name);
                for (name, value) in &call.arguments {
                    text += &element(name, value, argument, kinds);
                }
                text + behind
            });
            format!("{begin}{}{end}", calls.concat())
        }
        Shape::Functions { around: [begin, end] } => {
            let calls = each(&|call| {
                let arguments = call.arguments.iter();
                let arguments: Vec<String> =
                    arguments.map(|(name, value)| format!("{name}={}", python(value))).collect();
                format!("{}({})", call.name, arguments.join(", "))
            });
            format!("{begin}{}{end}", calls.join(", "))
        }
        Shape::Marked { each: [before, behind], mark } => {
            let calls = each(&|call| {
                format!("{before}{}{}{behind}", call.name, marked_object(&call.arguments, mark))
            });
            calls.concat()
        }
        // No format is without a shape; JSON is read by every model.
        Shape::Either { .. } | Shape::Unknown => {
            each(&|call| format!("{} {}", call.name, json(&call.arguments))).join("\n")
        }
    }
}

fn json(arguments: &Map<String, Value>) -> String {
    spaced_json(&Value::Object(arguments.clone()))
}

fn numbered(text: &str, call: &WrittenCall) -> String {
    text.replace(NUMBER, &call.number.to_string())
}

/// An argument as an element.
fn element(
    name: &str,
    value: &Value,
    [before, between, behind]: [&str; 3],
    [string, other]: [&str; 2],
) -> String {
    let kind = match value {
        Value::String(_) => {
            return format!(
                "{before}{name}{string}{between}{}{}",
                value.as_str().unwrap_or_default(),
                behind.replace("{}", name)
            );
        }
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "number",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    let (other, behind) = (other.replace("{}", kind), behind.replace("{}", name));
    format!("{before}{name}{other}{between}{}{behind}", spaced_json(value))
}

/// A value as Python writes it, with JSON's quotes.
fn python(value: &Value) -> String {
    match value {
        Value::Null => "None".to_owned(),
        Value::Bool(true) => "True".to_owned(),
        Value::Bool(false) => "False".to_owned(),
        Value::Array(items) => {
            let items: Vec<String> = items.iter().map(python).collect();
            format!("[{}]", items.join(", "))
        }
        Value::Object(fields) => {
            let field =
                |(name, value): (&String, &Value)| format!("{}: {}", quoted(name), python(value));
            let fields: Vec<String> = fields.iter().map(field).collect();
            format!("{{{}}}", fields.join(", "))
        }
        Value::Number(_) | Value::String(_) => spaced_json(value),
    }
}

/// An object with Gemma's keys and strings.
fn marked_object(fields: &Map<String, Value>, mark: &str) -> String {
    let mut text = String::from("{");
    for (index, (name, value)) in fields.iter().enumerate() {
        let comma = if index > 0 { "," } else { "" };
        let _ = write!(text, "{comma}{name}:{}", marked(value, mark));
    }
    text + "}"
}

fn marked(value: &Value, mark: &str) -> String {
    match value {
        Value::String(text) => format!("{mark}{text}{mark}"),
        Value::Array(items) => {
            let items: Vec<String> = items.iter().map(|it| marked(it, mark)).collect();
            format!("[{}]", items.join(","))
        }
        Value::Object(fields) => marked_object(fields, mark),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::{Value, json};

    use crate::text::chat_template::{ChatTemplate, ChatTemplateOptions};
    use crate::text::output::tool_calls::ALL;
    use crate::text::output::{OutputEvent, OutputFormats, OutputParser, ReasoningFormat, Tools};

    /// Calls as they are read back: their names and arguments.
    fn read(format: &'static super::ToolFormat, text: &str) -> Vec<(String, Value)> {
        let tool = |name: &str| {
            json!({ "type": "function", "function": { "name": name, "parameters": {
                "type": "object",
                "properties": {
                    "city": { "type": "string" }, "days": { "type": "integer" },
                    "wet": { "type": "boolean" }, "none": { "type": "null" },
                    "tags": { "type": "array" }, "more": { "type": "object" },
                },
            } } })
        };
        let tools = Arc::new(Tools::new(&json!([tool("get_weather"), tool("now")])));
        let reasoning = ReasoningFormat::named("harmony").filter(|_| format.name == "harmony");
        let formats = OutputFormats { reasoning, calls: Some(format), ..OutputFormats::default() };
        let mut parser = OutputParser::new(formats, tools, "", false);
        let mut events = parser.push(text, false);
        events.extend(parser.finish());
        let mut calls: Vec<(String, String)> = Vec::new();
        for event in events {
            match event {
                OutputEvent::CallStart { name, .. } => calls.push((name, String::new())),
                OutputEvent::CallDelta { text, .. } => calls.last_mut().unwrap().1 += &text,
                OutputEvent::CallEnd { .. } | OutputEvent::Marker(_) => {}
                other => panic!("{}: {text:?}: {other:?}", format.name),
            }
        }
        let parsed = |(name, json): (String, String)| (name, serde_json::from_str(&json).unwrap());
        calls.into_iter().map(parsed).collect()
    }

    #[test]
    fn what_is_written_of_a_call_is_read_back() {
        let weather = json!({
            "city": "Ulm \"am\" Rhein", "days": -3, "wet": true, "tags": ["a", 1, false],
            "more": { "deep": { "x": "y" }, "list": [] },
        });
        let call = |name: &str, arguments: &Value| json!({ "function": { "name": name, "arguments": arguments } });
        let template = ChatTemplate::from_source("{{ messages[0].content }}").unwrap();
        for format in ALL.iter().copied() {
            for has_token in [true, false] {
                let wanted = [("get_weather", &weather), ("now", &json!({}))];
                // Some take one call in a turn, or are told apart by the header of a message.
                let count = if matches!(format.name, "glm4" | "harmony") { 1 } else { 2 };
                let calls: Vec<Value> =
                    wanted[..count].iter().map(|(name, it)| call(name, it)).collect();
                let options = ChatTemplateOptions {
                    calls: Some(format.writer(|_| has_token)),
                    ..ChatTemplateOptions::default()
                };
                let turn = json!([{ "role": "assistant", "content": null, "tool_calls": calls }]);
                let text = template.render(&turn, &options).unwrap();
                let read = read(format, &text);
                let wanted: Vec<(String, Value)> = wanted[..count]
                    .iter()
                    .map(|(name, it)| ((*name).to_owned(), (*it).clone()))
                    .collect();
                assert_eq!(read, wanted, "{}: {text}", format.name);
            }
        }
    }
}
