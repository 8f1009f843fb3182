//! Turns with calls, and the results behind them, as a template takes them.
//!
//! Results stand in the order of their calls and know the name of what was called; calls have ids
//! in the template's form. A template that takes one call in a turn gets a turn for each, and one
//! that writes no calls gets them as text.

use std::collections::VecDeque;

use serde_json::{Value, json};

use super::calls::Held;
use super::forms::{CALL_ROLE, Forms, Ids, Results};
use super::messages::Message;
use super::reads::Reads;

/// Arranges a conversation. Where the template writes no calls, they are `held`.
pub(super) fn arranged(
    messages: &[Message],
    reads: &Reads,
    forms: &Forms,
    held: Option<&Held<'_>>,
) -> Vec<Message> {
    let held = held.filter(|_| forms.arguments.is_none());
    let mut messages: VecDeque<Message> =
        messages.iter().map(|message| renamed(message.clone(), reads, forms)).collect();
    let mut arranged = Vec::with_capacity(messages.len());
    let mut calls_before = 0;
    while let Some(mut turn) = messages.pop_front() {
        let Some(Value::Array(calls)) =
            turn.get("tool_calls").filter(|it| it.as_array().is_some_and(|it| !it.is_empty()))
        else {
            if turn.get("tool_calls").is_some_and(|it| it.as_array().is_some_and(Vec::is_empty)) {
                turn.shift_remove("tool_calls");
            }
            match held.filter(|_| role(&turn) == "tool") {
                // Its call is not there any more.
                Some(_) => arranged.extend(as_results(std::iter::once(turn), forms)),
                None => arranged.push(turn),
            }
            continue;
        };
        let mut exchange = Exchange { calls: calls.clone(), results: Vec::new() };
        while messages.front().is_some_and(|it| role(it) == "tool") {
            exchange.results.extend(messages.pop_front().map(|it| (None, it)));
        }
        exchange.match_results();
        let first = calls_before;
        exchange.identify(forms.ids, &mut calls_before);
        match held {
            Some(held) => exchange.put_as_text(turn, forms, (held, first), &mut arranged),
            None => exchange.put(turn, forms, &mut arranged),
        }
    }
    arranged
}

/// Whether a conversation has anything to arrange, or to bring into another form.
pub(super) fn is_plain(messages: &[Message]) -> bool {
    messages.iter().all(|message| {
        matches!(role(message), "system" | "user" | "assistant")
            && matches!(message.get("content"), Some(Value::String(_)))
            && message.keys().all(|name| matches!(name.as_str(), "role" | "content" | "name"))
    })
}

fn role(message: &Message) -> &str {
    message.get("role").and_then(Value::as_str).unwrap_or_default()
}

/// A message with the roles and fields that took the place of older ones.
fn renamed(mut message: Message, reads: &Reads, forms: &Forms) -> Message {
    if role(&message) == "developer" && !forms.developer {
        message.insert("role".to_owned(), "system".into());
    }
    if role(&message) == "function" && reads.field("tool") {
        message.insert("role".to_owned(), "tool".into());
    }
    let function = message.get("function_call").filter(|it| it.is_object()).cloned();
    if let Some(function) =
        function.filter(|_| message.get("tool_calls").is_none_or(Value::is_null))
    {
        let call = json!({ "type": "function", "function": function });
        message.shift_remove("function_call");
        message.insert("tool_calls".to_owned(), json!([call]));
    }
    let calls = message.get_mut("tool_calls").and_then(Value::as_array_mut);
    for call in calls.into_iter().flatten().filter_map(Value::as_object_mut) {
        wrap(call, reads);
    }
    message
}

/// A call has its name and arguments in its `function`, where the template reads that.
fn wrap(call: &mut Message, reads: &Reads) {
    if reads.field("function") && !call.contains_key("function") && call.contains_key("name") {
        let fields = ["name", "arguments"].into_iter();
        let fields = fields.filter_map(|name| Some((name.to_owned(), call.get(name)?.clone())));
        let function: Message = fields.collect();
        call.insert("function".to_owned(), Value::Object(function));
    }
    call.entry("type").or_insert_with(|| "function".into());
}

/// A turn's calls, and their results with the numbers of the calls that they belong to.
struct Exchange {
    calls: Vec<Value>,
    results: Vec<(Option<usize>, Message)>,
}

fn text<'a>(value: &'a Value, field: &str) -> Option<&'a str> {
    value.get(field)?.as_str().filter(|it| !it.is_empty())
}

/// Results in the form in which a template takes them that writes no calls.
fn as_results(results: impl Iterator<Item = Message>, forms: &Forms) -> Vec<Message> {
    match forms.results {
        Results::Role(role) => results
            .map(|mut result| {
                result.insert("role".to_owned(), role.into());
                result
            })
            .collect(),
        Results::User => {
            let tagged = |result: Message| {
                format!("<tool_response>\n{}\n</tool_response>", content_text(&result))
            };
            let results: Vec<String> = results.map(tagged).collect();
            let said = json!({ "role": "user", "content": results.join("\n") });
            said.as_object().filter(|_| !results.is_empty()).cloned().into_iter().collect()
        }
    }
}

/// The text of a message's content.
fn content_text(message: &Message) -> String {
    match message.get("content") {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Array(parts)) => {
            parts.iter().filter_map(|part| part.as_str().or_else(|| text(part, "text"))).collect()
        }
        _ => String::new(),
    }
}

fn function(call: &Value) -> &Value {
    call.get("function").filter(|it| it.is_object()).unwrap_or(call)
}

impl Exchange {
    /// Finds out which call each result belongs to, and brings them into that order.
    fn match_results(&mut self) {
        let mut free: Vec<usize> = (0..self.calls.len()).collect();
        let mut take = |wanted: &dyn Fn(usize) -> bool| {
            let at = free.iter().position(|&index| wanted(index))?;
            Some(free.remove(at))
        };
        for (call, result) in &mut self.results {
            let id = result.get("tool_call_id").and_then(Value::as_str).filter(|it| !it.is_empty());
            *call = id.and_then(|id| take(&|index| text(&self.calls[index], "id") == Some(id)));
        }
        for (call, result) in self.results.iter_mut().filter(|(call, _)| call.is_none()) {
            let name = result.get("name").and_then(Value::as_str);
            let named = |index: usize| text(function(&self.calls[index]), "name") == name;
            *call = name.and_then(|_| take(&named));
        }
        for (call, result) in self.results.iter_mut().filter(|(call, _)| call.is_none()) {
            // A result of another call is none of these.
            if result.get("tool_call_id").is_none_or(Value::is_null) {
                *call = take(&|_| true);
            }
        }
        self.results.sort_by_key(|(call, _)| call.unwrap_or(usize::MAX));
    }

    /// Gives calls and results ids in the template's form, and results the names of their calls.
    fn identify(&mut self, form: Ids, calls_before: &mut usize) {
        for (index, call) in self.calls.iter_mut().enumerate() {
            let name = text(function(call), "name").unwrap_or_default().to_owned();
            let number = *calls_before + index;
            let given = text(call, "id");
            let id = match (form, given) {
                (Ids::Functions, Some(id)) if id.starts_with("functions.") => id.to_owned(),
                (Ids::Functions, _) => format!("functions.{name}:{number}"),
                (Ids::Nine, Some(id)) => nine(id),
                (Ids::Any, Some(id)) => id.to_owned(),
                (Ids::Nine | Ids::Any, None) => format!("call{:05}", number % 100_000),
            };
            for (_, result) in self.results.iter_mut().filter(|(it, _)| *it == Some(index)) {
                result.insert("tool_call_id".to_owned(), id.clone().into());
                if !name.is_empty() && result.get("name").is_none_or(Value::is_null) {
                    result.insert("name".to_owned(), name.clone().into());
                }
            }
            if let Some(call) = call.as_object_mut() {
                call.insert("id".to_owned(), id.into());
            }
        }
        for (_, result) in self.results.iter_mut().filter(|(call, _)| call.is_none()) {
            if let (Ids::Nine, Some(Value::String(id))) = (form, result.get_mut("tool_call_id")) {
                *id = nine(id);
            }
        }
        *calls_before += self.calls.len();
    }

    /// Writes calls as part of what the turn says, and their results as the template takes them.
    fn put_as_text(
        self,
        mut turn: Message,
        forms: &Forms,
        (held, first): (&Held<'_>, usize),
        arranged: &mut Vec<Message>,
    ) {
        turn.shift_remove("tool_calls");
        let said = content_text(&turn).trim_end().to_owned();
        let says = |turn: &mut Message, text: String| {
            let content = match forms.contents.assistant {
                form if form.parts && !form.text => json!([{ "type": "text", "text": text }]),
                _ => text.into(),
            };
            turn.insert("content".to_owned(), content);
        };
        if let Some(before) = &forms.call_turn {
            if !said.is_empty() {
                arranged.push(turn.clone());
            }
            turn.insert("role".to_owned(), CALL_ROLE.into());
            says(&mut turn, held.put(&self.calls, first, before));
        } else {
            let calls = held.put(&self.calls, first, "");
            let break_before = if said.is_empty() { "" } else { "\n" };
            says(&mut turn, format!("{said}{break_before}{calls}"));
        }
        arranged.push(turn);
        let results = self.results.into_iter().map(|(_, result)| result);
        arranged.extend(as_results(results, forms));
    }

    /// Writes the exchange as one turn, or as several.
    fn put(self, mut turn: Message, forms: &Forms, arranged: &mut Vec<Message>) {
        let is_empty = match turn.get("content") {
            None | Some(Value::Null) => true,
            Some(Value::String(text)) => text.is_empty(),
            Some(Value::Array(parts)) => parts.is_empty(),
            Some(_) => false,
        };
        if !is_empty && forms.text_apart {
            let mut text = turn.clone();
            // Reasoning stays with the calls.
            text.retain(|name, _| matches!(name.as_str(), "role" | "name" | "content"));
            arranged.push(text);
        }
        if is_empty || forms.text_apart {
            forms.empty.put(&mut turn);
        }
        if !forms.one_call || self.calls.len() == 1 {
            turn.insert("tool_calls".to_owned(), Value::Array(self.calls));
            arranged.push(turn);
            arranged.extend(self.results.into_iter().map(|(_, result)| result));
            return;
        }
        let mut results = self.results;
        for (index, call) in self.calls.into_iter().enumerate() {
            turn.insert("tool_calls".to_owned(), json!([call]));
            arranged.push(turn.clone());
            // Text and reasoning come once.
            turn.retain(|name, _| matches!(name.as_str(), "role" | "name"));
            forms.empty.put(&mut turn);
            let is_its = |(call, _): &(Option<usize>, Message)| *call == Some(index);
            let at = results.iter().position(is_its);
            arranged.extend(at.map(|at| results.remove(at).1));
        }
        arranged.extend(results.into_iter().map(|(_, result)| result));
    }
}

/// An id of nine letters and digits: `id` where it is one, else always the same for the same `id`.
fn nine(id: &str) -> String {
    const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    if id.len() == 9 && id.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        return id.to_owned();
    }
    // FNV-1a of 64 bits.
    let mut hash = id.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let digit = |_| {
        let digit = DIGITS[(hash % 62) as usize];
        hash /= 62;
        char::from(digit)
    };
    (0..9).map(digit).collect()
}
