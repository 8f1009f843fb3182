//! The messages of a conversation, checked and brought into the form that templates expect.

use serde_json::{Map, Value};

use super::ChatTemplateOptions;
use super::reads::Reads;
use crate::error::{Error, Result};

/// Deeper values than this are refused; templates and serializers recurse into them.
pub(super) const MAX_DEPTH: usize = 320;

/// What a message's reasoning is called, in the order of preference. Most templates read
/// `reasoning_content`, gpt-oss's reads `thinking`, Solar's `reasoning`.
const REASONING: [&str; 3] = ["reasoning_content", "thinking", "reasoning"];

/// Marks the end of the final message while it is rendered; its last character is a space, so that
/// it can be seen whether the template strips the content.
const OPEN_END: &str = "\u{e000}nodemlx-open-end\u{e000} ";

/// What is written into every template: variables of these names would be overwritten.
const RESERVED: [(&str, &str); 6] = [
    ("messages", "the messages themselves"),
    ("tools", "the option tools"),
    ("documents", "the option documents"),
    ("add_generation_prompt", "the option addGenerationPrompt"),
    ("continue_final_message", "the option continueFinalMessage"),
    ("chat_template", "the option template"),
];

/// A checked conversation.
pub(super) struct Chat<'a> {
    messages: Vec<Message>,
    options: &'a ChatTemplateOptions,
    reads: &'a Reads,
}

pub(super) type Message = Map<String, Value>;

impl<'a> Chat<'a> {
    pub fn new(
        messages: &Value,
        options: &'a ChatTemplateOptions,
        reads: &'a Reads,
    ) -> Result<Self> {
        let list = messages.as_array().ok_or_else(|| {
            invalid("messages", format!("expected an array, found {}", kind(messages)))
        })?;
        if list.is_empty() {
            return Err(invalid("messages", "expected at least one message"));
        }
        check_depth("messages", messages)?;
        check_list("tools", options.tools.as_ref())?;
        check_list("documents", options.documents.as_ref())?;
        for (name, value) in &options.variables {
            check_variable(name)?;
            check_depth(name, value)?;
        }
        if options.continue_final_message && options.add_generation_prompt {
            return Err(invalid(
                "continueFinalMessage",
                "cannot be combined with addGenerationPrompt: the final message is either \
                 continued or followed by a new one",
            ));
        }
        let numbered = list.iter().enumerate();
        let messages = numbered.map(|(index, message)| normalized(index, message));
        Ok(Self { messages: messages.collect::<Result<_>>()?, options, reads })
    }

    pub fn messages(&self) -> &[Message] {
        &self.messages
    }

    /// Leaves the final message open, if it is to be continued.
    pub fn open(&self, mut messages: Vec<Message>) -> Result<Vec<Message>> {
        if let Some(last) = messages.last_mut().filter(|_| self.options.continue_final_message) {
            let field = self.options.continue_field.as_deref().unwrap_or("content");
            leave_open(last, field, self.reads)?;
        }
        Ok(messages)
    }

    /// Cuts off what the template put after a message that is to be continued.
    pub fn close(&self, mut rendered: String) -> Result<String> {
        if !self.options.continue_final_message {
            return Ok(rendered);
        }
        let field = self.options.continue_field.as_deref().unwrap_or("content");
        let text = self.messages.last().and_then(|message| text_of(message.get(field)?));
        let end = rendered.rfind(OPEN_END.trim_end()).filter(|&end| {
            // A template may trim the message, but must leave nothing of it out.
            text.is_none_or(|text| rendered[..end].trim_end().ends_with(text.trim()))
        });
        let Some(end) = end else {
            return Err(Error::template(
                "the final message cannot be continued: the template leaves it, or a part \
                 of it, out of the prompt, or changes it",
            ));
        };
        let stripped = !rendered[end..].starts_with(OPEN_END);
        rendered.truncate(end);
        if stripped {
            rendered.truncate(rendered.trim_end().len());
        }
        Ok(rendered)
    }
}

fn check_variable(name: &str) -> Result<()> {
    if let Some((_, instead)) = RESERVED.iter().find(|(reserved, _)| *reserved == name) {
        let problem = format!("is no free name; what templates read there is {instead}");
        return Err(invalid(format!("variables.{name}"), problem));
    }
    if name.starts_with("__") {
        return Err(invalid(format!("variables.{name}"), "names that begin with __ are not free"));
    }
    Ok(())
}

/// A message with its reasoning under all the names that templates read.
fn normalized(index: usize, message: &Value) -> Result<Message> {
    let option = || format!("messages[{index}]");
    let fields = message
        .as_object()
        .ok_or_else(|| invalid(option(), format!("expected an object, found {}", kind(message))))?;
    match fields.get("role") {
        Some(Value::String(_)) => {}
        None => return Err(invalid(format!("{}.role", option()), "is missing")),
        Some(other) => {
            let message = format!("expected a string, found {}", kind(other));
            return Err(invalid(format!("{}.role", option()), message));
        }
    }
    let mut fields = fields.clone();
    if let Some(reasoning) = reasoning(&fields).cloned() {
        for name in REASONING {
            if fields.get(name).is_none_or(Value::is_null) {
                fields.insert(name.to_owned(), reasoning.clone());
            }
        }
    }
    Ok(fields)
}

/// A message's reasoning, under whichever name it has.
pub(super) fn reasoning(message: &Message) -> Option<&Value> {
    REASONING.iter().find_map(|name| message.get(*name).filter(|value| !value.is_null()))
}

/// Puts [`OPEN_END`] behind the text of `field`: behind the last text block, if it holds blocks.
fn leave_open(message: &mut Message, field: &str, reads: &Reads) -> Result<()> {
    // Reasoning has several names; whichever the template reads is to be left open.
    let reasoning = REASONING.contains(&field);
    let original = message.get(field).cloned();
    let names: Vec<&str> = if reasoning { REASONING.to_vec() } else { vec![field] }
        .into_iter()
        .filter(|name| message.contains_key(*name) && message.get(*name) == original.as_ref())
        .collect();
    if names.is_empty() {
        return Err(nothing_to_continue(field));
    }
    if !names.iter().any(|name| reads.field(name)) {
        let problem = format!("the chat template does not read `{field}`");
        return Err(invalid("continueFinalMessage", problem));
    }
    for name in names {
        let text = match message.get_mut(name) {
            Some(Value::Array(blocks)) => {
                blocks.iter_mut().rev().find_map(|block| block.get_mut("text"))
            }
            content => content,
        };
        match text {
            Some(Value::String(text)) => text.push_str(OPEN_END),
            _ => return Err(nothing_to_continue(field)),
        }
    }
    Ok(())
}

/// The text of a content: that of the last text block, if it holds blocks.
fn text_of(content: &Value) -> Option<&str> {
    match content {
        Value::Array(blocks) => blocks.iter().rev().find_map(|block| block.get("text"))?.as_str(),
        content => content.as_str(),
    }
}

fn nothing_to_continue(field: &str) -> Error {
    let problem = format!("the final message has no text in `{field}` to continue");
    invalid("continueFinalMessage", problem)
}

fn check_list(option: &str, list: Option<&Value>) -> Result<()> {
    let Some(value) = list.filter(|value| !value.is_null()) else { return Ok(()) };
    let entries = value
        .as_array()
        .ok_or_else(|| invalid(option, format!("expected an array, found {}", kind(value))))?;
    for (index, entry) in entries.iter().enumerate() {
        if !entry.is_object() {
            let message = format!("expected an object, found {}", kind(entry));
            return Err(invalid(format!("{option}[{index}]"), message));
        }
    }
    check_depth(option, value)
}

fn check_depth(option: &str, value: &Value) -> Result<()> {
    fn fits(value: &Value, left: usize) -> bool {
        match value {
            Value::Array(items) => left > 0 && items.iter().all(|item| fits(item, left - 1)),
            Value::Object(fields) => left > 0 && fields.values().all(|item| fits(item, left - 1)),
            _ => true,
        }
    }
    if fits(value, MAX_DEPTH) {
        Ok(())
    } else {
        Err(invalid(option, format!("nested deeper than {MAX_DEPTH} levels")))
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

fn invalid(option: impl Into<String>, message: impl Into<String>) -> Error {
    Error::argument(option, message)
}
