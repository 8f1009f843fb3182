//! `vocab.json` and `merges.txt`: GPT-2's byte-level encoding, as many tokenizers without a fast
//! form are saved.

use std::collections::HashMap;

use serde_json::{Map, Value};
use tokenizers::Tokenizer;
use tokenizers::models::bpe::{BPE, Merges, Vocab};
use tokenizers::normalizers::unicode::NFC;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;

use super::{Hints, Outcome, bpe, config};

/// How a kind of tokenizer splits a text.
enum Splitting {
    /// GPT-2's own way.
    Plain,
    /// Composed characters, split by a pattern.
    Composed(&'static str),
}

/// Builds the tokenizer.
pub(super) fn build(
    vocabulary: &[u8],
    merges: &[u8],
    hints: &Hints<'_>,
) -> Outcome<(Tokenizer, Map<String, Value>)> {
    let around = |bos: &str, eos: &str, add: bool| {
        config([
            ("bos_token", bos.into()),
            ("eos_token", eos.into()),
            ("unk_token", if add { "<unk>".into() } else { eos.into() }),
            ("add_bos_token", add.into()),
            ("add_eos_token", add.into()),
        ])
    };
    let gpt2 = || around("<|endoftext|>", "<|endoftext|>", false);
    let (splitting, config) = match hints.class() {
        None
        | Some(
            "GPT2Tokenizer" | "CodeGenTokenizer" | "PreTrainedTokenizer" | "TokenizersBackend",
        ) => (Splitting::Plain, gpt2()),
        Some("RobertaTokenizer" | "BartTokenizer" | "LongformerTokenizer" | "LEDTokenizer") => {
            (Splitting::Plain, around("<s>", "</s>", true))
        }
        Some("Qwen2Tokenizer") => (Splitting::Composed(bpe::WORDS_AND_DIGITS), qwen()),
        Some("Qwen3_5Tokenizer") => (Splitting::Composed(bpe::MARKED_WORDS_AND_DIGITS), qwen()),
        Some(other) => {
            return Err(format!(
                "a vocabulary of the tokenizer_class {other} is not known; save the tokenizer as \
                 tokenizer.json"
            ));
        }
    };
    let ids: HashMap<String, u32> = serde_json::from_slice(vocabulary)
        .map_err(|error| format!("not a vocabulary, an object of ids by token: {error}"))?;
    let mut vocabulary: Vocab = ids.into_iter().collect();
    bpe::declare(&mut vocabulary, hints.declared);
    let model = BPE::builder()
        .vocab_and_merges(vocabulary, parse(merges)?)
        .build()
        .map_err(|error| error.to_string())?;
    let mut tokenizer = Tokenizer::new(model);
    match splitting {
        Splitting::Plain => {
            let prefix = hints.flag("add_prefix_space").unwrap_or(false);
            tokenizer.with_pre_tokenizer(Some(ByteLevel::new(prefix, false, true)));
        }
        Splitting::Composed(pattern) => {
            tokenizer.with_normalizer(Some(NFC));
            tokenizer.with_pre_tokenizer(Some(bpe::split_by(pattern)?));
        }
    }
    tokenizer.with_decoder(Some(ByteLevel::default()));
    Ok((tokenizer, config))
}

fn qwen() -> Map<String, Value> {
    config([("eos_token", "<|endoftext|>".into()), ("pad_token", "<|endoftext|>".into())])
}

/// A pair of tokens in each line, the first to be merged first.
fn parse(merges: &[u8]) -> Outcome<Merges> {
    let text = std::str::from_utf8(merges).map_err(|_| "merges.txt is not UTF-8".to_owned())?;
    let mut pairs = Merges::new();
    for (index, line) in text.lines().enumerate() {
        if line.is_empty() || index == 0 && line.starts_with("#version") {
            continue;
        }
        let pair = line.split_once(' ').filter(|(_, right)| !right.contains(' '));
        let (left, right) = pair.ok_or_else(|| {
            format!("merges.txt, line {}: expected two tokens and a space between", index + 1)
        })?;
        pairs.push((left.to_owned(), right.to_owned()));
    }
    Ok(pairs)
}
