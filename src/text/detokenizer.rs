//! Tokens to text, one token at a time, at constant cost per token.

use std::sync::Arc;

use super::byte_fallback;
use super::tokenizer::{Decoding, Tokenizer};
use crate::error::Result;

/// What a token adds to an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    /// The text that is complete with the token, often empty. A special token that is left out of
    /// the text is written here as the vocabulary writes it, for whoever looks for markers of
    /// structure.
    pub text: String,
    /// The token.
    pub token: u32,
    /// Whether the token is a special one.
    pub special: bool,
}

/// The text of a growing list of tokens.
///
/// The texts that [`push`](Self::push) and [`finish`](Self::finish) return, put together, are what
/// [`Tokenizer::decode`] gives for all tokens at once. Text is held back only while it can still
/// change: an incomplete UTF-8 character.
#[derive(Debug)]
pub struct Detokenizer {
    tokenizer: Arc<Tokenizer>,
    state: State,
    skip_special_tokens: bool,
}

#[derive(Debug)]
enum State {
    /// Bytes of a character that is not complete yet; at most three stay between two pushes.
    Bytes(Vec<u8>),
    Window(Window),
}

/// The last tokens, decoded anew with each one that follows. How a token reads depends on whether
/// something stands before it (the space of `▁word` disappears at the beginning of a text), so the
/// window starts with tokens whose text has been emitted already.
#[derive(Debug, Default)]
struct Window {
    /// As the vocabulary writes them.
    tokens: Vec<String>,
    emitted: String,
    /// Byte tokens (`<0xE2>` …) of a character that is not complete yet.
    bytes: Vec<u8>,
    /// How many pushes in a row ended in U+FFFD.
    waiting: usize,
}

impl Detokenizer {
    /// Begins an empty text without special tokens.
    pub fn new(tokenizer: Arc<Tokenizer>) -> Self {
        let state = match tokenizer.decoding() {
            Decoding::ByteLevel => State::Bytes(Vec::new()),
            Decoding::ByteFallback | Decoding::Plain => State::Window(Window::default()),
        };
        Self { tokenizer, state, skip_special_tokens: true }
    }

    /// Begins the text that follows `prompt`: together they read as the tokens of both would. With
    /// `skip_special_tokens` the text has no special tokens, else they are written out.
    pub fn after(
        tokenizer: Arc<Tokenizer>,
        prompt: &[u32],
        skip_special_tokens: bool,
    ) -> Result<Self> {
        let mut detokenizer = Self { skip_special_tokens, ..Self::new(tokenizer) };
        let visible: Vec<String> = prompt
            .iter()
            .rev()
            .filter(|&&token| !detokenizer.is_skipped(token))
            .filter_map(|&token| detokenizer.tokenizer.written(token))
            .take(LONGEST_PROMPT_CONTEXT)
            .collect();
        for token in visible.iter().rev() {
            match &mut detokenizer.state {
                State::Bytes(bytes) => {
                    byte_level::append(token, bytes);
                    take_complete(bytes);
                }
                State::Window(window) => {
                    window.add(token, detokenizer.tokenizer.decoding());
                }
            }
        }
        if let State::Window(window) = &mut detokenizer.state {
            window.emitted = detokenizer.tokenizer.text_of(window.tokens.clone())?;
            window.shorten(&detokenizer.tokenizer)?;
        }
        Ok(detokenizer)
    }

    /// Takes the next token and returns the text that is complete with it; often empty.
    pub fn push(&mut self, token: u32) -> Result<String> {
        let piece = self.piece(token)?;
        Ok(if self.is_skipped(token) { String::new() } else { piece.text })
    }

    /// Takes the next token and returns what it adds, a special token in any case.
    pub fn piece(&mut self, token: u32) -> Result<Piece> {
        let special = self.tokenizer.is_special(token);
        let text = match self.tokenizer.written(token) {
            None => String::new(),
            Some(written) if self.is_skipped(token) => written,
            Some(written) => match &mut self.state {
                State::Bytes(bytes) => {
                    byte_level::append(&written, bytes);
                    take_complete(bytes)
                }
                State::Window(window) => window.push(&written, &self.tokenizer)?,
            },
        };
        Ok(Piece { text, token, special })
    }

    /// The end of the text: returns what was held back. An incomplete character becomes U+FFFD.
    pub fn finish(&mut self) -> Result<String> {
        match &mut self.state {
            State::Bytes(bytes) => Ok(String::from_utf8_lossy(&std::mem::take(bytes)).into_owned()),
            State::Window(window) => std::mem::take(window).finish(&self.tokenizer),
        }
    }

    fn is_skipped(&self, token: u32) -> bool {
        self.skip_special_tokens && self.tokenizer.is_special(token)
    }
}

/// More tokens than any character has bytes: a decoder of an unknown kind that still ends in U+FFFD
/// after so many means it.
const LONGEST_CHARACTER: usize = 4;

/// How many of the last tokens are tried as the beginning of the next window.
const LONGEST_CONTEXT: usize = 3;

/// How many of a prompt's last tokens can matter to what follows: the bytes of a character, and
/// tokens that have no text of their own at the beginning of a text.
const LONGEST_PROMPT_CONTEXT: usize = 8;

/// How many tokens without text are kept, in case that the next one gives them some.
const LONGEST_SILENCE: usize = 32;

impl Window {
    /// Takes a token, and returns the text that is certain with it.
    fn push(&mut self, token: &str, tokenizer: &Tokenizer) -> Result<String> {
        if !self.add(token, tokenizer.decoding()) {
            return Ok(String::new());
        }
        // Bytes are put together before they come here.
        let patience = match tokenizer.decoding() {
            Decoding::ByteFallback => 0,
            _ => LONGEST_CHARACTER,
        };
        self.advance(tokenizer, patience)
    }

    /// Adds a token to the window; false where it is a byte of an incomplete character.
    fn add(&mut self, token: &str, decoding: Decoding) -> bool {
        let byte = match decoding {
            Decoding::ByteFallback => byte_fallback::byte_of(token),
            _ => None,
        };
        let Some(byte) = byte else {
            self.break_off();
            self.tokens.push(token.to_owned());
            return true;
        };
        self.bytes.push(byte);
        if may_continue(&self.bytes) {
            return false;
        }
        let last = match std::str::from_utf8(&self.bytes) {
            Ok(_) => None,
            // The character broke off, and the last byte may begin another one.
            Err(_) if self.bytes.len() > 1 => self.bytes.pop(),
            Err(_) => None,
        };
        if std::str::from_utf8(&self.bytes).is_ok() {
            let bytes = std::mem::take(&mut self.bytes);
            self.tokens.extend(bytes.into_iter().map(byte_fallback::token_of));
        } else {
            self.break_off();
        }
        if last.is_some() {
            self.add(token, decoding);
        }
        true
    }

    /// Puts U+FFFD in the place of bytes that did not become a character.
    fn break_off(&mut self) {
        if !self.bytes.is_empty() {
            self.bytes.clear();
            self.tokens.push(char::REPLACEMENT_CHARACTER.to_string());
        }
    }

    fn finish(mut self, tokenizer: &Tokenizer) -> Result<String> {
        self.break_off();
        self.advance(tokenizer, 0)
    }

    /// Emits the text of the tokens since the last call, and shortens the window. A window that
    /// ends in U+FFFD waits until more than `patience` tokens did.
    fn advance(&mut self, tokenizer: &Tokenizer, patience: usize) -> Result<String> {
        let text = tokenizer.text_of(self.tokens.clone())?;
        self.waiting =
            if text.ends_with(char::REPLACEMENT_CHARACTER) { self.waiting + 1 } else { 0 };
        if (1..=patience).contains(&self.waiting) {
            return Ok(String::new());
        }
        self.waiting = 0;
        let new = text[common_prefix(&text, &self.emitted)..].to_owned();
        if !new.is_empty() || self.tokens.len() > LONGEST_SILENCE {
            self.emitted = text;
            self.shorten(tokenizer)?;
        }
        Ok(new)
    }

    /// Forgets tokens that no longer matter to what follows.
    fn shorten(&mut self, tokenizer: &Tokenizer) -> Result<()> {
        if tokenizer.decoding() == Decoding::ByteFallback {
            byte_fallback::join_characters(&mut self.tokens);
        }
        for length in 1..=LONGEST_CONTEXT.min(self.tokens.len()) {
            let context = &self.tokens[self.tokens.len() - length..];
            let emitted = tokenizer.text_of(context.to_vec())?;
            if !emitted.is_empty() || length == LONGEST_CONTEXT {
                self.tokens.drain(..self.tokens.len() - length);
                self.emitted = emitted;
                break;
            }
        }
        Ok(())
    }
}

/// The length in bytes of what `a` and `b` have in common at their beginnings.
fn common_prefix(a: &str, b: &str) -> usize {
    if a.starts_with(b) {
        return b.len();
    }
    a.char_indices().zip(b.chars()).find(|((_, x), y)| x != y).map_or(0, |((index, _), _)| index)
}

/// Takes the text off the front of `bytes` that no later byte can change. Bytes that are not UTF-8
/// become U+FFFD in the way of [`String::from_utf8_lossy`]; what may be the beginning of a
/// character stays.
fn take_complete(bytes: &mut Vec<u8>) -> String {
    let incomplete = match bytes.utf8_chunks().last() {
        Some(chunk) if may_continue(chunk.invalid()) => chunk.invalid().len(),
        _ => 0,
    };
    let rest = bytes.split_off(bytes.len() - incomplete);
    let complete = std::mem::replace(bytes, rest);
    String::from_utf8_lossy(&complete).into_owned()
}

/// Whether `bytes`, an invalid sequence at the end of the input, is invalid only because it ends.
fn may_continue(bytes: &[u8]) -> bool {
    std::str::from_utf8(bytes).is_err_and(|error| error.error_len().is_none())
}

/// GPT-2's way of writing bytes as printable characters.
pub(super) mod byte_level {
    /// Appends the bytes that `piece` stands for. A token with a character outside the table (an
    /// added token) stands for its own UTF-8.
    pub(in crate::text) fn append(piece: &str, bytes: &mut Vec<u8>) {
        let start = bytes.len();
        for character in piece.chars() {
            match byte_of(character) {
                Some(byte) => bytes.push(byte),
                None => {
                    bytes.truncate(start);
                    bytes.extend_from_slice(piece.as_bytes());
                    return;
                }
            }
        }
    }

    /// The character that stands for `byte`.
    pub(in crate::text) fn character_of(byte: u8) -> char {
        let code = u32::from(byte);
        let code = match code {
            0x21..=0x7E | 0xA1..=0xAC | 0xAE..=0xFF => code,
            0..=0x20 => code + 0x100,
            0x7F..=0xA0 => code - 0x7F + 0x121,
            _ => 0x143,
        };
        char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER)
    }

    /// Printable Latin-1 characters stand for themselves; the other 68 bytes, in their order, for
    /// U+0100 and up (`bytes_to_unicode` in GPT-2's `encoder.py`).
    fn byte_of(character: char) -> Option<u8> {
        match u32::from(character) {
            code @ (0x21..=0x7E | 0xA1..=0xAC | 0xAE..=0xFF) => u8::try_from(code).ok(),
            code @ 0x100..=0x120 => u8::try_from(code - 0x100).ok(),
            code @ 0x121..=0x142 => u8::try_from(code - 0x121 + 0x7F).ok(),
            0x143 => Some(0xAD),
            _ => None,
        }
    }
}
