//! Block-sparse attention (Abdin et al. 2024, "Phi-3"): each head sees the last blocks of
//! positions, and of those before them every so-manyth.

use crate::cache::Cache;
use crate::error::Result;
use crate::fused::attention::causal_mask;
use crate::mlx::fast::Mask;
use crate::mlx::{Array, Dtype, ops};

/// The blocks that heads see.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlockPattern {
    /// Positions of a block.
    pub size: i32,
    /// The last blocks, which every head sees, the token's own included.
    pub local: i32,
    /// Of the blocks before these, one of so many is seen.
    pub stride: i32,
    /// How many blocks further to the front it lies with each head.
    pub step: i32,
    /// Query heads.
    pub heads: i32,
}

impl BlockPattern {
    /// The mask of `length` new positions, `[1, heads, length, seen]` where some blocks are not
    /// seen. To be asked before the cache is updated.
    pub(super) fn mask(self, length: i32, cache: &Cache) -> Result<Mask> {
        let plain = cache.mask(length, None)?;
        let offset = cache.offset();
        let end = offset + length;
        if end <= self.local.saturating_mul(self.size) {
            return Ok(plain);
        }
        let queries = ops::arange(offset, end, Dtype::Int32)?;
        let queries = ops::reshape(&queries, &[1, length, 1])?;
        let keys = cache.positions(length)?;
        let sees = self.sees(&queries, &ops::astype(&keys, Dtype::Int32)?)?;
        let sees = match plain {
            Mask::None => sees,
            Mask::Causal => ops::logical_and(&sees, &causal_mask(length, keys.dim(0) - length)?)?,
            Mask::Array(mask) => ops::logical_and(&sees, &mask)?,
        };
        ops::contiguous(&ops::expand_dims(&sees, 0)?).map(Mask::Array)
    }

    /// Whether the block of a key is seen from that of a query, `[heads, length, seen]`, of their
    /// positions `[1, length, 1]` and `[seen]`.
    fn sees(self, queries: &Array, keys: &Array) -> Result<Array> {
        let block = |x: &Array| ops::floor_divide(x, &Array::from_int(self.size));
        let (queries, keys) = (block(queries)?, block(keys)?);
        let reach = ops::add(&keys, &Array::from_int(self.local))?;
        let near = ops::less(&queries, &reach)?;
        // Counted from the first block and the first head on.
        let heads = ops::arange(0, self.heads, Dtype::Int32)?;
        let shift = ops::multiply(&heads, &Array::from_int(self.step))?;
        let shift = ops::add(&ops::reshape(&shift, &[self.heads, 1, 1])?, &Array::from_int(1))?;
        let place = ops::remainder(&ops::add(&keys, &shift)?, &Array::from_int(self.stride))?;
        ops::logical_or(&near, &ops::equal(&place, &Array::from_int(0))?)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::mlx::{DeviceKind, enter, to_u32_vec};

    /// What two heads see of seven positions, with blocks of two.
    fn seen(offset: i32, step: i32) -> Vec<Vec<u32>> {
        enter(DeviceKind::Cpu).unwrap();
        let pattern = BlockPattern { size: 2, local: 1, stride: 3, step, heads: 2 };
        let mut cache = Cache::standard();
        if offset > 0 {
            let earlier = ops::zeros(&[1, 1, offset, 1], Dtype::Float32).unwrap();
            cache.update(&earlier, &earlier).unwrap();
        }
        let Mask::Array(mask) = pattern.mask(7 - offset, &cache).unwrap() else { return vec![] };
        let mask = to_u32_vec(&ops::astype(&mask, Dtype::Uint32).unwrap()).unwrap();
        mask.chunks(7).map(<[_]>::to_vec).collect()
    }

    #[test]
    fn heads_see_the_last_blocks_and_one_of_so_many_before() {
        // The blocks 0 0 1 1 2 2 3; the first head sees block 2 from afar, the second block 1.
        assert_eq!(
            seen(5, 1),
            [
                [0, 0, 0, 0, 1, 1, 0],
                [0, 0, 0, 0, 1, 1, 1],
                [0, 0, 1, 1, 1, 1, 0],
                [0, 0, 1, 1, 0, 0, 1],
            ]
        );
        assert_eq!(seen(0, 1)[12..14], seen(5, 1)[2..4]);
        assert_eq!(seen(6, 0), vec![vec![0, 0, 0, 0, 1, 1, 1]; 2]);
    }

    #[test]
    fn what_is_all_near_needs_no_mask_of_its_own() {
        enter(DeviceKind::Cpu).unwrap();
        let pattern = BlockPattern { size: 2, local: 4, stride: 3, step: 1, heads: 2 };
        assert!(matches!(pattern.mask(8, &Cache::standard()).unwrap(), Mask::Causal));
        assert!(matches!(pattern.mask(9, &Cache::standard()).unwrap(), Mask::Array(_)));
    }
}
