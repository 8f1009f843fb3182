//! Texts that an answer must not have.

use std::sync::Arc;

use crate::error::Result;
use crate::generate::TokenMask;

/// The texts of a vocabulary's tokens in their order, for finding those that begin alike.
#[derive(Debug)]
pub struct SortedTokens {
    /// Texts and their tokens.
    sorted: Vec<(Vec<u8>, u32)>,
    /// The place of each token among them.
    places: Vec<Option<u32>>,
}

impl SortedTokens {
    /// The tokens of `texts`, whose places are their numbers; those without a text are in no
    /// answer.
    pub fn new(texts: Vec<Vec<u8>>) -> Self {
        let count = texts.len();
        let mut sorted: Vec<_> = texts.into_iter().zip(0..).filter(|it| !it.0.is_empty()).collect();
        sorted.sort_unstable();
        let mut places = vec![None; count];
        for (place, &(_, token)) in (0..).zip(&sorted) {
            places[token as usize] = Some(place);
        }
        Self { sorted, places }
    }

    /// The tokens that begin with `start`.
    fn beginning_with(&self, start: &[u8]) -> impl Iterator<Item = u32> {
        let first = self.sorted.partition_point(|(text, _)| text.as_slice() < start);
        let all = self.sorted[first..].iter();
        all.take_while(move |(text, _)| text.starts_with(start)).map(|&(_, token)| token)
    }

    /// The tokens that have `text` in them.
    fn containing(&self, text: &[u8]) -> impl Iterator<Item = u32> {
        let contains = move |it: &[u8]| it.windows(text.len()).any(|part| part == text);
        self.sorted.iter().filter(move |(it, _)| contains(it)).map(|&(_, token)| token)
    }

    fn text(&self, token: u32) -> &[u8] {
        let place = self.places.get(token as usize).copied().flatten();
        place.map_or(&[], |place| &self.sorted[place as usize].0)
    }
}

/// Keeps texts out of an answer, however they are cut into tokens: a token is left out that would
/// complete one. What else limits the tokens limits them, too.
#[derive(Debug)]
pub struct BannedStrings {
    banned: Vec<Vec<u8>>,
    tokens: Arc<SortedTokens>,
    /// The tokens that no answer has: a text is within them.
    never: Vec<u32>,
    /// The end of the answer: the longest that can begin a banned text without being all of it.
    end: Vec<u8>,
    inner: Option<Box<dyn TokenMask>>,
    allowed: Vec<u32>,
}

impl BannedStrings {
    /// Keeps `banned` out, none of which is empty.
    pub fn new(
        banned: &[String],
        tokens: Arc<SortedTokens>,
        inner: Option<Box<dyn TokenMask>>,
    ) -> Self {
        let banned: Vec<Vec<u8>> = banned.iter().map(|text| text.clone().into_bytes()).collect();
        let mut never: Vec<u32> =
            banned.iter().flat_map(|text| tokens.containing(text).collect::<Vec<_>>()).collect();
        never.sort_unstable();
        never.dedup();
        Self { banned, tokens, never, end: Vec::new(), inner, allowed: Vec::new() }
    }

    /// The tokens that complete a text which the answer's end begins.
    fn completing(&self) -> impl Iterator<Item = u32> {
        self.banned.iter().flat_map(|text| {
            let begun = (1..text.len()).filter(|&length| self.end.ends_with(&text[..length]));
            begun.flat_map(|length| self.tokens.beginning_with(&text[length..]))
        })
    }
}

impl TokenMask for BannedStrings {
    fn accept(&mut self, token: u32) -> Result<()> {
        if let Some(inner) = &mut self.inner {
            inner.accept(token)?;
        }
        self.end.extend(self.tokens.text(token));
        let longest = self.banned.iter().map(|text| text.len() - 1).max().unwrap_or_default();
        let surplus = self.end.len().saturating_sub(longest);
        self.end.drain(..surplus);
        Ok(())
    }

    fn allowed(&mut self) -> Result<Option<&[u32]>> {
        let mut allowed = std::mem::take(&mut self.allowed);
        allowed.clear();
        match self.inner.as_mut().map(|inner| inner.allowed()).transpose()?.flatten() {
            Some(words) => allowed.extend(words),
            // Tokens behind the tokenizer's last one are for the model to choose.
            None => allowed.resize(self.tokens.places.len().div_ceil(32), u32::MAX),
        }
        for token in self.never.iter().copied().chain(self.completing()) {
            if let Some(word) = allowed.get_mut(token as usize / 32) {
                *word &= !(1 << (token % 32));
            }
        }
        self.allowed = allowed;
        Ok(Some(&self.allowed))
    }

    fn forced(&self) -> &[u32] {
        self.inner.as_ref().map_or(&[], |inner| inner.forced())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WORDS: [&str; 12] = ["a", "b", "c", "ab", "bc", "abc", "ca", "cab", "x", "bcx", "", "é"];

    fn tokens() -> Arc<SortedTokens> {
        Arc::new(SortedTokens::new(WORDS.iter().map(|word| word.as_bytes().to_vec()).collect()))
    }

    /// All answers of four tokens: one is possible where no text of it is banned, and only then.
    #[test]
    fn what_completes_a_banned_text_is_left_out_and_nothing_else() {
        for banned in [vec!["abc"], vec!["cx"], vec!["aa", "bcab"], vec!["é", "b"]] {
            let banned: Vec<String> = banned.into_iter().map(str::to_owned).collect();
            let count = WORDS.len() as u32;
            for number in 0..count.pow(4) {
                let mut mask = BannedStrings::new(&banned, tokens(), None);
                let mut text = String::new();
                for place in 0..4 {
                    let token = number / count.pow(place) % count;
                    let words = mask.allowed().unwrap().unwrap();
                    let is_allowed = words[token as usize / 32] >> (token % 32) & 1 == 1;
                    let next = format!("{text}{}", WORDS[token as usize]);
                    let is_sound = !banned.iter().any(|it| next.contains(it.as_str()));
                    assert_eq!(is_allowed, is_sound, "{next} without {banned:?}");
                    if !is_sound {
                        break;
                    }
                    text = next;
                    mask.accept(token).unwrap();
                }
            }
        }
    }

    #[derive(Debug)]
    struct Only(Vec<u32>);

    impl TokenMask for Only {
        fn accept(&mut self, _: u32) -> Result<()> {
            Ok(())
        }

        fn allowed(&mut self) -> Result<Option<&[u32]>> {
            Ok(Some(&self.0))
        }
    }

    #[test]
    fn other_limits_stay() {
        let inner = Box::new(Only(vec![0b111]));
        let mut mask = BannedStrings::new(&["ab".to_owned()], tokens(), Some(inner));
        assert_eq!(mask.allowed().unwrap(), Some(&[0b111][..]));
        mask.accept(0).unwrap();
        assert_eq!(mask.allowed().unwrap(), Some(&[0b101][..]));
    }
}
