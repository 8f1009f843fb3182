//! What byte-pair encodings of several formats share.

use std::collections::HashMap;

use tokenizers::models::bpe::{BPE, Merges, Vocab};
use tokenizers::pre_tokenizers::PreTokenizerWrapper;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::{AddedToken, SplitDelimiterBehavior, Tokenizer};

use super::Outcome;

/// The longest token, in bytes; the longest published ones have about 130.
pub(super) const MAX_TOKEN: usize = 1024;

/// Words with their contractions, numbers in groups of up to three, runs of signs, and line breaks:
/// how Llama 3's tokenizer splits a text (`tiktoken`'s `cl100k_base` is nearly the same).
pub(super) const WORDS: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// As [`WORDS`], but every digit is alone: how Qwen's tokenizers split a text.
pub(super) const WORDS_AND_DIGITS: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// As [`WORDS_AND_DIGITS`], with marks as parts of words: Qwen 3.5.
pub(super) const MARKED_WORDS_AND_DIGITS: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// Splits by a regular expression, then writes bytes as characters.
pub(super) fn split_by(pattern: &str) -> Outcome<PreTokenizerWrapper> {
    let pattern = SplitPattern::Regex(pattern.to_owned());
    let split = Split::new(pattern, SplitDelimiterBehavior::Isolated, false)
        .map_err(|error| format!("the pattern that splits a text is not valid: {error}"))?;
    Ok(Sequence::new(vec![split.into(), ByteLevel::new(false, false, false).into()]).into())
}

/// Adds `tokens` to a vocabulary under their own ids: the library numbers what it adds in a row.
/// A piece that is only a placeholder for the id goes.
pub(super) fn declare(vocabulary: &mut Vocab, tokens: &[(u32, AddedToken)]) {
    let by_id: HashMap<u32, String> =
        vocabulary.iter().map(|(piece, id)| (*id, piece.clone())).collect();
    for (id, token) in tokens {
        if vocabulary.contains_key(&token.content) {
            continue;
        }
        if let Some(placeholder) = by_id.get(id) {
            vocabulary.remove(placeholder);
        }
        vocabulary.insert(token.content.clone(), *id);
    }
}

/// A tokenizer of tokens with ranks (`tiktoken`): the pair is merged that makes the token of the
/// lowest rank. The id of a token is its rank, moved up by `offset`.
pub(super) fn from_ranks(
    ranks: &[(Vec<u8>, u32)],
    offset: u32,
    pattern: &str,
    declared: &[(u32, AddedToken)],
) -> Outcome<Tokenizer> {
    let by_token: HashMap<&[u8], u32> =
        ranks.iter().map(|(token, rank)| (token.as_slice(), *rank)).collect();
    let mut vocabulary = Vocab::default();
    let mut merges = Vec::new();
    for (token, rank) in ranks {
        if token.len() > MAX_TOKEN {
            return Err(format!("token {rank} has more than {MAX_TOKEN} bytes"));
        }
        let id = rank.checked_add(offset).ok_or_else(|| format!("{rank} is no rank"))?;
        vocabulary.insert(characters(token), id);
        for middle in 1..token.len() {
            let (left, right) = token.split_at(middle);
            if let (Some(a), Some(b)) = (by_token.get(left), by_token.get(right)) {
                merges.push((*rank, *a, *b, left, right));
            }
        }
    }
    merges.sort_unstable();
    let merges: Merges = merges
        .into_iter()
        .map(|(_, _, _, left, right)| (characters(left), characters(right)))
        .collect();
    declare(&mut vocabulary, declared);
    let model = BPE::builder()
        .vocab_and_merges(vocabulary, merges)
        .ignore_merges(true)
        .build()
        .map_err(|error| error.to_string())?;
    let mut tokenizer = Tokenizer::new(model);
    tokenizer.with_pre_tokenizer(Some(split_by(pattern)?));
    tokenizer.with_decoder(Some(ByteLevel::default()));
    Ok(tokenizer)
}

/// Bytes as the printable characters of GPT-2's table.
fn characters(bytes: &[u8]) -> String {
    bytes.iter().map(|&byte| crate::text::detokenizer::byte_level::character_of(byte)).collect()
}
