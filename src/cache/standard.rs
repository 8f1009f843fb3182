//! The cache of every position.

use super::kv_tensor::{KvQuantization, KvTensor};
use super::{STEP, mask};
use crate::error::{Error, Result};
use crate::fused::kv::KvBuffers;
use crate::mlx::fast::Mask;
use crate::mlx::{Array, Dtype, async_eval, ops};

/// Keys and values of every position, in buffers that grow by [`STEP`] positions.
#[derive(Debug, Clone, Default)]
pub struct StandardCache {
    pub(super) buffers: Option<(KvTensor, KvTensor)>,
    pub(super) offset: i32,
    pub(super) quantization: Option<KvQuantization>,
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
        let start = self.offset;
        let end = start + keys.dim(2);
        let new_keys = KvTensor::new(keys, self.quantization)?;
        let new_values = KvTensor::new(values, self.quantization)?;
        // The buffers stay until all is there: an error must not lose them.
        let (old_keys, old_values) = self.buffers.clone().unzip();
        let (all_keys, seen_keys) = write(old_keys, &new_keys, start, end)?;
        let (all_values, seen_values) = write(old_values, &new_values, start, end)?;
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
        let [batch, heads, length, head_dim] = new;
        let (start, end) = (self.offset, self.offset + length);
        let room = |buffer: Option<KvTensor>| {
            with_room(buffer, start, end, |positions| {
                ops::zeros(&[batch, heads, positions, head_dim], dtype).map(KvTensor::Plain)
            })
        };
        if self.buffers.as_ref().is_some_and(|(keys, _)| keys.length() < end) {
            // What is copied must be evaluated before: see `gpu::Kernel::run_updating`.
            async_eval(&self.arrays())?;
        }
        // As in `update_and_fetch`.
        let (keys, values) = self.buffers.clone().unzip();
        let (KvTensor::Plain(keys), KvTensor::Plain(values)) = (room(keys)?, room(values)?) else {
            return Err(Error::Mlx("quantized positions in a cache of plain ones".to_owned()));
        };
        Ok([keys, values])
    }

    /// Takes buffers in which `length` positions are new.
    pub(super) fn put(&mut self, [keys, values]: KvBuffers, length: i32) {
        self.buffers = Some((KvTensor::Plain(keys), KvTensor::Plain(values)));
        self.offset += length;
    }

    pub(super) fn last(&self) -> Result<Option<(KvTensor, KvTensor)>> {
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

    pub(super) fn arrays(&self) -> Vec<&Array> {
        self.buffers.iter().flat_map(|(k, v)| [k, v]).flat_map(KvTensor::arrays).collect()
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
        buffer => {
            let grown = (end + STEP - 1) / STEP * STEP;
            let room = zeros(grown - start)?;
            match buffer {
                Some(old) if start > 0 => old.slice(0, start)?.concatenated(&[&room]),
                _ => Ok(room),
            }
        }
    }
}
