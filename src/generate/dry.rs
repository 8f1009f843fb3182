//! DRY ("don't repeat yourself"): a penalty for going on as an earlier text did.

use std::fmt;

use crate::error::Result;
use crate::mlx::{Array, Dtype, from_f32, from_u32, ops};

/// Whether a repetition is not followed across a token.
pub type IsBreaker = Box<dyn Fn(u32) -> bool + Send>;

/// Its strength.
#[derive(Debug, Clone, Copy)]
pub struct DryOptions {
    pub multiplier: f32,
    pub base: f32,
    /// Repeated tokens that cost nothing.
    pub allowed_length: usize,
    /// How many of the last tokens it looks at.
    pub context: usize,
}

/// The penalty for the next token t is multiplier · base^(n − allowed length), where n is the
/// length of the longest end of the text that came up before with t behind it, if n is not below
/// the allowed length. Neither that end nor t has a breaker (p-e-w 2024, the sampler of
/// text-generation-webui; llama.cpp's `dry_*`).
pub struct Dry {
    options: DryOptions,
    is_breaker: Option<IsBreaker>,
    /// Whether each of the tokens so far is a breaker.
    breakers: Vec<bool>,
}

impl Dry {
    /// A penalty that `is_breaker` limits.
    pub fn new(options: DryOptions, is_breaker: Option<IsBreaker>) -> Self {
        Self { options, is_breaker, breakers: Vec::new() }
    }

    /// Logits `[1, vocabulary]` with the penalties for what would repeat `tokens`.
    pub fn apply(&mut self, logits: &Array, tokens: &[u32]) -> Result<Array> {
        let (tokens, penalties): (Vec<u32>, Vec<f32>) = self.penalties(tokens).into_iter().unzip();
        if tokens.is_empty() {
            return Ok(logits.clone());
        }
        let logits = ops::astype(logits, Dtype::Float32)?;
        let shape = [1, tokens.len() as i32];
        ops::scatter_add(&logits, &from_u32(&tokens, &shape), &from_f32(&penalties, &shape), -1)
    }

    /// What is added to the logits of which tokens, each once.
    fn penalties(&mut self, tokens: &[u32]) -> Vec<(u32, f32)> {
        let is_breaker = |&token: &u32| self.is_breaker.as_ref().is_some_and(|is| is(token));
        // After a failure the text may be shorter than it was.
        self.breakers.truncate(tokens.len());
        self.breakers.extend(tokens[self.breakers.len()..].iter().map(is_breaker));
        let start = tokens.len().saturating_sub(self.options.context);
        let (tokens, breakers) = (&tokens[start..], &self.breakers[start..]);
        let longest = breakers.iter().rev().take_while(|&&is_breaker| !is_breaker).count();
        let lengths = common_ends(tokens);
        let mut penalties = std::collections::BTreeMap::<u32, usize>::new();
        for ((pair, &length), &ends) in tokens.windows(2).zip(&lengths).zip(breakers.iter().skip(1))
        {
            let length = length.min(longest);
            if length >= self.options.allowed_length && !ends {
                let most = penalties.entry(pair[1]).or_default();
                *most = length.max(*most);
            }
        }
        let penalty = |length: usize| {
            let power = f64::from(self.options.base)
                .powf((length - self.options.allowed_length) as f64)
                // Sums with logits are finite.
                .min(1e30);
            -(f64::from(self.options.multiplier) * power) as f32
        };
        penalties.into_iter().map(|(token, length)| (token, penalty(length))).collect()
    }
}

impl fmt::Debug for Dry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dry").field("options", &self.options).finish_non_exhaustive()
    }
}

/// For each place, how many tokens before and at it are those at the end of the text: the
/// Z-function of the text that is read backwards (Gusfield 1997).
fn common_ends(tokens: &[u32]) -> Vec<usize> {
    let count = tokens.len();
    let at = |place: usize| tokens[count - 1 - place];
    let mut lengths = vec![0; count];
    let (mut left, mut right) = (0, 0);
    for place in 1..count {
        let mut length = match place < right {
            true => lengths[place - left].min(right - place),
            false => 0,
        };
        while place + length < count && at(length) == at(place + length) {
            length += 1;
        }
        lengths[place] = length;
        if place + length > right {
            (left, right) = (place, place + length);
        }
    }
    lengths.reverse();
    lengths
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    const OPTIONS: DryOptions =
        DryOptions { multiplier: 0.8, base: 1.75, allowed_length: 2, context: usize::MAX };

    /// The definition, word by word.
    fn reference(tokens: &[u32], options: &DryOptions, breaker: u32) -> BTreeMap<u32, f64> {
        let tokens = &tokens[tokens.len().saturating_sub(options.context)..];
        let mut lengths = BTreeMap::new();
        for place in 0..tokens.len().saturating_sub(1) {
            let next = tokens[place + 1];
            let mut length = 0;
            while length <= place {
                let (a, b) = (tokens[place - length], tokens[tokens.len() - 1 - length]);
                if a != b || a == breaker {
                    break;
                }
                length += 1;
            }
            if length >= options.allowed_length && next != breaker {
                let most = lengths.entry(next).or_insert(length);
                *most = length.max(*most);
            }
        }
        let power = |length| f64::from(options.base).powi((length - options.allowed_length) as i32);
        let penalty = |length| -f64::from(options.multiplier) * power(length);
        lengths.into_iter().map(|(token, length)| (token, penalty(length))).collect()
    }

    #[test]
    fn penalties_are_those_of_the_definition() {
        // A few tokens, so that much of it repeats; 0 is a breaker.
        let mut state = 1_u64;
        let mut random = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 33) as u32
        };
        for case in 0..400 {
            let kinds = 2 + random() % 4;
            let tokens: Vec<u32> = (0..random() % 60).map(|_| random() % kinds).collect();
            let options = DryOptions {
                allowed_length: 1 + case % 4,
                context: if case % 3 == 0 { 17 } else { usize::MAX },
                ..OPTIONS
            };
            let mut dry = Dry::new(options, Some(Box::new(|token| token == 0)));
            let expected = reference(&tokens, &options, 0);
            let found = dry.penalties(&tokens);
            assert_eq!(found.len(), expected.len(), "{tokens:?}");
            for (token, penalty) in found {
                let close = (f64::from(penalty) / expected[&token] - 1.0).abs() < 1e-5;
                assert!(close, "{tokens:?}: {penalty} for {token}");
            }
        }
    }

    #[test]
    fn a_long_repetition_has_a_finite_penalty() {
        let mut dry = Dry::new(OPTIONS, None);
        let found = dry.penalties(&[7; 5000]);
        assert_eq!(found.len(), 1);
        assert!(found[0].1.is_finite() && found[0].1 < -1e20);
        assert!(dry.penalties(&[]).is_empty());
    }
}
