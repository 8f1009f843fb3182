//! How likely a drafted token is right, by what was right before.

use super::lookup::LONGEST;

/// How many tokens an assumption is worth.
const WORTH: f64 = 4.0;

/// How fast what was is forgotten: a text changes.
const KEPT: f64 = 0.97;

/// A share that follows what it is the share of.
#[derive(Debug, Clone, Copy)]
struct Share {
    right: f64,
    count: f64,
}

impl Share {
    fn assumed(share: f64) -> Self {
        Self { right: share * WORTH, count: WORTH }
    }

    fn get(self) -> f64 {
        self.right / self.count
    }

    fn add(&mut self, is_right: bool) {
        self.right = self.right * KEPT + f64::from(u8::from(is_right));
        self.count = self.count * KEPT + 1.0;
    }
}

/// The longest matches that are told apart, and what is assumed of the tokens behind them.
const MATCHES: [(usize, f64); 7] =
    [(2, 0.3), (3, 0.4), (4, 0.5), (6, 0.65), (10, 0.75), (20, 0.85), (LONGEST, 0.9)];

/// Of what follows earlier places, by how long they match. Every token tells of it, whether it was
/// drafted or not.
#[derive(Debug)]
pub struct LookupAcceptance([Share; MATCHES.len()]);

impl Default for LookupAcceptance {
    fn default() -> Self {
        Self(MATCHES.map(|(_, share)| Share::assumed(share)))
    }
}

impl LookupAcceptance {
    fn place(length: usize) -> usize {
        let at = MATCHES.iter().position(|&(longest, _)| length <= longest);
        at.unwrap_or(MATCHES.len() - 1)
    }

    /// That of the token behind a match of so many tokens.
    pub fn behind(&self, length: usize) -> f64 {
        self.0[Self::place(length)].get()
    }

    /// Takes whether the token behind a match was right.
    pub fn add(&mut self, length: usize, is_right: bool) {
        self.0[Self::place(length)].add(is_right);
    }
}

/// Of a draft model's tokens.
#[derive(Debug)]
pub struct DraftAcceptance(Share);

impl Default for DraftAcceptance {
    fn default() -> Self {
        Self::assumed(0.7)
    }
}

impl DraftAcceptance {
    /// That of a text of which nothing is known.
    pub fn assumed(share: f64) -> Self {
        Self(Share::assumed(share))
    }

    /// That of each token, if those before it are right.
    pub fn of_token(&self) -> f64 {
        self.0.get()
    }

    /// Takes that of `drafted` tokens the first `accepted` were right.
    pub fn add(&mut self, drafted: usize, accepted: usize) {
        (0..accepted).for_each(|_| self.0.add(true));
        if accepted < drafted {
            self.0.add(false);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn longer_matches_are_believed_more_until_they_disappoint() {
        let mut acceptance = LookupAcceptance::default();
        let lengths: Vec<f64> = (2..=LONGEST + 3).map(|it| acceptance.behind(it)).collect();
        assert!(lengths.is_sorted());
        (0..100).for_each(|_| acceptance.add(40, false));
        assert!(acceptance.behind(LONGEST) < 0.05);
        assert!(acceptance.behind(2) > 0.2, "others are not touched");
    }

    #[test]
    fn the_first_wrong_token_of_a_draft_says_nothing_of_those_behind_it() {
        let mut acceptance = DraftAcceptance::default();
        (0..200).for_each(|_| acceptance.add(8, 1));
        assert!((acceptance.of_token() - 0.5).abs() < 0.02, "{}", acceptance.of_token());
        (0..200).for_each(|_| acceptance.add(8, 8));
        assert!(acceptance.of_token() > 0.99);
    }
}
