//! The tokens of a model as the parser sees them.

use std::sync::Arc;

use llguidance::ParserFactory;
use llguidance::api::ParserLimits;
use llguidance::toktrie::{self, InferenceCapabilities, TokEnv, TokRxInfo, TokTrie, TokenizerEnv};

use super::digits::Digits;
use super::token_set::TokenSet;
use crate::error::{Error, Result};

/// What a token stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Word {
    /// Bytes of text, not always whole characters.
    Text(Vec<u8>),
    /// A special token, with its name: no text of an answer has it, only a grammar that names it.
    Special(String),
    /// Nothing: the token never comes.
    Nothing,
}

/// The parser's trie has no place for longer tokens.
const LONGEST_WORD: usize = 1000;

/// So many characters of an open answer are shown on each side of what is wrong.
const SHOWN: usize = 40;

/// The tokens of a model, prepared for constraints.
pub struct Vocabulary {
    factory: ParserFactory,
    size: usize,
    /// All tokens but those that end an answer.
    all_but_ends: TokenSet,
    /// Those that end an answer.
    ends: TokenSet,
    /// Those that begin with a digit.
    digits: TokenSet,
}

impl Vocabulary {
    /// A vocabulary of `words`, whose places are their tokens, with the tokens that end an answer.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for a vocabulary that the parser cannot hold.
    pub fn new(words: Vec<Word>, end_tokens: &[u32]) -> Result<Self> {
        let unsupported = |error: &dyn std::fmt::Display| {
            Error::Unsupported(format!("the model's vocabulary cannot be constrained: {error}"))
        };
        let size = words.len();
        let ends: Vec<u32> =
            end_tokens.iter().copied().filter(|&token| (token as usize) < size).collect();
        let mut bytes: Vec<Vec<u8>> = words.into_iter().map(Word::into_bytes).collect();
        for &token in &ends {
            let word = &mut bytes[token as usize];
            if word.first() != Some(&TokTrie::SPECIAL_TOKEN_MARKER) {
                word.insert(0, TokTrie::SPECIAL_TOKEN_MARKER);
            }
        }
        let has_digit = |word: &Vec<u8>| word.first().is_some_and(u8::is_ascii_digit);
        let digits: Vec<u32> = (0_u32..)
            .zip(&bytes)
            .filter_map(|(token, word)| has_digit(word).then_some(token))
            .collect();
        let first = ends.first().copied().unwrap_or(toktrie::INVALID_TOKEN);
        let info = TokRxInfo::new(size as u32, first);
        let mut trie = TokTrie::from(&info, &bytes);
        if !ends.is_empty() {
            trie = trie.with_eos_tokens(&ends);
        }
        let tokens: TokEnv = Arc::new(Trie(trie));
        let slices = llguidance::earley::SlicedBiasComputer::general_slices();
        let mut factory = ParserFactory::new(&tokens, InferenceCapabilities::default(), &slices)
            .map_err(|error| unsupported(&error))?;
        factory.quiet();
        *factory.limits_mut() = ParserLimits { verbose_errors: false, ..ParserLimits::default() };
        let all_but_ends = TokenSet::all_but(size, &ends);
        let ends = TokenSet::of(size, &ends);
        let digits = TokenSet::of(size, &digits);
        Ok(Self { factory, size, all_but_ends, ends, digits })
    }

    /// The number of tokens.
    pub fn size(&self) -> usize {
        self.size
    }

    /// A text as tokens, each the longest that there is.
    pub(super) fn cut(&self, text: &[u8]) -> Vec<u32> {
        self.factory.tok_env().tok_trie().greedy_tokenize(text)
    }

    /// The error for an open answer, whose token number `taken` no grammar takes.
    pub(super) fn is_no_beginning(&self, tokens: &[u32], taken: usize) -> Error {
        let trie = self.factory.tok_env().tok_trie();
        let shown = |tokens: &[u32]| trie.decode_str(tokens);
        let (before, behind) = (shown(&tokens[..taken]), shown(&tokens[taken..]));
        let tail: String = before.chars().rev().take(SHOWN).collect();
        let tail: String = tail.chars().rev().collect();
        let head: String = behind.chars().take(SHOWN).collect();
        let message = format!(
            "the open text is no beginning of what the answer has to be: {head:?} cannot stand \
             behind {tail:?}"
        );
        Error::argument("continueFinalMessage", message)
    }

    pub(super) fn factory(&self) -> &ParserFactory {
        &self.factory
    }

    pub(super) fn all_but_ends(&self) -> &TokenSet {
        &self.all_but_ends
    }

    pub(super) fn ends(&self) -> &TokenSet {
        &self.ends
    }

    pub(super) fn digits(&self) -> &TokenSet {
        &self.digits
    }

    /// Lets `digits` take a token.
    pub(super) fn follow(&self, digits: &mut Digits, token: u32) {
        let bytes = self.factory.tok_env().tok_trie().token(token);
        match bytes.first() {
            Some(&TokTrie::SPECIAL_TOKEN_MARKER) => digits.push_special(&bytes[1..]),
            _ => digits.push(bytes),
        }
    }
}

impl std::fmt::Debug for Vocabulary {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Vocabulary").field("size", &self.size).finish_non_exhaustive()
    }
}

impl Word {
    fn into_bytes(self) -> Vec<u8> {
        match self {
            Self::Text(bytes)
                if bytes.len() <= LONGEST_WORD
                    && bytes.first() != Some(&TokTrie::SPECIAL_TOKEN_MARKER) =>
            {
                bytes
            }
            Self::Special(name) if !name.is_empty() && name.len() < LONGEST_WORD => {
                [&[TokTrie::SPECIAL_TOKEN_MARKER], name.as_bytes()].concat()
            }
            _ => Vec::new(),
        }
    }
}

/// Tokens without a tokenizer: a text may be cut into tokens in every way, and the model chooses.
struct Trie(TokTrie);

impl TokenizerEnv for Trie {
    fn tok_trie(&self) -> &TokTrie {
        &self.0
    }

    fn tokenize_bytes(&self, text: &[u8]) -> Vec<u32> {
        self.0.greedy_tokenize(text)
    }

    fn tokenize_is_canonical(&self) -> bool {
        false
    }
}
