//! Attention of new positions of rows to their contiguous caches on an NVIDIA card. Their keys and
//! values are written into the caches by the same kernels.

mod chunk;
mod decode;

use std::cell::RefCell;
use std::collections::HashMap;
use std::ffi::CStr;

use crate::error::{Error, Result};
use crate::fused::attention::{AttentionParams, AttentionRow, Qkv};
use crate::fused::kv::{KvBuffers, KvCache, KvPlaces};
use crate::fused::norm::NormParams;
use crate::fused::rope::{RopeFreqs, RopeParams};
use crate::mlx::fast::Mask;
use crate::mlx::gpu::{Block, Card, Kernel, Number, Source, addresses_are_known, columns, is_same};
use crate::mlx::{Array, Dtype, async_eval, from_u32, ops};

/// Rows of a launch. Each block looks for its own among all.
pub const MOST_ROWS: usize = 32;

/// Attention of the new positions of each row over its cache, into which their keys and values are
/// written first: `[batch, positions, heads · head_dim]`; `None` for what the kernels do not take.
pub fn cached_attention<C: KvCache>(
    card: Card,
    new: &Qkv,
    rows: &mut [AttentionRow<C>],
    params: &AttentionParams,
) -> Result<Option<Array>> {
    if !supports(new, rows, params) || !addresses_are_known() {
        return Ok(None);
    }
    let step = Step { card, new, rows, params };
    match step.rows.iter().all(|row| row.length == 1) {
        true => decode::attend(step).map(Some),
        false => chunk::attend(step).map(Some),
    }
}

/// New buffers for a cache that has no room for so many new positions, which it takes at once. To
/// compute those of all layers together costs the host a fraction of one after the other. Nothing
/// where the kernels do not write into the cache.
pub fn make_room<C: KvCache>(
    cache: &mut C,
    [batch, length]: [i32; 2],
    dtype: Dtype,
    params: &AttentionParams,
) -> Result<Vec<Array>> {
    let dtype = params.kv_dtype.unwrap_or(dtype);
    let room = [batch, params.kv_heads, length, params.head_dim];
    if !takes(params, dtype) || !cache.is_contiguous() || !addresses_are_known() {
        return Ok(Vec::new());
    }
    Ok(match room_in(cache, room, dtype)? {
        Room::Own(_) => Vec::new(),
        Room::Made(buffers) => buffers.into(),
    })
}

/// Room for new positions in buffers that a cache has for itself.
enum Room {
    /// It was there.
    Own(KvPlaces),
    /// The cache has taken new ones, which have a place when they are computed.
    Made(KvBuffers),
}

/// For `new` positions, `[batch, kv_heads, length, head_dim]`.
fn room_in<C: KvCache>(cache: &mut C, new: [i32; 4], dtype: Dtype) -> Result<Room> {
    if let Some(places) = cache.own_places(new, dtype)? {
        return Ok(Room::Own(places));
    }
    let buffers = with_room(cache, new, dtype)?;
    cache.put(buffers.clone(), 0);
    Ok(Room::Made(buffers))
}

/// Whether there are kernels for such attention.
fn takes(params: &AttentionParams, dtype: Dtype) -> bool {
    matches!(dtype, Dtype::Bfloat16 | Dtype::Float16)
        && matches!(params.head_dim, 64 | 128 | 256)
        && (1..=8).contains(&(params.heads / params.kv_heads))
        && params.v_norm.is_none()
        && params.kv_steps.is_none()
        && params.v_head_dim == params.head_dim
        && !params.rotate_first
}

/// Rows that are all rotated alike, and see what is before them.
fn supports<C: KvCache>(new: &Qkv, rows: &[AttentionRow<C>], params: &AttentionParams) -> bool {
    let dtype = params.kv_dtype.unwrap_or(new.keys.dtype());
    let alike = |x: &Array| x.dtype() == dtype;
    let norms =
        params.qk_norm.as_ref().map(|norms| norms.each_ref().map(NormParams::root_mean_square));
    let norms_fit = match norms {
        None => true,
        Some([Some((queries, _)), Some((keys, _))]) => {
            queries.is_some() == keys.is_some() && queries.into_iter().chain(keys).all(alike)
        }
        Some(_) => false,
    };
    let even = |rope: &RopeParams| {
        rope.dims % 2 == 0 && rope.explicit_freqs().is_none_or(|it| it.dtype() == Dtype::Float32)
    };
    let Some(first) = rows.first() else { return false };
    let one_in_batch = new.queries.dim(0) == 1;
    let fits = |row: &AttentionRow<C>| {
        let rotated = match (&row.rope, &first.rope) {
            (Some(rope), Some(first)) => even(rope) && rope.turns_like(first),
            (None, None) => true,
            _ => false,
        };
        let sees_all = match row.mask {
            Mask::None => row.length == 1,
            Mask::Causal => one_in_batch,
            Mask::Array(_) => false,
        };
        sees_all && row.cache.is_contiguous() && row.query_scale.is_none() && rotated
    };
    takes(params, dtype)
        && [new.queries, new.keys, new.values].into_iter().all(alike)
        && norms_fit
        && params.sinks.as_ref().is_none_or(alike)
        && (rows.len() == 1 || rows.len() <= MOST_ROWS && one_in_batch)
        && rows.iter().all(fits)
}

/// Numbers as an array in the card's memory, which steps and layers share: arrays of the host are
/// far away.
fn on_card(numbers: &[u32]) -> Result<Array> {
    /// As many as the layers of a model have, and steps of sequences that do not run together.
    const KEPT: usize = 512;
    thread_local! {
        static KNOWN: RefCell<HashMap<Vec<u32>, Array>> = RefCell::default();
    }
    KNOWN.with_borrow_mut(|known| {
        if let Some(array) = known.get(numbers) {
            return Ok(array.clone());
        }
        let host = from_u32(numbers, &[numbers.len() as i32]);
        let array = ops::add(&host, &from_u32(&[0], &[1]))?;
        if known.len() >= KEPT {
            known.clear();
        }
        known.insert(numbers.to_vec(), array.clone());
        Ok(array)
    })
}

/// What is attended to in one layer.
struct Step<'a, 'b, C> {
    card: Card,
    new: &'a Qkv<'a>,
    rows: &'a mut [AttentionRow<'b, C>],
    params: &'a AttentionParams,
}

/// A kernel that writes into caches.
struct Launch<'a> {
    text: &'static str,
    name: &'static CStr,
    /// Besides those of norms and rotation.
    settings: &'a [(&'static str, i32)],
    block: Block,
    blocks: usize,
    outputs: &'a [(&'a [i32], Dtype)],
    /// In front of those of the rotation.
    numbers: &'a [Number],
}

impl<C: KvCache> Step<'_, '_, C> {
    fn dtype(&self) -> Dtype {
        self.params.kv_dtype.unwrap_or(self.new.keys.dtype())
    }

    /// Query heads of a key/value head.
    fn group(&self) -> i32 {
        self.params.heads / self.params.kv_heads
    }

    /// Where the buffers of each row lie, which it has for itself, with room for what is new.
    fn places(&mut self) -> Result<Vec<KvPlaces>> {
        let (dtype, batch) = (self.dtype(), self.new.keys.dim(0));
        let AttentionParams { kv_heads, head_dim, .. } = *self.params;
        let room = |length| [batch, kv_heads, length, head_dim];
        let (mut places, mut made) = (Vec::with_capacity(self.rows.len()), Vec::new());
        for row in self.rows.iter_mut() {
            places.push(match room_in(row.cache, room(row.length), dtype)? {
                Room::Own(places) => Some(places),
                Room::Made(buffers) => {
                    made.extend(buffers);
                    None
                }
            });
        }
        if !made.is_empty() {
            async_eval(&made.iter().collect::<Vec<_>>())?;
            drop(made);
        }
        let shape = self.new.keys.shape();
        let places = self.rows.iter().zip(places).map(|(row, places)| match places {
            Some(places) => Ok(places),
            // What was just made is there now.
            None => {
                let own = row.cache.own_places(room(row.length), dtype)?;
                own.ok_or_else(|| Error::Mlx(format!("{shape:?} do not fit a cache")))
            }
        });
        places.collect()
    }

    /// That of all rows, but for its wavelengths.
    fn rope(&self) -> Option<&RopeParams> {
        self.rows[0].rope.as_ref()
    }

    fn norms(&self) -> [Option<(Option<&Array>, f32)>; 2] {
        let norms = self.params.qk_norm.as_ref();
        norms.map_or([None; 2], |norms| norms.each_ref().map(NormParams::root_mean_square))
    }

    fn settings(&self) -> [(&'static str, i32); 7] {
        let rope = self.rope();
        let norm = self.norms()[0];
        [
            ("X", i32::from(self.dtype() == Dtype::Float16)),
            ("DIM", self.params.head_dim),
            ("HEADS", self.group()),
            ("ROPE", rope.map_or(0, |rope| 1 + i32::from(rope.explicit_freqs().is_some()))),
            ("TRADITIONAL", i32::from(rope.is_some_and(|rope| rope.traditional))),
            ("ROPE_DIM", rope.map_or(0, |rope| rope.dims)),
            ("NORM", norm.map_or(0, |(weight, _)| 1 + i32::from(weight.is_some()))),
        ]
    }

    /// The wavelengths of the rows, and how many there are from one row's to the next one's.
    fn wavelengths(&self) -> Result<Option<(Array, i32)>> {
        let all = self.rows.iter().filter_map(|row| row.rope.as_ref()?.explicit_freqs());
        let all: Vec<_> = all.collect();
        let Some(&first) = all.first() else { return Ok(None) };
        match all.iter().all(|it| is_same(it, first)) {
            true => Ok(Some((first.clone(), 0))),
            false => Ok(Some((ops::concatenate(&all, 0)?, first.dim(0)))),
        }
    }

    /// Runs a kernel that writes what is new into the buffers at `places`, where `table` has four
    /// numbers for each row. MLX does not know of the buffers: an array for each of hundreds would
    /// take longer than the kernel.
    fn launch(&self, places: &Array, table: &Array, launch: &Launch) -> Result<Vec<Array>> {
        let new = [self.new.queries, self.new.keys, self.new.values].map(columns);
        let wavelengths = self.wavelengths()?;
        let stride = wavelengths.as_ref().map_or(0, |(_, stride)| *stride);
        let inputs: Vec<_> = [places]
            .into_iter()
            .chain(new.iter().map(|it| &it.array))
            .chain([table])
            .chain(wavelengths.as_ref().map(|(array, _)| array))
            .chain(self.norms().into_iter().filter_map(|norm| norm?.0))
            .collect();
        let settings = [&self.settings(), launch.settings].concat();
        let source = Source { text: launch.text, name: launch.name, settings };
        let columns = new.iter().flat_map(|it| [it.first, it.stride]);
        let numbers: Vec<_> = [self.params.kv_heads]
            .into_iter()
            .chain(columns)
            .chain([self.rows.len() as i32, stride])
            .map(Number::Whole)
            .chain(launch.numbers.iter().copied())
            .chain(self.turn())
            .collect();
        let kernel = Kernel::of(&source, launch.block)?;
        kernel.run(launch.blocks, &inputs, launch.outputs, &numbers)
    }

    /// Lets the caches take note of what is in their buffers when `by` is computed.
    fn written(&mut self, by: &Array) {
        for row in self.rows.iter_mut() {
            row.cache.written(by, row.length);
        }
    }

    /// The numbers of the rotation and of the norms.
    fn turn(&self) -> [Number; 5] {
        let rope = self.rope();
        let base = rope.map_or(1.0, |rope| match rope.freqs {
            RopeFreqs::Base(base) => base,
            RopeFreqs::Explicit(_) => 1.0,
        });
        let [query_eps, key_eps] = self.norms().map(|norm| norm.map_or(0.0, |(_, eps)| eps));
        [
            Number::Real(base.log2()),
            Number::Real(rope.map_or(1.0, |rope| rope.scale)),
            Number::Real(rope.map_or(1.0, |rope| rope.attention_factor)),
            Number::Real(query_eps),
            Number::Real(key_eps),
        ]
    }
}

/// New buffers for a cache, with what it holds and room for `new` positions,
/// `[batch, kv_heads, length, head_dim]`.
fn with_room<C: KvCache>(cache: &C, new: [i32; 4], dtype: Dtype) -> Result<KvBuffers> {
    const THREADS: usize = 256;
    // A launch is kept for each set of numbers.
    const STEP: i32 = 256;
    let [batch, kv_heads, length, head_dim] = new;
    let (positions, capacity) = (cache.offset(), cache.capacity_with(length));
    let held = cache.held()?.filter(|_| positions > 0);
    let held = held.iter().flatten().map(|it| ops::astype(it, dtype));
    let held = held.collect::<Result<Vec<_>>>()?;
    let held_capacity = held.first().map_or(0, |it| it.dim(2));
    let source = Source {
        text: include_str!("../cache_room.cu"),
        name: c"nodemlx_cache_room",
        settings: vec![("HELD", i32::from(!held.is_empty()))],
    };
    let (heads, parts) = (batch * kv_heads, head_dim / 8);
    let copied = ((positions + STEP - 1) / STEP * STEP).min(held_capacity);
    let numbers = [heads, parts, held_capacity, capacity, copied].map(Number::Whole);
    let shape = [batch, kv_heads, capacity, head_dim];
    let words = (heads * parts) as usize * capacity as usize;
    let blocks = words.div_ceil(THREADS).min(1024);
    let kernel = Kernel::of(&source, Block { threads: THREADS, shared_memory: 0 })?;
    let inputs: Vec<_> = held.iter().collect();
    let mut made = kernel.run(blocks, &inputs, &[(&shape, dtype), (&shape, dtype)], &numbers)?;
    Ok([made.swap_remove(0), made.swap_remove(0)])
}

/// The addresses of each row's keys and values.
fn addresses(places: &[KvPlaces]) -> Vec<u32> {
    let addresses = places.iter().flat_map(|it| it.addresses);
    addresses.flat_map(|it| [it.get() as u32, (it.get() >> 32) as u32]).collect()
}

#[cfg(test)]
mod tests {
    use std::num::NonZero;

    use super::*;

    #[test]
    fn addresses_are_in_two_halves() {
        let address = |it: u64| NonZero::new(it).unwrap_or(NonZero::<u64>::MIN);
        let places = [KvPlaces { addresses: [address(0x1_0000_0002), address(3)], capacity: 256 }];
        assert_eq!(addresses(&places), [2, 1, 3, 0]);
    }
}
