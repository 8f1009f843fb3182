//! Messages as plain text: control tokens that are spelled out in them stay text, and those that
//! the chat template writes stay control tokens.
//!
//! A template makes one text of both, and may trim, cut or rewrite what the messages say. So a
//! private-use character is put into the messages behind every character with which the spelling of
//! a control token begins, goes through the template with it, and is taken out of the prompt. No
//! control token may begin where it stood. A message without such a spelling is not touched, so its
//! tokens are the same with and without.

use std::collections::HashSet;

use aho_corasick::{AhoCorasick, MatchKind};
use serde_json::{Map, Value};

use super::added_tokens::MarkedText;
use super::tokenizer::Tokenizer;
use crate::error::{Error, Result};

impl MarkedText {
    /// A text in which no control token is to be found.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for a text that uses all private characters.
    pub fn plain(text: &str, tokenizer: &Tokenizer) -> Result<Self> {
        let mut value = Value::from(text);
        let marker = Marker::new(tokenizer, "", [&value])?;
        marker.mark(&mut value, &marker.all);
        let Value::String(marked) = value else { return Ok(Self::unmarked(text.to_owned())) };
        Ok(marker.unmark(&marked))
    }
}

/// Puts marks into messages, and takes them out of a prompt.
pub(super) struct Marker {
    mark: char,
    /// How the mark may stand in a prompt: JSON that is written in ASCII has it as an escape.
    written: AhoCorasick,
    special: Spellings,
    all: Spellings,
}

impl Marker {
    /// Knows the special tokens of `tokenizer`, and the other added tokens that `template` writes
    /// or looks for (often `<tool_call>`).
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] where `values` use all private characters.
    pub fn new<'a>(
        tokenizer: &Tokenizer,
        template: &str,
        values: impl IntoIterator<Item = &'a Value> + Clone,
    ) -> Result<Self> {
        let free = |mark: &char| {
            !template.contains(*mark) && !values.clone().into_iter().any(|it| contains(it, *mark))
        };
        let mark = ('\u{f8f0}'..='\u{f8ff}').find(free).ok_or_else(|| {
            let message = "cannot be split: the messages use every character from U+F8F0 to U+F8FF";
            Error::argument("splitSpecialTokens", message)
        })?;
        let (special, others): (Vec<_>, Vec<_>) =
            tokenizer.added_tokens().partition(|(_, is_special)| *is_special);
        let special: Vec<&str> = special.into_iter().map(|(content, _)| content).collect();
        let structural = others.into_iter().map(|(content, _)| content).filter(|content| {
            let signs = content.chars().filter(|it| !it.is_alphanumeric() && !it.is_whitespace());
            signs.count() > 0 && content.chars().count() > 1 && template.contains(content)
        });
        let all = special.iter().copied().chain(structural).collect::<Vec<_>>();
        let written = [mark.to_string(), format!("\\u{:04x}", u32::from(mark))];
        Ok(Self {
            mark,
            written: automaton(MatchKind::LeftmostFirst, &written)?,
            special: Spellings::new(&special)?,
            all: Spellings::new(&all)?,
        })
    }

    /// Marks the messages, tools and documents among a template's variables. What the model said
    /// itself may have markers of structure that are ordinary text, such as `<think>`.
    pub fn mark_variables(&self, variables: &mut Map<String, Value>) {
        for name in ["tools", "documents"] {
            if let Some(value) = variables.get_mut(name) {
                self.mark(value, &self.all);
            }
        }
        let messages = variables.get_mut("messages").and_then(Value::as_array_mut);
        for message in messages.into_iter().flatten() {
            let is_own = message.get("role").is_some_and(|role| role == "assistant");
            self.mark(message, if is_own { &self.special } else { &self.all });
        }
    }

    /// Marks what the model said itself.
    pub fn mark_own(&self, value: &mut Value) {
        self.mark(value, &self.special);
    }

    fn mark(&self, value: &mut Value, spellings: &Spellings) {
        match value {
            Value::String(text) => {
                if let Some(marked) = self.marked(text, spellings) {
                    *text = marked;
                }
            }
            Value::Array(items) => items.iter_mut().for_each(|item| self.mark(item, spellings)),
            Value::Object(fields) => {
                if fields.keys().any(|key| self.marked(key, spellings).is_some()) {
                    let marked = std::mem::take(fields)
                        .into_iter()
                        .map(|(key, value)| (self.marked(&key, spellings).unwrap_or(key), value));
                    *fields = marked.collect();
                }
                fields.values_mut().for_each(|field| self.mark(field, spellings));
            }
            _ => {}
        }
    }

    /// `text` with marks, where it needs any.
    fn marked(&self, text: &str, spellings: &Spellings) -> Option<String> {
        let starts = spellings.starts(text);
        if starts.is_empty() {
            return None;
        }
        let mut marked = String::with_capacity(text.len() + starts.len() * self.mark.len_utf8());
        let mut starts = starts.into_iter().peekable();
        for (at, character) in text.char_indices() {
            marked.push(character);
            if starts.next_if_eq(&at).is_some() {
                marked.push(self.mark);
            }
        }
        Some(marked)
    }

    /// Takes the marks out of a prompt.
    pub fn unmark(&self, text: &str) -> MarkedText {
        let mut clean = MarkedText::default();
        let mut done = 0;
        for found in self.written.find_iter(text) {
            clean.text.push_str(&text[done..found.start()]);
            if let Some((before, _)) = clean.text.char_indices().next_back() {
                clean.marks.push(before);
            }
            done = found.end();
        }
        clean.text.push_str(&text[done..]);
        clean
    }
}

/// How control tokens are written.
struct Spellings {
    whole: AhoCorasick,
    /// Every proper beginning of one: another string may bring the rest.
    beginnings: HashSet<String>,
    /// The longest of those, in bytes.
    longest: usize,
}

impl Spellings {
    fn new(tokens: &[&str]) -> Result<Self> {
        let whole = automaton(MatchKind::Standard, tokens)?;
        let beginnings: HashSet<String> = tokens
            .iter()
            .flat_map(|token| token.char_indices().skip(1).map(|(end, _)| token[..end].to_owned()))
            .collect();
        let longest = beginnings.iter().map(String::len).max().unwrap_or(0);
        Ok(Self { whole, beginnings, longest })
    }

    /// Where in `text` a control token begins, or may begin if more text follows; in order.
    fn starts(&self, text: &str) -> Vec<usize> {
        let mut starts: Vec<usize> =
            self.whole.find_overlapping_iter(text).map(|found| found.start()).collect();
        // A template may trim what it puts together.
        let trimmed = text.trim_end();
        let tail = trimmed.char_indices().rev().map(|(at, _)| at);
        starts.extend(
            tail.take_while(|at| trimmed.len() - at <= self.longest)
                .filter(|at| self.beginnings.contains(&trimmed[*at..])),
        );
        starts.sort_unstable();
        starts.dedup();
        starts
    }
}

fn automaton<P: AsRef<[u8]>>(kind: MatchKind, patterns: &[P]) -> Result<AhoCorasick> {
    AhoCorasick::builder().match_kind(kind).build(patterns).map_err(|error| {
        Error::argument("splitSpecialTokens", format!("too many control tokens: {error}"))
    })
}

fn contains(value: &Value, mark: char) -> bool {
    match value {
        Value::String(text) => text.contains(mark),
        Value::Array(items) => items.iter().any(|item| contains(item, mark)),
        Value::Object(fields) => {
            fields.iter().any(|(key, field)| key.contains(mark) || contains(field, mark))
        }
        _ => false,
    }
}
