//! What layers remember of the positions before. Keys and values are
//! `[batch, kv_heads, length, head_dim]`.

mod alike;
mod arrays;
mod checkpoint;
mod chunked;
pub mod file;
mod kv_tensor;
mod mask;
mod parts;
pub mod prefix_store;
mod prefix_tree;
mod remainder;
mod rotating;
mod size;
mod standard;
mod state;

pub use arrays::ArraysCache;
pub use checkpoint::Checkpoint;
pub use chunked::ChunkedCache;
pub use kv_tensor::{KvQuantization, KvTensor};
pub use parts::CachePart;
pub use prefix_tree::{PrefixTree, Removed};
pub use rotating::RotatingCache;
pub use size::CacheSize;
pub use standard::StandardCache;

use crate::error::{Error, Result};
use crate::fused::kv::{KvBuffers, KvCache, KvPlaces};
use crate::mlx::fast::Mask;
use crate::mlx::{self, Array, Dtype, ops};

/// Buffers grow in steps of this many positions, so that most tokens are written in place. CUDA's
/// fused attention for one token relies on a capacity that is a multiple of it.
const STEP: i32 = 256;

/// How many of the first positions stay in a cache that was limited: attention leans on them,
/// whatever they are (Xiao et al. 2023).
const NUM_SINK_TOKENS: i32 = 4;

/// How much memory the caches of a sequence may take.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct CacheLimits {
    /// The most positions held in each layer.
    pub max_size: Option<i32>,
    /// How keys and values are quantized; `None` for not at all.
    pub quantization: Option<KvQuantization>,
}

impl CacheLimits {
    /// The limits that caches were made with, as far as they show.
    pub fn of(caches: &[Cache]) -> Self {
        let quantization = caches.iter().flat_map(Cache::parts).find_map(|cache| match cache {
            Cache::Standard(cache) => cache.quantization,
            Cache::Rotating(cache) => cache.quantization,
            Cache::Chunked(cache) => cache.quantization,
            Cache::Arrays(_) | Cache::List(_) => None,
        });
        // Windows of a model itself keep no first positions. [`CacheLimits::within`] tells more.
        let max_size = caches.iter().flat_map(Cache::parts).find_map(|cache| match cache {
            Cache::Rotating(cache) if cache.keep > 0 => Some(cache.max_size),
            _ => None,
        });
        Self { max_size, quantization }
    }

    /// The limits that `caches` of a model were made with, which makes caches like `own`.
    pub fn within(own: &[Cache], caches: &[Cache]) -> Self {
        let of_parts = own.iter().flat_map(Cache::parts).zip(caches.iter().flat_map(Cache::parts));
        let max_size = of_parts.filter_map(|(own, cache)| match (own, cache) {
            (Cache::Rotating(own), Cache::Rotating(cache)) if cache.max_size >= own.max_size => {
                None
            }
            (_, Cache::Rotating(cache)) => Some(cache.max_size),
            _ => None,
        });
        Self { max_size: max_size.max(), ..Self::of(caches) }
    }
}

/// The cache of one layer.
#[derive(Debug, Clone)]
pub enum Cache {
    /// Every position.
    Standard(StandardCache),
    /// The last positions, and a few of the first.
    Rotating(RotatingCache),
    /// The positions of the current chunk.
    Chunked(ChunkedCache),
    /// The state of a convolution or a recurrence.
    Arrays(ArraysCache),
    /// Those of a layer that mixes positions in several ways at once, none of them a list.
    List(Vec<Cache>),
}

impl Cache {
    /// `caches` with all of their arrays computed.
    ///
    /// # Errors
    /// Those of MLX, also of what computes the arrays.
    pub fn evaluated(caches: Vec<Self>) -> Result<Vec<Self>> {
        let arrays: Vec<&Array> = caches.iter().flat_map(Self::arrays).collect();
        mlx::eval(&arrays)?;
        Ok(caches)
    }

    /// An empty cache of every position.
    pub fn standard() -> Self {
        Self::Standard(StandardCache::default())
    }

    /// An empty cache of the last `max_size` positions, of which the first `keep` never leave.
    pub fn rotating(max_size: i32, keep: i32) -> Self {
        Self::Rotating(RotatingCache::new(max_size, keep))
    }

    /// An empty cache for attention within chunks of this many positions.
    pub fn chunked(chunk: i32) -> Self {
        Self::Chunked(ChunkedCache::new(chunk))
    }

    /// An empty cache of this many arrays of state.
    pub fn arrays_of(entries: usize) -> Self {
        Self::Arrays(ArraysCache::new(entries))
    }

    /// The same of arrays `[batch, length, …]` that grow with the positions, or come with them.
    pub fn growing_arrays_of(entries: usize) -> Self {
        Self::Arrays(ArraysCache::new(entries).growing())
    }

    /// Whether it has entries that grow with the positions and are not keys and values.
    pub fn has_growing_state(&self) -> bool {
        match self {
            Self::Arrays(state) => state.grows,
            Self::List(parts) => parts.iter().any(Self::has_growing_state),
            _ => false,
        }
    }

    /// The same, still empty, within `limits`: what holds every position keeps the last ones only,
    /// what holds a larger window or chunk a smaller window. The state of a recurrence has no
    /// positions to leave out, and no keys and values to pack; that of groups leaves out groups.
    pub fn limited(self, limits: &CacheLimits) -> Self {
        match self {
            Self::Standard(cache) => match limits.max_size {
                None => {
                    Self::Standard(StandardCache { quantization: limits.quantization, ..cache })
                }
                Some(max_size) => Self::Rotating(RotatingCache {
                    quantization: limits.quantization,
                    ..RotatingCache::new(max_size, NUM_SINK_TOKENS.min(max_size / 2))
                }),
            },
            Self::Rotating(cache) => Self::Rotating(RotatingCache {
                max_size: limits.max_size.map_or(cache.max_size, |most| most.min(cache.max_size)),
                quantization: limits.quantization,
                ..cache
            }),
            // Where not even a chunk fits, the last positions are seen in its place.
            Self::Chunked(cache) => match limits.max_size {
                Some(max_size) if max_size < cache.chunk => {
                    Self::rotating(max_size, 0).limited(limits)
                }
                _ => Self::Chunked(ChunkedCache { quantization: limits.quantization, ..cache }),
            },
            Self::Arrays(cache) => Self::Arrays(cache.within(limits.max_size)),
            Self::List(parts) => {
                Self::List(parts.into_iter().map(|part| part.limited(limits)).collect())
            }
        }
    }

    /// The caches of a list, or this one.
    pub fn parts(&self) -> &[Self] {
        match self {
            Self::List(parts) => parts,
            _ => std::slice::from_ref(self),
        }
    }

    /// The caches of a list, to be written to.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for a cache that is no list, or one of more or fewer than `count`.
    pub fn list(&mut self, count: usize) -> Result<&mut [Self]> {
        match self {
            Self::List(parts) if parts.len() == count => Ok(parts),
            _ => Err(wrong_kind("several kinds at once")),
        }
    }

    /// The arrays of a layer that carries state.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for a cache of keys and values.
    pub fn state(&mut self) -> Result<&mut ArraysCache> {
        match self {
            Self::Arrays(cache) => Ok(cache),
            _ => Err(wrong_kind("recurrent state")),
        }
    }

    /// The name of its kind.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Standard(_) => "standard",
            Self::Rotating(_) => "rotating",
            Self::Chunked(_) => "chunked",
            Self::Arrays(_) => "arrays",
            Self::List(_) => "list",
        }
    }

    /// How many positions have gone in: the position of the next token.
    pub fn offset(&self) -> i32 {
        match self {
            Self::Standard(cache) => cache.offset(),
            Self::Rotating(cache) => cache.offset(),
            Self::Chunked(cache) => cache.offset(),
            Self::Arrays(cache) => cache.offset(),
            Self::List(parts) => parts.iter().map(Self::offset).max().unwrap_or(0),
        }
    }

    /// Adds keys and values; gives all those that attention is to look at.
    pub fn update(&mut self, keys: &Array, values: &Array) -> Result<(Array, Array)> {
        let (keys, values) = self.update_and_fetch(keys, values)?;
        Ok((keys.dequantized()?, values.dequantized()?))
    }

    /// Lets buffers that grow with the positions have room for so many at once, when they must
    /// grow.
    pub fn expect(&mut self, positions: i32) {
        match self {
            Self::Standard(cache) => cache.expected = positions,
            Self::List(parts) => parts.iter_mut().for_each(|part| part.expect(positions)),
            Self::Rotating(_) | Self::Chunked(_) | Self::Arrays(_) => {}
        }
    }

    /// The keys and values that the last [`Cache::update_and_fetch`] gave, for layers that attend
    /// to those of another; `None` before the first.
    pub fn last(&self) -> Result<Option<(KvTensor, KvTensor)>> {
        match self {
            Self::Standard(cache) => cache.last(),
            Self::Rotating(cache) => cache.last(),
            Self::Chunked(cache) => cache.last(),
            Self::Arrays(_) | Self::List(_) => Err(wrong_kind("keys and values")),
        }
    }

    /// The mask for `length` new tokens, to be asked before [`Cache::update`]. `window` limits the
    /// positions that each of them sees in a cache of every position; rotating and chunked caches
    /// know theirs.
    pub fn mask(&self, length: i32, window: Option<i32>) -> Result<Mask> {
        match self {
            Self::Standard(cache) => cache.mask(length, window),
            Self::Rotating(cache) => cache.mask(length),
            Self::Chunked(cache) => cache.mask(length),
            Self::Arrays(_) | Self::List(_) => Err(wrong_kind("keys and values")),
        }
    }

    /// The positions of the keys that [`Cache::update`] with `length` new ones will give, in their
    /// order: `[seen]`, `f32`.
    pub fn positions(&self, length: i32) -> Result<Array> {
        match self {
            Self::Standard(cache) => ops::arange(0, cache.offset() + length, Dtype::Float32),
            Self::Rotating(cache) => Ok(cache.positions(length)),
            Self::Chunked(_) | Self::Arrays(_) | Self::List(_) => {
                Err(wrong_kind("every position, or the last ones"))
            }
        }
    }

    /// Whether the last positions can be taken back.
    pub fn is_trimmable(&self) -> bool {
        match self {
            Self::Standard(_) | Self::Chunked(_) => true,
            Self::Rotating(cache) => cache.is_trimmable(),
            Self::Arrays(_) => false,
            Self::List(parts) => parts.iter().all(Self::is_trimmable),
        }
    }

    /// Takes back the last `count` positions, or as many as are there; returns how many. Takes back
    /// none unless [`Cache::is_trimmable`], or a window is whole without them.
    pub fn trim(&mut self, count: i32) -> i32 {
        match self {
            Self::Standard(cache) => cache.trim(count),
            Self::Rotating(cache) => cache.trim(count),
            Self::Chunked(cache) => cache.trim(count),
            Self::Arrays(_) => 0,
            // What takes back nothing must not fall behind the others.
            Self::List(_) if !self.is_trimmable() => 0,
            Self::List(parts) => parts.iter_mut().map(|part| part.trim(count)).max().unwrap_or(0),
        }
    }

    /// Takes back all but the first `length` positions. Where it cannot, `false` says that the
    /// cache is of no use any more.
    pub fn rewind(&mut self, length: i32) -> bool {
        match self {
            Self::List(parts) => parts.iter_mut().all(|part| part.rewind(length)),
            // A layer may have a cache and not use it.
            _ if self.arrays().is_empty() => true,
            Self::Arrays(_) => false,
            _ => {
                let surplus = self.offset() - length;
                surplus == 0 || self.trim(surplus) == surplus
            }
        }
    }

    /// The arrays held and what writes into them, for evaluation.
    pub fn arrays(&self) -> Vec<&Array> {
        match self {
            Self::Standard(cache) => cache.arrays(),
            Self::Rotating(cache) => cache.arrays(),
            Self::Chunked(cache) => cache.arrays(),
            Self::Arrays(cache) => cache.arrays(),
            Self::List(parts) => parts.iter().flat_map(Self::arrays).collect(),
        }
    }

    /// The bytes held.
    pub fn nbytes(&self) -> usize {
        match self {
            Self::Standard(cache) => cache.held().map(Array::nbytes).sum(),
            Self::List(parts) => parts.iter().map(Self::nbytes).sum(),
            _ => self.arrays().iter().map(|array| array.nbytes()).sum(),
        }
    }
}

impl KvCache for Cache {
    fn offset(&self) -> i32 {
        Self::offset(self)
    }

    fn update_and_fetch(&mut self, keys: &Array, values: &Array) -> Result<(KvTensor, KvTensor)> {
        match self {
            Self::Standard(cache) => cache.update_and_fetch(keys, values),
            Self::Rotating(cache) => cache.update_and_fetch(keys, values),
            Self::Chunked(cache) => cache.update_and_fetch(keys, values),
            Self::Arrays(_) | Self::List(_) => Err(wrong_kind("keys and values")),
        }
    }

    fn is_contiguous(&self) -> bool {
        matches!(self, Self::Standard(cache) if cache.is_contiguous())
    }

    fn with_room(&self, new: [i32; 4], dtype: Dtype) -> Result<KvBuffers> {
        match self {
            Self::Standard(cache) => cache.with_room(new, dtype),
            Self::Rotating(_) | Self::Chunked(_) | Self::Arrays(_) | Self::List(_) => {
                Err(wrong_kind("every position"))
            }
        }
    }

    fn put(&mut self, buffers: KvBuffers, length: i32) {
        // No other kind gave any.
        if let Self::Standard(cache) = self {
            cache.put(buffers, length);
        }
    }

    fn own_places(&self, new: [i32; 4], dtype: Dtype) -> Result<Option<KvPlaces>> {
        match self {
            Self::Standard(cache) => cache.own_places(new, dtype),
            Self::Rotating(_) | Self::Chunked(_) | Self::Arrays(_) | Self::List(_) => Ok(None),
        }
    }

    fn held(&self) -> Result<Option<KvBuffers>> {
        match self {
            Self::Standard(cache) => cache.plain_buffers(),
            Self::Rotating(_) | Self::Chunked(_) | Self::Arrays(_) | Self::List(_) => {
                Err(wrong_kind("every position"))
            }
        }
    }

    fn capacity_with(&self, new: i32) -> i32 {
        match self {
            Self::Standard(cache) => cache.capacity_with(new),
            // No other kind has room for more than it is given.
            _ => self.offset() + new,
        }
    }

    fn written(&mut self, by: &Array, length: i32) {
        if let Self::Standard(cache) = self {
            cache.written(by, length);
        }
    }
}

/// The error of a layer that was given the cache of another.
fn wrong_kind(wanted: &str) -> Error {
    Error::Unsupported(format!("this layer needs a cache of {wanted}, not of another kind"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::mlx::{self, DeviceKind};

    fn keys(length: usize) -> Array {
        mlx::from_f32(&vec![1.0; length], &[1, 1, length as i32, 1])
    }

    #[test]
    fn a_list_counts_what_its_parts_hold() {
        mlx::enter(DeviceKind::Cpu).unwrap();
        let mut cache = Cache::List(vec![Cache::arrays_of(1), Cache::standard()]);
        assert_eq!((cache.kind(), cache.offset(), cache.nbytes()), ("list", 0, 0));
        let [state, attention] = cache.list(2).unwrap() else { panic!("two parts") };
        state.state().unwrap().set(0, mlx::from_f32(&[1.0, 2.0], &[2]));
        attention.update(&keys(3), &keys(3)).unwrap();
        let parts: usize = cache.parts().iter().map(Cache::nbytes).sum();
        assert_eq!((cache.offset(), cache.arrays().len(), cache.nbytes()), (3, 3, parts));
    }

    #[test]
    fn a_list_is_trimmed_in_all_its_parts_or_in_none() {
        mlx::enter(DeviceKind::Cpu).unwrap();
        let mut both = Cache::List(vec![Cache::standard(), Cache::standard()]);
        let mut mixed = Cache::List(vec![Cache::arrays_of(1), Cache::standard()]);
        for part in both.list(2).unwrap().iter_mut().chain(&mut mixed.list(2).unwrap()[1..]) {
            part.update(&keys(5), &keys(5)).unwrap();
        }
        assert!(both.is_trimmable() && !mixed.is_trimmable());
        assert_eq!((both.trim(2), mixed.trim(2)), (2, 0));
        assert!(both.parts().iter().all(|part| part.offset() == 3));
        assert_eq!(mixed.offset(), 5);
    }

    #[test]
    fn the_limits_of_a_list_are_those_of_its_parts() {
        let limits = CacheLimits {
            max_size: Some(16),
            quantization: Some(KvQuantization { group_size: Some(64), bits: 8 }),
        };
        let cache = Cache::List(vec![Cache::arrays_of(1), Cache::standard()]).limited(&limits);
        let kinds: Vec<_> = cache.parts().iter().map(Cache::kind).collect();
        assert_eq!(kinds, ["arrays", "rotating"]);
        assert_eq!(CacheLimits::of(&[cache]), limits);
    }

    #[test]
    fn a_list_stands_for_none_of_its_parts() {
        mlx::enter(DeviceKind::Cpu).unwrap();
        let mut cache = Cache::List(vec![Cache::arrays_of(1), Cache::standard()]);
        let refused = [
            cache.update(&keys(1), &keys(1)).unwrap_err(),
            cache.mask(1, None).unwrap_err(),
            cache.last().unwrap_err(),
            cache.state().unwrap_err(),
            cache.list(3).unwrap_err(),
            Cache::standard().list(1).unwrap_err(),
        ];
        assert!(refused.iter().all(|error| error.code() == "UNSUPPORTED"));
    }
}
