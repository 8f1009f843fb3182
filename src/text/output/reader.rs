//! What a format's parser reads from: a model's text as it comes, of which more is waited for.
//!
//! Parsers are straight-line `async` functions. They wait where what has come does not decide yet,
//! and so never depend on how the text is cut into pieces. Nothing but [`super::OutputParser`]
//! polls them, each time that a piece has come.

use std::future::poll_fn;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;

use super::OutputEvent;
use super::schemas::Tools;

/// Why a parser stops before the end of what it reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Stop {
    /// The answer is over.
    End,
    /// The text breaks the format's rules; what is wrong.
    Invalid(String),
}

pub(super) type Read<T> = Result<T, Stop>;

/// An error that says what is wrong with a call.
pub(super) fn invalid<T>(what: impl Into<String>) -> Read<T> {
    Err(Stop::Invalid(what.into()))
}

/// A handle of the text, for one parser.
#[derive(Debug, Clone)]
pub(super) struct Reader {
    shared: Arc<Mutex<Shared>>,
    /// The tools that were offered.
    pub tools: Arc<Tools>,
}

#[derive(Debug, Default)]
struct Shared {
    buffer: String,
    /// How much of `buffer` has been read.
    at: usize,
    /// The parts of `buffer` that are special tokens, left out where they are no markers.
    hidden: Vec<Range<usize>>,
    ended: bool,
    events: Vec<OutputEvent>,
    /// How much of the answer was read where each of `events` ends.
    ends: Vec<usize>,
    /// What was taken off `buffer`.
    before: usize,
    /// The name of the present call.
    name: String,
    /// Whether the present call means that there is none.
    is_none: bool,
    /// What was read of the present call.
    raw: Option<String>,
    /// The number of the present call, or of the next one.
    index: usize,
    started: bool,
    /// Whether a call of the present section has ended.
    ended_call: bool,
    /// Whether what is read is reasoning.
    reasons: bool,
}

/// How much of an unexpected text an error shows.
const SHOWN: usize = 20;

/// How much is read before the memory of it is given back.
const COMPACT: usize = 4096;

impl Shared {
    fn rest(&self) -> &str {
        &self.buffer[self.at..]
    }

    /// Reads `length` bytes.
    fn read(&mut self, length: usize) -> String {
        let read = self.buffer[self.at..self.at + length].to_owned();
        self.skip(length);
        read
    }

    fn skip(&mut self, length: usize) {
        let to = self.at + length;
        if let Some(raw) = &mut self.raw {
            raw.push_str(&self.buffer[self.at..to]);
        }
        self.at = to;
        self.hidden.retain(|part| part.end > to);
        if self.at >= COMPACT && self.at * 2 >= self.buffer.len() {
            self.buffer.drain(..self.at);
            for part in &mut self.hidden {
                *part = part.start.saturating_sub(self.at)..part.end - self.at;
            }
            self.before += self.at;
            self.at = 0;
        }
    }

    /// Reports an event that ends at `end` in `buffer`.
    fn report(&mut self, event: OutputEvent, end: usize) {
        self.events.push(event);
        self.ends.push(self.before + end);
    }

    /// Reads `length` bytes of text, special tokens apart.
    fn emit(&mut self, length: usize, reasoning: bool) {
        let end = self.at + length;
        let hidden: Vec<Range<usize>> =
            self.hidden.iter().filter(|part| part.start < end).cloned().collect();
        let mut from = self.at;
        let mut pieces = Vec::new();
        for part in hidden {
            let part = part.start.max(from)..part.end.min(end);
            pieces.push((from..part.start, false));
            pieces.push((part.clone(), true));
            from = part.end;
        }
        pieces.push((from..end, false));
        for (range, is_hidden) in pieces {
            let end = range.end;
            let text = self.buffer[range].to_owned();
            match (text.is_empty(), is_hidden, reasoning) {
                (true, ..) => {}
                (_, true, _) => self.report(OutputEvent::Hidden(text), end),
                (_, _, true) => self.report(OutputEvent::Reasoning(text), end),
                _ => self.report(OutputEvent::Text(text), end),
            }
        }
        self.skip(length);
    }
}

/// Where one of some literals stands in what has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Found {
    at: usize,
    length: usize,
    which: usize,
}

/// The first of `literals` in `text`, the longest where several begin there; and from where on more
/// text could be the beginning of one. `ended` says that no more comes.
fn find(text: &str, literals: &[&str], ended: bool) -> (Option<Found>, usize) {
    let whole = literals.iter().enumerate().filter_map(|(which, literal)| {
        Some(Found { at: text.find(literal)?, length: literal.len(), which })
    });
    let found = whole.min_by_key(|found| (found.at, usize::MAX - found.length));
    let undecided = literals
        .iter()
        .filter_map(|literal| {
            let longest = literal.len().saturating_sub(1).min(text.len());
            (1..=longest)
                .rev()
                .find(|&length| text.as_bytes().ends_with(&literal.as_bytes()[..length]))
        })
        .max()
        .map_or(text.len(), |length| text.len() - length);
    // A literal that begins another one waits for it.
    let found = found.filter(|found| {
        ended
            || undecided > found.at
            || !literals
                .iter()
                .any(|it| it.len() > found.length && it.starts_with(&text[found.at..]))
    });
    (found, undecided)
}

/// What ends a stretch of text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TextEnd {
    /// The literal of this index, which has been read.
    Literal(usize),
    /// A call without a marker, which has not been read.
    Bare,
    /// The answer's end.
    End,
}

/// Whether an answer is a call that no marker announces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Guess {
    /// It is.
    Call,
    /// It is not.
    Text,
    /// More text must come.
    Unknown,
}

pub(super) type Bare = fn(&str, &Tools) -> Guess;

impl Reader {
    pub fn new(tools: Arc<Tools>) -> Self {
        Self { shared: Arc::default(), tools }
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds text that has come.
    pub fn push(&self, text: &str, hidden: bool) {
        let mut shared = self.lock();
        if hidden && !text.is_empty() {
            let at = shared.buffer.len();
            shared.hidden.push(at..at + text.len());
        }
        shared.buffer.push_str(text);
    }

    /// Says that no more text comes.
    pub fn finish(&self) {
        self.lock().ended = true;
    }

    /// What was found out since the last time, and how much of the answer was read by then.
    pub fn take_events(&self) -> Vec<(OutputEvent, usize)> {
        let mut shared = self.lock();
        let ends = std::mem::take(&mut shared.ends);
        std::mem::take(&mut shared.events).into_iter().zip(ends).collect()
    }

    /// Whether what is read now is reasoning.
    pub fn reasons(&self) -> bool {
        self.lock().reasons
    }

    pub fn set_reasons(&self, reasons: bool) {
        self.lock().reasons = reasons;
    }

    async fn wait<T>(&self, mut ready: impl FnMut(&mut Shared) -> Option<T>) -> T {
        poll_fn(|_| ready(&mut self.lock()).map_or(Poll::Pending, Poll::Ready)).await
    }

    /// The next character, which is not read.
    pub async fn peek(&self) -> Read<char> {
        self.wait(|shared| match shared.rest().chars().next() {
            Some(next) => Some(Ok(next)),
            None => shared.ended.then_some(Err(Stop::End)),
        })
        .await
    }

    /// Reads a character.
    pub async fn next(&self) -> Read<char> {
        let next = self.peek().await?;
        self.lock().skip(next.len_utf8());
        Ok(next)
    }

    /// Reads spaces and line breaks.
    pub async fn skip_space(&self) -> Read<()> {
        while self.peek().await?.is_whitespace() {
            self.next().await?;
        }
        Ok(())
    }

    /// Which of `literals` comes next, the longest where several do. It is not read.
    pub async fn peek_any(&self, literals: &[&str]) -> Option<usize> {
        self.wait(|shared| {
            let (rest, ended) = (shared.rest(), shared.ended);
            if !ended && literals.iter().any(|it| it.len() > rest.len() && it.starts_with(rest)) {
                return None;
            }
            let whole = literals.iter().enumerate().filter(|(_, it)| rest.starts_with(**it));
            Some(whole.max_by_key(|(_, it)| it.len()).map(|(which, _)| which))
        })
        .await
    }

    /// Whether one of `literals` comes next, spaces apart. Nothing is read.
    pub async fn comes_next(&self, literals: &[&str]) -> bool {
        self.wait(|shared| {
            let rest = shared.rest().trim_start();
            let undecided = |it: &&str| it.len() > rest.len() && it.starts_with(rest);
            if !shared.ended && (rest.is_empty() || literals.iter().any(undecided)) {
                return None;
            }
            Some(literals.iter().any(|it| rest.starts_with(it)))
        })
        .await
    }

    /// Reads one of `literals`, if it comes next.
    pub async fn accept_any(&self, literals: &[&str]) -> Option<usize> {
        let which = self.peek_any(literals).await?;
        self.lock().skip(literals[which].len());
        Some(which)
    }

    /// Reads `literal`, if it comes next.
    pub async fn accept(&self, literal: &str) -> bool {
        self.accept_any(&[literal]).await.is_some()
    }

    /// Reads `literal`, behind spaces.
    pub async fn expect(&self, literal: &str) -> Read<()> {
        self.skip_space().await?;
        if self.accept(literal).await { Ok(()) } else { self.unexpected(&[literal]) }
    }

    /// What comes next is none of `literals`, unless the end of the answer cuts one off.
    pub fn unexpected<T>(&self, literals: &[&str]) -> Read<T> {
        let shared = self.lock();
        if shared.ended && literals.iter().any(|it| it.starts_with(shared.rest())) {
            return Err(Stop::End);
        }
        let found: String = shared.rest().chars().take(SHOWN).collect();
        let expected: Vec<String> = literals.iter().map(|it| format!("{it:?}")).collect();
        invalid(format!("expected {}, found {found:?}", expected.join(" or ")))
    }

    /// Reads all that is left of an answer that is over.
    pub fn skip_rest(&self) {
        let mut shared = self.lock();
        let length = shared.rest().len();
        shared.skip(length);
    }

    /// Reads to the first of `literals` and over it; what stands before it, and which it is.
    pub async fn until(&self, literals: &[&str]) -> Read<(String, usize)> {
        let mut looked = 0;
        self.wait(|shared| {
            let (found, undecided) = find(&shared.rest()[looked..], literals, shared.ended);
            if let Some(found) = found {
                let text = shared.read(looked + found.at);
                shared.skip(found.length);
                return Some(Ok((text, found.which)));
            }
            looked += undecided;
            shared.ended.then_some(Err(Stop::End))
        })
        .await
    }

    /// Reads on until one of `literals` comes next, handing `take` what is certain meanwhile; the
    /// literal is not read.
    pub async fn stream_to(&self, literals: &[&str], mut take: impl FnMut(&str)) -> Read<usize> {
        loop {
            let (text, found) = self
                .wait(|shared| {
                    let (found, undecided) = find(shared.rest(), literals, shared.ended);
                    let certain = found.map_or(undecided, |found| found.at);
                    if certain > 0 || found.is_some() {
                        return Some(Ok((shared.read(certain), found.map(|it| it.which))));
                    }
                    shared.ended.then_some(Err(Stop::End))
                })
                .await?;
            if !text.is_empty() {
                take(&text);
            }
            if let Some(which) = found {
                return Ok(which);
            }
        }
    }

    /// Reads text up to one of `openers` and over it. Space before an opener is its own, and is
    /// left out.
    pub async fn text(&self, openers: &[&str], mut bare: Option<Bare>) -> TextEnd {
        let tools = Arc::clone(&self.tools);
        self.wait(|shared| {
            if let Some(guess) = bare {
                let rest = shared.rest();
                let text = rest.trim_start();
                match guess(text, &tools) {
                    Guess::Call => {
                        let space = rest.len() - text.len();
                        shared.skip(space);
                        return Some(TextEnd::Bare);
                    }
                    // A marker may come first.
                    Guess::Unknown if !shared.ended && find(rest, openers, false).0.is_none() => {
                        return None;
                    }
                    Guess::Unknown | Guess::Text => bare = None,
                }
            }
            let rest = shared.rest();
            let (found, undecided) = find(rest, openers, shared.ended);
            let certain = found.map_or(undecided, |found| found.at);
            let text = rest[..certain].trim_end().len();
            match found {
                Some(found) => {
                    shared.emit(text, false);
                    shared.skip(certain - text);
                    let marker = shared.read(found.length);
                    let end = shared.at;
                    shared.report(OutputEvent::Marker(marker), end);
                    Some(TextEnd::Literal(found.which))
                }
                None if shared.ended => {
                    shared.emit(shared.rest().len(), false);
                    Some(TextEnd::End)
                }
                None => {
                    shared.emit(text, false);
                    None
                }
            }
        })
        .await
    }

    /// Reads reasoning up to one of `closers`; which it is. Space on both sides is left out. Where
    /// `markers` come first, they end it, and are not read.
    pub async fn reasoning(&self, closers: &[&str], markers: &[&str]) -> Read<Option<usize>> {
        let all: Vec<&str> = closers.iter().chain(markers).copied().collect();
        let mut begun = false;
        let end = self
            .wait(|shared| {
                shared.reasons = true;
                if !begun {
                    let rest = shared.rest();
                    let space = rest.len() - rest.trim_start().len();
                    shared.skip(space);
                    begun = !shared.rest().is_empty();
                }
                let rest = shared.rest();
                let (found, undecided) = find(rest, &all, shared.ended);
                let certain = found.map_or(undecided, |found| found.at);
                let text = rest[..certain].trim_end().len();
                match found {
                    Some(found) => {
                        shared.emit(text, true);
                        shared.skip(certain - text);
                        if found.which < closers.len() {
                            let marker = shared.read(found.length);
                            let end = shared.at;
                            shared.report(OutputEvent::Marker(marker), end);
                        }
                        Some(Ok(found.which))
                    }
                    None if shared.ended => {
                        let text = shared.rest().trim_end().len();
                        shared.emit(text, true);
                        shared.skip(shared.rest().len());
                        Some(Err(Stop::End))
                    }
                    None => {
                        shared.emit(text, true);
                        None
                    }
                }
            })
            .await;
        self.set_reasons(false);
        end.map(|which| (which < closers.len()).then_some(which))
    }

    /// Whether the answer is over and all of it read.
    pub fn is_over(&self) -> bool {
        let shared = self.lock();
        shared.ended && shared.rest().is_empty()
    }

    /// Emits text that is no text of the buffer.
    pub fn emit_text(&self, text: String) {
        if !text.is_empty() {
            self.report(OutputEvent::Text(text));
        }
    }

    /// From here on what is read belongs to a call, which began with `opener`.
    pub fn begin_raw(&self, opener: &str) {
        let mut shared = self.lock();
        shared.raw = Some(opener.to_owned());
        shared.ended_call = false;
    }

    /// What was read of the present call.
    pub fn end_raw(&self) -> String {
        self.lock().raw.take().unwrap_or_default()
    }

    fn report(&self, event: OutputEvent) {
        let mut shared = self.lock();
        let end = shared.at;
        shared.report(event, end);
    }

    /// A call of `name` has begun.
    pub fn start_call(&self, name: &str, id: Option<String>) {
        let mut shared = self.lock();
        let (index, name) = (shared.index, name.to_owned());
        shared.started = true;
        shared.name.clone_from(&name);
        let end = shared.at;
        shared.report(OutputEvent::CallStart { index, id, name }, end);
    }

    /// A call has begun which says that no tool is wanted: nothing is told of it.
    pub fn start_none(&self) {
        let mut shared = self.lock();
        shared.name.clear();
        shared.is_none = true;
    }

    /// The name of the present call.
    pub fn call_name(&self) -> String {
        self.lock().name.clone()
    }

    /// More of its arguments, as JSON.
    pub fn arguments(&self, text: &str) {
        if text.is_empty() {
            return;
        }
        let mut shared = self.lock();
        let (index, end) = (shared.index, shared.at);
        if shared.is_none {
            return;
        }
        match shared.events.last_mut() {
            Some(OutputEvent::CallDelta { text: last, .. }) => last.push_str(text),
            _ => shared.report(OutputEvent::CallDelta { index, text: text.to_owned() }, end),
        }
    }

    /// The call is complete. The next one may follow in the same section, so its text begins here.
    pub fn end_call(&self) {
        let mut shared = self.lock();
        let (index, end) = (shared.index, shared.at);
        if !std::mem::take(&mut shared.is_none) {
            shared.report(OutputEvent::CallEnd { index }, end);
            shared.index += 1;
        }
        shared.started = false;
        shared.ended_call = true;
        if let Some(raw) = &mut shared.raw {
            raw.clear();
        }
    }

    /// Whether a call has ended since [`Reader::begin_raw`], and none has begun since.
    pub fn has_ended_call(&self) -> bool {
        let shared = self.lock();
        shared.ended_call && !shared.started
    }

    /// Whether a call has begun and not ended.
    pub fn in_call(&self) -> bool {
        self.lock().started
    }

    /// The present call cannot be read.
    pub fn invalid_call(&self, raw: String, error: String) {
        let mut shared = self.lock();
        let (index, end) = (shared.index, shared.at);
        shared.report(OutputEvent::InvalidCall { index, raw, error }, end);
        shared.index += 1;
        shared.started = false;
        shared.is_none = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_and_longest_literal_is_found() {
        let literals = ["<a>", "<a>b", "xy"];
        let found = |text| find(text, &literals, false).0.map(|it| (it.at, it.which));
        assert_eq!(found("..xy<a>"), Some((2, 2)));
        assert_eq!(found("..<a>."), Some((2, 0)));
        assert_eq!(found("..<a>b"), Some((2, 1)));
        assert_eq!(found("..<a>"), None);
        assert_eq!(find("..<a>", &literals, true).0.map(|it| it.which), Some(0));
        assert_eq!(find("..<a", &literals, false).1, 2);
        assert_eq!(find("..x", &literals, false).1, 2);
        assert_eq!(find("..", &literals, false).1, 2);
    }
}
