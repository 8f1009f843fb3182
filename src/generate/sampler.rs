//! Sampling on the device, in the order and with the formulas of mlx-lm's `sample_utils.py`: top-p,
//! min-p, XTC, top-k, and the temperature last.

pub use crate::cpu::sampling::SamplingOptions;
use crate::error::{Error, Result};
use crate::mlx::{Array, Dtype, ops, random, sampling, scalar};

impl SamplingOptions {
    fn check(&self) -> Result<()> {
        let within = |option: &str, value: f32, low: f32, high: f32| {
            if (low..=high).contains(&value) {
                Ok(())
            } else {
                Err(Error::argument(option, format!("{value} is not between {low} and {high}")))
            }
        };
        within("temperature", self.temperature, 0.0, f32::MAX)?;
        within("topP", self.top_p, 0.0, 1.0)?;
        within("minP", self.min_p, 0.0, 1.0)?;
        within("xtcProbability", self.xtc_probability, 0.0, 1.0)?;
        within("xtcThreshold", self.xtc_threshold, 0.0, 0.5)
    }
}

/// Draws tokens; its draws depend on the seed and the token's number only.
#[derive(Debug, Clone)]
pub struct Sampler {
    options: SamplingOptions,
    seed: u64,
}

impl Sampler {
    /// # Errors
    /// [`Error::InvalidArgument`] for an option out of range.
    pub fn new(options: SamplingOptions, seed: u64) -> Result<Self> {
        options.check()?;
        Ok(Self { options, seed })
    }

    /// Whether the most likely token is taken.
    pub fn is_greedy(&self) -> bool {
        self.options.temperature == 0.0
    }

    /// Draws token number `index` of a sequence from logits `[1, vocabulary]`: `[1]`, `uint32`.
    pub fn sample(&self, logits: &Array, index: u64) -> Result<Array> {
        if self.is_greedy() {
            return sampling::most_likely(logits);
        }
        let uniform = DRAWS.map(|draw| random::host_uniform(self.seed, number(index, draw)));
        match sampling::draw(logits, &self.options, uniform)? {
            Some(token) => Ok(token),
            None => self.sample_by_operations(logits, index),
        }
    }

    /// [`Sampler::sample`] where there is no kernel for it.
    fn sample_by_operations(&self, logits: &Array, index: u64) -> Result<Array> {
        let [token, xtc] = DRAWS.map(|draw| random::key(self.seed, number(index, draw)));
        let filtered = self.filter(&normalized(logits)?, |probability| {
            ops::greater(&random::uniform(&xtc)?, &scalar(probability))
        })?;
        let scaled = ops::multiply(&filtered, &scalar(self.options.temperature.recip()))?;
        random::categorical(&scaled, -1, &token)
    }

    /// The log-probabilities with −∞ for the tokens that the options leave out. `skip_xtc` draws, for
    /// the chance of XTC, whether it is skipped.
    fn filter(
        &self,
        logprobs: &Array,
        skip_xtc: impl FnOnce(f32) -> Result<Array>,
    ) -> Result<Array> {
        let options = &self.options;
        let mut logprobs = logprobs.clone();
        if options.top_p > 0.0 && options.top_p < 1.0 {
            logprobs = top_p(&logprobs, options.top_p)?;
        }
        if options.min_p > 0.0 {
            logprobs = min_p(&logprobs, options.min_p, options.min_tokens_to_keep)?;
        }
        if options.xtc_probability > 0.0 {
            let cut = xtc(&logprobs, options.xtc_threshold, &options.xtc_special_tokens)?;
            logprobs = ops::select(&skip_xtc(options.xtc_probability)?, &logprobs, &cut)?;
        }
        if options.top_k > 0 && options.top_k < logprobs.dim(-1).unsigned_abs() {
            logprobs = top_k(&logprobs, options.top_k)?;
        }
        Ok(logprobs)
    }
}

/// The draws for each token: one for itself, one for XTC.
const DRAWS: [u64; 2] = [0, 1];

/// The number of a draw for token number `index`, among all of the sequence.
fn number(index: u64, draw: u64) -> u64 {
    index * DRAWS.len() as u64 + draw
}

/// The log-probabilities that logits stand for, in `f32`.
pub(super) fn normalized(logits: &Array) -> Result<Array> {
    let logits = ops::astype(logits, Dtype::Float32)?;
    ops::subtract(&logits, &ops::logsumexp(&logits, -1)?)
}

fn without(logprobs: &Array, removed: &Array) -> Result<Array> {
    let nothing = ops::astype(&scalar(f32::NEG_INFINITY), logprobs.dtype())?;
    ops::select(removed, &nothing, logprobs)
}

/// Nucleus sampling (Holtzman et al. 2020); tokens as likely as the last one kept stay too.
fn top_p(logprobs: &Array, p: f32) -> Result<Array> {
    let sorted = ops::sort(logprobs, -1)?;
    let probs = ops::exp(&ops::astype(&sorted, Dtype::Float32)?)?;
    let above = ops::cumsum(&probs, -1, true, false)?;
    // Floating-point sums of the whole distribution are not exactly 1.
    let first = |a: &Array| ops::slice_axis(a, 1, 0, 1);
    let total = ops::add(&first(&above)?, &first(&probs)?)?;
    let dropped = ops::greater_equal(&above, &ops::multiply(&total, &scalar(p))?)?;
    let dropped = ops::sum(&ops::astype(&dropped, Dtype::Int32)?, -1)?;
    let threshold = ops::take_along(&sorted, &dropped, -1)?;
    without(logprobs, &ops::less(logprobs, &threshold)?)
}

/// Min-p sampling (Nguyen et al. 2024).
fn min_p(logprobs: &Array, p: f32, keep: u32) -> Result<Array> {
    let threshold = ops::add(&ops::max(logprobs, -1)?, &scalar(p.ln()))?;
    let cut = without(logprobs, &ops::less(logprobs, &threshold)?)?;
    if keep <= 1 {
        return Ok(cut);
    }
    let best = most_likely(logprobs, keep)?;
    ops::put_along(&cut, &best, &ops::take_along(logprobs, &best, -1)?, -1)
}

/// The indices of the `count` most likely tokens of `[1, vocabulary]`, unordered.
pub(super) fn most_likely(logprobs: &Array, count: u32) -> Result<Array> {
    let count = i32::try_from(count).unwrap_or(i32::MAX).min(logprobs.dim(-1));
    let order = ops::argpartition(&ops::negative(logprobs)?, count - 1, -1)?;
    ops::slice_axis(&order, 1, 0, count)
}

/// Exclude top choices: of the tokens above the threshold only the least likely stays.
fn xtc(logprobs: &Array, threshold: f32, special: &[u32]) -> Result<Array> {
    let probs = ops::softmax(logprobs, -1, true)?;
    let above = ops::greater(&probs, &scalar(threshold))?;
    let least = ops::min(&ops::select(&above, &probs, &scalar(f32::INFINITY))?, -1)?;
    let cut = without(logprobs, &ops::greater(&probs, &least)?)?;
    if special.is_empty() {
        return Ok(cut);
    }
    let special = crate::mlx::from_u32(special, &[1, special.len() as i32]);
    ops::put_along(&cut, &special, &ops::take_along(logprobs, &special, -1)?, -1)
}

fn top_k(logprobs: &Array, k: u32) -> Result<Array> {
    let vocabulary = logprobs.dim(-1);
    let k = k.min(vocabulary.unsigned_abs()) as i32;
    let order = ops::argpartition(&ops::negative(logprobs)?, k - 1, -1)?;
    let removed = ops::slice_axis(&order, 1, k, vocabulary)?;
    let nothing = ops::astype(&scalar(f32::NEG_INFINITY), logprobs.dtype())?;
    ops::put_along(logprobs, &removed, &nothing, -1)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::path::Path;

    use safetensors::SafeTensors;
    use serde::Deserialize;

    use super::*;
    use crate::cpu::Isa;
    use crate::cpu::sampling::Logits;
    use crate::generate::{Penalties, Processors};
    use crate::mlx::{DeviceKind, enter, from_f32, item_u32, to_f32_vec};

    #[derive(Deserialize)]
    struct Cases {
        cases: Vec<Case>,
    }

    #[derive(Deserialize)]
    struct Case {
        name: String,
        input: String,
        #[serde(default)]
        history: Vec<u32>,
        options: Options,
        argmax: Option<u32>,
        kept: Option<usize>,
        #[serde(default)]
        tied: bool,
        error: Option<String>,
    }

    /// mlx-lm's words.
    #[derive(Default, Deserialize)]
    #[serde(default, deny_unknown_fields)]
    struct Options {
        temp: f32,
        top_p: Option<f32>,
        min_p: f32,
        min_tokens_to_keep: Option<u32>,
        top_k: u32,
        xtc_probability: f32,
        xtc_threshold: f32,
        xtc_special_tokens: Vec<u32>,
        logit_bias: BTreeMap<String, f32>,
        repetition_penalty: Option<f32>,
        repetition_context_size: Option<usize>,
        presence_penalty: f32,
        presence_context_size: Option<usize>,
        frequency_penalty: f32,
        frequency_context_size: Option<usize>,
    }

    impl Options {
        fn sampling(&self) -> SamplingOptions {
            SamplingOptions {
                temperature: self.temp,
                top_p: self.top_p.unwrap_or(1.0),
                min_p: self.min_p,
                min_tokens_to_keep: self.min_tokens_to_keep.unwrap_or(1),
                top_k: self.top_k,
                xtc_probability: self.xtc_probability,
                xtc_threshold: self.xtc_threshold,
                xtc_special_tokens: self.xtc_special_tokens.clone(),
            }
        }

        fn penalties(&self) -> Penalties {
            let bias = |(token, &bias): (&String, _)| (token.parse().unwrap(), bias);
            Penalties {
                repetition: self.repetition_penalty.unwrap_or(1.0),
                repetition_context: self.repetition_context_size.unwrap_or(20),
                presence: self.presence_penalty,
                presence_context: self.presence_context_size.unwrap_or(20),
                frequency: self.frequency_penalty,
                frequency_context: self.frequency_context_size.unwrap_or(20),
                logit_bias: self.logit_bias.iter().map(bias).collect(),
            }
        }
    }

    /// By a kernel, where there is one, and by operations.
    const WAYS: [Way; 2] = [Sampler::sample, Sampler::sample_by_operations];
    type Way = fn(&Sampler, &Array, u64) -> Result<Array>;

    fn close(actual: &[f32], expected: &[f32]) -> bool {
        actual.len() == expected.len()
            && actual.iter().zip(expected).all(|(a, b)| a == b || (a - b).abs() <= 2e-5)
    }

    fn check(case: &Case, tensors: &SafeTensors) -> std::result::Result<(), String> {
        let tensor = |name: &str| -> Vec<f32> {
            let data = tensors.tensor(name).unwrap().data();
            data.chunks_exact(4).map(|word| f32::from_le_bytes(word.try_into().unwrap())).collect()
        };
        let logits = tensor(&format!("input.{}", case.input));
        let vocabulary = logits.len();
        let logits = from_f32(&logits, &[1, vocabulary as i32]);
        let penalties = case.options.penalties();
        let processors = Processors::new(penalties, &case.history, vocabulary).unwrap();
        let processed = processors.apply(&logits).unwrap();
        let by_operations = processors.apply_by_operations(logits).unwrap();
        if !close(&to_f32_vec(&processed).unwrap(), &to_f32_vec(&by_operations).unwrap()) {
            return Err("penalties differ between kernel and operations".to_owned());
        }
        let logprobs = normalized(&processed).unwrap();
        let sampler = Sampler::new(case.options.sampling(), 1).unwrap();
        if case.error.is_some() {
            // The reference refuses a top-k that keeps everything; here it keeps everything.
            let filtered = sampler.filter(&logprobs, |_| unreachable!()).unwrap();
            return (to_f32_vec(&filtered).unwrap() == to_f32_vec(&logprobs).unwrap())
                .then_some(())
                .ok_or_else(|| "top-k beyond the vocabulary changed something".to_owned());
        }
        let expect = |what: &str, actual: &Array, expected: Vec<f32>| {
            let actual = to_f32_vec(actual).unwrap();
            if close(&actual, &expected) {
                Ok(())
            } else {
                Err(format!("{what}: {actual:?}, expected {expected:?}"))
            }
        };
        expect("logprobs", &logprobs, tensor(&format!("{}.logprobs", case.name)))?;
        if let Some(token) = case.argmax {
            let drawn = item_u32(&sampler.sample(&logprobs, 0).unwrap()).unwrap();
            return (drawn == token).then_some(()).ok_or_else(|| format!("argmax {drawn}"));
        }
        let never_skip = |probability: f32| {
            assert!(probability == 1.0, "the reference's draw is not ours");
            ops::greater(&scalar(0.0), &scalar(probability))
        };
        let filtered = sampler.filter(&logprobs, never_skip).unwrap();
        let values = to_f32_vec(&filtered).unwrap();
        let kept = values.iter().filter(|value| value.is_finite()).count();
        if Some(kept) != case.kept {
            return Err(format!("{kept} kept, expected {:?}", case.kept));
        }
        let xtc = sampler.options.xtc_probability > 0.0;
        let logits = to_f32_vec(&processed).unwrap();
        let by_kernel = Logits::new(&logits, Isa::best()).kept(&sampler.options, xtc);
        let by_kernel = by_kernel.unwrap_or_else(|| (0..vocabulary as u32).collect());
        let possible = |token: &&u32| logits[**token as usize].is_finite();
        let by_kernel = by_kernel.iter().filter(possible).count();
        if Some(by_kernel) != case.kept {
            return Err(format!("{by_kernel} kept by the kernel, expected {:?}", case.kept));
        }
        if case.tied {
            return Ok(());
        }
        expect("filtered", &filtered, tensor(&format!("{}.filtered", case.name)))?;
        let scaled = ops::multiply(&filtered, &scalar(case.options.temp.recip())).unwrap();
        let probabilities = ops::softmax(&scaled, -1, true).unwrap();
        expect("probabilities", &probabilities, tensor(&format!("{}.probabilities", case.name)))
    }

    #[test]
    fn filters_and_penalties_agree_with_the_reference() {
        enter(DeviceKind::Cpu).unwrap();
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
        let cases = std::fs::read(root.join("sampling.json")).unwrap();
        let cases: Cases = serde_json::from_slice(&cases).unwrap();
        let tensors = std::fs::read(root.join("sampling.safetensors")).unwrap();
        let tensors = SafeTensors::deserialize(&tensors).unwrap();
        assert!(cases.cases.len() > 40);
        let failures: Vec<_> = cases
            .cases
            .iter()
            .filter_map(|case| {
                check(case, &tensors).err().map(|error| format!("{}: {error}", case.name))
            })
            .collect();
        assert!(failures.is_empty(), "{}", failures.join("\n"));
    }

    #[test]
    fn draws_follow_the_distribution() {
        enter(DeviceKind::Cpu).unwrap();
        let probabilities = [0.5_f32, 0.3, 0.2, 0.0];
        let logprobs: Vec<f32> = probabilities.iter().map(|p| p.ln()).collect();
        let logprobs = from_f32(&logprobs, &[1, 4]);
        let options = SamplingOptions { temperature: 1.0, ..SamplingOptions::default() };
        let sampler = Sampler::new(options, 7).unwrap();
        for sample in WAYS {
            let mut counts = [0_u32; 4];
            for index in 0..2000 {
                counts[item_u32(&sample(&sampler, &logprobs, index).unwrap()).unwrap() as usize] +=
                    1;
            }
            for (count, p) in counts.into_iter().zip(probabilities) {
                // Five standard deviations of a binomial.
                let deviation = (2000.0 * p * (1.0 - p)).sqrt();
                assert!((count as f32 - 2000.0 * p).abs() <= 5.0 * deviation, "{counts:?}");
            }
        }
    }

    #[test]
    fn a_draw_depends_on_seed_and_index_alone() {
        enter(DeviceKind::Cpu).unwrap();
        let logprobs = from_f32(&[-1.0; 64], &[1, 64]);
        for sample in WAYS {
            let draws = |seed, indices: &[u64]| -> Vec<u32> {
                let sampler = Sampler::new(SamplingOptions::default(), seed).unwrap();
                let draw = |&i: &u64| item_u32(&sample(&sampler, &logprobs, i).unwrap()).unwrap();
                indices.iter().map(draw).collect()
            };
            let forwards = draws(3, &[0, 1, 2, 3]);
            let mut backwards = draws(3, &[3, 2, 1, 0]);
            backwards.reverse();
            assert_eq!(forwards, backwards);
            assert_ne!(forwards, draws(4, &[0, 1, 2, 3]));
        }
    }

    #[test]
    fn options_out_of_range_are_refused_by_name() {
        let good = SamplingOptions::default();
        for (option, options) in [
            ("temperature", SamplingOptions { temperature: -0.1, ..good.clone() }),
            ("temperature", SamplingOptions { temperature: f32::NAN, ..good.clone() }),
            ("topP", SamplingOptions { top_p: 1.5, ..good.clone() }),
            ("minP", SamplingOptions { min_p: -1.0, ..good.clone() }),
            ("xtcProbability", SamplingOptions { xtc_probability: 2.0, ..good.clone() }),
            ("xtcThreshold", SamplingOptions { xtc_threshold: 0.6, ..good.clone() }),
        ] {
            let error = Sampler::new(options, 0).unwrap_err();
            assert!(error.to_string().starts_with(&format!("{option}: ")), "{error}");
        }
    }
}
