//! Prompt lookup (Saxena 2023): what followed the last tokens when they came before is likely to
//! follow them again.

use std::collections::HashMap;

/// The shortest end of a text that is looked for: one token says too little.
const SHORTEST: usize = 2;

/// Longer matches are no better.
pub const LONGEST: usize = 32;

/// How many of the last places with the same [`SHORTEST`] tokens are compared.
const MOST_PLACES: usize = 64;

/// Where the longest end of a growing text came before.
#[derive(Debug, Default)]
pub struct Lookup {
    /// The position after the last place of each pair of tokens.
    last: HashMap<[u32; SHORTEST], u32>,
    /// For each position, the one before that follows the same pair of tokens; 0 for none.
    earlier: Vec<u32>,
    found: Option<Match>,
}

/// An earlier place of a text's end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Match {
    /// The position after it.
    pub next: usize,
    /// How many tokens are equal, [`LONGEST`] at most.
    pub length: usize,
}

impl Lookup {
    /// Takes the text, which begins with what it was the last time.
    pub fn read(&mut self, tokens: &[u32]) {
        let known = self.earlier.len();
        let is_next = tokens.len() == known + 1;
        let goes_on = self.found.filter(|it| is_next && tokens[it.next] == tokens[known]);
        for end in known + 1..=tokens.len() {
            let pair = tokens[..end].last_chunk::<SHORTEST>();
            let earlier = pair.and_then(|pair| self.last.insert(*pair, end as u32));
            self.earlier.push(earlier.unwrap_or(0));
        }
        self.found = match goes_on {
            // No other place can be longer now than the longest one before.
            Some(Match { next, length }) => {
                Some(Match { next: next + 1, length: LONGEST.min(length + 1) })
            }
            None => self.search(tokens),
        };
    }

    fn search(&self, tokens: &[u32]) -> Option<Match> {
        let earlier = |&end: &usize| self.earlier.get(end.checked_sub(1)?).map(|&it| it as usize);
        let places = std::iter::successors(earlier(&tokens.len()), earlier);
        let matches = places.take_while(|&end| end > 0).take(MOST_PLACES).map(|next| {
            let pairs = tokens[..next].iter().rev().zip(tokens.iter().rev());
            let length = pairs.take(LONGEST).take_while(|(a, b)| a == b).count();
            Match { next, length }
        });
        // Of several that are equally long, the last.
        matches.reduce(|best, other| if other.length > best.length { other } else { best })
    }

    /// The earlier place of the text's end, if there is one.
    pub fn found(&self) -> Option<Match> {
        self.found
    }

    /// The `count` tokens that followed the match; behind the text's end, what is proposed follows.
    pub fn proposal(&self, tokens: &[u32], count: usize) -> Vec<u32> {
        let Some(Match { next, .. }) = self.found else { return Vec::new() };
        let mut proposed = Vec::with_capacity(count);
        for position in next..next + count {
            let token = match position.checked_sub(tokens.len()) {
                None => tokens[position],
                Some(beyond) => proposed[beyond],
            };
            proposed.push(token);
        }
        proposed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mlx::random;

    /// The longest length at which the end of `tokens` came before.
    fn longest(tokens: &[u32]) -> usize {
        let lengths = (1..tokens.len()).map(|next| {
            let pairs = tokens[..next].iter().rev().zip(tokens.iter().rev());
            pairs.take_while(|(a, b)| a == b).count().min(LONGEST)
        });
        lengths.max().filter(|&length| length >= SHORTEST).unwrap_or(0)
    }

    #[test]
    fn the_longest_end_is_found_as_by_comparing_all() {
        for seed in 0..60 {
            let kinds = [2, 5, 30][seed as usize % 3];
            let mut drawn = (0..).map(|index| random::host_uniform(seed, index));
            let mut draw = |below: usize| (drawn.next().unwrap_or(0.0) * below as f64) as usize;
            let (mut tokens, mut lookup) = (Vec::new(), Lookup::default());
            while tokens.len() < 200 {
                // New tokens, a piece of what was there, or several tokens at once.
                let count = 1 + draw(4);
                if tokens.len() > 10 && draw(3) == 0 {
                    let start = draw(tokens.len() - 5);
                    tokens.extend_from_within(start..start + 5);
                } else {
                    tokens.extend((0..count).map(|_| draw(kinds) as u32));
                }
                lookup.read(&tokens);
                let Some(Match { next, length }) = lookup.found() else {
                    assert_eq!(longest(&tokens), 0, "{tokens:?}");
                    continue;
                };
                assert!(next < tokens.len());
                assert!(tokens[..next].ends_with(&tokens[tokens.len() - length..]));
                // With few kinds of tokens there are more places than are compared.
                if kinds > 2 {
                    assert_eq!(length, longest(&tokens), "{tokens:?}");
                }
            }
        }
    }

    #[test]
    fn a_text_read_token_by_token_finds_what_it_finds_at_once() {
        let tokens: Vec<u32> = (0..150).map(|at| at * at % 23 % 7).collect();
        let mut growing = Lookup::default();
        for end in 0..=tokens.len() {
            growing.read(&tokens[..end]);
            let mut whole = Lookup::default();
            whole.read(&tokens[..end]);
            let length = |lookup: &Lookup| lookup.found().map(|found| found.length);
            assert_eq!(length(&growing), length(&whole), "{end}");
        }
    }

    #[test]
    fn what_followed_is_proposed_and_goes_on_in_circles() {
        let mut lookup = Lookup::default();
        let tokens = [1, 2, 3, 4, 1, 2];
        lookup.read(&tokens);
        assert_eq!(lookup.found(), Some(Match { next: 2, length: 2 }));
        assert_eq!(lookup.proposal(&tokens, 7), [3, 4, 1, 2, 3, 4, 1]);
        let tokens = [1, 2, 3, 4, 1, 9];
        let mut lookup = Lookup::default();
        lookup.read(&tokens);
        assert_eq!((lookup.found(), lookup.proposal(&tokens, 3)), (None, vec![]));
    }
}
