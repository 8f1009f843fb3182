//! The cache of every position.

use super::rows::{Packing, Rows};
use super::{STEP, mask};
use crate::error::{Error, Result};
use crate::mlx::fast::Mask;
use crate::mlx::{Array, Dtype, ops};

/// Keys and values of every position, in buffers that grow by [`STEP`] positions.
#[derive(Debug, Clone, Default)]
pub struct StandardCache {
    pub(super) buffers: Option<(Rows, Rows)>,
    pub(super) offset: i32,
    pub(super) packing: Option<Packing>,
}

impl StandardCache {
    pub(super) fn offset(&self) -> i32 {
        self.offset
    }

    pub(super) fn extend(&mut self, keys: &Array, values: &Array) -> Result<(Rows, Rows)> {
        let start = self.offset;
        let end = start + keys.dim(2);
        let (old_keys, old_values) = self.buffers.take().unzip();
        let new_keys = Rows::new(keys, self.packing)?;
        let new_values = Rows::new(values, self.packing)?;
        let (all_keys, seen_keys) = write(old_keys, &new_keys, start, end)?;
        let (all_values, seen_values) = write(old_values, &new_values, start, end)?;
        self.buffers = Some((all_keys, all_values));
        self.offset = end;
        Ok((seen_keys, seen_values))
    }

    pub(super) fn extend_with<T>(
        &mut self,
        new: [i32; 4],
        dtype: Dtype,
        write: impl FnOnce([Array; 2]) -> Result<(T, [Array; 2])>,
    ) -> Result<Option<T>> {
        if self.packing.is_some() {
            return Ok(None);
        }
        let [batch, heads, length, head_dim] = new;
        let (start, end) = (self.offset, self.offset + length);
        let room = |buffer: Option<Rows>| {
            with_room(buffer, start, end, |positions| {
                ops::zeros(&[batch, heads, positions, head_dim], dtype).map(Rows::Plain)
            })
        };
        let (keys, values) = self.buffers.take().unzip();
        let (Rows::Plain(keys), Rows::Plain(values)) = (room(keys)?, room(values)?) else {
            return Err(Error::Mlx("packed positions in a cache of plain ones".to_owned()));
        };
        let (output, [keys, values]) = write([keys, values])?;
        self.buffers = Some((Rows::Plain(keys), Rows::Plain(values)));
        self.offset = end;
        Ok(Some(output))
    }

    pub(super) fn last(&self) -> Result<Option<(Rows, Rows)>> {
        let Some((keys, values)) = &self.buffers else { return Ok(None) };
        Ok(Some((keys.first(self.offset)?, values.first(self.offset)?)))
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
        self.buffers.iter().flat_map(|(k, v)| [k, v]).flat_map(Rows::arrays).collect()
    }
}

/// Writes `new` at `start..end` of a buffer, which grows if it must; gives the buffer and its part up
/// to `end`.
fn write(buffer: Option<Rows>, new: &Rows, start: i32, end: i32) -> Result<(Rows, Rows)> {
    let buffer = with_room(buffer, start, end, |positions| new.zeros_like(positions))?;
    let buffer = buffer.written(new, start)?;
    let seen = buffer.first(end)?;
    Ok((buffer, seen))
}

/// The buffer with its first `start` positions and room up to `end`; where it must grow, with as many `zeros` as it takes.
fn with_room(
    buffer: Option<Rows>,
    start: i32,
    end: i32,
    zeros: impl FnOnce(i32) -> Result<Rows>,
) -> Result<Rows> {
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
