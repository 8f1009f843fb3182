//! Attention of one new position to a cache on an NVIDIA card.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::fused::attention::{AttentionParams, NewQkv};
use crate::fused::kv::{KvBuffers, KvCache};
use crate::fused::norm::NormParams;
use crate::fused::rope::{RopeFreqs, RopeParams};
use crate::mlx::fast::Mask;
use crate::mlx::gpu::{Block, Card, Kernel, Number, Source};
use crate::mlx::{Array, Dtype, from_u32, ops};

const THREADS: usize = 256;
/// Positions that a block looks at, at least.
const SHARE: usize = 64;

/// The weight, if there is one, and the epsilon.
fn root_mean_square(norm: &NormParams) -> Option<(Option<&Array>, f32)> {
    match norm {
        NormParams::Rms { weight, eps } => Some((weight.as_ref(), *eps)),
        NormParams::Layer { .. } | NormParams::LayerPerHead { .. } => None,
    }
}

/// Whether [`cached_attention`] can take these.
pub fn supports(new: &NewQkv, mask: &Mask, params: &AttentionParams) -> bool {
    let dtype = params.kv_dtype.unwrap_or(new.keys.dtype());
    let alike = |x: &Array| x.dtype() == dtype;
    let norms = params.qk_norm.as_ref().map(|norms| norms.each_ref().map(root_mean_square));
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
    matches!(mask, Mask::None)
        && matches!(dtype, Dtype::Bfloat16 | Dtype::Float16)
        && [new.queries, new.keys, new.values].into_iter().all(|x| alike(x) && x.dim(1) == 1)
        && matches!(params.head_dim, 64 | 128 | 256)
        && (1..=8).contains(&(params.heads / params.kv_heads))
        && norms_fit
        && params.v_norm.is_none()
        && params.v_head_dim == params.head_dim
        && !params.rotate_first
        && params.sinks.as_ref().is_none_or(alike)
        && new.rope.as_ref().is_none_or(even)
        && new.query_scale.is_none()
}

/// The position as an array in the card's memory, which all layers share: arrays of the host are
/// far away.
fn position(start: i32) -> Result<Array> {
    /// As many as a step has rows, and more.
    const KEPT: usize = 128;
    thread_local! {
        static LAST: RefCell<VecDeque<(i32, Array)>> = const { RefCell::new(VecDeque::new()) };
    }
    LAST.with_borrow_mut(|last| {
        if let Some((_, array)) = last.iter().find(|(known, _)| *known == start) {
            return Ok(array.clone());
        }
        let host = from_u32(&[start as u32], &[1]);
        let array = ops::add(&host, &from_u32(&[0], &[1]))?;
        last.truncate(KEPT - 1);
        last.push_front((start, array.clone()));
        Ok(array)
    })
}

fn kernel(new: &NewQkv, params: &AttentionParams, dtype: Dtype) -> Result<Arc<Kernel>> {
    let rope = new.rope.as_ref();
    let groups = params.heads / params.kv_heads;
    let norm = params.qk_norm.as_ref().and_then(|norms| root_mean_square(&norms[0]));
    let source = Source {
        text: include_str!("decode_attention.cu"),
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
        ],
    };
    // What each of the block's readers found.
    let shared_memory = 8 * THREADS * groups as usize * 4;
    Kernel::of(&source, Block { threads: THREADS, shared_memory })
}

fn join_kernel(params: &AttentionParams, dtype: Dtype, shares: usize) -> Result<Arc<Kernel>> {
    let source = Source {
        text: include_str!("decode_attention_join.cu"),
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

/// Attention of a new position over a contiguous cache, into which its key and value are written
/// first: `[batch, 1, heads · head_dim]`.
pub fn cached_attention(
    card: Card,
    new: &NewQkv,
    cache: &mut impl KvCache,
    params: &AttentionParams,
) -> Result<Array> {
    let positions = [new.keys.dim(0), params.kv_heads, 1, params.head_dim];
    let dtype = params.kv_dtype.unwrap_or(new.keys.dtype());
    let start = cache.offset();
    let buffers = cache.with_room(positions, dtype)?;
    let (attended, buffers) = attend_in_place(card, new, buffers, start, params)?;
    cache.put(buffers, 1);
    Ok(attended)
}

/// [`cached_attention`] in buffers that hold `start` positions and have room for one more.
fn attend_in_place(
    card: Card,
    new: &NewQkv,
    [keys, values]: KvBuffers,
    start: i32,
    params: &AttentionParams,
) -> Result<(Array, KvBuffers)> {
    let AttentionParams { heads: all_heads, kv_heads, head_dim, .. } = *params;
    let (batch, capacity, dtype) = (keys.dim(0), keys.dim(2), keys.dtype());
    let room = [batch, kv_heads, capacity, head_dim];
    if keys.shape() != room
        || values.shape() != room
        || start >= capacity
        || dtype != values.dtype()
    {
        let (keys, new) = (keys.shape(), new.keys.shape());
        return Err(Error::Mlx(format!("{new:?} at {start} do not fit a cache of {keys:?}")));
    }
    // As many shares as keep the card busy, each of some positions.
    let heads = (batch * kv_heads) as usize;
    let most = (2 * card.processors()).div_ceil(heads);
    let shares = (start as usize + 1).div_ceil(SHARE).clamp(1, most);
    let position = position(start)?;
    let norms = params.qk_norm.as_ref().map(|norms| norms.each_ref().map(root_mean_square));
    let norms = norms.unwrap_or([None; 2]);
    let rope = new.rope.as_ref();
    let mut inputs = vec![new.queries, new.keys, new.values, &position];
    inputs.extend(rope.and_then(RopeParams::explicit_freqs));
    inputs.extend(norms.iter().filter_map(|norm| norm.and_then(|(weight, _)| weight)));
    let base = rope.map_or(1.0, |rope| match rope.freqs {
        RopeFreqs::Base(base) => base,
        RopeFreqs::Explicit(_) => 1.0,
    });
    let [query_eps, key_eps] = norms.map(|norm| norm.map_or(0.0, |(_, eps)| eps));
    let numbers = [
        Number::Whole(capacity),
        Number::Whole(shares as i32),
        Number::Real(params.scale),
        Number::Real(params.soft_cap.unwrap_or(1.0)),
        Number::Real(base.log2()),
        Number::Real(rope.map_or(1.0, |rope| rope.scale)),
        Number::Real(rope.map_or(1.0, |rope| rope.attention_factor)),
        Number::Real(query_eps),
        Number::Real(key_eps),
    ];
    let found = [(heads * shares) as i32, all_heads / kv_heads, head_dim + 2];
    let found = [(&found[..], Dtype::Float32)];
    let kernel = kernel(new, params, dtype)?;
    let (buffers, found) =
        kernel.run_updating(heads * shares, [keys, values], &inputs, &found, &numbers)?;
    let join = join_kernel(params, dtype, most)?;
    let shape = [batch, 1, all_heads * head_dim];
    let inputs: Vec<_> = found.iter().chain(&params.sinks).collect();
    let numbers = [Number::Whole(shares as i32), Number::Whole(all_heads)];
    let blocks = (batch * all_heads) as usize;
    let mut attended = join.run(blocks, &inputs, &[(&shape, dtype)], &numbers)?;
    Ok((attended.swap_remove(0), buffers))
}
