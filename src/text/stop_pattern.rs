//! Patterns that end a text, matched as it grows.

use std::fmt;
use std::panic::catch_unwind;

use llguidance::derivre::{Regex, RegexBuilder};

use crate::panics;

/// The most bytes that a match has.
const LONGEST: usize = 1000;

/// The most work that compiling a pattern may take, in steps of the library.
const MAX_WORK: u64 = 1_000_000;

/// A pattern that ends a text where it first matches: with the first end, and of those that end
/// there with the longest.
#[derive(Clone)]
pub struct StopPattern(Regex);

/// What a pattern finds in a text.
pub struct Found {
    /// The end and the start of its match.
    pub matched: Option<(usize, usize)>,
    /// Where a match may begin that is not complete.
    pub undecided: usize,
}

impl StopPattern {
    /// A pattern in Rust's syntax, in which every literal sign is an escape.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn new(pattern: &str) -> Result<Self, String> {
        let is_anchor = |(at, sign)| match sign {
            '$' => true,
            '^' => !pattern[..at].ends_with('['),
            'A' | 'z' => is_escaped(&pattern[..at]),
            _ => false,
        };
        if pattern.char_indices().any(is_anchor) {
            // The library would pass over them.
            return Err(
                "has \"^\", \"$\", \"\\A\" or \"\\z\", and nothing around a match is looked at"
                    .to_owned(),
            );
        }
        let is_lookahead = |(at, _)| !is_escaped(&pattern[..at]);
        if ["(?<stop>", "(?P<stop>"].iter().any(|it| pattern.match_indices(it).any(is_lookahead)) {
            return Err("has a group of the name \"stop\", which means something else here; \
                give it another name"
                .to_owned());
        }
        let compile = || {
            let mut builder = RegexBuilder::new();
            let regex = builder.mk_regex(pattern)?;
            match builder.is_nullable(regex) {
                true => Ok(None),
                false => builder.into_regex_limited(regex, MAX_WORK).map(Some),
            }
        };
        // The library fails that way where alternatives are the same once they are simplified.
        match catch_unwind(compile) {
            Ok(Ok(Some(regex))) => Ok(Self(regex)),
            Ok(Ok(None)) => Err("matches an empty text, and so every answer at once".to_owned()),
            Ok(Err(error)) => Err(format!("cannot be matched: {error}")),
            Err(panic) => Err(format!("cannot be matched: {}", panics::message(&*panic))),
        }
    }

    /// Looks for a match of at most [`LONGEST`] bytes.
    pub fn find(&mut self, text: &str) -> Found {
        let mut found = Found { matched: None, undecided: text.len() };
        for (start, _) in text.char_indices() {
            let mut state = self.0.initial_state();
            let last = found.matched.map_or(text.len(), |(end, _)| end).min(start + LONGEST);
            for (at, &byte) in text.as_bytes()[..last].iter().enumerate().skip(start) {
                state = self.0.transition(state, byte);
                if state.is_dead() {
                    break;
                }
                if self.0.is_accepting(state) {
                    let best = found.matched.get_or_insert((at + 1, start));
                    *best = (at + 1, start).min(*best);
                    break;
                }
                if at + 1 == text.len() {
                    found.undecided = found.undecided.min(start);
                }
            }
        }
        found
    }
}

/// Whether a backslash before a sign makes it an escape.
fn is_escaped(before: &str) -> bool {
    before.bytes().rev().take_while(|&byte| byte == b'\\').count() % 2 == 1
}

impl fmt::Debug for StopPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StopPattern").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_end_wins_and_of_those_the_longest() {
        let find = |pattern: &str, text: &str| {
            let found = StopPattern::new(pattern).unwrap().find(text);
            (found.matched, found.undecided)
        };
        assert_eq!(find("b+", "aabb"), (Some((3, 2)), 4));
        assert_eq!(find("abc|bc", "xabc").0, Some((4, 1)));
        assert_eq!(find(r"\n\n[A-Z]", "one\n\n"), (None, 3));
        assert_eq!(find("é+x", "aéé"), (None, 1));
        assert_eq!(find("abc", "abd"), (None, 3));
        assert_eq!(find(".*end", &"y".repeat(5000)), (None, 4000));
    }

    #[test]
    fn patterns_that_are_of_no_use_are_refused() {
        for pattern in [
            "a*",
            "",
            "(",
            "^a",
            "a$",
            r"\Aa",
            r"a\z",
            r"\\\Aa",
            r"\ba",
            "(?<stop>a)",
            "b(?P<stop>a)",
            r"(?-u:\xc3)",
            r"(?-u:[^a])",
        ] {
            assert!(StopPattern::new(pattern).is_err(), "{pattern}");
        }
        // The library panics.
        let same =
            "||||>>>>(\u{1})z\u{13}|\\|\u{13}5||||>>||||>>>>()\u{1}z\u{13}|\\|\u{13}5||||>>||";
        assert!(StopPattern::new(same).is_err_and(|problem| problem.contains("cannot be matched")));
        for pattern in [r"\\A", "A", "z", "(?<end>a)", r"\(?<stop>", "[^a]"] {
            assert!(StopPattern::new(pattern).is_ok(), "{pattern}");
        }
    }
}
