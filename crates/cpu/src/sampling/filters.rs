//! Filters by what the whole distribution looks like, and the temperature that follows it.

use super::{COLDEST, Logits, SamplingOptions};

impl Logits<'_> {
    /// The smallest logit that top-nσ keeps: M − n·σ, where M is the largest logit and σ the
    /// standard deviation of those that are not −∞ (Tang et al. 2024, "Top-nσ: Not All Logits Are
    /// You Need"; llama.cpp's `top_n_sigma`).
    pub fn near_the_largest(&self, n: f32) -> f32 {
        let finite = || self.all().iter().map(|&logit| f64::from(logit)).filter(|x| x.is_finite());
        let count = finite().count() as f64;
        let mean = finite().sum::<f64>() / count;
        let variance = finite().map(|x| (x - mean) * (x - mean)).sum::<f64>() / count;
        (f64::from(self.largest()) - f64::from(n) * variance.sqrt()) as f32
    }

    /// The tokens that typical sampling keeps, in their order: those whose surprise −ln p is
    /// nearest to the entropy H = −Σ p·ln p, up to the one with which their probability reaches
    /// `mass` (Meister et al. 2023, "Locally Typical Sampling"; transformers'
    /// `TypicalLogitsWarper`). Tokens as near as the last one stay, too.
    pub fn typical(&self, mass: f32) -> Vec<u32> {
        let masses: Vec<f64> =
            self.all().iter().map(|&logit| f64::from(logit - self.largest()).exp()).collect();
        let total: f64 = masses.iter().sum();
        let surprises: Vec<f64> = masses.iter().map(|mass| -(mass / total).ln()).collect();
        let part = |(mass, surprise): (&f64, &f64)| if *mass > 0.0 { mass * surprise } else { 0.0 };
        let entropy = masses.iter().zip(&surprises).map(part).sum::<f64>() / total;
        let distance = |token: u32| (surprises[token as usize] - entropy).abs();
        let nearer = |a: &u32, b: &u32| distance(*a).total_cmp(&distance(*b)).then(a.cmp(b));
        let mut order: Vec<u32> = (0..masses.len() as u32).collect();
        // Most often the first few have all of the mass that is wanted: the others need no order.
        let (mut sorted, mut mass_before) = (0, 0.0);
        while sorted < order.len() {
            let rest = &mut order[sorted..];
            let count = (4 * sorted).max(256).min(rest.len());
            if count < rest.len() {
                rest.select_nth_unstable_by(count, nearer);
            }
            let next = &mut rest[..count];
            next.sort_unstable_by(nearer);
            for &token in &*next {
                mass_before += masses[token as usize] / total;
                if mass_before >= f64::from(mass) {
                    let farthest = distance(token);
                    return (0..masses.len() as u32)
                        .filter(|&it| distance(it) <= farthest)
                        .collect();
                }
            }
            sorted += count;
        }
        // Rounding keeps the sum below what is wanted, or there are logits that are no numbers.
        (0..masses.len() as u32).collect()
    }
}

/// The temperature for logits of which the filters have left these: between T − r and T + r (but
/// not below 0) by their entropy H, as a part of the largest that so many tokens can have:
/// low + (high − low)·(H / ln count)^exponent (llama.cpp's `dynatemp_range`).
pub fn dynamic_temperature(logits: &[f32], options: &SamplingOptions) -> f32 {
    let SamplingOptions { temperature, dynamic_temperature_range: range, .. } = *options;
    let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let masses = || logits.iter().map(|&logit| f64::from(logit - largest).exp());
    let count = masses().filter(|&mass| mass > 0.0).count();
    if range == 0.0 || count <= 1 {
        return temperature;
    }
    let total: f64 = masses().sum();
    let part = |mass: f64| if mass > 0.0 { -(mass / total) * (mass / total).ln() } else { 0.0 };
    let entropy: f64 = masses().map(part).sum();
    let normalized = (entropy / (count as f64).ln()).clamp(0.0, 1.0) as f32;
    let (low, high) = ((temperature - range).max(0.0), temperature + range);
    let dynamic = low + (high - low) * normalized.powf(options.dynamic_temperature_exponent);
    dynamic.max(COLDEST)
}
