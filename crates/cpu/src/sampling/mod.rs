//! From logits to a token: penalties, filters in the order of mlx-lm's `sample_utils.py` (behind
//! top-nσ and typical sampling, which it does not have), and the draw.

mod filters;
mod largest;
mod logits;
#[cfg(test)]
mod tests;

pub use filters::dynamic_temperature;
pub use largest::largest;
pub use logits::Logits;

/// A temperature below this one is as good as this one, whose reciprocal and its products with
/// logits are finite.
pub const COLDEST: f32 = 1e-6;

/// How the next token is drawn.
#[derive(Debug, Clone, PartialEq)]
pub struct SamplingOptions {
    /// Divides the log-probabilities; 0 takes the most likely token.
    pub temperature: f32,
    /// How far the temperature moves with the entropy of what the filters keep; 0 for not at all.
    /// See [`dynamic_temperature`].
    pub dynamic_temperature_range: f32,
    /// The power of the normalized entropy in it.
    pub dynamic_temperature_exponent: f32,
    /// Keeps the tokens whose logits are at most this many standard deviations below the largest;
    /// 0 keeps all. See [`Logits::near_the_largest`].
    pub top_n_sigma: f32,
    /// Keeps the tokens whose surprise is nearest to the expected one, with this much probability;
    /// 1 keeps all. See [`Logits::typical`].
    pub typical_p: f32,
    /// Keeps the most likely tokens while the mass strictly above each is below this; 1 keeps all.
    pub top_p: f32,
    /// Keeps tokens at least this fraction as likely as the most likely one; 0 keeps all.
    pub min_p: f32,
    /// Tokens that min-p keeps at least.
    pub min_tokens_to_keep: u32,
    /// Keeps this many tokens; 0 keeps all.
    pub top_k: u32,
    /// Chance of leaving out the top choices (XTC) at each token; 0 never does.
    pub xtc_probability: f32,
    /// Probability that makes a token a top choice for XTC.
    pub xtc_threshold: f32,
    /// Tokens that XTC never leaves out.
    pub xtc_special_tokens: Vec<u32>,
}

impl Default for SamplingOptions {
    fn default() -> Self {
        Self {
            temperature: 0.7,
            dynamic_temperature_range: 0.0,
            dynamic_temperature_exponent: 1.0,
            top_n_sigma: 0.0,
            typical_p: 1.0,
            top_p: 1.0,
            min_p: 0.0,
            min_tokens_to_keep: 1,
            top_k: 0,
            xtc_probability: 0.0,
            xtc_threshold: 0.1,
            xtc_special_tokens: Vec::new(),
        }
    }
}

/// The context of penalties that look at all tokens of the answer, and at none of the prompt. It
/// holds for all penalties that go together.
pub const WHOLE_ANSWER: usize = usize::MAX;

/// Penalties for tokens that have come up before, in the prompt or the answer. Each looks at so
/// many of the last tokens, or at the [`WHOLE_ANSWER`].
#[derive(Debug, Clone, PartialEq)]
pub struct Penalties {
    /// Divides positive logits and multiplies negative ones (Keskar et al. 2019); 1 for none.
    pub repetition: f32,
    /// Tokens that `repetition` looks at.
    pub repetition_context: usize,
    /// Subtracted once from each token that came up; 0 for none.
    pub presence: f32,
    /// Tokens that `presence` looks at.
    pub presence_context: usize,
    /// Subtracted for each time that a token came up; 0 for none.
    pub frequency: f32,
    /// Tokens that `frequency` looks at.
    pub frequency_context: usize,
    /// Added to the logits of single tokens.
    pub logit_bias: Vec<(u32, f32)>,
}

impl Default for Penalties {
    fn default() -> Self {
        Self {
            repetition: 1.0,
            repetition_context: 20,
            presence: 0.0,
            presence_context: 20,
            frequency: 0.0,
            frequency_context: 20,
            logit_bias: Vec::new(),
        }
    }
}

impl Penalties {
    /// Changes `logits`, where `recent` are the last tokens, the latest one last. Tokens beyond the
    /// vocabulary are passed over.
    pub fn apply(&self, logits: &mut [f32], recent: &[u32]) {
        let last = |context: usize| &recent[recent.len().saturating_sub(context)..];
        for &(token, bias) in &self.logit_bias {
            change(logits, token, |logit| logit + bias);
        }
        if self.repetition != 1.0 {
            once(last(self.repetition_context), |token| {
                change(logits, token, |logit| match logit < 0.0 {
                    true => logit * self.repetition,
                    false => logit / self.repetition,
                });
            });
        }
        if self.presence != 0.0 {
            once(last(self.presence_context), |token| {
                change(logits, token, |logit| logit - self.presence);
            });
        }
        if self.frequency != 0.0 {
            for &token in last(self.frequency_context) {
                change(logits, token, |logit| logit - self.frequency);
            }
        }
    }
}

fn change(logits: &mut [f32], token: u32, to: impl FnOnce(f32) -> f32) {
    if let Some(logit) = logits.get_mut(token as usize) {
        *logit = to(*logit);
    }
}

/// Calls `each` for every token that there is, however often.
fn once(tokens: &[u32], each: impl FnMut(u32)) {
    let mut different = tokens.to_vec();
    different.sort_unstable();
    different.dedup();
    different.into_iter().for_each(each);
}
