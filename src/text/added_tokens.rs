//! Finding added tokens in a text, except where none may begin.
//!
//! The `tokenizers` library finds all of them, or none that is special. This is its own procedure
//! (`AddedVocabulary::extract_and_normalize`), made of its public parts, with marks.

use aho_corasick::{AhoCorasick, Input, MatchKind};
use tokenizers::normalizer::{NormalizedString, Range};
use tokenizers::tokenizer::Result;
use tokenizers::{
    AddedToken, Encoding, Model, Normalizer, OffsetType, PreTokenizedString, PreTokenizer, Token,
};

/// A text, and the places in it, in bytes and in order, where no added token may begin.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MarkedText {
    /// The text.
    pub text: String,
    /// The places.
    pub marks: Vec<usize>,
}

impl MarkedText {
    /// A text that is nobody's message.
    pub fn unmarked(text: String) -> Self {
        Self { text, marks: Vec::new() }
    }
}

/// Some added tokens, and the automaton that finds them.
struct Found {
    automaton: AhoCorasick,
    tokens: Vec<(u32, AddedToken)>,
}

impl Found {
    fn new(tokens: Vec<(u32, AddedToken)>, patterns: &[String]) -> Result<Self> {
        let automaton =
            AhoCorasick::builder().match_kind(MatchKind::LeftmostLongest).build(patterns)?;
        Ok(Self { automaton, tokens })
    }

    /// Cuts `text` into added tokens and the text between them.
    fn split(
        &self,
        text: &NormalizedString,
        marks: &[usize],
    ) -> Vec<(NormalizedString, Option<Vec<Token>>)> {
        let content = text.get();
        let is_marked = |start: usize, end: usize| {
            let original = text.convert_offsets(Range::Normalized(start..end));
            let first = text.offsets_original().0;
            original.is_some_and(|it| marks.binary_search(&(first + it.start)).is_ok())
        };
        let mut parts = Vec::new();
        let mut add = |part: std::ops::Range<usize>, id: Option<u32>| {
            if let Some(slice) = text.slice(Range::Normalized(part)) {
                let value = slice.get().to_owned();
                let token = id.map(|id| vec![Token::new(id, value.clone(), (0, value.len()))]);
                parts.push((slice, token));
            }
        };
        let (mut done, mut at) = (0, 0);
        while let Some(found) = self.automaton.find(Input::new(content).span(at..content.len())) {
            let (id, token) = &self.tokens[found.pattern().as_usize()];
            let (mut start, mut end) = (found.start(), found.end());
            if is_marked(start, end) {
                at = start + content[start..].chars().next().map_or(1, char::len_utf8);
                continue;
            }
            at = end;
            let is_word = |it: Option<char>| it.is_some_and(|it| it.is_alphanumeric() || it == '_');
            if token.single_word
                && (is_word(content[..start].chars().next_back())
                    || is_word(content[end..].chars().next()))
            {
                continue;
            }
            if token.lstrip {
                start = content[..start].trim_end().len().max(done);
            }
            if token.rstrip {
                end = content.len() - content[end..].trim_start().len();
            }
            if done < start {
                add(done..start, None);
            }
            add(start..end, Some(*id));
            done = end;
            at = at.max(end);
        }
        if done < content.len() {
            add(done..content.len(), None);
        }
        parts
    }
}

/// The tokens of `text`, in which no added token begins at one of `marks` (bytes, in order).
pub(super) fn encode(
    tokenizer: &tokenizers::Tokenizer,
    text: &str,
    marks: &[usize],
) -> Result<Encoding> {
    let normalize = |text: &mut NormalizedString| match tokenizer.get_normalizer() {
        Some(normalizer) => normalizer.normalize(text),
        None => Ok(()),
    };
    let added = tokenizer.get_added_tokens_decoder();
    let added = added.iter().filter(|(_, token)| !token.content.is_empty());
    let (normalized, literal): (Vec<_>, Vec<_>) =
        added.map(|(id, token)| (*id, token.clone())).partition(|(_, token)| token.normalized);
    let mut patterns = Vec::with_capacity(normalized.len());
    for (_, token) in &normalized {
        let mut content = NormalizedString::from(token.content.as_str());
        normalize(&mut content)?;
        patterns.push(content.get().to_owned());
    }
    let normalized = Found::new(normalized, &patterns)?;
    let patterns: Vec<String> = literal.iter().map(|(_, token)| token.content.clone()).collect();
    let literal = Found::new(literal, &patterns)?;

    let mut parts = PreTokenizedString::from(text);
    parts.split(|_, text| Ok(literal.split(&text, marks)))?;
    parts.split(|_, mut text| {
        normalize(&mut text)?;
        Ok(normalized.split(&text, marks))
    })?;
    if let Some(pre_tokenizer) = tokenizer.get_pre_tokenizer() {
        pre_tokenizer.pre_tokenize(&mut parts)?;
    }
    parts.tokenize(|text| spelled_out(tokenizer, text.get()))?;
    parts.into_encoding(None, 0, OffsetType::Byte)
}

/// The model's own tokens of `text`. Where its vocabulary has an added token too, and finds it
/// without being told, that one is taken letter by letter.
fn spelled_out(tokenizer: &tokenizers::Tokenizer, text: &str) -> Result<Vec<Token>> {
    let added = tokenizer.get_added_vocabulary();
    let model = tokenizer.get_model();
    let mut tokens = Vec::new();
    for token in model.tokenize(text)? {
        let written = text.get(token.offsets.0..token.offsets.1).unwrap_or_default();
        if !(added.is_special_token(written) && tokenizer.token_to_id(written) == Some(token.id)) {
            tokens.push(token);
            continue;
        }
        for (at, character) in written.char_indices() {
            for mut letter in model.tokenize(character.encode_utf8(&mut [0; 4]))? {
                let start = token.offsets.0 + at;
                letter.offsets = (start + letter.offsets.0, start + letter.offsets.1);
                tokens.push(letter);
            }
        }
    }
    Ok(tokens)
}
