//! The cache of every position.

use super::kv_tensor::{KvQuantization, KvTensor};
use super::{STEP, mask};
use crate::error::{Error, Result};
use crate::fused::kv::{KvBuffers, KvPlaces};
use crate::mlx::fast::Mask;
use crate::mlx::gpu::{is_scheduled, own_address};
use crate::mlx::{Array, Dtype, async_eval, ops};

/// Keys and values of every position, in buffers that grow by [`STEP`] positions.
#[derive(Debug, Clone, Default)]
pub struct StandardCache {
    pub(super) buffers: Option<(KvTensor, KvTensor)>,
    pub(super) offset: i32,
    pub(super) quantization: Option<KvQuantization>,
    /// How many positions there will be, as far as is known: buffers that must grow have room for
    /// them at once.
    pub(super) expected: i32,
    /// When this is computed, all positions are in the buffers.
    pub(super) writer: Option<Array>,
}

impl StandardCache {
    pub(super) fn offset(&self) -> i32 {
        self.offset
    }

    pub(super) fn update_and_fetch(
        &mut self,
        keys: &Array,
        values: &Array,
    ) -> Result<(KvTensor, KvTensor)> {
        let keys = KvTensor::new(keys, self.quantization)?;
        let values = KvTensor::new(values, self.quantization)?;
        self.append(&keys, &values)
    }

    /// The same of what is quantized already, where that is asked for.
    pub(super) fn append(
        &mut self,
        keys: &KvTensor,
        values: &KvTensor,
    ) -> Result<(KvTensor, KvTensor)> {
        self.settle()?;
        let start = self.offset;
        let end = start + keys.length();
        // The buffers stay until all is there: an error must not lose them.
        let (old_keys, old_values) = self.buffers.clone().unzip();
        let (all_keys, seen_keys) = self.write(old_keys, keys, start, end)?;
        let (all_values, seen_values) = self.write(old_values, values, start, end)?;
        self.buffers = Some((all_keys, all_values));
        self.offset = end;
        Ok((seen_keys, seen_values))
    }

    /// Whether positions lie in buffers of numbers.
    pub(super) fn is_contiguous(&self) -> bool {
        self.quantization.is_none()
    }

    /// The buffers of numbers with room for `new` positions, `[batch, heads, length, head_dim]`.
    pub(super) fn with_room(&self, new: [i32; 4], dtype: Dtype) -> Result<KvBuffers> {
        self.settle()?;
        let end = self.offset + new[2];
        match &self.buffers {
            Some((KvTensor::Plain(keys), KvTensor::Plain(values))) if end <= keys.dim(2) => {
                Ok([keys.clone(), values.clone()])
            }
            _ => self.grown(new, dtype),
        }
    }

    /// New buffers with the positions so far, and room for `new` ones.
    fn grown(&self, new: [i32; 4], dtype: Dtype) -> Result<KvBuffers> {
        let [batch, heads, length, head_dim] = new;
        let room = [batch, heads, self.capacity_with(length) - self.offset, head_dim];
        let grow = |held: Option<Array>| {
            let room = KvTensor::Plain(ops::zeros(&room, dtype)?);
            self.with_room_behind(held.map(KvTensor::Plain), room)?.dequantized()
        };
        // As in `update_and_fetch`.
        let (keys, values) = self.plain_buffers()?.map(|[keys, values]| (keys, values)).unzip();
        Ok([grow(keys)?, grow(values)?])
    }

    /// See [`KvCache::own_places`](crate::fused::kv::KvCache::own_places).
    pub(super) fn own_places(&self, new: [i32; 4], dtype: Dtype) -> Result<Option<KvPlaces>> {
        self.settle()?;
        let Some((KvTensor::Plain(keys), KvTensor::Plain(values))) = &self.buffers else {
            return Ok(None);
        };
        let [batch, heads, length, head_dim] = new;
        let capacity = keys.dim(2);
        let room = [batch, heads, capacity, head_dim];
        let fits = |buffer: &Array| buffer.shape() == room && buffer.dtype() == dtype;
        if self.offset + length > capacity || !fits(keys) || !fits(values) {
            return Ok(None);
        }
        let addresses = own_address(keys).zip(own_address(values));
        Ok(addresses.map(|(keys, values)| KvPlaces { addresses: [keys, values], capacity }))
    }

    /// See [`KvCache::held`](crate::fused::kv::KvCache::held).
    pub(super) fn plain_buffers(&self) -> Result<Option<KvBuffers>> {
        if self.buffers.is_some() {
            // MLX does not know that kernels write them: they must be on their way before they are
            // written again.
            async_eval(&self.arrays())?;
        }
        match &self.buffers {
            Some((KvTensor::Plain(keys), KvTensor::Plain(values))) => {
                Ok(Some([keys.clone(), values.clone()]))
            }
            Some(_) => Err(Error::Mlx("quantized positions in a cache of plain ones".to_owned())),
            None => Ok(None),
        }
    }

    /// See [`KvCache::capacity_with`](crate::fused::kv::KvCache::capacity_with).
    pub(super) fn capacity_with(&self, new: i32) -> i32 {
        ((self.offset + new).max(self.expected) + STEP - 1) / STEP * STEP
    }

    /// Writes `new` at `start..end` of a buffer, which grows if it must; gives the buffer and its
    /// part up to `end`.
    fn write(
        &self,
        buffer: Option<KvTensor>,
        new: &KvTensor,
        start: i32,
        end: i32,
    ) -> Result<(KvTensor, KvTensor)> {
        let buffer = match buffer {
            Some(buffer) if end <= buffer.length() => buffer,
            held => {
                let room = new.zeros_like(self.capacity_with(end - start) - start)?;
                self.with_room_behind(held, room)?
            }
        };
        let buffer = buffer.update_slice(new, start)?;
        let seen = buffer.take_prefix(end)?;
        Ok((buffer, seen))
    }

    /// The positions that a buffer holds, if there is one, and room behind them.
    fn with_room_behind(&self, held: Option<KvTensor>, room: KvTensor) -> Result<KvTensor> {
        match held {
            Some(held) if self.offset > 0 => held.slice(0, self.offset)?.concatenated(&[&room]),
            _ => Ok(room),
        }
    }

    /// Takes buffers in which `length` positions are new.
    pub(super) fn put(&mut self, [keys, values]: KvBuffers, length: i32) {
        self.buffers = Some((KvTensor::Plain(keys), KvTensor::Plain(values)));
        self.offset += length;
    }

    /// Takes note of `length` new positions that are in the buffers when `by` is computed.
    pub(super) fn written(&mut self, by: &Array, length: i32) {
        self.writer = Some(by.clone());
        self.offset += length;
    }

    /// Hands what writes into the buffers to the device, so that it comes before what reads them.
    pub(super) fn settle(&self) -> Result<()> {
        match &self.writer {
            Some(writer) if !is_scheduled(writer) => async_eval(&[writer]),
            _ => Ok(()),
        }
    }

    pub(super) fn last(&self) -> Result<Option<(KvTensor, KvTensor)>> {
        self.settle()?;
        let Some((keys, values)) = &self.buffers else { return Ok(None) };
        Ok(Some((keys.take_prefix(self.offset)?, values.take_prefix(self.offset)?)))
    }

    pub(super) fn mask(&self, length: i32, window: Option<i32>) -> Result<Mask> {
        match window {
            Some(window) if self.offset + length > window => {
                mask::causal(length, self.offset, Some(window), 0).map(Mask::Array)
            }
            _ if length == 1 => Ok(Mask::None),
            _ => Ok(Mask::Causal),
        }
    }

    pub(super) fn trim(&mut self, count: i32) -> i32 {
        let count = count.clamp(0, self.offset);
        self.offset -= count;
        count
    }

    /// The buffers.
    pub(super) fn held(&self) -> impl Iterator<Item = &Array> {
        self.buffers.iter().flat_map(|(k, v)| [k, v]).flat_map(KvTensor::arrays)
    }

    pub(super) fn arrays(&self) -> Vec<&Array> {
        self.held().chain(&self.writer).collect()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::mlx::{DeviceKind, enter, eval};

    #[test]
    fn what_writes_into_buffers_comes_before_what_reads_them() {
        enter(DeviceKind::Cpu).unwrap();
        let new = || ops::zeros(&[1, 2, 3, 8], Dtype::Float32).unwrap();
        let mut cache = StandardCache::default();
        cache.update_and_fetch(&new(), &new()).unwrap();
        eval(&cache.arrays()).unwrap();
        let bytes: usize = cache.held().map(Array::nbytes).sum();
        let reads: [fn(&mut StandardCache); 3] = [
            |cache| drop(cache.last().unwrap()),
            |cache| drop(cache.with_room([1, 2, 1, 8], Dtype::Float32).unwrap()),
            |cache| {
                let one = ops::zeros(&[1, 2, 1, 8], Dtype::Float32).unwrap();
                cache.update_and_fetch(&one, &one).unwrap();
            },
        ];
        for read in reads {
            let writer = ops::add(&new(), &new()).unwrap();
            cache.written(&writer, 1);
            assert!(!is_scheduled(&writer));
            assert_eq!(cache.arrays().len(), 3, "evaluated with the buffers");
            assert_eq!(cache.held().map(Array::nbytes).sum::<usize>(), bytes);
            read(&mut cache);
            assert!(is_scheduled(&writer));
        }
        assert_eq!(cache.offset(), 7);
    }

    #[test]
    fn buffers_are_written_where_they_lie_if_nobody_else_has_them() {
        enter(DeviceKind::Cpu).unwrap();
        let mut cache = StandardCache::default();
        let own = |cache: &StandardCache, length| {
            let places = cache.own_places([1, 2, length, 8], Dtype::Float32).unwrap();
            places.map(|it| it.capacity)
        };
        assert_eq!(own(&cache, 1), None, "there are none");
        let grow = |cache: &mut StandardCache, length| {
            let grown = cache.grown([1, 2, length, 8], Dtype::Float32).unwrap();
            cache.put(grown, 0);
        };
        grow(&mut cache, 3);
        assert_eq!(own(&cache, 1), None, "nothing is there yet");
        eval(&cache.arrays()).unwrap();
        assert_eq!(own(&cache, 256), Some(256));
        assert_eq!(own(&cache, 257), None, "no room");
        let of_other_type = cache.own_places([1, 2, 1, 8], Dtype::Float16).unwrap();
        assert!(of_other_type.is_none());
        let other = cache.clone();
        assert_eq!(own(&cache, 1), None, "someone else has them");
        drop(other);
        assert_eq!(own(&cache, 1), Some(256));
        cache.offset = 200;
        grow(&mut cache, 100);
        eval(&cache.arrays()).unwrap();
        assert_eq!(own(&cache, 100), Some(512));
    }

    #[test]
    fn buffers_grow_once_to_what_is_expected() {
        enter(DeviceKind::Cpu).unwrap();
        let new = || ops::zeros(&[1, 2, 3, 8], Dtype::Float32).unwrap();
        let mut cache = StandardCache { expected: 600, ..StandardCache::default() };
        for _ in 0..2 {
            cache.update_and_fetch(&new(), &new()).unwrap();
            assert_eq!(cache.with_room([1, 2, 1, 8], Dtype::Float32).unwrap()[0].dim(2), 768);
        }
        cache.offset = 768;
        assert_eq!(cache.capacity_with(1), 1024, "more than was expected");
    }
}
