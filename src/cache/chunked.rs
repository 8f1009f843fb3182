//! The cache of attention within chunks (Llama 4): a position sees those of its own chunk up to
//! itself.

use super::kv_tensor::{KvQuantization, KvTensor};
use super::{STEP, mask};
use crate::error::Result;
use crate::mlx::Array;
use crate::mlx::fast::Mask;

/// Positions beyond a whole chunk that stay in memory, so that a few can be taken back across the
/// end of a chunk.
const SLACK: i32 = STEP;

/// Keys and values of the current chunk, and for [`SLACK`] more those of the one before.
#[derive(Debug, Clone)]
pub struct ChunkedCache {
    pub(super) buffers: Option<(KvTensor, KvTensor)>,
    pub(super) offset: i32,
    pub(super) chunk: i32,
    /// The position of the buffers' first entry.
    pub(super) start: i32,
    /// The first position that the last update showed.
    pub(super) seen: i32,
    pub(super) quantization: Option<KvQuantization>,
}

impl ChunkedCache {
    pub(super) fn new(chunk: i32) -> Self {
        Self { buffers: None, offset: 0, chunk, start: 0, seen: 0, quantization: None }
    }

    /// The positions of a chunk.
    pub fn chunk(&self) -> i32 {
        self.chunk
    }

    pub(super) fn offset(&self) -> i32 {
        self.offset
    }

    /// How many positions a buffer has at most, after so many.
    pub(super) fn capacity_of(&self, positions: i32) -> i32 {
        let held = positions.min(self.chunk.saturating_add(SLACK + 1));
        held.saturating_add(STEP - 1) / STEP * STEP
    }

    pub(super) fn update_and_fetch(
        &mut self,
        keys: &Array,
        values: &Array,
    ) -> Result<(KvTensor, KvTensor)> {
        let (keys, values) =
            (KvTensor::new(keys, self.quantization)?, KvTensor::new(values, self.quantization)?);
        let length = keys.length();
        // The buffers stay until all is there: an error must not lose them.
        let (old_keys, old_values) = self.buffers.clone().unzip();
        let capacity = old_keys.as_ref().map_or(0, KvTensor::length);
        let start = if self.offset + length - self.start > capacity {
            self.start.max(self.offset - self.chunk - SLACK)
        } else {
            self.start
        };
        let all_keys = self.write(old_keys, &keys, start)?;
        let all_values = self.write(old_values, &values, start)?;
        let seen = self.offset / self.chunk * self.chunk;
        let end = self.offset + length;
        let show = |buffer: &KvTensor| buffer.slice(seen - start, end - start);
        let shown = (show(&all_keys)?, show(&all_values)?);
        (self.start, self.offset, self.seen) = (start, end, seen);
        self.buffers = Some((all_keys, all_values));
        Ok(shown)
    }

    /// Writes `new` behind what a buffer holds. If it has no room, it becomes one from position
    /// `start` on for these and the next [`STEP`] positions.
    fn write(&self, buffer: Option<KvTensor>, new: &KvTensor, start: i32) -> Result<KvTensor> {
        let held = self.offset - start;
        let end = held + new.length();
        let buffer = match buffer {
            Some(buffer) if end <= buffer.length() => buffer,
            buffer => {
                let room = new.zeros_like((end + STEP - 1) / STEP * STEP - held)?;
                match buffer {
                    Some(old) if held > 0 => {
                        let from = start - self.start;
                        old.slice(from, from + held)?.concatenated(&[&room])?
                    }
                    _ => room,
                }
            }
        };
        buffer.update_slice(new, held)
    }

    /// The part of a buffer that the last update showed.
    fn shown(&self, buffer: &KvTensor) -> Result<KvTensor> {
        buffer.slice(self.seen - self.start, self.offset - self.start)
    }

    pub(super) fn last(&self) -> Result<Option<(KvTensor, KvTensor)>> {
        let Some((keys, values)) = &self.buffers else { return Ok(None) };
        Ok(Some((self.shown(keys)?, self.shown(values)?)))
    }

    pub(super) fn mask(&self, length: i32) -> Result<Mask> {
        if length == 1 {
            Ok(Mask::None)
        } else if (self.offset + length - 1) / self.chunk == self.offset / self.chunk {
            Ok(Mask::Causal)
        } else {
            mask::chunked(length, self.offset, self.chunk).map(Mask::Array)
        }
    }

    /// Takes back no more than leaves whole what the next token is to see.
    pub(super) fn trim(&mut self, count: i32) -> i32 {
        let count = count.min(self.offset - self.shortest()).max(0);
        self.offset -= count;
        count
    }

    /// The fewest positions to which it can be taken back.
    pub(super) fn shortest(&self) -> i32 {
        self.offset.min((self.start + self.chunk - 1) / self.chunk * self.chunk)
    }

    pub(super) fn arrays(&self) -> Vec<&Array> {
        self.buffers.iter().flat_map(|(k, v)| [k, v]).flat_map(KvTensor::arrays).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::{Cache, CacheLimits};
    use crate::mlx::{DeviceKind, enter, from_f32, to_f32_vec, to_u32_vec};

    /// Feeds `count` tokens, whose keys are their positions; gives what the update shows, and the
    /// mask.
    fn feed(cache: &mut ChunkedCache, count: i32) -> (Vec<i32>, Mask) {
        let mask = cache.mask(count).unwrap();
        let positions: Vec<_> =
            (cache.offset()..cache.offset() + count).map(|p| p as f32).collect();
        let keys = from_f32(&positions, &[1, 1, count, 1]);
        let (keys, values) = cache.update_and_fetch(&keys, &keys).unwrap();
        let keys = to_f32_vec(&keys.dequantized().unwrap()).unwrap();
        assert_eq!(keys, to_f32_vec(&values.dequantized().unwrap()).unwrap());
        (keys.into_iter().map(|p| p as i32).collect(), mask)
    }

    #[test]
    fn a_token_sees_its_own_chunk_without_a_mask() {
        enter(DeviceKind::Cpu).unwrap();
        let mut cache = ChunkedCache::new(4);
        for position in 0..600 {
            let (seen, mask) = feed(&mut cache, 1);
            assert_eq!(seen, (position / 4 * 4..=position).collect::<Vec<_>>());
            assert!(matches!(mask, Mask::None));
        }
    }

    #[test]
    fn tokens_of_several_chunks_are_kept_apart_by_a_mask() {
        enter(DeviceKind::Cpu).unwrap();
        let mut cache = ChunkedCache::new(4);
        let (seen, mask) = feed(&mut cache, 3);
        assert_eq!(seen, [0, 1, 2]);
        assert!(matches!(mask, Mask::Causal));
        let (seen, mask) = feed(&mut cache, 3);
        assert_eq!(seen, [0, 1, 2, 3, 4, 5]);
        let Mask::Array(mask) = mask else { panic!("{mask:?}") };
        let rows = to_u32_vec(&mask).unwrap();
        assert_eq!(rows[..6], [1, 1, 1, 1, 0, 0], "position 3");
        assert_eq!(rows[6..12], [0, 0, 0, 0, 1, 0], "position 4");
        assert_eq!(rows[12..], [0, 0, 0, 0, 1, 1], "position 5");
        assert_eq!(feed(&mut cache, 2).0, [4, 5, 6, 7]);
    }

    #[test]
    fn memory_stays_at_a_chunk_and_a_little() {
        enter(DeviceKind::Cpu).unwrap();
        let mut cache = ChunkedCache::new(300);
        for _ in 0..400 {
            feed(&mut cache, 5);
        }
        let held = cache.arrays()[0].dim(2);
        assert!(held <= 300 + SLACK + 2 * STEP, "{held} positions");
    }

    #[test]
    fn tokens_are_taken_back_across_the_end_of_a_chunk() {
        enter(DeviceKind::Cpu).unwrap();
        let mut cache = ChunkedCache::new(8);
        feed(&mut cache, 700);
        feed(&mut cache, 1);
        assert_eq!(cache.trim(3), 3);
        assert_eq!(feed(&mut cache, 1).0, (696..=698).collect::<Vec<_>>());
        assert_eq!(cache.trim(5), 5);
        assert_eq!(feed(&mut cache, 1).0, (688..=694).collect::<Vec<_>>());
    }

    #[test]
    fn positions_whose_chunk_is_gone_cannot_come_back() {
        enter(DeviceKind::Cpu).unwrap();
        let mut cache = ChunkedCache::new(8);
        for _ in 0..1000 {
            feed(&mut cache, 1);
        }
        let taken = cache.trim(i32::MAX);
        assert!((SLACK..1000).contains(&taken), "{taken}");
        assert_eq!(cache.offset() % 8, 0);
        let next = cache.offset();
        assert_eq!(feed(&mut cache, 1).0, [next]);
        let mut cache = ChunkedCache::new(8);
        feed(&mut cache, 3);
        assert_eq!((cache.trim(7), cache.offset()), (3, 0));
    }

    #[test]
    fn a_limit_below_a_chunk_makes_it_a_window() {
        let limited = |max_size| {
            let limits = CacheLimits { max_size: Some(max_size), quantization: None };
            Cache::chunked(8).limited(&limits)
        };
        assert!(matches!(limited(8), Cache::Chunked(_)));
        assert!(matches!(limited(7), Cache::Rotating(_)));
    }

    #[test]
    fn packed_chunks_are_shown_packed() {
        enter(DeviceKind::Cpu).unwrap();
        let quantization = Some(KvQuantization { group_size: None, bits: 8 });
        let mut cache = ChunkedCache { quantization, ..ChunkedCache::new(4) };
        for _ in 0..3 {
            let rows = from_f32(&[0.5; 2 * 64], &[1, 1, 2, 64]);
            cache.update_and_fetch(&rows, &rows).unwrap();
        }
        let (keys, _) = cache.last().unwrap().unwrap();
        assert!(matches!(&keys, KvTensor::Quantized(_)));
        assert_eq!(to_f32_vec(&keys.dequantized().unwrap()).unwrap(), [0.5; 2 * 64]);
    }

    #[test]
    fn a_copy_goes_its_own_way() {
        enter(DeviceKind::Cpu).unwrap();
        let mut cache = ChunkedCache::new(4);
        feed(&mut cache, 6);
        let mut copy = cache.clone();
        feed(&mut copy, 1);
        assert_eq!(feed(&mut cache, 2).0, [4, 5, 6, 7]);
        assert_eq!(feed(&mut copy, 1).0, [4, 5, 6, 7]);
    }
}
