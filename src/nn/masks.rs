//! Which positions a token sees.

use super::alibi::Alibi;
use crate::cache::Cache;
use crate::error::Result;
use crate::mlx::Dtype;
use crate::mlx::fast::Mask;

/// How far back a token sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AttentionSpan {
    /// To the first position.
    Full,
    /// This many positions, its own included.
    SlidingWindow(i32),
    /// To the start of its chunk of this many positions.
    Chunked(i32),
}

impl From<Option<i32>> for AttentionSpan {
    /// A window, or all positions.
    fn from(window: Option<i32>) -> Self {
        window.map_or(Self::Full, Self::SlidingWindow)
    }
}

impl AttentionSpan {
    /// An empty cache of what is seen.
    pub(super) fn make_cache(self) -> Cache {
        match self {
            Self::Full => Cache::standard(),
            Self::SlidingWindow(window) => Cache::rotating(window, 0),
            Self::Chunked(size) => Cache::chunked(size),
        }
    }
}

/// The attention masks of a sequence in one pass. Layers that see the same positions share one.
#[derive(Debug, Default)]
pub struct Masks {
    plain: Vec<(AttentionSpan, Mask)>,
    /// The same with biases for positions, which all layers of a model have alike.
    biased: Vec<(AttentionSpan, Mask)>,
}

impl Masks {
    /// The mask for `length` new tokens with this span. To be asked before the layer's cache is
    /// updated.
    pub fn get(
        &mut self,
        length: i32,
        span: impl Into<AttentionSpan>,
        cache: &Cache,
    ) -> Result<&Mask> {
        let span = span.into();
        let index = match self.plain.iter().position(|(other, _)| *other == span) {
            Some(index) => index,
            None => {
                let window = match span {
                    AttentionSpan::SlidingWindow(window) => Some(window),
                    AttentionSpan::Full | AttentionSpan::Chunked(_) => None,
                };
                self.plain.push((span, cache.mask(length, window)?));
                self.plain.len() - 1
            }
        };
        Ok(&self.plain[index].1)
    }

    /// The same with biases.
    pub(super) fn biased(
        &mut self,
        length: i32,
        span: AttentionSpan,
        cache: &Cache,
        alibi: &Alibi,
        dtype: Dtype,
    ) -> Result<&Mask> {
        let index = match self.biased.iter().position(|(other, _)| *other == span) {
            Some(index) => index,
            None => {
                let plain = self.get(length, span, cache)?;
                let biased = alibi.added_to(plain, length, cache, dtype)?;
                self.biased.push((span, biased));
                self.biased.len() - 1
            }
        };
        Ok(&self.biased[index].1)
    }
}
