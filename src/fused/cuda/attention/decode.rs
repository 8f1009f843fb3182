//! One new position of each row.

use std::sync::Arc;

use super::{Launch, Step, addresses, on_card};
use crate::error::Result;
use crate::fused::attention::AttentionParams;
use crate::fused::kv::{KvCache, KvPlaces};
use crate::mlx::gpu::{Block, Kernel, Number, Source};
use crate::mlx::{Array, Dtype};

const THREADS: usize = 256;
/// Positions that a block looks at, at least.
const SHARE: usize = 64;
/// Bytes of keys and values that a thread has in shared memory: two lots of four positions.
const STAGED: usize = 2 * 4 * 2 * 16;

/// See [`super::cached_attention`].
pub(super) fn attend<C: KvCache>(mut step: Step<C>) -> Result<Array> {
    let AttentionParams { kv_heads, heads, head_dim, scale, soft_cap, .. } = *step.params;
    let places = step.places()?;
    let starts: Vec<_> = step.rows.iter().map(|row| row.cache.offset()).collect();
    let all_heads = (step.new.keys.dim(0) * kv_heads) as usize;
    let most = (2 * step.card.processors()).div_ceil(all_heads);
    let (table, shares) = shared_out(&starts, &places, all_heads, most);
    let blocks = all_heads * shares;
    let group = heads / kv_heads;
    let found = [blocks as i32, group, head_dim + 2];
    let launch = Launch {
        text: concat!(
            include_str!("../numbers.cuh"),
            include_str!("../rows.cuh"),
            include_str!("../prepare.cuh"),
            include_str!("../decode_attention.cu")
        ),
        name: c"nodemlx_decode_attention",
        settings: &[("CAP", i32::from(soft_cap.is_some()))],
        // What is on its way, and then what each of the block's readers found.
        block: Block {
            threads: THREADS,
            shared_memory: THREADS * STAGED.max(8 * 4 * group as usize),
        },
        blocks,
        outputs: &[(&found, Dtype::Float32)],
        numbers: &[
            Number::Whole(all_heads as i32),
            Number::Real(scale),
            Number::Real(soft_cap.unwrap_or(1.0)),
        ],
    };
    let (places, table) = (on_card(&addresses(&places))?, on_card(&table)?);
    let found = step.launch(&places, &table, &launch)?;
    let attended = join(&step, &found, &table, most)?;
    step.written(&attended);
    Ok(attended)
}

/// For each row its first block, its shares, the place of its new position and its capacity; and
/// the shares of all rows. They are as many as keep the card busy, about `most`, each of some
/// positions: a long row has more of them than a short one.
fn shared_out(starts: &[i32], places: &[KvPlaces], heads: usize, most: usize) -> (Vec<u32>, usize) {
    let seen = starts.iter().map(|start| *start as usize + 1);
    let share = seen.clone().sum::<usize>().div_ceil(most).max(SHARE);
    let (mut table, mut before) = (Vec::with_capacity(4 * starts.len()), 0);
    for (row, seen) in seen.enumerate() {
        let shares = seen.div_ceil(share);
        let capacity = places[row].capacity as usize;
        table.extend([before * heads, shares, seen - 1, capacity].map(|number| number as u32));
        before += shares;
    }
    (table, before)
}

fn join_kernel(params: &AttentionParams, dtype: Dtype, shares: usize) -> Result<Arc<Kernel>> {
    let source = Source {
        text: concat!(include_str!("../numbers.cuh"), include_str!("../decode_attention_join.cu")),
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

/// What the shares found, of which a row has no more than `most`, put together.
fn join<C: KvCache>(step: &Step<C>, found: &[Array], table: &Array, most: usize) -> Result<Array> {
    let AttentionParams { heads, kv_heads, head_dim, sinks, .. } = step.params;
    let (batch, rows) = (step.new.keys.dim(0), step.rows.len());
    let join = join_kernel(step.params, step.dtype(), most)?;
    let shape = [batch, rows as i32, heads * head_dim];
    let inputs: Vec<_> = found.iter().chain(sinks).chain([table]).collect();
    let numbers = [Number::Whole(batch * kv_heads), Number::Whole(*heads)];
    let blocks = rows * (batch * heads) as usize;
    Ok(join.run(blocks, &inputs, &[(&shape, step.dtype())], &numbers)?.swap_remove(0))
}
