//! Rotary position embeddings (Su et al. 2021) and their context extensions.
//!
//! The rules are those of mlx-lm's `rope_utils.py`. RopeFreqs are kept as wavelengths
//! base^(2i/d), computed in `f32`.

use std::f32::consts::PI;

use serde::Deserialize;
use serde_json::{Map, Value};

use crate::error::{Error, Result};
use crate::fused::rope::{RopeFreqs, RopeParams};
use crate::mlx::from_f32;

/// What a model's configuration says of its positions.
#[derive(Debug, Clone)]
pub struct RopeConfig {
    /// Rotated features of a head; the others pass through.
    pub dims: i32,
    /// Base of the wavelengths.
    pub base: f32,
    /// Whether neighbouring features are rotated, not the two halves.
    pub traditional: bool,
    /// Extension of the context.
    pub scaling: Option<RopeScaling>,
    /// Positions the model is made for.
    pub max_positions: Option<i32>,
    /// The most positions of a sequence, where these are fewer.
    pub longest: Option<i32>,
}

/// `rope_scaling` (or `rope_parameters`) of `config.json`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct RopeScaling {
    #[serde(rename = "type")]
    kind: Option<String>,
    rope_type: Option<String>,
    partial_rotary_factor: Option<f32>,
    factor: Option<f32>,
    attention_factor: Option<f32>,
    short_attention_factor: Option<f32>,
    low_freq_factor: Option<f32>,
    high_freq_factor: Option<f32>,
    original_max_position_embeddings: Option<f32>,
    beta_fast: Option<f32>,
    beta_slow: Option<f32>,
    truncate: Option<bool>,
    mscale: Option<f32>,
    mscale_all_dim: Option<f32>,
    long_factor: Option<Factors>,
    short_factor: Option<Factors>,
    mrope_section: Option<Vec<i32>>,
    /// Fields of other rules.
    #[serde(flatten)]
    others: Map<String, Value>,
}

/// Fields that do not change a rotation here: the base and the length, which [`RopeConfig`] has; how
/// three equal positions are interleaved; and how a model was trained.
const WITHOUT_EFFECT: [&str; 4] =
    ["rope_theta", "max_position_embeddings", "mrope_interleaved", "finetuned"];

/// One factor for all wavelengths, or one for each.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
enum Factors {
    One(f32),
    Each(Vec<f32>),
}

impl RopeScaling {
    /// The name of the rule; plain rotation without one.
    pub fn rule(&self) -> &str {
        self.kind.as_deref().or(self.rope_type.as_deref()).unwrap_or("default")
    }

    /// Whether the rule itself counts the features that `partial_rotary_factor` leaves out.
    pub fn is_proportional(&self) -> bool {
        self.rule() == "proportional"
    }

    /// A field that no rule knows: whatever it asks for, leaving it out would give other numbers.
    fn unknown_field(&self) -> Option<&str> {
        let has_effect = |(name, value): &(&String, &Value)| {
            !value.is_null() && !WITHOUT_EFFECT.contains(&name.as_str())
        };
        self.others.iter().find(has_effect).map(|(name, _)| name.as_str())
    }

    /// The same with the length of the context before its extension: that which is said `beside` it,
    /// or its own, or the `usual` one.
    pub fn with_original_positions(mut self, beside: Option<f32>, usual: Option<f32>) -> Self {
        let own = self.original_max_position_embeddings;
        self.original_max_position_embeddings = beside.or(own).or(usual);
        self
    }

    /// The same of an architecture that rotates this share of a head.
    pub fn with_share(mut self, share: Option<f32>) -> Self {
        self.partial_rotary_factor = share.or(self.partial_rotary_factor);
        self
    }

    /// What YaRN multiplies the scores of latent attention with: m(mscale_all_dim)² (DeepSeek-AI
    /// 2024).
    pub fn score_factor(&self) -> f32 {
        let scale = |factor| yarn_scale(factor, self.mscale_all_dim.unwrap_or(0.0));
        self.factor.map_or(1.0, scale).powi(2)
    }

    fn factor(&self) -> Result<f32> {
        let factor = required(self.factor, "factor", self.rule())?;
        if factor.is_finite() && factor > 0.0 {
            Ok(factor)
        } else {
            Err(Error::argument("rope_scaling.factor", format!("{factor} is not above 0")))
        }
    }
}

fn required<T>(value: Option<T>, name: &str, rule: &str) -> Result<T> {
    value.ok_or_else(|| {
        Error::argument(format!("rope_scaling.{name}"), format!("is missing for \"{rule}\""))
    })
}

/// Rotates queries and keys by their positions.
#[derive(Debug, Clone)]
pub struct Rope {
    dims: i32,
    traditional: bool,
    angles: Angles,
    /// Multiplies positions.
    position_scale: f32,
    /// Multiplies the rotated features.
    attention_factor: f32,
    is_short: bool,
}

#[derive(Debug, Clone)]
enum Angles {
    Fixed(RopeFreqs),
    /// The base grows with the length (NTK-aware scaling).
    Dynamic {
        base: f32,
        factor: f32,
        max_positions: f32,
    },
}

impl Rope {
    /// The rotation that `config` describes.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for an unknown rule, a missing or an impossible value.
    pub fn new(config: &RopeConfig) -> Result<Self> {
        let dims = config.dims;
        if dims < 2 || dims % 2 != 0 {
            return Err(Error::argument("head_dim", format!("cannot rotate {dims} features")));
        }
        let mut rope = Self {
            dims,
            traditional: config.traditional,
            angles: Angles::Fixed(RopeFreqs::Base(config.base)),
            position_scale: 1.0,
            attention_factor: 1.0,
            is_short: false,
        };
        let Some(scaling) = &config.scaling else { return Ok(rope) };
        if let Some(field) = scaling.unknown_field() {
            let message = "is not known, and rotations without it may be wrong";
            return Err(Error::argument(format!("rope_scaling.{field}"), message));
        }
        let rule = scaling.rule();
        match rule {
            "default" => {}
            "mrope" => {
                let sections = scaling.mrope_section.as_ref().map_or(0, Vec::len);
                if sections != 3 {
                    let message = format!("has {sections} sections, expected 3");
                    return Err(Error::argument("rope_scaling.mrope_section", message));
                }
            }
            "linear" => rope.position_scale = scaling.factor()?.recip(),
            "dynamic" => {
                let max = required(config.max_positions, "max_position_embeddings", rule)?;
                rope.angles = Angles::Dynamic {
                    base: config.base,
                    factor: scaling.factor()?,
                    max_positions: max as f32,
                };
            }
            "llama3" => rope.angles = explicit(&llama3(config, scaling)?),
            "yarn" | "deepseek_yarn" | "telechat3-yarn" => {
                let factor = scaling.factor()?;
                rope.angles = explicit(&yarn(config, scaling, factor));
                // One without the other is not looked at.
                let scales = scaling.mscale.zip(scaling.mscale_all_dim);
                let scales = scales.filter(|(some, all)| *some != 0.0 && *all != 0.0);
                let (some, all) = scales.unwrap_or((1.0, 0.0));
                let computed = yarn_scale(factor, some) / yarn_scale(factor, all);
                rope.attention_factor = scaling.attention_factor.unwrap_or(computed);
            }
            "longrope" | "su" => {
                let original = scaling.original_max_position_embeddings;
                let original = required(original, "original_max_position_embeddings", rule)?;
                let longest = config.longest.into_iter().chain(config.max_positions).min();
                rope.is_short = longest.is_some_and(|longest| longest as f32 <= original);
                rope.angles = explicit(&longrope(config, scaling, rope.is_short)?);
                rope.attention_factor = match rope.is_short {
                    true => scaling.short_attention_factor.or(scaling.attention_factor),
                    false => scaling.attention_factor,
                }
                .unwrap_or_else(|| longrope_scale(config, scaling, original));
            }
            "proportional" => rope.angles = explicit(&proportional(config, scaling)?),
            other => {
                let message = format!("the rule \"{other}\" is not known");
                return Err(Error::argument("rope_scaling.rope_type", message));
            }
        }
        Ok(rope)
    }

    /// Whether it is one of short contexts, where long ones have another (LongRoPE).
    pub fn is_short(&self) -> bool {
        self.is_short
    }

    /// The same the other way round.
    pub fn reversed(self) -> Self {
        Self { position_scale: -self.position_scale, ..self }
    }

    /// The rotation of `length` positions, of which `offset` is the first.
    pub fn at(&self, offset: i32, length: i32) -> RopeParams {
        let freqs = match &self.angles {
            Angles::Fixed(freqs) => freqs.clone(),
            Angles::Dynamic { base, factor, max_positions } => {
                // base · (f·s/m − (f−1))^(d/(d−2)), s = max(length, m)
                let length = ((length + offset) as f32).max(*max_positions);
                let growth = factor * length / max_positions - (factor - 1.0);
                let dims = self.dims as f32;
                RopeFreqs::Base(base * growth.powf(dims / (dims - 2.0)))
            }
        };
        RopeParams {
            dims: self.dims,
            traditional: self.traditional,
            freqs,
            scale: self.position_scale,
            attention_factor: self.attention_factor,
            offset,
        }
    }
}

fn explicit(wavelengths: &[f32]) -> Angles {
    let shape = [wavelengths.len() as i32];
    Angles::Fixed(RopeFreqs::Explicit(from_f32(wavelengths, &shape)))
}

/// base^(2i/d) for i in 0..d/2.
fn plain(dims: i32, base: f32) -> Vec<f32> {
    (0..dims).step_by(2).map(|i| base.powf(i as f32 / dims as f32)).collect()
}

/// Llama 3.1: long wavelengths are stretched, short ones kept, those between interpolated.
fn llama3(config: &RopeConfig, scaling: &RopeScaling) -> Result<Vec<f32>> {
    let factor = scaling.factor()?;
    let low = scaling.low_freq_factor.unwrap_or(1.0);
    let high = scaling.high_freq_factor.unwrap_or(4.0);
    let old = scaling.original_max_position_embeddings.unwrap_or(8192.0);
    let stretch = |freq: f32| {
        let wavelength = 2.0 * PI * freq;
        if wavelength > old / low {
            freq * factor
        } else if wavelength > old / high {
            let t = (old / wavelength - low) / (high - low);
            freq / ((1.0 - t) / factor + t)
        } else {
            freq
        }
    };
    Ok(plain(config.dims, config.base).into_iter().map(stretch).collect())
}

/// YaRN (Peng et al. 2023): a ramp over the dimensions between stretched and kept wavelengths.
fn yarn(config: &RopeConfig, scaling: &RopeScaling, factor: f32) -> Vec<f32> {
    let dims = config.dims as f32;
    let old = scaling.original_max_position_embeddings.unwrap_or(4096.0);
    // The dimension whose wavelength turns n times within the old context.
    let dimension = |turns: f32| dims * (old / (turns * 2.0 * PI)).ln() / (2.0 * config.base.ln());
    let mut low = dimension(scaling.beta_fast.unwrap_or(32.0));
    let mut high = dimension(scaling.beta_slow.unwrap_or(1.0));
    if scaling.truncate.unwrap_or(true) {
        (low, high) = (low.floor(), high.ceil());
    }
    (low, high) = (low.max(0.0), high.min(dims - 1.0));
    if low == high {
        high += 0.001;
    }
    let blend = |(i, kept): (usize, f32)| {
        let stretched = factor * kept;
        let ramp = ((i as f32 - low) / (high - low)).clamp(0.0, 1.0);
        (stretched * kept) / (stretched * (1.0 - ramp) + kept * ramp)
    };
    plain(config.dims, config.base).into_iter().enumerate().map(blend).collect()
}

/// YaRN's attention factor m(k) = 0.1 · k · ln(factor) + 1.
fn yarn_scale(factor: f32, k: f32) -> f32 {
    if factor <= 1.0 { 1.0 } else { 0.1 * k * factor.ln() + 1.0 }
}

/// LongRoPE (Ding et al. 2024): factors for long contexts, and others for those that are not longer
/// than the one before the extension. All positions of a sequence have the same, or keys in the
/// cache would have to be rotated anew, so the longest one that there may be decides.
fn longrope(config: &RopeConfig, scaling: &RopeScaling, is_short: bool) -> Result<Vec<f32>> {
    let (field, factors) = match is_short {
        true => ("short_factor", &scaling.short_factor),
        false => ("long_factor", &scaling.long_factor),
    };
    let mut wavelengths = plain(config.dims, config.base);
    match required(factors.as_ref(), field, "longrope")? {
        Factors::One(factor) => wavelengths.iter_mut().for_each(|w| *w *= factor),
        Factors::Each(factors) if factors.len() == wavelengths.len() => {
            wavelengths.iter_mut().zip(factors).for_each(|(w, factor)| *w *= factor);
        }
        Factors::Each(factors) => {
            let message = format!("has {} values, expected {}", factors.len(), wavelengths.len());
            return Err(Error::argument(format!("rope_scaling.{field}"), message));
        }
    }
    Ok(wavelengths)
}

/// √(1 + ln(factor) / ln(original)), where factor is max / original if it is not said.
fn longrope_scale(config: &RopeConfig, scaling: &RopeScaling, original: f32) -> f32 {
    let extension = config.max_positions.unwrap_or(131_072) as f32 / original;
    let factor = scaling.factor.unwrap_or(extension);
    if factor <= 1.0 { 1.0 } else { (1.0 + factor.ln() / original.ln()).sqrt() }
}

/// Gemma 4: exponents over the whole head, rotation of its first part only.
fn proportional(config: &RopeConfig, scaling: &RopeScaling) -> Result<Vec<f32>> {
    let dims = config.dims;
    let rotated = (dims as f32 * scaling.partial_rotary_factor.unwrap_or(1.0)) as i32;
    if !(0..=dims).contains(&rotated) {
        let message = format!("rotates {rotated} of {dims} features");
        return Err(Error::argument("rope_scaling.partial_rotary_factor", message));
    }
    let factor = scaling.factor.unwrap_or(1.0);
    let angle = |i: i32| {
        if i < rotated { factor * config.base.powf(i as f32 / dims as f32) } else { f32::INFINITY }
    };
    Ok((0..dims).step_by(2).map(angle).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(scaling: serde_json::Value) -> RopeConfig {
        RopeConfig {
            dims: 8,
            base: 10_000.0,
            traditional: false,
            scaling: Some(serde_json::from_value(scaling).unwrap()),
            max_positions: Some(64),
            longest: None,
        }
    }

    #[test]
    fn an_unknown_rule_is_refused_by_name() {
        let error = Rope::new(&config(serde_json::json!({"rope_type": "spiral"}))).unwrap_err();
        assert!(error.to_string().contains("\"spiral\""), "{error}");
    }

    #[test]
    fn the_older_key_wins_over_rope_type() {
        let scaling = serde_json::json!({"type": "linear", "rope_type": "spiral", "factor": 2.0});
        assert!(Rope::new(&config(scaling)).is_ok());
    }

    #[test]
    fn a_missing_or_impossible_factor_is_named() {
        for scaling in [
            serde_json::json!({"type": "linear"}),
            serde_json::json!({"type": "yarn", "factor": 0}),
            serde_json::json!({"type": "llama3", "factor": -1}),
        ] {
            let error = Rope::new(&config(scaling)).unwrap_err();
            assert!(error.to_string().contains("rope_scaling.factor"), "{error}");
        }
    }

    #[test]
    fn longrope_wants_a_factor_for_each_wavelength() {
        let scaling = serde_json::json!({
            "type": "longrope", "long_factor": [1.0, 2.0], "original_max_position_embeddings": 16
        });
        let error = Rope::new(&config(scaling)).unwrap_err();
        assert!(error.to_string().contains("has 2 values, expected 4"), "{error}");
    }

    #[test]
    fn longrope_is_that_of_the_longest_context_that_there_may_be() {
        let rope = |longest: Option<i32>, max: Option<i32>, original: f32| {
            let mut config = config(serde_json::json!({
                "type": "longrope", "long_factor": [1.0, 2.0, 3.0, 4.0], "short_factor": 1.5,
                "attention_factor": 1.25, "short_attention_factor": 1.125,
                "original_max_position_embeddings": original
            }));
            (config.longest, config.max_positions) = (longest, max);
            let rope = Rope::new(&config).unwrap();
            (rope.is_short(), rope.attention_factor)
        };
        for (longest, max, is_short) in [
            (None, Some(64), false),
            (None, None, false),
            (Some(17), Some(64), false),
            (Some(16), Some(64), true),
            (Some(64), Some(16), true),
            (Some(9), None, true),
            (None, Some(16), true),
        ] {
            let expected = (is_short, if is_short { 1.125 } else { 1.25 });
            assert_eq!(rope(longest, max, 16.0), expected, "{longest:?} of {max:?}");
        }
    }

    #[test]
    fn longrope_of_a_short_context_wants_its_factors() {
        let mut config = config(serde_json::json!({
            "type": "longrope", "long_factor": 2.0, "original_max_position_embeddings": 16
        }));
        assert!(Rope::new(&config).is_ok());
        config.longest = Some(16);
        let error = Rope::new(&config).unwrap_err();
        assert!(error.to_string().contains("rope_scaling.short_factor"), "{error}");
    }

    #[test]
    fn one_scale_of_yarn_without_the_other_is_not_looked_at() {
        let factor = |mut scaling: serde_json::Value| {
            scaling["rope_type"] = "yarn".into();
            scaling["factor"] = 4.0.into();
            Rope::new(&config(scaling)).unwrap().attention_factor
        };
        let plain = factor(serde_json::json!({}));
        assert_eq!(factor(serde_json::json!({"mscale": 0.8})), plain);
        assert_eq!(factor(serde_json::json!({"mscale_all_dim": 0.5})), plain);
        assert_eq!(factor(serde_json::json!({"mscale": 0.8, "mscale_all_dim": 0.0})), plain);
        assert!(factor(serde_json::json!({"mscale": 0.8, "mscale_all_dim": 0.5})) < plain);
    }

    #[test]
    fn an_odd_number_of_features_is_refused() {
        let mut config = config(serde_json::json!({}));
        config.dims = 7;
        assert!(Rope::new(&config).is_err());
    }
}
