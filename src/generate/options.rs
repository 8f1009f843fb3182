//! What a caller asks of a generation: the one struct of its options, from which the sampler and
//! the processors of logits are made.

use super::dry::{Dry, DryOptions, IsBreaker};
use super::mirostat::Mirostat;
use super::processors::{Penalties, WHOLE_ANSWER};
use super::sampler::SamplingOptions;
use crate::cache::{CacheLimits, KvQuantization};
use crate::models::GenerationDefaults;

/// llama.cpp's defaults.
const DEFAULT_TAU: f32 = 5.0;
const DEFAULT_ETA: f32 = 0.1;
const DEFAULT_BASE: f32 = 1.75;
const DEFAULT_ALLOWED_LENGTH: usize = 2;

/// Calls `$define!` with the options that are numbers: what each means, its type and its
/// [`Limit`](crate::ranges::Limit). The struct below and the addon's raw request are made of this
/// list.
macro_rules! number_options {
    ($define:ident) => {
        $define! {
            /// The most tokens to make; left out for as many as the context holds.
            max_tokens: usize in MAX_TOKENS;
            /// The least tokens to make, before which nothing ends the answer but its limits.
            min_tokens: usize in MIN_TOKENS;
            /// The longest time to take, from the request on, in milliseconds.
            max_time_ms: u64 in MAX_TIME_MS;
            /// Divides the logits; 0 for greedy decoding.
            temperature: f32 in TEMPERATURE;
            /// How far the temperature moves with the entropy of the candidates; 0 for not at all.
            dynamic_temperature_range: f32 in DYNAMIC_TEMPERATURE_RANGE;
            /// The power of the entropy in that.
            dynamic_temperature_exponent: f32 in DYNAMIC_TEMPERATURE_EXPONENT;
            /// The nucleus: the smallest set of tokens with this much probability.
            top_p: f32 in TOP_P;
            /// The number of likeliest tokens to choose from; 0 for all.
            top_k: u32 in TOP_K;
            /// The least probability, as a part of the likeliest token's.
            min_p: f32 in MIN_P;
            /// The probability of the tokens whose surprise is nearest to the expected one; 1 for
            /// all.
            typical_p: f32 in TYPICAL_P;
            /// The standard deviations below the largest logit within which tokens are kept; 0 for
            /// all.
            top_n_sigma: f32 in TOP_N_SIGMA;
            /// 2 keeps the surprise of tokens near a target, in place of the filters; 0 for not.
            mirostat: u32 in MIROSTAT;
            /// That target, in bits.
            mirostat_tau: f32 in MIROSTAT_TAU;
            /// How fast it is approached.
            mirostat_eta: f32 in MIROSTAT_ETA;
            /// The chance of leaving out the likeliest tokens (XTC) each time; 0 for never.
            xtc_probability: f32 in XTC_PROBABILITY;
            /// The probability from which tokens are left out then.
            xtc_threshold: f32 in XTC_THRESHOLD;
            /// The random generator's seed; left out for one from the system.
            seed: u64 in SEED;
            /// Divides (or multiplies, where negative) the logits of tokens already seen; 1 for
            /// none.
            repetition_penalty: f32 in REPETITION_PENALTY;
            /// Subtracted from the logits of tokens already seen; 0 for none.
            presence_penalty: f32 in PRESENCE_PENALTY;
            /// Subtracted for each time that a token was seen; 0 for none.
            frequency_penalty: f32 in FREQUENCY_PENALTY;
            /// How many of the last tokens count as seen, the prompt's included; left out for all
            /// of the answer's and none of the prompt's.
            penalty_context_size: usize in PENALTY_CONTEXT_SIZE;
            /// The strength of the penalty for going on as an earlier text did (DRY); 0 for none.
            dry_multiplier: f32 in DRY_MULTIPLIER;
            /// What it grows by with each token that is repeated.
            dry_base: f32 in DRY_BASE;
            /// The tokens that may be repeated without it.
            dry_allowed_length: usize in DRY_ALLOWED_LENGTH;
            /// How many of the last tokens it looks at, the prompt's included; left out for all.
            dry_context_size: usize in DRY_CONTEXT_SIZE;
            /// How many of the likeliest tokens to report with each token; left out for no log
            /// probabilities at all.
            logprobs: usize in LOGPROBS;
            /// Those of a higher number are begun and read first.
            priority: i32 in PRIORITY;
            /// The most positions that a layer's cache holds.
            max_kv_size: i32 in MAX_KV_SIZE;
            /// The bits of cached keys and values.
            kv_bits: i32 in KV_BITS;
            /// How many features of them share a scale.
            kv_group_size: i32 in KV_GROUP_SIZE;
        }
    };
}
pub(crate) use number_options;

macro_rules! define_options {
    ($($(#[$doc:meta])* $name:ident: $type:ident in $limit:ident;)*) => {
        /// The options of a generation. Its numbers are within their
        /// [limits](crate::ranges), which the reader of a request has checked. What is `None`
        /// comes from the model's `generation_config.json`, else it is temperature 0.7, top-p 1
        /// and no penalties, to the end of the model's context.
        #[derive(Debug, Clone, Default, PartialEq)]
        pub struct GenerationOptions {
            $($(#[$doc])* pub $name: Option<$type>,)*
            /// Added to the logits of single tokens.
            pub logit_bias: Vec<(u32, f32)>,
            /// Texts that a repetition is not followed across; `None` for the usual ones.
            pub dry_sequence_breakers: Option<Vec<String>>,
            /// Texts that the answer does not have.
            pub banned_strings: Vec<String>,
            /// Tokens that end the text, and are not part of it.
            pub stop_tokens: Vec<u32>,
            /// Strings that end the text, and are not part of it. Special tokens count as text
            /// here.
            pub stop: Vec<String>,
            /// Patterns that end the text where they first match, in Rust's syntax and as they were
            /// asked for.
            pub stop_patterns: Vec<(String, String)>,
            /// Whether special tokens are part of the text.
            pub keep_special_tokens: bool,
            /// Whether end tokens are tokens like others: the generation then ends at its limit.
            pub ignore_end_tokens: bool,
            /// Whether nothing of it depends on what else runs, not even the rounding.
            pub deterministic: bool,
        }

        /// The limits of all numbers.
        #[cfg(test)]
        pub const LIMITS: &[&crate::ranges::Limit] = &[$(&crate::ranges::$limit,)*];
    };
}
number_options!(define_options);

impl GenerationOptions {
    /// The options with the model's own where none were given.
    pub fn or_defaults(mut self, defaults: &GenerationDefaults) -> Self {
        self.max_tokens = self.max_tokens.or(defaults.max_new_tokens);
        self.temperature = self.temperature.or(defaults.temperature());
        self.top_p = self.top_p.or(defaults.top_p);
        self.top_k = self.top_k.or(defaults.top_k);
        self.min_p = self.min_p.or(defaults.min_p);
        self.repetition_penalty = self.repetition_penalty.or(defaults.repetition_penalty);
        self
    }

    /// How tokens are drawn, with tokens that XTC never leaves out.
    pub fn sampling(&self, xtc_special_tokens: Vec<u32>) -> SamplingOptions {
        let standard = SamplingOptions::default();
        SamplingOptions {
            temperature: self.temperature.unwrap_or(standard.temperature),
            dynamic_temperature_range: self
                .dynamic_temperature_range
                .unwrap_or(standard.dynamic_temperature_range),
            dynamic_temperature_exponent: self
                .dynamic_temperature_exponent
                .unwrap_or(standard.dynamic_temperature_exponent),
            top_n_sigma: self.top_n_sigma.unwrap_or(standard.top_n_sigma),
            typical_p: self.typical_p.unwrap_or(standard.typical_p),
            top_p: self.top_p.unwrap_or(standard.top_p),
            min_p: self.min_p.unwrap_or(standard.min_p),
            min_tokens_to_keep: standard.min_tokens_to_keep,
            top_k: self.top_k.unwrap_or(standard.top_k),
            xtc_probability: self.xtc_probability.unwrap_or(standard.xtc_probability),
            xtc_threshold: self.xtc_threshold.unwrap_or(standard.xtc_threshold),
            xtc_special_tokens,
        }
    }

    /// What changes the logits before.
    pub fn penalties(&self) -> Penalties {
        let standard = Penalties::default();
        let context = self.penalty_context_size.unwrap_or(WHOLE_ANSWER);
        Penalties {
            repetition: self.repetition_penalty.unwrap_or(standard.repetition),
            repetition_context: context,
            presence: self.presence_penalty.unwrap_or(standard.presence),
            presence_context: context,
            frequency: self.frequency_penalty.unwrap_or(standard.frequency),
            frequency_context: context,
            logit_bias: self.logit_bias.clone(),
        }
    }

    /// The target of mirostat, where it is used.
    pub fn mirostat(&self) -> Option<Mirostat> {
        let target = self.mirostat_tau.unwrap_or(DEFAULT_TAU);
        let rate = self.mirostat_eta.unwrap_or(DEFAULT_ETA);
        (self.mirostat == Some(2)).then(|| Mirostat::new(target, rate))
    }

    /// The strength of the penalty for repetitions, where there is one.
    pub fn dry_strength(&self) -> Option<f32> {
        self.dry_multiplier.filter(|&multiplier| multiplier > 0.0)
    }

    /// The penalty for repetitions, where there is one; `is_breaker` tells the tokens that they are
    /// not followed across.
    pub fn dry(&self, is_breaker: Option<IsBreaker>) -> Option<Dry> {
        let multiplier = self.dry_strength()?;
        Some(Dry::new(
            DryOptions {
                multiplier,
                base: self.dry_base.unwrap_or(DEFAULT_BASE),
                allowed_length: self.dry_allowed_length.unwrap_or(DEFAULT_ALLOWED_LENGTH),
                context: self.dry_context_size.unwrap_or(usize::MAX),
            },
            is_breaker,
        ))
    }

    /// What the caches may take.
    pub fn cache_limits(&self) -> CacheLimits {
        CacheLimits {
            max_size: self.max_kv_size,
            quantization: self
                .kv_bits
                .map(|bits| KvQuantization { bits, group_size: self.kv_group_size }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ranges::{DRAFT_TOKENS, LOGIT_BIAS};

    const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/js/option-limits.ts");

    /// The limits for models that run where there is no addon.
    #[test]
    fn javascript_has_the_same_limits() {
        let mut table = "// Made of the addon's table (src/ranges.rs) by\n\
                         // WRITE_TABLES=1 cargo test --lib javascript_has_the_same_limits\n\n\
                         /** What the numbers among the options of a generation may be. */\n\
                         export const OPTION_LIMITS = {\n"
            .to_owned();
        for limit in LIMITS.iter().copied().chain([&LOGIT_BIAS, &DRAFT_TOKENS]) {
            let name = limit.option.rsplit('.').next().unwrap_or_default();
            table += &format!("  {name}: {},\n", limit.to_typescript());
        }
        table += "} as const\n";
        if std::env::var_os("WRITE_TABLES").is_some() {
            std::fs::write(FILE, &table).unwrap();
        }
        let written = std::fs::read_to_string(FILE).unwrap_or_default();
        assert!(written == table, "{FILE} is behind; WRITE_TABLES=1 makes it anew");
    }

    #[test]
    fn what_was_asked_for_comes_before_the_models_defaults() {
        let defaults = GenerationDefaults {
            do_sample: Some(false),
            temperature: Some(0.9),
            top_p: Some(0.8),
            max_new_tokens: Some(5),
            ..GenerationDefaults::default()
        };
        let asked = GenerationOptions { top_p: Some(0.5), ..GenerationOptions::default() };
        let options = asked.clone().or_defaults(&defaults);
        assert_eq!((options.temperature, options.top_p), (Some(0.0), Some(0.5)));
        assert_eq!(options.max_tokens, Some(5));
        let standard = asked.or_defaults(&GenerationDefaults::default());
        assert_eq!(standard.sampling(Vec::new()).temperature, 0.7);
    }
}
