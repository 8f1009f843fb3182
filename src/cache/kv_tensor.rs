//! Keys and values in a cache's buffers: cutting, joining and quantizing them.

use crate::error::{Error, Result};
pub use crate::fused::kv::KvTensor;
use crate::mlx::quantized::{self, Mode, QuantizationParams, QuantizedTensor};
use crate::mlx::{Array, ops};

/// The axis of positions.
pub(super) const POSITIONS: usize = 2;

/// How keys and values are quantized: whole numbers with a scale and a bias for each group of
/// features.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct KvQuantization {
    /// Consecutive features that share a scale: 32, 64 or 128; `None` for 64, or 32 where the
    /// features cannot be cut into 64.
    pub group_size: Option<i32>,
    /// Bits per number.
    pub bits: i32,
}

impl KvTensor {
    /// Keys or values `[batch, kv_heads, length, head_dim]`, quantized where that is asked for.
    ///
    /// # Errors
    /// [`Error::Unsupported`] if the features cannot be cut into groups.
    pub fn new(rows: &Array, quantization: Option<KvQuantization>) -> Result<Self> {
        let Some(KvQuantization { group_size, bits }) = quantization else {
            return Ok(Self::Plain(rows.clone()));
        };
        let features = rows.dim(-1);
        let group_size = group_size.unwrap_or(if features % 64 == 0 { 64 } else { 32 });
        if features % group_size != 0 {
            return Err(Error::Unsupported(format!(
                "keys or values of {features} features cannot be packed in groups of {group_size}: \
                 choose a kvGroupSize that divides {features}, or leave kvBits out"
            )));
        }
        let params = QuantizationParams { mode: Mode::Affine, group_size, bits };
        quantized::quantize(rows, params).map(Self::Quantized)
    }

    /// The number of positions.
    pub fn length(&self) -> i32 {
        match self {
            Self::Plain(array) => array.dim(POSITIONS as i32),
            Self::Quantized(tensor) => tensor.weight.dim(POSITIONS as i32),
        }
    }

    /// As many positions of zeros, of the same kind and features.
    pub(super) fn zeros_like(&self, positions: i32) -> Result<Self> {
        self.map(|array| {
            let mut shape = array.shape().to_vec();
            shape[POSITIONS] = positions;
            ops::zeros(&shape, array.dtype())
        })
    }

    /// The first `length` positions, or all if there are fewer.
    pub(super) fn take_prefix(&self, length: i32) -> Result<Self> {
        if self.length() <= length { Ok(self.clone()) } else { self.slice(0, length) }
    }

    /// The positions `start..stop`.
    pub(super) fn slice(&self, start: i32, stop: i32) -> Result<Self> {
        self.map(|array| ops::slice_axis(array, POSITIONS, start, stop))
    }

    /// The same with `new` from position `start` on.
    pub(super) fn update_slice(&self, new: &Self, start: i32) -> Result<Self> {
        self.combine(&[new], |arrays| {
            ops::slice_update_axis(arrays[0], arrays[1], POSITIONS, start)
        })
    }

    /// One behind the other.
    pub(super) fn concatenated(&self, others: &[&Self]) -> Result<Self> {
        self.combine(others, |arrays| ops::concatenate(arrays, POSITIONS as i32))
    }

    fn map(&self, function: impl Fn(&Array) -> Result<Array>) -> Result<Self> {
        self.combine(&[], |arrays| function(arrays[0]))
    }

    /// Does the same to each of the arrays held. All `others` are of this one's kind: they are in
    /// the same cache.
    fn combine(
        &self,
        others: &[&Self],
        function: impl Fn(&[&Array]) -> Result<Array>,
    ) -> Result<Self> {
        let all = || std::iter::once(self).chain(others.iter().copied());
        match self {
            Self::Plain(_) => {
                let arrays: Vec<&Array> = all().filter_map(Self::plain).collect();
                function(&arrays).map(Self::Plain)
            }
            Self::Quantized(tensor) => {
                let part = |choose: fn(&QuantizedTensor) -> Option<&Array>| {
                    let arrays: Vec<&Array> =
                        all().filter_map(Self::quantized).filter_map(choose).collect();
                    function(&arrays)
                };
                Ok(Self::Quantized(QuantizedTensor {
                    weight: part(|it| Some(&it.weight))?,
                    scales: part(|it| Some(&it.scales))?,
                    biases: Some(part(|it| it.biases.as_ref())?),
                    params: tensor.params,
                    dtype: tensor.dtype,
                }))
            }
        }
    }

    fn plain(&self) -> Option<&Array> {
        match self {
            Self::Plain(array) => Some(array),
            Self::Quantized(_) => None,
        }
    }

    fn quantized(&self) -> Option<&QuantizedTensor> {
        match self {
            Self::Quantized(tensor) => Some(tensor),
            Self::Plain(_) => None,
        }
    }
}
