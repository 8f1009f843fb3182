//! Attention of one new position of each row to its cache on an NVIDIA card.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::fused::attention::{AttentionParams, AttentionRow, Qkv};
use crate::fused::kv::KvCache;
use crate::fused::norm::NormParams;
use crate::fused::rope::{RopeFreqs, RopeParams};
use crate::mlx::fast::Mask;
use crate::mlx::gpu::{Block, Card, Kernel, Number, Source, is_own};
use crate::mlx::{Array, Dtype, from_u32, ops};

const THREADS: usize = 256;
/// Rows of a launch. Each has arguments of its own.
pub const MOST_ROWS: usize = 32;
/// Rows that there are kernels for, where each row may come twice.
const KERNEL_ROWS: [usize; 10] = [1, 2, 3, 4, 6, 8, 12, 16, 24, MOST_ROWS];
/// Positions that a block looks at, at least.
const SHARE: usize = 64;

/// Whether [`cached_attention`] can take these: rows of one position each, all rotated alike.
pub fn supports<C: KvCache>(new: &Qkv, rows: &[AttentionRow<C>], params: &AttentionParams) -> bool {
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
    let fits = |row: &AttentionRow<C>| {
        let rotated = match (&row.rope, &first.rope) {
            (Some(rope), Some(first)) => even(rope) && rope.turns_like(first),
            (None, None) => true,
            _ => false,
        };
        row.length == 1
            && matches!(row.mask, Mask::None)
            && row.cache.is_contiguous()
            && row.query_scale.is_none()
            && rotated
    };
    matches!(dtype, Dtype::Bfloat16 | Dtype::Float16)
        && [new.queries, new.keys, new.values].into_iter().all(alike)
        && matches!(params.head_dim, 64 | 128 | 256)
        && (1..=8).contains(&(params.heads / params.kv_heads))
        && norms_fit
        && params.v_norm.is_none()
        && params.kv_steps.is_none()
        && params.v_head_dim == params.head_dim
        && !params.rotate_first
        && params.sinks.as_ref().is_none_or(alike)
        && (rows.len() == 1 || rows.len() <= MOST_ROWS && new.queries.dim(0) == 1)
        && rows.iter().all(fits)
}

/// Numbers as an array in the card's memory, which all layers share: arrays of the host are far
/// away.
fn on_card(numbers: &[u32]) -> Result<Array> {
    /// As many as a step of sequences that do not run together has, and more.
    const KEPT: usize = 128;
    thread_local! {
        static LAST: RefCell<VecDeque<(Vec<u32>, Array)>> = const { RefCell::new(VecDeque::new()) };
    }
    LAST.with_borrow_mut(|last| {
        if let Some((_, array)) = last.iter().find(|(known, _)| known == numbers) {
            return Ok(array.clone());
        }
        let host = from_u32(numbers, &[numbers.len() as i32]);
        let array = ops::add(&host, &from_u32(&[0], &[1]))?;
        last.truncate(KEPT - 1);
        last.push_front((numbers.to_vec(), array.clone()));
        Ok(array)
    })
}

fn kernel(
    rope: Option<&RopeParams>,
    rows: usize,
    params: &AttentionParams,
    dtype: Dtype,
) -> Result<Arc<Kernel>> {
    let groups = params.heads / params.kv_heads;
    let norm = params.qk_norm.as_ref().and_then(|norms| norms[0].root_mean_square());
    let source = Source {
        text: concat!(include_str!("numbers.cuh"), include_str!("decode_attention.cu")),
        name: c"nodemlx_decode_attention",
        settings: vec![
            ("X", i32::from(dtype == Dtype::Float16)),
            ("DIM", params.head_dim),
            ("HEADS", groups),
            ("ROPE", rope.map_or(0, |rope| 1 + i32::from(rope.explicit_freqs().is_some()))),
            ("TRADITIONAL", i32::from(rope.is_some_and(|rope| rope.traditional))),
            ("ROPE_DIM", rope.map_or(0, |rope| rope.dims)),
            ("NORM", norm.map_or(0, |(weight, _)| 1 + i32::from(weight.is_some()))),
            ("CAP", i32::from(params.soft_cap.is_some())),
            ("ROWS", rows as i32),
        ],
    };
    // What each of the block's readers found.
    let shared_memory = 8 * THREADS * groups as usize * 4;
    Kernel::of(&source, Block { threads: THREADS, shared_memory })
}

fn join_kernel(params: &AttentionParams, dtype: Dtype, shares: usize) -> Result<Arc<Kernel>> {
    let source = Source {
        text: concat!(include_str!("numbers.cuh"), include_str!("decode_attention_join.cu")),
        name: c"nodemlx_decode_attention_join",
        settings: vec![
            ("X", i32::from(dtype == Dtype::Float16)),
            ("DIM", params.head_dim),
            ("HEADS", params.heads / params.kv_heads),
            ("SHARES", shares.next_multiple_of(32).next_power_of_two() as i32),
            ("SINKS", i32::from(params.sinks.is_some())),
        ],
    };
    Kernel::of(&source, Block { threads: params.head_dim as usize, shared_memory: 0 })
}

/// Attention of a new position of each row over its contiguous cache, into which its key and value
/// are written first: `[batch, rows, heads · head_dim]`.
pub fn cached_attention<C: KvCache>(
    card: Card,
    new: &Qkv,
    rows: &mut [AttentionRow<C>],
    params: &AttentionParams,
) -> Result<Array> {
    let batch = new.keys.dim(0);
    let positions = [batch, params.kv_heads, 1, params.head_dim];
    let dtype = params.kv_dtype.unwrap_or(new.keys.dtype());
    let mut buffers: Vec<Array> = Vec::with_capacity(2 * rows.len());
    for row in &*rows {
        let [keys, values] = row.cache.with_room(positions, dtype)?;
        let room = [batch, params.kv_heads, keys.dim(2), params.head_dim];
        let fit = keys.shape() == room && row.cache.offset() < keys.dim(2);
        if !fit || values.shape() != room || dtype != keys.dtype() || dtype != values.dtype() {
            let (keys, new) = (keys.shape(), new.keys.shape());
            return Err(Error::Mlx(format!("{new:?} do not fit a cache of {keys:?}")));
        }
        buffers.extend([keys, values]);
    }
    let starts: Vec<_> = rows.iter().map(|row| row.cache.offset()).collect();
    let heads = (batch * params.kv_heads) as usize;
    let most = (2 * card.processors()).div_ceil(heads);
    let (mut table, shares) = shared_out(&starts, &buffers, heads, most);
    // Of the cache and of `buffers`.
    let own = buffers.iter().all(|buffer| is_own(buffer, 2));
    if !own {
        let table = on_card(&table)?;
        let launch = Launch { new, rows, params, table: &table, shares, most };
        let (buffers, attended) = launch.attend_updating(&buffers)?;
        let mut buffers = buffers.into_iter();
        for row in rows {
            if let (Some(keys), Some(values)) = (buffers.next(), buffers.next()) {
                row.cache.put([keys, values], 1);
            }
        }
        return Ok(attended);
    }
    let kernel_rows = KERNEL_ROWS.into_iter().find(|&count| count >= rows.len());
    // No block is one of those that only fill up the arguments.
    for _ in rows.len()..kernel_rows.unwrap_or_default() {
        table.extend([i32::MAX as u32, 1, 0, 1]);
    }
    let table = on_card(&table)?;
    let launch = Launch { new, rows, params, table: &table, shares, most };
    let attended = launch.attend_in_place(&buffers)?;
    for row in rows {
        row.cache.written(&attended, 1);
    }
    Ok(attended)
}

/// For each row its first block, its shares, the place of its new position and its capacity; and
/// the shares of all rows. They are as many as keep the card busy, about `most`, each of some
/// positions: a long row has more of them than a short one.
fn shared_out(starts: &[i32], buffers: &[Array], heads: usize, most: usize) -> (Vec<u32>, usize) {
    let seen = starts.iter().map(|start| *start as usize + 1);
    let share = seen.clone().sum::<usize>().div_ceil(most).max(SHARE);
    let (mut table, mut before) = (Vec::with_capacity(4 * starts.len()), 0);
    for (row, seen) in seen.enumerate() {
        let shares = seen.div_ceil(share);
        let capacity = buffers[2 * row].dim(2) as usize;
        table.extend([before * heads, shares, seen - 1, capacity].map(|number| number as u32));
        before += shares;
    }
    (table, before)
}

/// [`cached_attention`] in buffers with room.
struct Launch<'a, 'b, C> {
    new: &'a Qkv<'a>,
    rows: &'a [AttentionRow<'b, C>],
    params: &'a AttentionParams,
    /// How positions are shared out, for each row of the kernel.
    table: &'a Array,
    /// The shares of all rows.
    shares: usize,
    /// The most shares of a row.
    most: usize,
}

impl<C: KvCache> Launch<'_, '_, C> {
    /// With buffers that others may have, too: they come out anew.
    fn attend_updating(&self, buffers: &[Array]) -> Result<(Vec<Array>, Array)> {
        let dtype = buffers[0].dtype();
        let kernel = kernel(self.rope(), self.rows.len(), self.params, dtype)?;
        let (inputs, blocks, found) = (self.inputs(self.rows.len()), self.blocks(), self.found());
        let found = [(&found[..], Dtype::Float32)];
        let (buffers, found) =
            kernel.run_updating(blocks, buffers, &inputs, &found, &self.numbers())?;
        Ok((buffers, self.join(&found, dtype)?))
    }

    /// With buffers that nobody else has. MLX takes them for what the kernel reads, which spares it
    /// an array for each: hundreds for each token of many sequences.
    fn attend_in_place(&self, buffers: &[Array]) -> Result<Array> {
        let (dtype, rows) = (buffers[0].dtype(), self.table.size() / 4);
        let last = &buffers[buffers.len() - 2..];
        let filled = buffers.iter().chain(last.iter().cycle()).take(2 * rows);
        let inputs: Vec<_> = filled.chain(self.inputs(rows)).collect();
        let kernel = kernel(self.rope(), rows, self.params, dtype)?;
        let found = self.found();
        let found = [(&found[..], Dtype::Float32)];
        let found = kernel.run(self.blocks(), &inputs, &found, &self.numbers())?;
        self.join(&found, dtype)
    }

    /// That of all rows, but for its wavelengths.
    fn rope(&self) -> Option<&RopeParams> {
        self.rows[0].rope.as_ref()
    }

    fn heads(&self) -> i32 {
        self.new.keys.dim(0) * self.params.kv_heads
    }

    fn blocks(&self) -> usize {
        self.heads() as usize * self.shares
    }

    /// The shape of what the blocks find.
    fn found(&self) -> [i32; 3] {
        let AttentionParams { heads, kv_heads, head_dim, .. } = *self.params;
        [self.blocks() as i32, heads / kv_heads, head_dim + 2]
    }

    fn norms(&self) -> [Option<(Option<&Array>, f32)>; 2] {
        let norms = self.params.qk_norm.as_ref();
        norms.map_or([None; 2], |norms| norms.each_ref().map(NormParams::root_mean_square))
    }

    /// Arguments behind the buffers of so many rows.
    fn inputs(&self, rows: usize) -> Vec<&Array> {
        let Qkv { queries, keys, values, .. } = *self.new;
        let wavelengths = self.rows.iter().filter_map(|row| row.rope.as_ref()?.explicit_freqs());
        let mut wavelengths: Vec<_> = wavelengths.collect();
        if let Some(&last) = wavelengths.last() {
            wavelengths.resize(rows, last);
        }
        let norms = self.norms().into_iter().filter_map(|norm| norm?.0);
        [queries, keys, values, self.table].into_iter().chain(wavelengths).chain(norms).collect()
    }

    fn numbers(&self) -> [Number; 8] {
        let (params, rope) = (self.params, self.rope());
        let base = rope.map_or(1.0, |rope| match rope.freqs {
            RopeFreqs::Base(base) => base,
            RopeFreqs::Explicit(_) => 1.0,
        });
        let [query_eps, key_eps] = self.norms().map(|norm| norm.map_or(0.0, |(_, eps)| eps));
        [
            Number::Whole(self.heads()),
            Number::Real(params.scale),
            Number::Real(params.soft_cap.unwrap_or(1.0)),
            Number::Real(base.log2()),
            Number::Real(rope.map_or(1.0, |rope| rope.scale)),
            Number::Real(rope.map_or(1.0, |rope| rope.attention_factor)),
            Number::Real(query_eps),
            Number::Real(key_eps),
        ]
    }

    /// What the shares found, put together.
    fn join(&self, found: &[Array], dtype: Dtype) -> Result<Array> {
        let AttentionParams { heads: query_heads, head_dim, sinks, .. } = self.params;
        let (batch, rows) = (self.new.keys.dim(0), self.rows.len());
        let join = join_kernel(self.params, dtype, self.most)?;
        let shape = [batch, rows as i32, query_heads * head_dim];
        let inputs: Vec<_> = found.iter().chain(sinks).chain([self.table]).collect();
        let numbers = [Number::Whole(self.heads()), Number::Whole(*query_heads)];
        let blocks = rows * (batch * query_heads) as usize;
        Ok(join.run(blocks, &inputs, &[(&shape, dtype)], &numbers)?.swap_remove(0))
    }
}
