//! What the numbers among options may be: the one table of ranges. Whoever reads a number from
//! outside checks it here, and nobody checks it again.

use crate::error::{Error, Result};

/// What an option may be. Names are those of JavaScript.
#[derive(Debug)]
pub struct Limit {
    /// The option.
    pub option: &'static str,
    range: Range,
}

#[derive(Debug)]
enum Range {
    /// A number from `min`, or above it, to `max`.
    Number { min: f64, above: bool, max: f64 },
    /// A whole number.
    Whole { min: i64, max: i64 },
    /// One of some numbers.
    OneOf(&'static [i32]),
}

/// What a 32-bit number of tokens can be.
const MAX_COUNT: i64 = i32::MAX as i64;

/// The largest number up to which JavaScript has every whole number.
const MAX_SAFE_INTEGER: i64 = (1 << 53) - 1;

const fn from(option: &'static str, min: f64, max: f64) -> Limit {
    Limit { option, range: Range::Number { min, above: false, max } }
}

const fn above(option: &'static str, min: f64, max: f64) -> Limit {
    Limit { option, range: Range::Number { min, above: true, max } }
}

const fn whole(option: &'static str, min: i64, max: i64) -> Limit {
    Limit { option, range: Range::Whole { min, max } }
}

const fn one_of(option: &'static str, choices: &'static [i32]) -> Limit {
    Limit { option, range: Range::OneOf(choices) }
}

pub static TEMPERATURE: Limit = from("temperature", 0.0, 10.0);
pub static TOP_P: Limit = above("topP", 0.0, 1.0);
pub static TOP_K: Limit = whole("topK", 0, MAX_COUNT);
pub static MIN_P: Limit = from("minP", 0.0, 1.0);
pub static TYPICAL_P: Limit = above("typicalP", 0.0, 1.0);
pub static TOP_N_SIGMA: Limit = from("topNSigma", 0.0, 100.0);
pub static DYNAMIC_TEMPERATURE_RANGE: Limit = from("dynamicTemperatureRange", 0.0, 10.0);
pub static DYNAMIC_TEMPERATURE_EXPONENT: Limit = above("dynamicTemperatureExponent", 0.0, 10.0);
pub static MIROSTAT: Limit = one_of("mirostat", &[0, 2]);
pub static MIROSTAT_TAU: Limit = above("mirostatTau", 0.0, 100.0);
pub static MIROSTAT_ETA: Limit = above("mirostatEta", 0.0, 1.0);
pub static XTC_PROBABILITY: Limit = from("xtcProbability", 0.0, 1.0);
pub static XTC_THRESHOLD: Limit = from("xtcThreshold", 0.0, 0.5);
pub static SEED: Limit = whole("seed", 0, MAX_SAFE_INTEGER);

pub static REPETITION_PENALTY: Limit = above("repetitionPenalty", 0.0, 10.0);
pub static PRESENCE_PENALTY: Limit = from("presencePenalty", -2.0, 2.0);
pub static FREQUENCY_PENALTY: Limit = from("frequencyPenalty", -2.0, 2.0);
pub static PENALTY_CONTEXT_SIZE: Limit = whole("penaltyContextSize", 1, MAX_COUNT);
pub static DRY_MULTIPLIER: Limit = from("dryMultiplier", 0.0, 100.0);
pub static DRY_BASE: Limit = from("dryBase", 1.0, 100.0);
pub static DRY_ALLOWED_LENGTH: Limit = whole("dryAllowedLength", 1, MAX_COUNT);
pub static DRY_CONTEXT_SIZE: Limit = whole("dryContextSize", 1, MAX_COUNT);
pub static LOGIT_BIAS: Limit = from("logitBias", -100.0, 100.0);

pub static MAX_TOKENS: Limit = whole("maxTokens", 1, MAX_COUNT);
pub static MIN_TOKENS: Limit = whole("minTokens", 0, MAX_COUNT);
pub static MAX_TIME_MS: Limit = whole("maxTimeMs", 1, MAX_SAFE_INTEGER);
pub static STOP_TOKEN: Limit = whole("stopTokens", 0, MAX_COUNT);
pub static LOGPROBS: Limit = whole("logprobs", 0, 20);
pub static PRIORITY: Limit = whole("priority", -1000, 1000);
pub static DRAFT_TOKENS: Limit = whole("speculation.draftTokens", 1, 32);

pub static MAX_KV_SIZE: Limit = whole("maxKvSize", 16, MAX_COUNT);
pub static KV_BITS: Limit = one_of("kvBits", &[4, 8]);
pub static KV_GROUP_SIZE: Limit = one_of("kvGroupSize", &[32, 64, 128]);

pub static DIMENSIONS: Limit = whole("dimensions", 1, MAX_COUNT);

pub static MAX_SEQUENCES: Limit = whole("maxSequences", 1, 1024);
pub static MAX_STALL_MS: Limit = whole("maxStallMs", 1, 60_000);
pub static MEMORY_BYTES: Limit = whole("memoryBytes", 1, MAX_SAFE_INTEGER);
pub static PREFIX_CACHE_BYTES: Limit = whole("prefixCache.memoryBytes", 0, MAX_SAFE_INTEGER);
pub static PREFIX_CACHE_DISK_BYTES: Limit = whole("prefixCache.diskBytes", 0, MAX_SAFE_INTEGER);
pub static CONTEXT_LENGTH: Limit = whole("contextLength", 1, MAX_COUNT);
pub static THREADS: Limit = whole("threads", 1, 1024);

impl Limit {
    /// `value`, where the option may be it.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] with the option's name.
    pub fn check(&self, value: f64) -> Result<f64> {
        self.check_as(self.option, value)
    }

    /// [`Limit::check`] for a part of the option, such as `logitBias[5]`.
    ///
    /// # Errors
    /// As those of [`Limit::check`].
    pub fn check_as(&self, option: &str, value: f64) -> Result<f64> {
        // NaN fails every comparison.
        let fits = match self.range {
            Range::Number { min, above: true, max } => value > min && value <= max,
            Range::Number { min, above: false, max } => value >= min && value <= max,
            Range::Whole { min, max } => {
                value.fract() == 0.0 && (min as f64..=max as f64).contains(&value)
            }
            Range::OneOf(choices) => choices.iter().any(|&choice| f64::from(choice) == value),
        };
        if fits {
            return Ok(value);
        }
        let expected = match self.range {
            Range::Number { min, above: true, max } => {
                format!("a number above {min} and up to {max}")
            }
            Range::Number { min, above: false, max } => format!("a number from {min} to {max}"),
            Range::Whole { min, max } => format!("a whole number from {min} to {max}"),
            Range::OneOf(choices) => {
                let choices: Vec<String> = choices.iter().map(ToString::to_string).collect();
                format!("one of {}", choices.join(", "))
            }
        };
        Err(Error::argument(option, format!("expected {expected}, got {}", shown(value))))
    }

    /// The limit in the words of `js/option-ranges.ts`.
    #[cfg(test)]
    pub fn to_typescript(&self) -> String {
        match self.range {
            Range::Number { min, above: true, max } => format!("{{ above: {min}, max: {max} }}"),
            Range::Number { min, above: false, max } => format!("{{ min: {min}, max: {max} }}"),
            Range::Whole { min, max } => format!("{{ whole: true, min: {min}, max: {max} }}"),
            Range::OneOf(choices) => format!("{{ choices: {choices:?} }}"),
        }
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
        assert_eq!(SEED.check(9_007_199_254_740_991.0).ok(), Some(9_007_199_254_740_991.0));
        assert_eq!(PRIORITY.check(-1000.0).ok(), Some(-1000.0));
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
        assert_eq!(KV_BITS.check(8.0).ok(), Some(8.0));
        assert_eq!(message(KV_BITS.check(5.0)), "kvBits: expected one of 4, 8, got 5");
    }
}
