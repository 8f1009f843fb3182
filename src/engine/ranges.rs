//! What the options of a request may be: the one table of ranges. Names are those of JavaScript.

use crate::error::{Error, Result};

/// A number between two limits.
#[derive(Debug)]
pub struct Number {
    option: &'static str,
    min: f64,
    /// Whether `min` itself is too small.
    above: bool,
    max: f64,
}

/// A whole number between two limits.
#[derive(Debug)]
pub struct Whole {
    option: &'static str,
    min: i64,
    max: i64,
}

/// One of some numbers.
#[derive(Debug)]
pub struct OneOf {
    option: &'static str,
    choices: &'static [i32],
}

/// What a 32-bit number of tokens can be.
const MAX_COUNT: i64 = i32::MAX as i64;

/// The largest number up to which JavaScript has every whole number.
const MAX_SAFE_INTEGER: i64 = (1 << 53) - 1;

const fn from(option: &'static str, min: f64, max: f64) -> Number {
    Number { option, min, above: false, max }
}

const fn above(option: &'static str, min: f64, max: f64) -> Number {
    Number { option, min, above: true, max }
}

const fn whole(option: &'static str, min: i64, max: i64) -> Whole {
    Whole { option, min, max }
}

pub static TEMPERATURE: Number = from("temperature", 0.0, 10.0);
pub static TOP_P: Number = above("topP", 0.0, 1.0);
pub static MIN_P: Number = from("minP", 0.0, 1.0);
pub static REPETITION_PENALTY: Number = above("repetitionPenalty", 0.0, 10.0);
pub static PRESENCE_PENALTY: Number = from("presencePenalty", -2.0, 2.0);
pub static FREQUENCY_PENALTY: Number = from("frequencyPenalty", -2.0, 2.0);
pub static LOGIT_BIAS: Number = from("logitBias", -100.0, 100.0);
pub static XTC_PROBABILITY: Number = from("xtcProbability", 0.0, 1.0);
pub static XTC_THRESHOLD: Number = from("xtcThreshold", 0.0, 0.5);

pub static MAX_TOKENS: Whole = whole("maxTokens", 1, MAX_COUNT);
pub static PRIORITY: Whole = whole("priority", -1000, 1000);
pub static TOP_K: Whole = whole("topK", 0, MAX_COUNT);
pub static SEED: Whole = whole("seed", 0, MAX_SAFE_INTEGER);
pub static PENALTY_CONTEXT_SIZE: Whole = whole("penaltyContextSize", 1, MAX_COUNT);
pub static LOGPROBS: Whole = whole("logprobs", 0, 20);
pub static MAX_KV_SIZE: Whole = whole("maxKvSize", 16, MAX_COUNT);
pub static MAX_SEQUENCES: Whole = whole("maxSequences", 1, 1024);
pub static MAX_STALL_MS: Whole = whole("maxStallMs", 1, 60_000);
pub static THREADS: Whole = whole("threads", 1, 1024);

/// The bits that keys and values can be packed in.
pub static KV_BITS: OneOf = OneOf { option: "kvBits", choices: &[4, 8] };
/// How many packed features can share a scale.
pub static KV_GROUP_SIZE: OneOf = OneOf { option: "kvGroupSize", choices: &[32, 64, 128] };

impl Number {
    /// `value`, where it is in the range.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] with the option's name.
    pub fn check(&self, value: f64) -> Result<f32> {
        self.check_as(self.option, value)
    }

    /// [`Number::check`] for a part of the option, such as `logitBias[5]`.
    pub fn check_as(&self, option: &str, value: f64) -> Result<f32> {
        let Self { min, max, .. } = *self;
        // NaN fails every comparison.
        let fits = if self.above { value > min } else { value >= min };
        if fits && value <= max {
            return Ok(value as f32);
        }
        let range = match self.above {
            true => format!("above {min} and up to {max}"),
            false => format!("from {min} to {max}"),
        };
        Err(Error::argument(option, format!("expected a number {range}, got {}", shown(value))))
    }
}

impl Whole {
    /// `value`, where it is a whole number in the range.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] with the option's name.
    pub fn check(&self, value: f64) -> Result<u64> {
        Ok(self.check_signed(value)?.unsigned_abs())
    }

    /// [`Whole::check`] where the range has numbers below 0.
    ///
    /// # Errors
    /// As those of [`Whole::check`].
    pub fn check_signed(&self, value: f64) -> Result<i64> {
        if value.fract() == 0.0 && (self.min as f64..=self.max as f64).contains(&value) {
            return Ok(value as i64);
        }
        let Self { option, min, max } = *self;
        let message = format!("expected a whole number from {min} to {max}, got {}", shown(value));
        Err(Error::argument(option, message))
    }
}

impl OneOf {
    /// `value`, where it is one of the numbers.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] with the option's name.
    pub fn check(&self, value: f64) -> Result<i32> {
        self.choices.iter().copied().find(|&choice| f64::from(choice) == value).ok_or_else(|| {
            let choices: Vec<String> = self.choices.iter().map(ToString::to_string).collect();
            let message = format!("expected one of {}, got {}", choices.join(", "), shown(value));
            Error::argument(self.option, message)
        })
    }
}

/// A number as JavaScript prints it.
fn shown(value: f64) -> String {
    match value {
        f64::INFINITY => "Infinity".to_owned(),
        f64::NEG_INFINITY => "-Infinity".to_owned(),
        _ => value.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message<T>(result: Result<T>) -> String {
        result.err().map(|error| error.to_string()).unwrap_or_default()
    }

    #[test]
    fn numbers_are_refused_beyond_their_ends_and_where_they_are_none() {
        assert_eq!(TEMPERATURE.check(0.0).ok(), Some(0.0));
        assert_eq!(TEMPERATURE.check(10.0).ok(), Some(10.0));
        for (value, got) in [
            (-0.1, "-0.1"),
            (70.0, "70"),
            (f64::NAN, "NaN"),
            (f64::INFINITY, "Infinity"),
            (f64::NEG_INFINITY, "-Infinity"),
        ] {
            let expected = format!("temperature: expected a number from 0 to 10, got {got}");
            assert_eq!(message(TEMPERATURE.check(value)), expected);
        }
        assert_eq!(TOP_P.check(1.0).ok(), Some(1.0));
        let expected = "topP: expected a number above 0 and up to 1, got 0";
        assert_eq!(message(TOP_P.check(0.0)), expected);
    }

    #[test]
    fn whole_numbers_have_no_fraction() {
        assert_eq!(SEED.check(9_007_199_254_740_991.0).ok(), Some((1 << 53) - 1));
        assert_eq!(PRIORITY.check_signed(-1000.0).ok(), Some(-1000));
        for value in [0.0, 1.5, -1.0, f64::NAN, f64::INFINITY, 2_147_483_648.0] {
            let expected = format!(
                "maxTokens: expected a whole number from 1 to 2147483647, got {}",
                shown(value)
            );
            assert_eq!(message(MAX_TOKENS.check(value)), expected);
        }
    }

    #[test]
    fn choices_are_listed() {
        assert_eq!(KV_BITS.check(8.0).ok(), Some(8));
        assert_eq!(message(KV_BITS.check(5.0)), "kvBits: expected one of 4, 8, got 5");
    }
}
