//! Which token comes next: the options, and the sequence's random numbers.

use super::mirostat::Mirostat;
use crate::error::Result;
use crate::fused::Device;
pub use crate::fused::sampling::SamplingOptions;
use crate::fused::sampling::{
    COLDEST, Draw, DrawnTokens, RowDraw, Sampling, draw_tokens, largest_logit, sample_by_surprise,
};
use crate::mlx::Array;

/// Draws tokens; its draws depend on the seed and the token's number only.
#[derive(Debug, Clone)]
pub struct Sampler {
    sampling: Sampling,
    seed: u64,
    device: Device,
    mirostat: Option<Mirostat>,
}

impl Sampler {
    /// A sampler for the sequence of `seed`.
    pub fn new(mut options: SamplingOptions, seed: u64, device: Device) -> Self {
        if options.temperature > 0.0 {
            options.temperature = options.temperature.max(COLDEST);
        }
        Self { sampling: Sampling::new(options), seed, device, mirostat: None }
    }

    /// The same, but for a limit on surprise in place of the filters.
    pub fn with_mirostat(self, mirostat: Option<Mirostat>) -> Self {
        // The most likely token needs no limit.
        let mirostat = mirostat.filter(|_| !self.is_greedy());
        Self { mirostat, ..self }
    }

    /// Whether a draw depends on what came of the one before.
    pub fn is_adaptive(&self) -> bool {
        self.mirostat.is_some()
    }

    /// How token number `index` of a sequence is drawn; `None` where that takes more than options.
    pub fn row(&self, index: u64) -> Option<RowDraw<'_>> {
        let draw = Draw { seed: self.seed, index };
        (!self.is_adaptive()).then_some(RowDraw { sampling: &self.sampling, draw })
    }

    /// Token number `index` of a sequence from logits `[1, vocabulary]`, and its surprise, where the
    /// next draw depends on that.
    pub fn draw(&self, logits: &Array, index: u64) -> Result<(DrawnTokens, Option<Array>)> {
        let draw = Draw { seed: self.seed, index };
        let Some(mirostat) = &self.mirostat else {
            let row = RowDraw { sampling: &self.sampling, draw };
            return Ok((draw_tokens(self.device, logits, &[row])?, None));
        };
        let temperature = self.sampling.options.temperature;
        let [tokens, surprise] = sample_by_surprise(logits, temperature, mirostat.limit(), draw)?;
        let told = vec![largest_logit(self.device, logits)?];
        Ok((DrawnTokens { tokens, told }, Some(surprise)))
    }

    /// Takes the surprise of the last token.
    pub fn observe(&mut self, surprise: f32) {
        if let Some(mirostat) = &mut self.mirostat {
            mirostat.observe(surprise);
        }
    }

    /// Goes back to what it was after so many tokens of the answer.
    pub fn rewind(&mut self, tokens: usize) {
        if let Some(mirostat) = &mut self.mirostat {
            mirostat.rewind(tokens);
        }
    }

    /// The same with the logits of another model, which may have other tokens.
    pub fn for_draft(&self) -> Self {
        let options = SamplingOptions {
            xtc_probability: 0.0,
            xtc_special_tokens: Vec::new(),
            ..self.sampling.options.clone()
        };
        Self::new(options, self.seed, self.device)
    }

    /// Whether the most likely token is taken.
    pub fn is_greedy(&self) -> bool {
        self.sampling.options.temperature == 0.0
    }

    /// Draws token number `index` of a sequence from logits `[1, vocabulary]`: `[1]`, `uint32`.
    pub fn sample(&self, logits: &Array, index: u64) -> Result<Array> {
        Ok(self.draw(logits, index)?.0.tokens)
    }
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
    use crate::fused::sampling::{filter, log_softmax, temperature};
    use crate::generate::{Penalties, Processors};
    use crate::mlx::{DeviceKind, enter, from_f32, item_u32, ops, scalar, to_f32_vec};

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
        typical_p: Option<f32>,
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
                top_n_sigma: 0.0,
                typical_p: self.typical_p.unwrap_or(1.0),
                dynamic_temperature_range: 0.0,
                dynamic_temperature_exponent: 1.0,
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

    /// By kernels, where there are some, and composed.
    fn devices() -> [Device; 2] {
        [Device::default(), Device::default().plain()]
    }

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
        let [processed, composed] = devices().map(|device| {
            let (penalties, history) = (penalties.clone(), &case.history);
            let processors = Processors::new(penalties, history, device);
            processors.apply(&logits).unwrap()
        });
        if !close(&to_f32_vec(&processed).unwrap(), &to_f32_vec(&composed).unwrap()) {
            return Err("penalties differ between kernel and composition".to_owned());
        }
        let logprobs = log_softmax(&processed).unwrap();
        let sampler = Sampler::new(case.options.sampling(), 1, Device::default());
        if case.error.is_some() {
            // The reference refuses a top-k that keeps everything; here it keeps everything.
            let filtered =
                filter(&logprobs, &sampler.sampling.options, |_| unreachable!()).unwrap();
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
        let filtered = filter(&logprobs, &sampler.sampling.options, never_skip).unwrap();
        let values = to_f32_vec(&filtered).unwrap();
        let kept = values.iter().filter(|value| value.is_finite()).count();
        if Some(kept) != case.kept {
            return Err(format!("{kept} kept, expected {:?}", case.kept));
        }
        let xtc = sampler.sampling.options.xtc_probability > 0.0;
        let logits = to_f32_vec(&processed).unwrap();
        let by_kernel = Logits::new(&logits, Isa::best()).kept(&sampler.sampling.options, xtc);
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
    fn kernels_and_compositions_agree_on_filters_by_the_whole_distribution() {
        enter(DeviceKind::Cpu).unwrap();
        let values: Vec<f32> = (0..700).map(|i| (i as f32 * 0.7311).sin() * 4.0).collect();
        let logits = from_f32(&values, &[1, 700]);
        for top_n_sigma in [0.0, 0.3, 1.0, 2.0] {
            for typical_p in [1.0, 0.9, 0.4] {
                let options = SamplingOptions {
                    temperature: 0.8,
                    dynamic_temperature_range: 0.5,
                    dynamic_temperature_exponent: 1.5,
                    top_n_sigma,
                    typical_p,
                    top_k: 90,
                    ..SamplingOptions::default()
                };
                let filtered = filter(&log_softmax(&logits).unwrap(), &options, |_| unreachable!());
                let filtered = filtered.unwrap();
                let composed: Vec<u32> = (0..)
                    .zip(to_f32_vec(&filtered).unwrap())
                    .filter_map(|(token, value)| value.is_finite().then_some(token))
                    .collect();
                let looked = Logits::new(&values, Isa::best());
                let mut kept = looked.kept(&options, false).unwrap();
                let by_kernel = looked.temperature(Some(&kept), &options);
                kept.sort_unstable();
                assert_eq!(kept, composed, "{options:?}");
                let temperature = temperature(&filtered, &options).unwrap();
                let temperature = to_f32_vec(&temperature).unwrap()[0];
                assert!((temperature - by_kernel).abs() < 1e-4, "{temperature}, {by_kernel}");
            }
        }
    }

    #[test]
    fn mirostat_keeps_the_surprise_near_its_target() {
        enter(DeviceKind::Cpu).unwrap();
        // Zipf's law, whose own surprise is about 7 bits.
        let logits: Vec<f32> = (1..=2000).map(|rank| -(rank as f32).ln()).collect();
        let logits = from_f32(&logits, &[1, 2000]);
        for target in [2.0, 3.5, 5.0] {
            let options = SamplingOptions { temperature: 1.0, ..SamplingOptions::default() };
            let sampler = Sampler::new(options, 3, Device::default());
            let mut sampler = sampler.with_mirostat(Some(Mirostat::new(target, 0.1)));
            let mut sum = 0.0;
            for index in 0..400 {
                let (_, surprise) = sampler.draw(&logits, index).unwrap();
                let surprise = to_f32_vec(&surprise.unwrap()).unwrap()[0];
                sampler.observe(surprise);
                if index >= 100 {
                    sum += surprise;
                }
            }
            assert!((sum / 300.0 - target).abs() < 0.3, "{} for {target}", sum / 300.0);
        }
        let greedy = SamplingOptions { temperature: 0.0, ..SamplingOptions::default() };
        let greedy = Sampler::new(greedy, 3, Device::default());
        let greedy = greedy.with_mirostat(Some(Mirostat::new(5.0, 0.1)));
        assert!(!greedy.is_adaptive());
        assert_eq!(item_u32(&greedy.sample(&logits, 0).unwrap()).unwrap(), 0);
    }

    #[test]
    fn draws_follow_the_distribution() {
        enter(DeviceKind::Cpu).unwrap();
        let probabilities = [0.5_f32, 0.3, 0.2, 0.0];
        let logprobs: Vec<f32> = probabilities.iter().map(|p| p.ln()).collect();
        let logprobs = from_f32(&logprobs, &[1, 4]);
        let options = SamplingOptions { temperature: 1.0, ..SamplingOptions::default() };
        for device in devices() {
            let sampler = Sampler::new(options.clone(), 7, device);
            let mut counts = [0_u32; 4];
            for index in 0..2000 {
                counts[item_u32(&sampler.sample(&logprobs, index).unwrap()).unwrap() as usize] += 1;
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
        for device in devices() {
            let draws = |seed, indices: &[u64]| -> Vec<u32> {
                let sampler = Sampler::new(SamplingOptions::default(), seed, device);
                let draw = |&i: &u64| item_u32(&sampler.sample(&logprobs, i).unwrap()).unwrap();
                indices.iter().map(draw).collect()
            };
            let forwards = draws(3, &[0, 1, 2, 3]);
            let mut backwards = draws(3, &[3, 2, 1, 0]);
            backwards.reverse();
            assert_eq!(forwards, backwards);
            assert_ne!(forwards, draws(4, &[0, 1, 2, 3]));
        }
    }
}
