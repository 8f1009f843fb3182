//! Keys and values of the positions before, as attention reads and writes them.

use std::num::NonZero;

use crate::error::Result;
use crate::mlx::quantized::{self, QuantizedTensor};
use crate::mlx::{Array, Dtype};

/// A cache's keys or its values, `[batch, kv_heads, length, head_dim]`.
#[derive(Debug, Clone)]
pub enum KvTensor {
    /// Numbers.
    Plain(Array),
    /// The same, quantized along the features.
    Quantized(QuantizedTensor),
}

impl KvTensor {
    /// The numbers.
    pub fn dequantized(&self) -> Result<Array> {
        match self {
            Self::Plain(array) => Ok(array.clone()),
            Self::Quantized(tensor) => quantized::dequantize(tensor),
        }
    }

    /// The arrays held: one, or the codes, the scales and the biases.
    pub fn arrays(&self) -> Vec<&Array> {
        match self {
            Self::Plain(array) => vec![array],
            Self::Quantized(tensor) => tensor.arrays().collect(),
        }
    }
}

/// Buffers of keys and of values, `[batch, kv_heads, capacity, head_dim]`.
pub type KvBuffers = [Array; 2];

/// Where the buffers of a cache lie in the memory of a GPU.
#[derive(Debug, Clone, Copy)]
pub struct KvPlaces {
    /// The addresses of keys and of values.
    pub addresses: [NonZero<u64>; 2],
    /// For how many positions they have room.
    pub capacity: i32,
}

/// What attention asks of a layer's cache.
pub trait KvCache {
    /// The position of the next token.
    fn offset(&self) -> i32;

    /// Adds keys and values; gives all those that attention sees.
    fn update_and_fetch(&mut self, keys: &Array, values: &Array) -> Result<(KvTensor, KvTensor)>;

    /// Whether positions lie one behind the other in buffers of numbers, so that a kernel can write
    /// into them.
    fn is_contiguous(&self) -> bool;

    /// The buffers of a cache that [is contiguous](KvCache::is_contiguous), with room for `new`
    /// positions, `[batch, kv_heads, length, head_dim]`; new buffers are of type `dtype`. The
    /// cache stays as it is until it gets them back.
    fn with_room(&self, new: [i32; 4], dtype: Dtype) -> Result<KvBuffers>;

    /// Takes buffers that [`KvCache::with_room`] gave, or others with what it
    /// [has held](KvCache::held), which hold `length` new positions by now.
    fn put(&mut self, buffers: KvBuffers, length: i32);

    /// Where its buffers are for a kernel of a GPU, if they hold numbers of this type, have room for
    /// `new` positions, and nobody else has them.
    fn own_places(&self, new: [i32; 4], dtype: Dtype) -> Result<Option<KvPlaces>>;

    /// The buffers of a cache that [is contiguous](KvCache::is_contiguous), if it has any. What
    /// writes into them has been handed to the device, and so have they.
    fn held(&self) -> Result<Option<KvBuffers>>;

    /// For how many positions new buffers are to have room that have it for `new` ones.
    fn capacity_with(&self, new: i32) -> i32;

    /// Takes note of `length` new positions in its own buffers, which are written when `by` is
    /// computed.
    fn written(&mut self, by: &Array, length: i32);
}
