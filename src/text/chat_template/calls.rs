//! Calls of earlier turns, for templates that write none.
//!
//! Such a template writes contents alone, so a call stands in one, as the model itself has written
//! it. While the template runs, a sign is in its place: what a call is made of may be control
//! tokens, and a template may trim, cut or look into a content.

use std::cell::RefCell;
use std::fmt;
use std::sync::Arc;

use serde_json::{Map, Value};

use super::convert;
use crate::error::{Error, Result};
use crate::text::marks::Marker;

/// A call as it is to be written.
#[derive(Debug, Clone, PartialEq)]
pub struct WrittenCall {
    /// The tool's name.
    pub name: String,
    /// Its arguments.
    pub arguments: Map<String, Value>,
    /// The call's number in the conversation, from 0.
    pub number: usize,
}

type Write = dyn Fn(&[WrittenCall]) -> String + Send + Sync;

/// Writes the calls of a turn as a model does.
#[derive(Clone)]
pub struct CallWriter(Arc<Write>);

impl CallWriter {
    /// One that writes with `write`.
    pub fn new(write: impl Fn(&[WrittenCall]) -> String + Send + Sync + 'static) -> Self {
        Self(Arc::new(write))
    }

    fn write(&self, calls: &[WrittenCall]) -> String {
        (self.0)(calls)
    }
}

impl fmt::Debug for CallWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CallWriter").finish_non_exhaustive()
    }
}

/// Whether an assistant calls tools in these messages.
pub fn has_calls(messages: &Value) -> bool {
    let is_call = |message: &Value| {
        let calls = message.get("tool_calls").and_then(Value::as_array);
        calls.is_some_and(|it| !it.is_empty())
            || message.get("function_call").is_some_and(Value::is_object)
    };
    messages.as_array().into_iter().flatten().any(is_call)
}

/// Holds the calls of a conversation while a template is rendered.
pub(super) struct Held<'a> {
    writer: &'a CallWriter,
    marker: Option<&'a Marker>,
    sign: char,
    texts: RefCell<Vec<String>>,
}

impl<'a> Held<'a> {
    /// For a conversation in which the sign does not stand.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] where every sign stands in it.
    pub fn new(
        writer: &'a CallWriter,
        marker: Option<&'a Marker>,
        messages: &Value,
    ) -> Result<Self> {
        let written = messages.to_string();
        let sign = ('\u{e010}'..='\u{e01f}').find(|&sign| !written.contains(sign));
        let sign = sign.ok_or_else(|| {
            let message = "use every character from U+E010 to U+E01F, so no call can be written";
            Error::argument("messages", message)
        })?;
        Ok(Self { writer, marker, sign, texts: RefCell::default() })
    }

    /// Takes the calls of a turn, of which the first has this number, and gives what stands for
    /// them. What the template writes `before` them anyway is not written again.
    pub fn put(&self, calls: &[Value], first: usize, before: &str) -> String {
        let numbered = (first..).zip(calls);
        let calls: Vec<WrittenCall> = numbered.map(|(number, it)| self.call(it, number)).collect();
        let written = self.writer.write(&calls);
        let ends = written.char_indices().map(|(at, _)| at).skip(1).chain([written.len()]);
        let common = ends.filter(|&end| before.ends_with(&written[..end])).last().unwrap_or(0);
        let mut texts = self.texts.borrow_mut();
        texts.push(written[common..].to_owned());
        format!("{0}{1}{0}", self.sign, texts.len() - 1)
    }

    fn call(&self, call: &Value, number: usize) -> WrittenCall {
        let mut call = call.get("function").filter(|it| it.is_object()).unwrap_or(call).clone();
        if let Some(Value::String(text)) = call.get("arguments") {
            call["arguments"] = match convert::parse_json("arguments", text) {
                Ok(object @ Value::Object(_)) => object,
                _ if text.trim().is_empty() => Value::Null,
                // A model may have written what is no object.
                _ => Value::Object(
                    [("arguments".to_owned(), text.clone().into())].into_iter().collect(),
                ),
            };
        }
        if let Some(marker) = self.marker {
            marker.mark_own(&mut call);
        }
        let name = call.get("name").and_then(Value::as_str).unwrap_or_default().to_owned();
        let arguments = call.get("arguments").and_then(Value::as_object).cloned();
        WrittenCall { name, arguments: arguments.unwrap_or_default(), number }
    }

    /// Puts the calls into what the template has written.
    pub fn fill(&self, rendered: &str) -> String {
        let texts = self.texts.borrow();
        let mut pieces = rendered.split(self.sign);
        let mut filled = pieces.next().unwrap_or_default().to_owned();
        for (index, piece) in pieces.enumerate() {
            let number = piece.parse::<usize>().ok().filter(|_| index % 2 == 0);
            filled.push_str(number.and_then(|it| texts.get(it)).map_or(piece, String::as_str));
        }
        filled
    }
}
