//! Finds out in which formats a model reasons and calls tools, by its chat template.
//!
//! A template writes earlier calls as the model is to write its own. So it is tried: the formats
//! that read back the call that the template was given are those of the model.

use std::sync::Arc;

use serde_json::{Value, json};

use super::reasoning::ReasoningFormat;
use super::tool_calls::{ALL, ToolFormat};
use super::{OutputEvent, OutputFormats, OutputParser, Tools};
use crate::text::chat_template::{ChatTemplate, ChatTemplateOptions};
use crate::text::tokenizer::Tokenizer;

/// The formats of a model with these files. `name` is the template's, where it is not the usual one.
pub fn detect(
    template: Option<&ChatTemplate>,
    name: Option<&str>,
    tokenizer: Option<&Tokenizer>,
) -> OutputFormats {
    let has_token = |token: &str| {
        tokenizer.is_some_and(|it| it.added_tokens().any(|(written, _)| written == token))
    };
    let options = ChatTemplateOptions {
        tools: Some(probe_tools()),
        template: name.map(str::to_owned),
        ..ChatTemplateOptions::default()
    };
    let source = template.and_then(|it| it.chosen_source(&options)).unwrap_or_default();
    let calls = template.and_then(|it| tried(it, &options)).or_else(|| signed(source, &has_token));
    let plain = ChatTemplateOptions { tools: None, ..options };
    let source = template.and_then(|it| it.chosen_source(&plain)).unwrap_or(source);
    OutputFormats { reasoning: ReasoningFormat::detect(source, has_token), calls }
}

const TOOL: &str = "probe_tool";
const VALUE: &str = "probe value";

fn probe_tools() -> Value {
    json!([{ "type": "function", "function": {
        "name": TOOL,
        "description": "",
        "parameters": {
            "type": "object",
            "properties": {
                "text": { "type": "string", "description": "" },
                "count": { "type": "integer", "description": "" },
            },
            "required": ["text", "count"],
        },
    } }])
}

/// The format that reads what the template makes of a call.
fn tried(template: &ChatTemplate, options: &ChatTemplateOptions) -> Option<&'static ToolFormat> {
    let arguments = json!({ "text": VALUE, "count": 7 });
    let call = json!({
        "role": "assistant",
        "content": "",
        "tool_calls": [{
            "id": "abcde1234",
            "type": "function",
            "function": { "name": TOOL, "arguments": arguments },
        }],
    });
    let user = json!({ "role": "user", "content": "probe" });
    let result = json!({
        "role": "tool",
        "name": TOOL,
        "tool_call_id": "abcde1234",
        "content": "probe result",
    });
    let tools = Arc::new(Tools::new(&probe_tools()));
    // Some templates write a call only where its result follows.
    for messages in [json!([user, call]), json!([user, call, result])] {
        let Ok(rendered) = template.render(&messages, options) else { continue };
        let Ok(before) = template.render(&json!([user]), options) else { continue };
        let common = rendered.bytes().zip(before.bytes()).take_while(|(a, b)| a == b).count();
        let start = rendered.floor_char_boundary(common);
        // What differs may begin in the middle of a marker.
        let start = rendered[..start].rfind(['<', '[', '\n']).unwrap_or(start);
        let written = &rendered[start..];
        let written = written.split("probe result").next().unwrap_or(written);
        let found = ALL.iter().copied().find(|format| reads(format, written, &tools, &arguments));
        if found.is_some() {
            return found;
        }
    }
    None
}

fn reads(format: &'static ToolFormat, written: &str, tools: &Arc<Tools>, expected: &Value) -> bool {
    let reasoning = ReasoningFormat::named("harmony").filter(|_| format.name == "harmony");
    let formats = OutputFormats { reasoning, calls: Some(format) };
    // A call without a marker stands behind the header of its turn.
    let turn = written.rfind(['{', '[']).filter(|_| format.bare.is_some());
    let starts = [Some(0), turn, format.bare.and_then(|_| written.find(['{', '[']))];
    starts.into_iter().flatten().any(|start| {
        let mut parser = OutputParser::new(formats.clone(), Arc::clone(tools), "", false);
        let mut events = parser.push(&written[start..], false);
        events.extend(parser.finish());
        let named = events
            .iter()
            .any(|it| matches!(it, OutputEvent::CallStart { name, .. } if name == TOOL));
        let ended = events.iter().any(|it| matches!(it, OutputEvent::CallEnd { .. }));
        let json: String = events
            .iter()
            .filter_map(|it| match it {
                OutputEvent::CallDelta { text, .. } => Some(text.as_str()),
                _ => None,
            })
            .collect();
        named && ended && serde_json::from_str::<Value>(&json).ok().as_ref() == Some(expected)
    })
}

/// The format whose signs a template, or the tokenizer, has.
fn signed(source: &str, has_token: &impl Fn(&str) -> bool) -> Option<&'static ToolFormat> {
    ALL.iter().copied().find(|format| {
        format.signs.iter().any(|sign| source.contains(sign))
            || (!format.opens.is_empty()
                && format.opens.iter().any(|it| it.starts_with("<|") && has_token(it)))
    })
}
