//! Sets of tokens.

use std::sync::Arc;

/// A set of tokens, a bit each, the lowest bit of a word first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenSet {
    words: Arc<[u32]>,
}

impl TokenSet {
    /// The set with the bits of `words`.
    pub(super) fn new(words: &[u32]) -> Self {
        Self { words: words.into() }
    }

    /// All of `size` tokens but `excluded`.
    pub(super) fn all_but(size: usize, excluded: &[u32]) -> Self {
        let mut words = vec![u32::MAX; size.div_ceil(32)];
        if let Some(last) = words.last_mut().filter(|_| !size.is_multiple_of(32)) {
            *last = (1 << (size % 32)) - 1;
        }
        for &token in excluded {
            words[token as usize / 32] &= !(1 << (token % 32));
        }
        Self { words: words.into() }
    }

    /// These of `size` tokens.
    pub(super) fn of(size: usize, included: &[u32]) -> Self {
        let mut words = vec![0_u32; size.div_ceil(32)];
        for &token in included {
            words[token as usize / 32] |= 1 << (token % 32);
        }
        Self { words: words.into() }
    }

    /// Those that are not in `other`; `None` where that are none.
    pub(super) fn without(&self, other: &Self) -> Option<Self> {
        let others = other.words.iter().chain(std::iter::repeat(&0));
        let words: Vec<u32> = self.words.iter().zip(others).map(|(it, not)| it & !not).collect();
        words.iter().any(|&word| word != 0).then(|| Self::new(&words))
    }

    /// Whether `token` is in the set.
    pub fn contains(&self, token: u32) -> bool {
        let word = self.words.get(token as usize / 32).copied().unwrap_or(0);
        word >> (token % 32) & 1 == 1
    }

    /// How many tokens are in the set.
    pub fn count(&self) -> usize {
        self.words.iter().map(|word| word.count_ones() as usize).sum()
    }

    /// The bits.
    pub fn words(&self) -> &[u32] {
        &self.words
    }
}
