//! Finds out in which formats a model reasons and calls tools, by its chat template.
//!
//! A template writes earlier calls as the model is to write its own. So it is tried: the formats
//! that read back the call that the template was given are those of the model.

use std::sync::Arc;

use serde_json::{Map, Value, json};

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
        variables: special_tokens(),
        ..ChatTemplateOptions::default()
    };
    let source = template.and_then(|it| it.chosen_source(&options)).unwrap_or_default();
    let calls = match template.and_then(|it| tried(it, &options)) {
        Some(Tried { format, read: Read::Call, written }) => {
            // A call without a marker may be of another format, of which the template leaves it out.
            let marked = signed(source).filter(|_| format.bare.is_some());
            Some(marked.filter(|it| reads_marked(it, &written)).unwrap_or(format))
        }
        // What a template says of calls counts more than that it writes names.
        tried => signed(source).or(tried.map(|it| it.format)).or_else(|| with_token(&has_token)),
    };
    let plain = ChatTemplateOptions { tools: None, ..options };
    let source = template.and_then(|it| it.chosen_source(&plain)).unwrap_or(source);
    let thought = template.map(|it| thought(it, &plain)).unwrap_or_default();
    OutputFormats {
        reasoning: ReasoningFormat::detect(source, has_token)
            .or_else(|| ReasoningFormat::detect(&thought, |_| false)),
        calls,
        ..OutputFormats::default()
    }
}

/// What templates add to texts, whether the tokenizer has it or not.
fn special_tokens() -> Map<String, Value> {
    let names = ["bos_token", "eos_token", "pad_token", "unk_token"];
    names.into_iter().map(|name| (name.to_owned(), Value::from(""))).collect()
}

/// How many brackets may stand before a call.
const MOST_STARTS: usize = 16;

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

/// What the template makes of reasoning; nothing where it cannot be rendered.
fn thought(template: &ChatTemplate, options: &ChatTemplateOptions) -> String {
    let user = json!({ "role": "user", "content": "probe" });
    let answer = json!({ "role": "assistant", "content": "probe", "reasoning_content": "probe" });
    template.render(&json!([user, answer]), options).unwrap_or_default()
}

/// What a template makes of a call.
struct Tried {
    /// The format that reads it.
    format: &'static ToolFormat,
    /// How much of it is read.
    read: Read,
    /// The call as it is written.
    written: String,
}

fn arguments() -> Value {
    json!({ "text": VALUE, "count": 7 })
}

fn tried(template: &ChatTemplate, options: &ChatTemplateOptions) -> Option<Tried> {
    let arguments = arguments();
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
        let how = |format| reads(format, written, &tools, &arguments);
        // Some templates write earlier calls less exactly than the model is to write its own.
        for read in [Read::Call, Read::Name] {
            if let Some(format) = ALL.iter().copied().find(|format| how(format) == read) {
                return Some(Tried { format, read, written: written.to_owned() });
            }
        }
    }
    None
}

/// Whether a format reads a call behind a marker of its own.
fn reads_marked(format: &'static ToolFormat, written: &str) -> bool {
    let tools = Arc::new(Tools::new(&probe_tools()));
    written.match_indices(['{', '[']).take(MOST_STARTS).any(|(start, _)| {
        format.opens.iter().any(|open| {
            let marked = format!("{open}{}", &written[start..]);
            reads(format, &marked, &tools, &arguments()) == Read::Call
        })
    })
}

/// How much of a call a format reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Read {
    Nothing,
    Name,
    Call,
}

fn reads(format: &'static ToolFormat, written: &str, tools: &Arc<Tools>, expected: &Value) -> Read {
    let reasoning = ReasoningFormat::named("harmony").filter(|_| format.name == "harmony");
    let formats = OutputFormats { reasoning, calls: Some(format), ..OutputFormats::default() };
    // A call without a marker stands behind the header of its turn.
    let starts = written.match_indices(['{', '[']).map(|(at, _)| at).chain(written.find(TOOL));
    let bare = starts.take(MOST_STARTS).filter(|_| format.bare.is_some());
    let compact: String = written.chars().filter(|it| !it.is_whitespace()).collect();
    if !format.written.iter().all(|it| compact.contains(it)) {
        return Read::Nothing;
    }
    let closed = format.closes.is_empty() || format.closes.iter().any(|it| written.contains(it));
    let read = std::iter::once(0).chain(bare).map(|start| {
        let mut parser = OutputParser::new(formats.clone(), Arc::clone(tools), "", false);
        let mut events = parser.push(&written[start..], false);
        events.extend(parser.finish());
        let is_name =
            |it: &OutputEvent| matches!(it, OutputEvent::CallStart { name, .. } if name == TOOL);
        let ended = events.iter().any(|it| matches!(it, OutputEvent::CallEnd { .. }));
        let deltas = events.iter().filter_map(|it| match it {
            OutputEvent::CallDelta { text, .. } => Some(text.as_str()),
            _ => None,
        });
        let json: String = deltas.collect();
        let same = || serde_json::from_str::<Value>(&json).ok().as_ref() == Some(expected);
        match events.iter().any(is_name) {
            true if ended && closed && same() => Read::Call,
            true => Read::Name,
            false => Read::Nothing,
        }
    });
    read.max().unwrap_or(Read::Nothing)
}

/// The format whose signs a template has.
fn signed(source: &str) -> Option<&'static ToolFormat> {
    ALL.iter().copied().find(|format| format.signs.iter().any(|sign| source.contains(sign)))
}

/// The format whose first marker is a token of the tokenizer.
fn with_token(has_token: &impl Fn(&str) -> bool) -> Option<&'static ToolFormat> {
    let is_token = |it: &&str| it.starts_with("<|") && has_token(it);
    ALL.iter().copied().find(|format| format.opens.iter().any(&is_token))
}

#[cfg(test)]
mod tests;
