//! `tekken.json`: Mistral's tokenizers since Nemo, tokens with ranks like tiktoken's. Special
//! tokens come first; a token's id is its rank behind them.

use serde::Deserialize;
use serde_json::{Map, Value};
use tokenizers::{AddedToken, Tokenizer};

use super::{Hints, Outcome, bpe, config};

#[derive(Deserialize)]
struct File {
    config: Config,
    vocab: Vec<Token>,
    special_tokens: Option<Vec<Special>>,
}

#[derive(Deserialize)]
struct Config {
    pattern: String,
    default_vocab_size: Option<u32>,
    default_num_special_tokens: Option<u32>,
}

#[derive(Deserialize)]
struct Token {
    token_bytes: String,
}

#[derive(Deserialize)]
struct Special {
    rank: u32,
    token_str: String,
}

/// The special tokens of files that do not list theirs (mistral-common's `Tekkenizer`).
const SPECIAL_TOKENS: [&str; 20] = [
    "<unk>",
    "<s>",
    "</s>",
    "[INST]",
    "[/INST]",
    "[AVAILABLE_TOOLS]",
    "[/AVAILABLE_TOOLS]",
    "[TOOL_RESULTS]",
    "[/TOOL_RESULTS]",
    "[TOOL_CALLS]",
    "[IMG]",
    "<pad>",
    "[IMG_BREAK]",
    "[IMG_END]",
    "[PREFIX]",
    "[MIDDLE]",
    "[SUFFIX]",
    "[SYSTEM_PROMPT]",
    "[/SYSTEM_PROMPT]",
    "[TOOL_CONTENT]",
];

/// More special tokens than any tokenizer has; published ones have 1000.
const MAX_SPECIAL_TOKENS: u32 = 1 << 16;

/// Builds the tokenizer.
pub(super) fn build(bytes: &[u8], _hints: &Hints<'_>) -> Outcome<(Tokenizer, Map<String, Value>)> {
    let file: File = serde_json::from_slice(bytes)
        .map_err(|error| format!("not a tekken vocabulary: {error}"))?;
    let mut special: Vec<(u32, String)> = match file.special_tokens {
        Some(tokens) => tokens.into_iter().map(|it| (it.rank, it.token_str)).collect(),
        None => (0..).zip(SPECIAL_TOKENS.map(str::to_owned)).collect(),
    };
    let listed = u32::try_from(special.len()).unwrap_or(u32::MAX);
    let count = file.config.default_num_special_tokens.unwrap_or(listed);
    if count > MAX_SPECIAL_TOKENS || listed > count {
        return Err(format!("{count} is not the number of {listed} special tokens"));
    }
    special.sort();
    if !special.iter().map(|(rank, _)| *rank).eq(0..listed) {
        return Err("special_tokens: the ranks are not 0, 1, 2 and so on".to_owned());
    }
    special.extend((listed..count).map(|rank| (rank, format!("<SPECIAL_{rank}>"))));
    // What a larger file holds is padding.
    let size = file.config.default_vocab_size.map(|size| size.saturating_sub(count) as usize);
    let mut ranks = Vec::with_capacity(file.vocab.len());
    for (rank, token) in (0..).zip(file.vocab.iter().take(size.unwrap_or(usize::MAX))) {
        let bytes = base64::decode(&token.token_bytes)
            .map_err(|error| format!("vocab[{rank}].token_bytes: not base64: {error}"))?;
        ranks.push((bytes, rank));
    }
    let declared: Vec<(u32, AddedToken)> = special
        .into_iter()
        .map(|(rank, content)| (rank, AddedToken::from(content, true)))
        .collect();
    let mut tokenizer = bpe::from_ranks(&ranks, count, &file.config.pattern, &declared)?;
    let added: Vec<AddedToken> = declared.into_iter().map(|(_, token)| token).collect();
    tokenizer.add_special_tokens(&added);
    let known = |token: &str| match added.iter().any(|added| added.content == token) {
        true => Value::from(token),
        false => Value::Null,
    };
    let config = config([
        ("bos_token", known("<s>")),
        ("eos_token", known("</s>")),
        ("unk_token", known("<unk>")),
        ("pad_token", known("<pad>")),
        ("add_bos_token", true.into()),
        ("add_eos_token", false.into()),
    ]);
    Ok((tokenizer, config))
}
