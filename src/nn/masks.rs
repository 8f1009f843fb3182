//! Which positions a token sees.

use super::alibi::Alibi;
use super::block_sparse::BlockPattern;
use crate::cache::Cache;
use crate::error::{Error, Result};
use crate::mlx::fast::Mask;
use crate::mlx::{Array, Dtype, ops};

/// How far a token sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AttentionSpan {
    /// To the first position.
    Full,
    /// This many positions, its own included.
    SlidingWindow(i32),
    /// To the start of its chunk of this many positions.
    Chunked(i32),
    /// Some blocks of positions, each head others.
    BlockSparse(BlockPattern),
    /// A whole text, what is behind the token included. It is read in one pass.
    Whole,
    /// As [`Self::Whole`], but no position that is more than this many away.
    Around(i32),
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
            Self::Full | Self::BlockSparse(_) | Self::Whole | Self::Around(_) => Cache::standard(),
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
                let mask = match span {
                    AttentionSpan::SlidingWindow(window) => cache.mask(length, Some(window))?,
                    AttentionSpan::Full | AttentionSpan::Chunked(_) => cache.mask(length, None)?,
                    AttentionSpan::BlockSparse(pattern) => pattern.mask(length, cache)?,
                    AttentionSpan::Whole | AttentionSpan::Around(_) if cache.offset() > 0 => {
                        let message = "a text whose tokens see what is behind them is read at once";
                        return Err(Error::Unsupported(message.to_owned()));
                    }
                    AttentionSpan::Around(reach) if length > reach + 1 => around(length, reach)?,
                    AttentionSpan::Whole | AttentionSpan::Around(_) => Mask::None,
                };
                self.plain.push((span, mask));
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

/// `[length, length]`: each query sees the positions that are at most `reach` away.
fn around(length: i32, reach: i32) -> Result<Mask> {
    let positions = ops::arange(0, length, Dtype::Int32)?;
    let (keys, queries) = (&positions, &ops::reshape(&positions, &[length, 1])?);
    let beyond = Array::from_int(reach + 1);
    let behind = ops::less(queries, &ops::add(keys, &beyond)?)?;
    let ahead = ops::less(keys, &ops::add(queries, &beyond)?)?;
    ops::logical_and(&behind, &ahead).map(Mask::Array)
}
