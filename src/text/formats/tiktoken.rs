//! Files of `tiktoken`: a token in base64 and its rank in each line. How a text is split, and which
//! special tokens there are, is not in the file; it follows from the tokenizer's class.

use serde_json::{Map, Value};
use tokenizers::normalizers::unicode::NFC;
use tokenizers::{AddedToken, Tokenizer};

use super::{Hints, Outcome, bpe, config};

/// Words of Chinese and of other scripts apart, contractions behind their words: how Kimi's
/// tokenizers split a text.
const HAN_AND_WORDS: &str = r"[\p{Han}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]*[\p{Ll}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]+[\p{Ll}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// The special tokens of the first Qwen, behind its other tokens.
const QWEN: [&str; 3] = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"];

/// The most ids between tokens that a file names: each of them gets a placeholder.
const MAX_GAP: u32 = 1 << 16;

/// Whether a file looks like one of tiktoken's: its first line is base64, a space and a number.
pub(super) fn is_tiktoken(bytes: &[u8]) -> bool {
    let line = bytes.split(|&byte| byte == b'\n').next().unwrap_or_default();
    std::str::from_utf8(line).is_ok_and(|line| parse_line(line).is_some())
}

fn parse_line(line: &str) -> Option<(Vec<u8>, u32)> {
    let (token, rank) = line.trim_end().split_once(' ')?;
    Some((base64::decode(token).ok().filter(|token| !token.is_empty())?, rank.parse().ok()?))
}

/// Builds the tokenizer.
pub(super) fn build(bytes: &[u8], hints: &Hints<'_>) -> Outcome<(Tokenizer, Map<String, Value>)> {
    let text = std::str::from_utf8(bytes).map_err(|_| "not a tiktoken vocabulary".to_owned())?;
    let mut ranks = Vec::new();
    for (index, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        ranks.push(parse_line(line).ok_or_else(|| {
            format!("line {}: expected a token in base64, a space and its rank", index + 1)
        })?);
    }
    let first = ranks.iter().map(|(_, rank)| rank.saturating_add(1)).max().unwrap_or(0);
    let mut special: Vec<(u32, AddedToken)> =
        hints.declared.iter().filter(|(id, _)| *id >= first).cloned().collect();
    let (pattern, is_composed, config) = match hints.class() {
        Some("QWenTokenizer") => {
            let extra = (0..205).map(|number| format!("<|extra_{number}|>"));
            let names = QWEN.map(str::to_owned).into_iter().chain(extra);
            if special.is_empty() {
                special = (first..).zip(names.map(|name| AddedToken::from(name, true))).collect();
            }
            let end = || Value::from(QWEN[0]);
            let config = config([("eos_token", end()), ("pad_token", end())]);
            (bpe::WORDS_AND_DIGITS, true, config)
        }
        Some("TikTokenTokenizer") => (HAN_AND_WORDS, false, config([])),
        // Llama 3 was the first to call such a file tokenizer.model.
        None | Some("LlamaTokenizer" | "PreTrainedTokenizer" | "TokenizersBackend") => {
            (bpe::WORDS, false, config([]))
        }
        Some(other) => {
            return Err(format!(
                "a tiktoken vocabulary of the tokenizer_class {other} is not known; save the \
                 tokenizer as tokenizer.json"
            ));
        }
    };
    let last = special.iter().map(|(id, _)| *id).max().unwrap_or(first);
    if last - first.min(last) > MAX_GAP {
        return Err(format!("added token {last} is far behind the vocabulary's last, {first}"));
    }
    for id in first..last {
        if !special.iter().any(|(known, _)| *known == id) {
            special.push((id, AddedToken::from(format!("<|reserved_token_{id}|>"), true)));
        }
    }
    special.sort_by_key(|(id, _)| *id);
    let mut tokenizer = bpe::from_ranks(&ranks, 0, pattern, &special)?;
    if is_composed {
        tokenizer.with_normalizer(Some(NFC));
    }
    tokenizer.add_tokens(&special.into_iter().map(|(_, token)| token).collect::<Vec<_>>());
    Ok((tokenizer, config))
}
