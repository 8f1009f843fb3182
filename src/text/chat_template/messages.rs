//! The messages of a conversation, checked and brought into the form that templates expect.

use serde_json::{Map, Value};

use super::ChatTemplateOptions;
use crate::error::{Error, Result};

/// Deeper values than this are refused; templates and serializers recurse into them.
const MAX_DEPTH: usize = 100;

/// What a message's reasoning is called, in the order of preference. Templates read
/// `reasoning_content`, gpt-oss's reads `thinking`.
const REASONING: [&str; 3] = ["reasoning_content", "thinking", "reasoning"];

/// Marks the end of the final message while it is rendered; its last character is a space, so that
/// it can be seen whether the template strips the content.
const OPEN_END: &str = "\u{e000}nodemlx-open-end\u{e000} ";

/// A checked conversation.
pub(super) struct Chat {
    messages: Value,
    open: bool,
}

impl Chat {
    pub fn new(messages: &Value, options: &ChatTemplateOptions, template: &str) -> Result<Self> {
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
            check_depth(name, value)?;
        }
        let mut chat = Vec::with_capacity(list.len());
        for (index, message) in list.iter().enumerate() {
            chat.push(normalized(index, message)?);
        }
        if options.continue_final_message {
            if options.add_generation_prompt {
                return Err(invalid(
                    "continueFinalMessage",
                    "cannot be combined with addGenerationPrompt: the final message is either \
                     continued or followed by a new one",
                ));
            }
            if let Some(last) = chat.last_mut() {
                let field = options.continue_field.as_deref().unwrap_or("content");
                leave_open(last, field, template)?;
            }
        }
        let chat = chat.into_iter().map(Value::Object).collect();
        Ok(Self { messages: Value::Array(chat), open: options.continue_final_message })
    }

    pub fn messages(&self) -> &Value {
        &self.messages
    }

    /// Cuts off what the template put after a message that is to be continued.
    pub fn finish(&self, mut rendered: String) -> Result<String> {
        if !self.open {
            return Ok(rendered);
        }
        let Some(end) = rendered.rfind(OPEN_END.trim_end()) else {
            return Err(Error::Template {
                message: "the final message cannot be continued: the template leaves it, or its \
                          end, out of the prompt"
                    .to_owned(),
            });
        };
        let stripped = !rendered[end..].starts_with(OPEN_END);
        rendered.truncate(end);
        if stripped {
            rendered.truncate(rendered.trim_end().len());
        }
        Ok(rendered)
    }
}

/// Drops fields that are null: clients send `content: null` beside tool calls, and most templates
/// handle only a missing field.
fn normalized(index: usize, message: &Value) -> Result<Map<String, Value>> {
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
    let mut fields: Map<String, Value> = fields
        .iter()
        .filter(|(_, value)| !value.is_null())
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect();
    if let Some(reasoning) = REASONING.iter().find_map(|name| fields.get(*name)).cloned() {
        fields.entry("thinking").or_insert_with(|| reasoning.clone());
        fields.insert("reasoning_content".to_owned(), reasoning);
    }
    Ok(fields)
}

/// Puts [`OPEN_END`] behind the text of `field`: behind the last text block, if it holds blocks.
fn leave_open(message: &mut Map<String, Value>, field: &str, template: &str) -> Result<()> {
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
    if !names.iter().any(|name| template.contains(name)) {
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
