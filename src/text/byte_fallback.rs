//! Tokens that stand for one byte (`<0xE2>`), in vocabularies that fall back to bytes for
//! characters they lack.
//!
//! The `tokenizers` library decodes a run of them as a whole, and turns every byte of a run with a
//! mistake into U+FFFD. Here the characters of such a run stay, and only what is broken becomes
//! U+FFFD: once for each maximal part, as Python's `errors="replace"` and Rust's
//! [`String::from_utf8_lossy`] do.

/// The byte that a token stands for.
pub(super) fn byte_of(token: &str) -> Option<u8> {
    let hex = token.strip_prefix("<0x")?.strip_suffix('>')?;
    let is_hex = hex.len() == 2 && hex.bytes().all(|digit| digit.is_ascii_hexdigit());
    if is_hex { u8::from_str_radix(hex, 16).ok() } else { None }
}

/// How the vocabulary writes the token of a byte.
pub(super) fn token_of(byte: u8) -> String {
    format!("<0x{byte:02X}>")
}

/// Replaces what is not UTF-8 in runs of byte tokens by U+FFFD.
pub(super) fn replace_broken(tokens: Vec<String>) -> Vec<String> {
    let mut replaced = Vec::with_capacity(tokens.len());
    let mut run = Vec::new();
    for token in tokens {
        match byte_of(&token) {
            Some(byte) => run.push(byte),
            None => {
                append_run(&mut run, &mut replaced);
                replaced.push(token);
            }
        }
    }
    append_run(&mut run, &mut replaced);
    replaced
}

fn append_run(run: &mut Vec<u8>, tokens: &mut Vec<String>) {
    for chunk in run.utf8_chunks() {
        tokens.extend(chunk.valid().bytes().map(token_of));
        if !chunk.invalid().is_empty() {
            tokens.push(char::REPLACEMENT_CHARACTER.to_string());
        }
    }
    run.clear();
}

/// Writes the characters of byte tokens as themselves, so that a list can be cut between them.
pub(super) fn join_characters(tokens: &mut Vec<String>) {
    let mut joined = Vec::with_capacity(tokens.len());
    let mut run = Vec::new();
    for token in tokens.drain(..) {
        match byte_of(&token) {
            Some(byte) => run.push(byte),
            None => {
                joined.extend(String::from_utf8_lossy(&run).chars().map(String::from));
                run.clear();
                joined.push(token);
            }
        }
    }
    joined.extend(String::from_utf8_lossy(&run).chars().map(String::from));
    *tokens = joined;
}
