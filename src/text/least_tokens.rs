//! How many tokens a text has at least, without cutting it into them.
//!
//! A text of millions of characters takes the tokenizer seconds. No token is longer than the longest
//! of the vocabulary, so such a text is known to be too long for a context before that. This is so
//! only where no part of a text is left out, made shorter, or becomes one unknown token, which the
//! kinds of normalizers, pre-tokenizers and models tell.

use serde_json::Value;
use tokenizers::tokenizer::SplitDelimiterBehavior;
use tokenizers::{ModelWrapper, NormalizerWrapper, PreTokenizerWrapper};

use super::detokenizer::byte_level;
use super::tokenizer::Tokenizer;

/// More times than this, composing or decomposing makes no text shorter: of all characters and their
/// canonical equivalents the worst is U+0390, of two bytes, which seven bytes are composed into.
const COMPOSED: usize = 4;

/// What bounds the tokens of a text from below.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeastTokens {
    /// The most bytes of a text that a token stands for.
    longest: usize,
    /// Whether white space beside added tokens may become part of them.
    strips: bool,
}

impl LeastTokens {
    /// That of a tokenizer; `None` where a token may stand for a text of any length.
    pub fn of(tokenizer: &Tokenizer) -> Option<Self> {
        let tokenizer = tokenizer.inner();
        let shrinks = tokenizer.get_normalizer().map_or(Some(1), shrinks)?;
        let is_byte_level = match tokenizer.get_pre_tokenizer() {
            None => false,
            Some(pre_tokenizer) => keeps_all(pre_tokenizer)?,
        };
        let ModelWrapper::BPE(model) = tokenizer.get_model() else { return None };
        if model.continuing_subword_prefix.is_some() || model.end_of_word_suffix.is_some() {
            return None;
        }
        let vocabulary = model.get_vocab();
        let has_bytes = |write: &dyn Fn(u8) -> String| {
            (0..=u8::MAX).all(|byte| vocabulary.contains_key(&write(byte)))
        };
        let letter = |byte| byte_level::character_of(byte).to_string();
        let longest_word = match is_byte_level {
            true if has_bytes(&letter) => vocabulary.keys().map(|word| word.chars().count()).max(),
            false if model.byte_fallback && has_bytes(&|byte| format!("<0x{byte:02X}>")) => {
                vocabulary.keys().map(String::len).max()
            }
            _ => return None,
        };
        let added = tokenizer.get_added_vocabulary().get_added_tokens_decoder();
        let longest_added = added.values().map(|token| token.content.len()).max();
        let longest = longest_word.unwrap_or(0).max(longest_added.unwrap_or(0)).max(1);
        let strips = added.values().any(|token| token.lstrip || token.rstrip);
        Some(Self { longest: longest.saturating_mul(shrinks), strips })
    }

    /// The least number of tokens of `text`.
    pub fn count(self, text: &str) -> usize {
        let bytes = match self.strips {
            true => text.chars().filter(|it| !it.is_whitespace()).map(char::len_utf8).sum(),
            false => text.len(),
        };
        bytes.div_ceil(self.longest)
    }
}

/// How many times shorter a normalizer may make a text; `None` where there is no telling.
fn shrinks(normalizer: &NormalizerWrapper) -> Option<usize> {
    match normalizer {
        NormalizerWrapper::NFC(_) | NormalizerWrapper::NFD(_) => Some(COMPOSED),
        NormalizerWrapper::Prepend(_) => Some(1),
        NormalizerWrapper::Replace(replace) => {
            // The pattern is private, but written.
            let written = serde_json::to_value(replace).ok()?;
            let pattern = written.get("pattern")?.get("String").and_then(Value::as_str)?;
            (!pattern.is_empty() && replace.content.len() >= pattern.len()).then_some(1)
        }
        NormalizerWrapper::Sequence(steps) => steps
            .as_ref()
            .iter()
            .try_fold(1_usize, |all, step| Some(all.saturating_mul(shrinks(step)?))),
        _ => None,
    }
}

/// Whether a pre-tokenizer writes bytes as characters; `None` where it may leave parts of a text out.
fn keeps_all(pre_tokenizer: &PreTokenizerWrapper) -> Option<bool> {
    match pre_tokenizer {
        PreTokenizerWrapper::ByteLevel(_) => Some(true),
        PreTokenizerWrapper::Split(split) => {
            (split.behavior != SplitDelimiterBehavior::Removed).then_some(false)
        }
        PreTokenizerWrapper::Digits(_) | PreTokenizerWrapper::Metaspace(_) => Some(false),
        PreTokenizerWrapper::Sequence(steps) => steps
            .as_ref()
            .iter()
            .try_fold(false, |is_byte_level, step| Some(is_byte_level | keeps_all(step)?)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn no_text_has_fewer_tokens_than_are_known() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let folders = std::fs::read_dir(root.join("tests/fixtures/tokenizers")).unwrap();
        let mut folders: Vec<_> = folders.map(|entry| entry.unwrap().path()).collect();
        folders.push(root.join("models/demo"));
        let texts = [
            "The quick brown fox jumps over the lazy dog. ",
            " ",
            "\n",
            "\t \r\n",
            "-",
            "=",
            "a",
            "0",
            "\u{a0}",
            "é",
            "日本",
            "👋🏽",
            "\u{0}",
            "\u{200b}",
            // What composing makes shorter.
            "\u{212a}",
            "e\u{301}",
            "ι\u{308}\u{301}",
            "\u{1112}\u{1161}\u{11ab}",
            "\u{1f71}\u{0313}\u{0300}\u{0345}",
            "\u{fb03}",
            "ﷺ",
            "<s>",
            "</s> ",
            " <unk>",
            "<|endoftext|>",
            "<|im_end|>  ",
            "  <mask> ",
            "[UNK]",
        ];
        let mut known = 0;
        for folder in folders {
            let Ok(Some(tokenizer)) = Tokenizer::from_dir(&folder) else { continue };
            let Some(bound) = LeastTokens::of(&tokenizer) else { continue };
            known += 1;
            for text in texts {
                for count in [1, 2, 300] {
                    let text = text.repeat(count);
                    let (least, tokens) =
                        (bound.count(&text), tokenizer.encode(&text, false).unwrap());
                    let name = folder.display();
                    assert!(least <= tokens.len(), "{name}: {text:?}: {least} > {}", tokens.len());
                }
            }
        }
        assert!(known >= 3, "{known}");
    }

    #[test]
    fn a_long_text_is_known_to_be_long() {
        let demo = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/demo");
        let tokenizer = Tokenizer::from_dir(&demo).unwrap().unwrap();
        let bound = LeastTokens::of(&tokenizer).unwrap();
        assert!(bound.count(&"so it goes ".repeat(100_000)) > 10_000);
    }
}
