//! The messages as a template needs them.
//!
//! Clients give a content as text or as a list of parts, and a call's arguments as an object or as
//! JSON text. A template that knows one form only gets that form, which [`Forms`] has found out; of
//! what it has not, the form that the tags tell of, or that renders.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::arrange::{arranged, is_plain};
use super::calls::Held;
use super::forms::{self, Content, Forms, Thoughts};
use super::messages::{Message, reasoning};
use super::reads::Reads;
use super::{convert, json as text};
use crate::error::{Error, Result};

/// The form of contents.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Contents {
    AsGiven,
    Text,
    Parts,
}

/// The form of the arguments of calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Arguments {
    AsGiven,
    Objects,
    Text,
    /// Objects, with text that is none in an object of its own.
    Wrapped,
}

/// Where a call's name and arguments are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Calls {
    AsGiven,
    /// In the call, too, and not in its `function` alone.
    Flat,
    /// In its `function`.
    Wrapped,
}

/// What becomes of a content that is `null`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Nulls {
    Dropped,
    Kept,
    Empty,
    /// Empty, as are those of turns with calls.
    NoText,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Layout {
    contents: Contents,
    arguments: Arguments,
    calls: Calls,
    nulls: Nulls,
}

/// What there is to be laid out.
struct Found {
    lists: bool,
    arguments: bool,
    nulls: bool,
}

/// How messages are laid out.
pub(super) struct Given<'a> {
    pub reads: &'a Reads,
    /// Whether the final message stays open.
    pub is_open: bool,
    /// How long each rendering may take. Forms are tried for a quarter of that.
    pub time: Duration,
    /// Where calls are held that the template does not write.
    pub held: Option<&'a Held<'a>>,
    /// The tools that the model may call.
    pub tools: Option<&'a Value>,
}

/// Renders `messages` in the form that the template needs.
pub(super) fn render<'a>(
    messages: &[Message],
    given: &Given<'_>,
    forms: impl FnOnce() -> &'a Forms,
    render: impl Fn(Vec<Message>) -> Result<String>,
) -> Result<String> {
    let begun = Instant::now();
    let &Given { reads, time, .. } = given;
    let has_tools = given.tools.and_then(Value::as_array).is_some_and(|it| !it.is_empty());
    let is_plain = is_plain(messages) && !(has_tools && reads.tools_of_message());
    let forms = (!is_plain).then(forms);
    let shaped = forms.map(|forms| shaped(messages, given, forms)).transpose()?;
    let messages = shaped.as_deref().unwrap_or(messages);
    let found = find(messages);
    let first = Layout {
        contents: if found.lists && !reads.parts { Contents::Text } else { Contents::AsGiven },
        arguments: match forms.and_then(|forms| forms.arguments) {
            Some(forms::Arguments::Objects) => Arguments::Objects,
            Some(forms::Arguments::Text) => Arguments::Text,
            None if reads.argument_objects && !reads.asks_for_arguments => Arguments::Objects,
            None => Arguments::AsGiven,
        },
        calls: if reads.field("arguments") && !reads.field("function") {
            Calls::Flat
        } else {
            Calls::AsGiven
        },
        nulls: if reads.asks_for_none { Nulls::Kept } else { Nulls::Dropped },
    };
    let attempt = |layout: Layout| render(lay_out(messages, layout)?);
    let error = match attempt(first) {
        Ok(text) => return with_parts(messages, first, reads, attempt, text),
        Err(error @ Error::Template { .. }) => error,
        Err(error) => return Err(error),
    };
    let others = alternatives(first, &found, reads).into_iter();
    let others = others.take_while(|_| begun.elapsed() < time / 4);
    others.map(attempt).find_map(Result::ok).ok_or(error)
}

/// The messages as `forms` have them, whatever the layout. The final one may have to stay open.
fn shaped(messages: &[Message], given: &Given<'_>, forms: &Forms) -> Result<Vec<Message>> {
    let &Given { reads, is_open, held, tools, .. } = given;
    let mut shaped = messages.to_vec();
    let count = shaped.len();
    for (index, message) in shaped.iter_mut().enumerate() {
        let form = match message.get("role").and_then(Value::as_str) {
            Some("system" | "developer") => forms.contents.system,
            Some("user") => forms.contents.user,
            Some("assistant") => forms.contents.assistant,
            Some("tool" | "function") => forms.contents.tool,
            _ => Content { text: true, parts: true },
        };
        shape_content(index, message, form, reads)?;
        if let Some(thought) = reasoning(message).cloned()
            && forms.thoughts != Thoughts::Fields
            && !(is_open && index + 1 == count)
        {
            forms.thoughts.put(message, &thought);
        }
    }
    let mut arranged = arranged(&shaped, reads, forms, held);
    if let Some(Value::Array(tools)) = tools.filter(|_| forms.system_tools) {
        tell_of(tools, &mut arranged);
    }
    Ok(arranged)
}

/// Puts tools into the message of the system, as JSON text.
fn tell_of(tools: &[Value], messages: &mut Vec<Message>) {
    if tools.is_empty() {
        return;
    }
    let is_system = |it: &Message| it.get("role").is_some_and(|role| role == "system");
    let place = messages.iter().position(is_system).unwrap_or_else(|| {
        let fields = [("role", "system"), ("content", "")];
        let system = fields.map(|(name, value)| (name.to_owned(), value.into()));
        messages.insert(0, system.into_iter().collect());
        0
    });
    let functions = tools.iter().map(|tool| tool.get("function").unwrap_or(tool).clone());
    let written = text::spaced(&functions.collect());
    messages[place].entry("tools").or_insert_with(|| written.into());
}

/// Brings a content into a form that its role can have.
fn shape_content(index: usize, message: &mut Message, form: Content, reads: &Reads) -> Result<()> {
    match message.get_mut("content") {
        Some(content @ Value::String(_)) if form.parts && !form.text => {
            *content = json!([{ "type": "text", "text": content }]);
        }
        Some(content @ Value::Array(_)) => {
            let parts = content.as_array().map_or(&[][..], Vec::as_slice);
            let is_text = parts
                .iter()
                .all(|it| it.is_string() || it.get("text").is_some_and(|text| text.is_string()));
            // What else than text there is goes to those that know of any parts.
            let keeps = if is_text { form.parts && parts.len() > 1 } else { reads.parts };
            if !keeps && (form.text || !form.parts) {
                *content = Value::String(joined(index, parts)?);
            }
        }
        _ => {}
    }
    Ok(())
}

/// A template that knows parts only leaves out what is given as text: then the text is given as a
/// part.
fn with_parts(
    messages: &[Message],
    layout: Layout,
    reads: &Reads,
    attempt: impl Fn(Layout) -> Result<String>,
    text: String,
) -> Result<String> {
    let may_leave_out = reads.parts && !reads.asks_for_content;
    let shows = |rendered: &str| {
        let last = messages.iter().rev().take(8);
        let contents = last.filter_map(|message| message.get("content")?.as_str());
        let mut words = contents.filter_map(|content| content.split_whitespace().next());
        words.all(|word| rendered.contains(word))
    };
    if !may_leave_out || shows(&text) {
        return Ok(text);
    }
    match attempt(Layout { contents: Contents::Parts, ..layout }) {
        Ok(laid_out) if shows(&laid_out) => Ok(laid_out),
        _ => Ok(text),
    }
}

fn alternatives(first: Layout, found: &Found, reads: &Reads) -> Vec<Layout> {
    let mut layouts = Vec::new();
    if found.nulls {
        for nulls in [Nulls::Kept, Nulls::Empty] {
            layouts.push(Layout { nulls, ..first });
        }
    }
    if found.arguments {
        let forms = [Arguments::AsGiven, Arguments::Objects, Arguments::Text, Arguments::Wrapped];
        for arguments in forms {
            layouts.push(Layout { arguments, ..first });
        }
        layouts.push(Layout { calls: Calls::Wrapped, ..first });
    }
    if found.lists {
        for contents in [Contents::AsGiven, Contents::Text] {
            layouts.push(Layout { contents, ..first });
        }
    }
    if reads.parts {
        layouts.push(Layout { contents: Contents::Parts, ..first });
    }
    // Some take either text or calls.
    if found.arguments {
        layouts.push(Layout { nulls: Nulls::NoText, ..first });
    }
    layouts.retain(|layout| *layout != first);
    layouts
}

fn find(messages: &[Message]) -> Found {
    let contents = || messages.iter().filter_map(|message| message.get("content"));
    Found {
        lists: contents().any(Value::is_array),
        nulls: messages.iter().any(|it| it.get("content").is_none_or(Value::is_null)),
        arguments: messages.iter().any(|message| message.contains_key("tool_calls")),
    }
}

fn lay_out(messages: &[Message], layout: Layout) -> Result<Vec<Message>> {
    let mut laid_out = messages.to_vec();
    for (index, message) in laid_out.iter_mut().enumerate() {
        if layout.nulls == Nulls::NoText && message.contains_key("tool_calls") {
            message.insert("content".to_owned(), "".into());
        }
        lay_out_content(index, message, layout)?;
        // Other fields that are null say nothing.
        message.retain(|name, value| !value.is_null() || name == "content");
        let calls = message.get_mut("tool_calls").and_then(Value::as_array_mut);
        for call in calls.into_iter().flatten() {
            let is_wrapped = call.get("function").is_some();
            let function = if is_wrapped { &mut call["function"] } else { &mut *call };
            // Some clients send nothing for a call without arguments.
            let function = function.as_object_mut().filter(|it| it.contains_key("name"));
            if let Some(function) = function.filter(|it| !it.contains_key("parameters")) {
                let arguments = function.entry("arguments").or_insert(Value::Null);
                lay_out_arguments(arguments, layout.arguments);
            }
            if let Some(call) = call.as_object_mut() {
                lay_out_call(call, layout.calls);
            }
        }
    }
    Ok(laid_out)
}

fn lay_out_content(index: usize, message: &mut Message, layout: Layout) -> Result<()> {
    let Some(content) = message.get_mut("content") else { return Ok(()) };
    match (content, layout.contents, layout.nulls) {
        (Value::Null, _, Nulls::Dropped) => {
            message.shift_remove("content");
        }
        (content @ Value::Null, _, Nulls::Empty | Nulls::NoText) => *content = json!(""),
        (content, Contents::Text, _) => {
            if let Value::Array(parts) = content {
                *content = Value::String(joined(index, parts)?);
            }
        }
        (content, Contents::Parts, _) => {
            if let Value::String(text) = content {
                *content = json!([{ "type": "text", "text": text }]);
            }
        }
        _ => {}
    }
    Ok(())
}

/// The text of `parts`, one behind the other.
fn joined(index: usize, parts: &[Value]) -> Result<String> {
    let mut text = String::new();
    for (position, part) in parts.iter().enumerate() {
        match part.as_str().or_else(|| part.get("text")?.as_str()) {
            Some(part) => text.push_str(part),
            None => {
                let kind = part.get("type").and_then(Value::as_str).unwrap_or("unknown");
                return Err(Error::argument(
                    format!("messages[{index}].content[{position}]"),
                    format!("the chat template reads text only, not a part of the type \"{kind}\""),
                ));
            }
        }
    }
    Ok(text)
}

fn lay_out_call(call: &mut Message, form: Calls) {
    let function = call.get("function").and_then(Value::as_object).cloned();
    match (function, form) {
        (Some(function), Calls::Flat) => {
            for (name, value) in function {
                call.entry(name).or_insert(value);
            }
        }
        (None, Calls::Wrapped) => {
            let fields = ["name", "arguments"].into_iter();
            let fields = fields.filter_map(|name| Some((name.to_owned(), call.get(name)?.clone())));
            let function: Message = fields.collect();
            call.insert("function".to_owned(), Value::Object(function));
        }
        _ => {}
    }
}

fn lay_out_arguments(arguments: &mut Value, form: Arguments) {
    if arguments.is_null() || arguments.as_str().is_some_and(|text| text.trim().is_empty()) {
        *arguments = json!({});
    }
    if let Value::String(text) = &*arguments
        && form != Arguments::AsGiven
    {
        match convert::parse_json("arguments", text) {
            Ok(object @ Value::Object(_)) => *arguments = object,
            _ if form == Arguments::Wrapped => *arguments = json!({ "arguments": text }),
            _ => {}
        }
    }
    if form == Arguments::Text && arguments.is_object() {
        *arguments = text::spaced(arguments).into();
    }
}
