//! The states of a text become one.

use crate::error::{Error, Result};
use crate::mlx::{Array, Dtype, ops, scalar};

/// How the states of a text's tokens become one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pooling {
    /// That of the first token.
    First,
    /// The largest value of each feature.
    Max,
    /// Their mean.
    Mean,
    /// Their sum, divided by the root of their number.
    MeanSqrt,
    /// Their mean, in which the n-th counts n times (Muennighoff 2022).
    WeightedMean,
    /// That of the last token.
    Last,
}

impl Pooling {
    /// All, in the order in which several follow each other, by sentence-transformers' names.
    pub const ALL: [(&'static str, Self); 6] = [
        ("cls", Self::First),
        ("max", Self::Max),
        ("mean", Self::Mean),
        ("mean_sqrt_len_tokens", Self::MeanSqrt),
        ("weightedmean", Self::WeightedMean),
        ("lasttoken", Self::Last),
    ];

    /// The one of this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|(known, _)| *known == name).map(|(_, pooling)| pooling)
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        Self::ALL.into_iter().find(|(_, pooling)| *pooling == self).map_or("", |(name, _)| name)
    }
}

/// What is kept of the tokens of a text that were read, in single precision.
#[derive(Debug, Clone)]
pub struct PooledText {
    modes: Vec<(Pooling, Option<Array>)>,
    /// How many tokens they are.
    count: i32,
}

impl PooledText {
    pub(super) fn new(modes: Vec<Pooling>) -> Self {
        Self { modes: modes.into_iter().map(|mode| (mode, None)).collect(), count: 0 }
    }

    /// Whether no state but the last one counts.
    pub fn needs_last_only(&self) -> bool {
        self.modes.iter().all(|(mode, _)| *mode == Pooling::Last)
    }

    /// Adds the states of the next tokens, `[1, length, dims]`.
    pub fn add(&mut self, states: &Array) -> Result<()> {
        let states = ops::astype(states, Dtype::Float32)?;
        let (length, dims) = (states.dim(1), states.dim(2));
        let row = |x: &Array| ops::reshape(x, &[1, dims]);
        for (mode, kept) in &mut self.modes {
            let part = match mode {
                Pooling::First if kept.is_some() => continue,
                Pooling::First => row(&ops::slice_axis(&states, 1, 0, 1)?)?,
                Pooling::Last => row(&ops::slice_axis(&states, 1, length - 1, length)?)?,
                Pooling::Max => row(&ops::max(&states, 1)?)?,
                Pooling::Mean | Pooling::MeanSqrt => row(&ops::sum(&states, 1)?)?,
                Pooling::WeightedMean => {
                    let first = self.count + 1;
                    let weights = ops::arange(first, first + length, Dtype::Float32)?;
                    let weights = ops::reshape(&weights, &[1, length, 1])?;
                    row(&ops::sum(&ops::multiply(&states, &weights)?, 1)?)?
                }
            };
            *kept = Some(match (&mode, &kept) {
                (Pooling::First | Pooling::Last, _) | (_, None) => part,
                (Pooling::Max, Some(kept)) => ops::maximum(kept, &part)?,
                (_, Some(kept)) => ops::add(kept, &part)?,
            });
        }
        self.count += length;
        Ok(())
    }

    /// The arrays held, for evaluation.
    pub fn arrays(&self) -> impl Iterator<Item = &Array> {
        self.modes.iter().filter_map(|(_, kept)| kept.as_ref())
    }

    /// What the states have become, `[1, dims · modes]`.
    pub(super) fn pooled(&self) -> Result<Array> {
        let count = self.count as f32;
        let parts = self.modes.iter().map(|(mode, kept)| {
            let kept =
                kept.as_ref().ok_or_else(|| Error::Mlx("a text without tokens".to_owned()))?;
            match mode {
                Pooling::First | Pooling::Last | Pooling::Max => Ok(kept.clone()),
                Pooling::Mean => ops::divide(kept, &scalar(count)),
                Pooling::MeanSqrt => ops::divide(kept, &scalar(count.sqrt())),
                Pooling::WeightedMean => ops::divide(kept, &scalar(count * (count + 1.0) / 2.0)),
            }
        });
        let parts = parts.collect::<Result<Vec<_>>>()?;
        ops::concatenate(&parts.iter().collect::<Vec<_>>(), 1)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::mlx::{self, DeviceKind};

    /// Three tokens of two features, read in one piece or in two.
    fn pooled(mode: Pooling, pieces: &[i32]) -> Vec<f32> {
        let states = [1.0, -2.0, 3.0, 4.0, 5.0, -6.0];
        let states = mlx::from_f32(&states, &[1, 3, 2]);
        let mut text = PooledText::new(vec![mode]);
        let mut start = 0;
        for length in pieces {
            text.add(&ops::slice_axis(&states, 1, start, start + length).unwrap()).unwrap();
            start += length;
        }
        mlx::to_f32_vec(&text.pooled().unwrap()).unwrap()
    }

    #[test]
    fn each_way_follows_its_formula_however_a_text_is_read() {
        mlx::enter(DeviceKind::Cpu).unwrap();
        let root = 3_f32.sqrt();
        let expected = [
            (Pooling::First, [1.0, -2.0]),
            (Pooling::Last, [5.0, -6.0]),
            (Pooling::Max, [5.0, 4.0]),
            (Pooling::Mean, [3.0, -4.0 / 3.0]),
            (Pooling::MeanSqrt, [9.0 / root, -4.0 / root]),
            (Pooling::WeightedMean, [22.0 / 6.0, -12.0 / 6.0]),
        ];
        for (mode, expected) in expected {
            for pieces in [&[3][..], &[1, 2], &[2, 1], &[1, 1, 1]] {
                for (a, b) in pooled(mode, pieces).iter().zip(expected) {
                    assert!((a - b).abs() < 1e-5, "{mode:?} {pieces:?}: {a} is not {b}");
                }
            }
            assert_eq!(Pooling::named(mode.name()), Some(mode));
        }
    }
}
