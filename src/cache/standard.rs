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
        let (all_keys, seen_keys) = write(old_keys, keys, start, end)?;
        let (all_values, seen_values) = write(old_values, values, start, end)?;
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
        let (start, end) = (self.offset, self.offset + length);
        let grow = |buffer: Option<KvTensor>| {
            grown(buffer, start, end, |positions| {
                ops::zeros(&[batch, heads, positions, head_dim], dtype).map(KvTensor::Plain)
            })
        };
        if self.buffers.is_some() {
            // What is copied must be on its way before it is written again: MLX does not know that
            // kernels write it.
            async_eval(&self.arrays())?;
        }
        // As in `update_and_fetch`.
        let (keys, values) = self.buffers.clone().unzip();
        let (KvTensor::Plain(keys), KvTensor::Plain(values)) = (grow(keys)?, grow(values)?) else {
            return Err(Error::Mlx("quantized positions in a cache of plain ones".to_owned()));
        };
        Ok([keys, values])
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

    /// See [`KvCache::renew`](crate::fused::kv::KvCache::renew).
    pub(super) fn renew(&mut self, new: [i32; 4], dtype: Dtype) -> Result<KvBuffers> {
        self.settle()?;
        let buffers = self.grown(new, dtype)?;
        let [keys, values] = buffers.clone().map(KvTensor::Plain);
        self.buffers = Some((keys, values));
        Ok(buffers)
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

/// Writes `new` at `start..end` of a buffer, which grows if it must; gives the buffer and its part
/// up to `end`.
fn write(
    buffer: Option<KvTensor>,
    new: &KvTensor,
    start: i32,
    end: i32,
) -> Result<(KvTensor, KvTensor)> {
    let buffer = with_room(buffer, start, end, |positions| new.zeros_like(positions))?;
    let buffer = buffer.update_slice(new, start)?;
    let seen = buffer.take_prefix(end)?;
    Ok((buffer, seen))
}

/// The buffer with its first `start` positions and room up to `end`; where it must grow, with as
/// many `zeros` as it takes.
fn with_room(
    buffer: Option<KvTensor>,
    start: i32,
    end: i32,
    zeros: impl FnOnce(i32) -> Result<KvTensor>,
) -> Result<KvTensor> {
    match buffer {
        Some(buffer) if end <= buffer.length() => Ok(buffer),
        buffer => grown(buffer, start, end, zeros),
    }
}

/// A new buffer with the first `start` positions of one, and room up to `end`.
fn grown(
    buffer: Option<KvTensor>,
    start: i32,
    end: i32,
    zeros: impl FnOnce(i32) -> Result<KvTensor>,
) -> Result<KvTensor> {
    let room = zeros((end + STEP - 1) / STEP * STEP - start)?;
    match buffer {
        Some(old) if start > 0 => old.slice(0, start)?.concatenated(&[&room]),
        _ => Ok(room),
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
        let made = cache.renew([1, 2, 3, 8], Dtype::Float32).unwrap();
        drop(made);
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
        let made = cache.renew([1, 2, 100, 8], Dtype::Float32).unwrap();
        eval(&[&made[0], &made[1]]).unwrap();
        drop(made);
        assert_eq!(own(&cache, 100), Some(512));
    }
}
