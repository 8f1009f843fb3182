//! The bytes that tokens stand for, which a grammar is followed by.

use tokenizers::DecoderWrapper;

use super::byte_fallback;
use super::detokenizer::byte_level;
use super::tokenizer::{Decoding, Tokenizer};

impl Tokenizer {
    /// What each of `count` tokens adds to a text behind others; nothing for those without text.
    /// `None` for a tokenizer whose tokens read differently by what follows them.
    pub fn token_bytes(&self, count: usize) -> Option<Vec<Vec<u8>>> {
        if self.inner().get_decoder().is_some_and(looks_ahead) {
            return None;
        }
        let tokens = 0..u32::try_from(count).unwrap_or(u32::MAX);
        let anchor = match self.decoding() {
            Decoding::ByteLevel => None,
            Decoding::ByteFallback | Decoding::Plain => self.anchor(tokens.clone()),
        };
        let bytes = |token: u32| -> Option<Vec<u8>> {
            let written = self.written(token)?;
            self.written_bytes(&written).or_else(|| {
                let (anchor, text) = anchor.as_ref()?;
                let both = self.text_of(vec![anchor.clone(), written]).ok()?;
                both.strip_prefix(text.as_str()).map(|text| text.as_bytes().to_vec())
            })
        };
        Some(tokens.map(|token| bytes(token).unwrap_or_default()).collect())
    }

    /// The bytes of a token, where the vocabulary writes tokens as bytes.
    pub fn bytes_of_token(&self, token: u32) -> Option<Vec<u8>> {
        self.written_bytes(&self.written(token)?)
    }

    fn written_bytes(&self, written: &str) -> Option<Vec<u8>> {
        match self.decoding() {
            Decoding::ByteLevel => {
                let mut bytes = Vec::new();
                byte_level::append(written, &mut bytes);
                Some(bytes)
            }
            Decoding::ByteFallback => byte_fallback::byte_of(written).map(|byte| vec![byte]),
            Decoding::Plain => None,
        }
    }

    /// A token that others are read behind, and its text: how a token reads at the beginning of a
    /// text is another matter.
    fn anchor(&self, mut tokens: std::ops::Range<u32>) -> Option<(String, String)> {
        tokens.find_map(|token| {
            let written = self.written(token).filter(|_| !self.is_special(token))?;
            let text = self.text_of(vec![written.clone()]).ok()?;
            let is_word = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric());
            is_word.then_some((written, text))
        })
    }
}

/// Whether a token's text depends on the token behind it: whether a word's end is the text's, or
/// whether the same token comes again.
fn looks_ahead(decoder: &DecoderWrapper) -> bool {
    match decoder {
        DecoderWrapper::BPE(_) | DecoderWrapper::CTC(_) => true,
        DecoderWrapper::Sequence(steps) => steps.get_decoders().iter().any(looks_ahead),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

    use std::path::Path;
    use std::sync::Arc;

    use crate::text::{Detokenizer, Tokenizer};

    /// The bytes of tokens, put together, are the text that they read as behind a prompt.
    #[test]
    fn bytes_of_tokens_are_the_text_of_an_answer() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let folders = std::fs::read_dir(root.join("tests/fixtures/tokenizers")).unwrap();
        let mut folders: Vec<_> = folders.map(|entry| entry.unwrap().path()).collect();
        folders.retain(|folder| folder.is_dir());
        folders.push(root.join("models/demo"));
        let texts = ["{\"name\": \"Ann\", \"ages\": [1, 2.5e3]}", "naïve  text\n\tÄ 日本 👋", "a"];
        let mut tried = 0;
        for folder in folders {
            let Ok(Some(tokenizer)) = Tokenizer::from_dir(&folder) else { continue };
            let tokenizer = Arc::new(tokenizer);
            let Some(bytes) = tokenizer.token_bytes(tokenizer.vocab_size()) else {
                assert!(folder.ends_with("word-suffixes"), "{}", folder.display());
                continue;
            };
            let prompt = tokenizer.encode("word", false).unwrap();
            for text in texts {
                let tokens = tokenizer.encode(text, false).unwrap();
                let mut detokenizer =
                    Detokenizer::after(Arc::clone(&tokenizer), &prompt, true).unwrap();
                let mut read = String::new();
                for &token in &tokens {
                    read += &detokenizer.push(token).unwrap();
                }
                read += &detokenizer.finish().unwrap();
                let visible = tokens.iter().filter(|&&token| !tokenizer.is_special(token));
                let joined: Vec<u8> =
                    visible.flat_map(|&token| bytes[token as usize].clone()).collect();
                let joined = String::from_utf8_lossy(&joined);
                assert_eq!(joined, read, "{}: {text:?}", folder.display());
                tried += 1;
            }
        }
        assert!(tried >= 12, "{tried}");
    }
}
