//! Whether caches from outside are such as a model makes itself.

use super::Cache;
use super::kv_tensor::POSITIONS;
use crate::mlx::{Array, is_float};

impl Cache {
    /// Whether `caches`, which may come from a file, can take the place of those that a model has
    /// `made` for one token: of the same kinds, types and shapes but for the number of positions,
    /// and after the same number of positions in every layer.
    pub fn all_alike(made: &[Self], caches: &[Self]) -> bool {
        let parts = |caches: &[Self]| caches.iter().map(|it| it.parts().len()).collect::<Vec<_>>();
        let pairs = || {
            let made = made.iter().flat_map(Self::parts);
            made.zip(caches.iter().flat_map(Self::parts))
        };
        let positions = caches.iter().map(Self::offset).max().unwrap_or(0);
        let same_list = |made: &Self, cache: &Self| {
            std::mem::discriminant(made) == std::mem::discriminant(cache)
        };
        made.len() == caches.len()
            && parts(made) == parts(caches)
            && made.iter().zip(caches).all(|(made, cache)| same_list(made, cache))
            && pairs().all(|(made, cache)| made.is_like(cache, positions))
    }

    fn is_like(&self, cache: &Self, positions: i32) -> bool {
        if let (Self::Arrays(made), Self::Arrays(cache)) = (self, cache)
            && made.grows
        {
            let mut pairs = made.entries().iter().zip(cache.entries());
            return cache.offset() == positions
                && made.entries().len() == cache.entries().len()
                && pairs.all(|pair| match pair {
                    (Some(made), Some(array)) => is_like(made, array, Some(1)),
                    _ => true,
                });
        }
        let same_place = match (self, cache) {
            (Self::Standard(_), Self::Standard(_)) => true,
            (Self::Rotating(made), Self::Rotating(cache)) => cache.max_size <= made.max_size,
            (Self::Chunked(made), Self::Chunked(cache)) => cache.chunk == made.chunk,
            (Self::Arrays(made), Self::Arrays(cache)) => {
                let there = |entries: &[Option<Array>]| {
                    entries.iter().map(Option::is_some).collect::<Vec<_>>()
                };
                cache.arrays().is_empty() || there(made.entries()) == there(cache.entries())
            }
            _ => false,
        };
        if !same_place {
            return false;
        }
        let (made_arrays, arrays) = (self.arrays(), cache.arrays());
        if arrays.is_empty() {
            // A layer that nothing went into, as in the model or at the beginning.
            return cache.offset() == 0 && (positions == 0 || made_arrays.is_empty())
                || matches!(cache, Self::Arrays(_)) && made_arrays.is_empty();
        }
        // The axis of positions grows; a recurrence has the same shapes always.
        let grows = (!matches!(cache, Self::Arrays(_))).then_some(POSITIONS);
        cache.offset() == positions
            && arrays.len() == made_arrays.len()
            && made_arrays.iter().zip(arrays).all(|(made, array)| is_like(made, array, grows))
    }
}

/// Whether types fit, and all lengths but that of the axis that grows.
fn is_like(made: &Array, array: &Array, grows: Option<usize>) -> bool {
    let lengths = |array: &Array| -> Vec<i32> {
        let axes = array.shape().iter().enumerate();
        axes.filter(|(axis, _)| Some(*axis) != grows).map(|(_, &dim)| dim).collect()
    };
    // Another precision is another writer's choice, which the cache keeps.
    let same_type = made.dtype() == array.dtype()
        || is_float(made.dtype()) && is_float(array.dtype()) && array.item_size() <= 4;
    same_type && lengths(made) == lengths(array)
}
