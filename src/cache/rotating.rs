//! The cache of a window of positions.
//!
//! A chunk of tokens is appended to the window in temporal order, so that each of its tokens still
//! sees a whole window; a single token overwrites the oldest entry of a ring that skips the first
//! `keep` positions (attention sinks, Xiao et al. 2023).

use super::kv_tensor::{KvQuantization, KvTensor};
use super::{STEP, mask};
use crate::error::Result;
use crate::mlx::fast::Mask;
use crate::mlx::{Array, from_f32};

/// Keys and values of the last `max_size` positions and of the first `keep`.
#[derive(Debug, Clone)]
pub struct RotatingCache {
    pub(super) buffers: Option<(KvTensor, KvTensor)>,
    pub(super) offset: i32,
    pub(super) max_size: i32,
    pub(super) keep: i32,
    /// Where in the buffer the next single token goes.
    pub(super) index: i32,
    pub(super) quantization: Option<KvQuantization>,
}

impl RotatingCache {
    pub(super) fn new(max_size: i32, keep: i32) -> Self {
        Self { buffers: None, offset: 0, max_size, keep, index: 0, quantization: None }
    }

    /// The most positions that it shows a single token.
    pub fn window(&self) -> i32 {
        self.max_size
    }

    pub(super) fn offset(&self) -> i32 {
        self.offset
    }

    pub(super) fn update_and_fetch(
        &mut self,
        keys: &Array,
        values: &Array,
    ) -> Result<(KvTensor, KvTensor)> {
        let (keys, values) =
            (KvTensor::new(keys, self.quantization)?, KvTensor::new(values, self.quantization)?);
        if keys.length() == 1 {
            self.overwrite(&keys, &values)
        } else {
            self.append(&keys, &values)
        }
    }

    fn append(&mut self, keys: &KvTensor, values: &KvTensor) -> Result<(KvTensor, KvTensor)> {
        let buffers = match &self.buffers {
            None => (keys.clone(), values.clone()),
            Some((old_keys, old_values)) => {
                let (old_keys, old_values) = (self.ordered(old_keys)?, self.ordered(old_values)?);
                // The oldest of the new tokens needs max_size − 1 positions before it.
                let surplus = old_keys.length() - self.max_size + 1;
                (
                    self.without_oldest(surplus, &old_keys, Some(keys))?,
                    self.without_oldest(surplus, &old_values, Some(values))?,
                )
            }
        };
        self.offset += keys.length();
        self.index = buffers.0.length();
        self.buffers = Some(buffers.clone());
        Ok(buffers)
    }

    fn overwrite(&mut self, keys: &KvTensor, values: &KvTensor) -> Result<(KvTensor, KvTensor)> {
        // Nothing of this cache changes until all is there: an error must not lose it.
        let (mut buffers, mut index) = (self.buffers.clone(), self.index);
        let capacity = buffers.as_ref().map_or(0, |(keys, _)| keys.length());
        if buffers.is_none() || (self.offset >= capacity && capacity < self.max_size) {
            let room = STEP.min(self.max_size - self.offset);
            let grow = |old: Option<KvTensor>, like: &KvTensor| {
                let new = like.zeros_like(room)?;
                match old {
                    Some(old) => old.concatenated(&[&new]),
                    None => Ok(new),
                }
            };
            let (old_keys, old_values) = buffers.unzip();
            buffers = Some((grow(old_keys, keys)?, grow(old_values, values)?));
            index = self.offset;
        }
        let (mut all_keys, mut all_values) = match buffers {
            Some(buffers) => buffers,
            None => (keys.clone(), values.clone()),
        };
        let surplus = all_keys.length() - self.max_size;
        if surplus > 0 {
            all_keys = self.without_oldest(surplus, &all_keys, None)?;
            all_values = self.without_oldest(surplus, &all_values, None)?;
            index = self.max_size;
        }
        if index == self.max_size {
            index = self.keep;
        }
        all_keys = all_keys.update_slice(keys, index)?;
        all_values = all_values.update_slice(values, index)?;
        let offset = self.offset + 1;
        let seen = (all_keys.take_prefix(offset)?, all_values.take_prefix(offset)?);
        (self.offset, self.index) = (offset, index + 1);
        self.buffers = Some((all_keys, all_values));
        Ok(seen)
    }

    pub(super) fn last(&self) -> Result<Option<(KvTensor, KvTensor)>> {
        let Some((keys, values)) = &self.buffers else { return Ok(None) };
        Ok(Some((keys.take_prefix(self.offset)?, values.take_prefix(self.offset)?)))
    }

    /// The used part of a buffer, oldest position first.
    fn ordered(&self, buffer: &KvTensor) -> Result<KvTensor> {
        let capacity = buffer.length();
        if self.index == capacity {
            Ok(buffer.clone())
        } else if self.index < self.offset {
            buffer.slice(0, self.keep)?.concatenated(&[
                &buffer.slice(self.index, capacity)?,
                &buffer.slice(self.keep, self.index)?,
            ])
        } else {
            buffer.slice(0, self.index)
        }
    }

    /// An ordered buffer without its `surplus` oldest positions after the kept ones, and with `new`
    /// behind it.
    pub(super) fn without_oldest(
        &self,
        surplus: i32,
        buffer: &KvTensor,
        new: Option<&KvTensor>,
    ) -> Result<KvTensor> {
        if surplus <= 0 {
            return match new {
                Some(new) => buffer.concatenated(&[new]),
                None => Ok(buffer.clone()),
            };
        }
        let rest = buffer.slice(surplus + self.keep, buffer.length())?;
        let parts: Vec<&KvTensor> = std::iter::once(&rest).chain(new).collect();
        buffer.slice(0, self.keep)?.concatenated(&parts)
    }

    pub(super) fn mask(&self, length: i32) -> Result<Mask> {
        let offset = self.offset.min(self.max_size - 1);
        if length == 1 {
            Ok(Mask::None)
        } else if offset + length > self.max_size {
            // The ring holds the kept positions and as many of the last as fit beside them.
            mask::causal(length, offset, Some(self.max_size - self.keep), self.keep)
                .map(Mask::Array)
        } else {
            Ok(Mask::Causal)
        }
    }

    /// The positions of the keys that an update with `length` new ones gives, in their order.
    pub(super) fn positions(&self, length: i32) -> Array {
        let used = self.buffers.as_ref().map_or(0, |(keys, _)| keys.length().min(self.offset));
        let keep = self.keep.min(used);
        let mut seen: Vec<i32> =
            (0..keep).chain(self.offset - (used - keep)..self.offset).collect();
        let mut without_oldest = |surplus: i32| {
            seen.drain(keep as usize..(keep + surplus).max(keep) as usize);
        };
        if length > 1 {
            without_oldest(used - self.max_size + 1);
            seen.extend(self.offset..self.offset + length);
        } else {
            let mut index = self.index;
            if used > self.max_size {
                without_oldest(used - self.max_size);
                index = self.max_size;
            } else {
                // The oldest is where the next one goes.
                seen[keep as usize..].rotate_right((index.min(used) - keep) as usize);
            }
            if index == self.max_size {
                index = self.keep;
            }
            match seen.get_mut(index as usize) {
                Some(oldest) => *oldest = self.offset,
                None => seen.push(self.offset),
            }
        }
        let seen: Vec<f32> = seen.into_iter().map(|position| position as f32).collect();
        from_f32(&seen, &[seen.len() as i32])
    }

    pub(super) fn is_trimmable(&self) -> bool {
        self.offset < self.max_size
    }

    pub(super) fn trim(&mut self, count: i32) -> i32 {
        let count = count.clamp(0, self.offset);
        if !self.is_trimmable() && self.cut_end(count).is_none() {
            return 0;
        }
        self.offset -= count;
        self.index -= count;
        count
    }

    /// Cuts the last `count` positions off the buffers, where these are in temporal order, as a
    /// chunk leaves them, and a whole window is left, or all positions are.
    fn cut_end(&mut self, count: i32) -> Option<()> {
        let (keys, values) = self.buffers.as_ref()?;
        let left = keys.length() - count;
        let is_whole = left >= self.max_size || left == self.offset - count;
        if self.index != keys.length() || !is_whole {
            return None;
        }
        self.buffers = Some((keys.slice(0, left).ok()?, values.slice(0, left).ok()?));
        Some(())
    }

    pub(super) fn arrays(&self) -> Vec<&Array> {
        self.buffers.iter().flat_map(|(k, v)| [k, v]).flat_map(KvTensor::arrays).collect()
    }
}
