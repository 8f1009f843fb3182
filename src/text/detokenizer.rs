//! Tokens to text, one token at a time, at constant cost per token.

use std::sync::Arc;

use super::tokenizer::{Decoding, Tokenizer};
use crate::error::Result;

/// The text of a growing list of tokens. Special tokens are left out.
///
/// The pieces that [`push`](Self::push) and [`finish`](Self::finish) return, put together, are what
/// [`Tokenizer::decode`] gives for all tokens at once. Text is held back only while it can still
/// change: an incomplete UTF-8 character, or a run of byte tokens (`<0xE2>` …), which the decoder
/// reads as a whole.
#[derive(Debug)]
pub struct Detokenizer {
    tokenizer: Arc<Tokenizer>,
    state: State,
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
    tokens: Vec<u32>,
    emitted: String,
    /// How many pushes in a row ended in U+FFFD.
    waiting: usize,
}

impl Detokenizer {
    /// Begins an empty text.
    pub fn new(tokenizer: Arc<Tokenizer>) -> Self {
        let state = match tokenizer.decoding() {
            Decoding::ByteLevel => State::Bytes(Vec::new()),
            Decoding::ByteFallback | Decoding::Plain => State::Window(Window::default()),
        };
        Self { tokenizer, state }
    }

    /// Takes the next token and returns the text that is complete with it; often empty.
    pub fn push(&mut self, token: u32) -> Result<String> {
        if self.tokenizer.is_special(token) {
            return Ok(String::new());
        }
        let Some(piece) = self.tokenizer.id_to_token(token).filter(|piece| !piece.is_empty())
        else {
            return Ok(String::new());
        };
        match &mut self.state {
            State::Bytes(bytes) => {
                byte_level::append(&piece, bytes);
                Ok(take_complete(bytes))
            }
            State::Window(window) => {
                window.tokens.push(token);
                if self.tokenizer.decoding() == Decoding::ByteFallback && is_byte_token(&piece) {
                    return Ok(String::new());
                }
                window.advance(&self.tokenizer, LONGEST_CHARACTER)
            }
        }
    }

    /// The end of the text: returns what was held back. An incomplete character becomes U+FFFD.
    pub fn finish(&mut self) -> Result<String> {
        match &mut self.state {
            State::Bytes(bytes) => Ok(String::from_utf8_lossy(&std::mem::take(bytes)).into_owned()),
            State::Window(window) => {
                let text = window.advance(&self.tokenizer, 0);
                *window = Window::default();
                text
            }
        }
    }
}

/// More tokens than any character has bytes: a decoder of an unknown kind that still ends in U+FFFD
/// after so many means it.
const LONGEST_CHARACTER: usize = 4;

/// How many of the last tokens are tried as the beginning of the next window.
const LONGEST_CONTEXT: usize = 3;

impl Window {
    /// Emits the text of the tokens since the last call, and shortens the window. A window that
    /// ends in U+FFFD waits until more than `patience` tokens did.
    fn advance(&mut self, tokenizer: &Tokenizer, patience: usize) -> Result<String> {
        let text = tokenizer.decode(&self.tokens, true)?;
        self.waiting =
            if text.ends_with(char::REPLACEMENT_CHARACTER) { self.waiting + 1 } else { 0 };
        if (1..=patience).contains(&self.waiting) {
            return Ok(String::new());
        }
        self.waiting = 0;
        let new = text[common_prefix(&text, &self.emitted)..].to_owned();
        if new.is_empty() && !self.emitted.is_empty() {
            // A token without text: nothing that follows can depend on it.
            self.tokens.pop();
            return Ok(new);
        }
        self.emitted = text;
        for length in 1..=LONGEST_CONTEXT.min(self.tokens.len()) {
            let context = &self.tokens[self.tokens.len() - length..];
            let emitted = tokenizer.decode(context, true)?;
            if !emitted.is_empty() {
                self.tokens = context.to_vec();
                self.emitted = emitted;
                break;
            }
        }
        Ok(new)
    }
}

/// The length in bytes of what `a` and `b` have in common at their beginnings.
fn common_prefix(a: &str, b: &str) -> usize {
    if a.starts_with(b) {
        return b.len();
    }
    a.char_indices().zip(b.chars()).find(|((_, x), y)| x != y).map_or(0, |((index, _), _)| index)
}

/// Whether a token of a vocabulary with byte fallback stands for one byte.
fn is_byte_token(piece: &str) -> bool {
    piece
        .strip_prefix("<0x")
        .and_then(|rest| rest.strip_suffix('>'))
        .is_some_and(|hex| hex.len() == 2 && hex.bytes().all(|digit| digit.is_ascii_hexdigit()))
}

/// Takes the text off the front of `bytes` that no later byte can change. Bytes that are not UTF-8
/// become U+FFFD in the way of [`String::from_utf8_lossy`]; what may be the beginning of a character
/// stays.
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
mod byte_level {
    /// Appends the bytes that `piece` stands for. A token with a character outside the table (an
    /// added token) stands for its own UTF-8.
    pub(super) fn append(piece: &str, bytes: &mut Vec<u8>) {
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
