//! Several new positions of some rows: chunks of prompts, and drafts that are to be judged.

use std::sync::Arc;

use super::{Launch, Step, addresses, on_card};
use crate::error::Result;
use crate::fused::attention::{AttentionParams, join_heads, split_heads};
use crate::fused::kv::KvCache;
use crate::mlx::fast::{self, Mask};
use crate::mlx::gpu::{Block, Kernel, Number, Source};
use crate::mlx::{Array, Dtype, ops};

const THREADS: usize = 128;
/// Keys of a share, at least, and what their number is a multiple of.
const SHARE: i32 = 256;
const SHARE_STEP: i32 = 64;

/// Positions of one row that are looked at together, and the keys that they see.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Tile {
    row: usize,
    /// The first one's number among the new ones of its row.
    first: i32,
    /// How many keys the last one sees.
    keys: i32,
}

/// A row of the step.
#[derive(Debug, Clone, Copy)]
struct Lengths {
    /// Positions that its cache holds.
    before: i32,
    /// New ones.
    new: i32,
}

/// The tiles of all rows, those with the most keys first, for blocks run in their order.
fn tiles(rows: &[Lengths], positions: i32) -> Vec<Tile> {
    let mut tiles: Vec<_> = rows
        .iter()
        .enumerate()
        .flat_map(|(row, &Lengths { before, new })| {
            let firsts = (0..new).step_by(positions as usize);
            firsts.map(move |first| Tile {
                row,
                first,
                keys: before + (first + positions).min(new),
            })
        })
        .collect();
    tiles.sort_by_key(|tile| -tile.keys);
    tiles
}

/// How many keys a block looks at where the tiles alone, a block for each key/value head, do not
/// keep the card busy.
fn keys_of_share(tiles: &[Tile], kv_heads: usize, processors: usize) -> Option<i32> {
    let (wanted, blocks) = (2 * processors, tiles.len() * kv_heads);
    if blocks >= wanted {
        return None;
    }
    let all: usize = tiles.iter().map(|tile| tile.keys as usize).sum();
    let share = (all * kv_heads).div_ceil(wanted).min(i32::MAX as usize) as i32;
    let share = (share.max(SHARE) + SHARE_STEP - 1) / SHARE_STEP * SHARE_STEP;
    // To put shares together costs about what looking at a share does.
    tiles.iter().any(|tile| tile.keys > 3 * share).then_some(share)
}

/// The blocks' table, and that of what joins shares: for each tile its first share and how many
/// there are.
fn tables(tiles: &[Tile], share: Option<i32>) -> [Vec<u32>; 2] {
    let (mut of_blocks, mut of_joins, mut shares) = (Vec::new(), Vec::new(), 0);
    for &Tile { row, first, keys } in tiles {
        let (row, first) = (row as u32, first as u32);
        let before = shares;
        for begin in (0..keys).step_by(share.unwrap_or(keys) as usize) {
            let end = share.map_or(keys, |share| keys.min(begin.saturating_add(share)));
            of_blocks.extend([row, first, begin as u32, end as u32]);
            shares += 1;
        }
        of_joins.extend([row, first, before, shares - before]);
    }
    [of_blocks, of_joins]
}

/// See [`super::cached_attention`].
pub(super) fn attend<C: KvCache>(mut step: Step<C>) -> Result<Array> {
    let rows: Vec<_> = step
        .rows
        .iter()
        .map(|row| Lengths { before: row.cache.offset(), new: row.length })
        .collect();
    let placed = place(&mut step, &rows)?;
    match rows[..] {
        [row] if is_sooner_planned(row, step.params) => placed.attend_planned(&step, row),
        _ => placed.attend(&step, &rows),
    }
}

/// Whether a chunk of a prompt is one of those that come again and again: cuDNN's kernel, which MLX
/// asks for, looks at whole chunks in 0.55 of the time, once it is planned. That takes some 70 ms
/// for each pair of lengths.
fn is_sooner_planned(row: Lengths, params: &AttentionParams) -> bool {
    const WHOLE: i32 = 2048;
    params.soft_cap.is_none()
        && params.sinks.is_none()
        && params.head_dim <= 128
        && row.new == WHOLE
        && row.before % WHOLE == 0
}

/// What chunk_place.cu has put to its place.
struct Placed {
    /// `[1, positions, heads · head_dim]`.
    queries: Array,
    /// Where each row's keys and values are.
    places: Array,
    /// Of each row its first new position among those of all rows, how many it had before, for how
    /// many it has room, and how many are new.
    table: Array,
}

fn place<C: KvCache>(step: &mut Step<C>, rows: &[Lengths]) -> Result<Placed> {
    let AttentionParams { heads, head_dim, .. } = *step.params;
    let places = step.places()?;
    let (mut table, mut all) = (Vec::with_capacity(4 * rows.len()), 0);
    for (&Lengths { before, new }, places) in rows.iter().zip(&places) {
        table.extend([all, before, places.capacity, new].map(|number| number as u32));
        all += new;
    }
    let queries = [1, all, heads * head_dim];
    let launch = Launch {
        text: concat!(
            include_str!("../numbers.cuh"),
            include_str!("../rows.cuh"),
            include_str!("../prepare.cuh"),
            include_str!("../chunk_place.cu")
        ),
        name: c"nodemlx_chunk_place",
        settings: &[],
        block: Block { threads: 256, shared_memory: 0 },
        blocks: all as usize,
        outputs: &[(&queries, step.dtype()), (&[1], Dtype::Uint32)],
        numbers: &[],
    };
    let (places, table) = (on_card(&addresses(&places))?, on_card(&table)?);
    let mut outputs = step.launch(&places, &table, &launch)?;
    let (all_placed, queries) = (outputs.swap_remove(1), outputs.swap_remove(0));
    // So that keys and values can be computed without what follows.
    step.written(&all_placed);
    Ok(Placed { queries, places, table })
}

impl Placed {
    /// The same by MLX, of the only row of a batch of one.
    fn attend_planned<C: KvCache>(&self, step: &Step<C>, row: Lengths) -> Result<Array> {
        let AttentionParams { heads, scale, .. } = *step.params;
        let queries = split_heads(&self.queries, heads)?;
        let held = step.rows[0].cache.held()?;
        // As they are in the buffers, there would be a plan for each capacity, too.
        let seen = |it: &Array| ops::contiguous(&ops::slice_axis(it, 2, 0, row.before + row.new)?);
        let seen = held.iter().flatten().map(seen).collect::<Result<Vec<_>>>()?;
        let [keys, values] = &seen[..] else { return self.attend(step, &[row]) };
        let attended =
            fast::scaled_dot_product_attention(&queries, keys, values, scale, &Mask::Causal, None)?;
        join_heads(&attended)
    }

    fn attend<C: KvCache>(&self, step: &Step<C>, rows: &[Lengths]) -> Result<Array> {
        let AttentionParams { kv_heads, head_dim, scale, soft_cap, .. } = *step.params;
        let (sinks, heads) = (step.params.sinks.as_ref(), kv_heads as usize);
        let shape = Shape::of(step.params, step.dtype());
        let tiles = tiles(rows, shape.rows / shape.group);
        let share = keys_of_share(&tiles, heads, step.card.processors());
        let [of_blocks, of_joins] = tables(&tiles, share);
        let blocks = of_blocks.len() / 4 * heads;
        let of_blocks = on_card(&of_blocks)?;
        let attended = (self.queries.shape(), step.dtype());
        let found = [blocks as i32, shape.rows, head_dim + 2];
        let (output, sinks_at_once) = match share {
            Some(_) => ((&found[..], Dtype::Float32), None),
            None => (attended, sinks),
        };
        let inputs = [&self.queries, &self.places, &self.table, &of_blocks];
        let inputs: Vec<_> = inputs.into_iter().chain(sinks_at_once).collect();
        let numbers =
            [Number::Whole(kv_heads), Number::Real(scale), Number::Real(soft_cap.unwrap_or(1.0))];
        let kernel = shape.kernel(step.params, share.is_some())?;
        let output = kernel.run(blocks, &inputs, &[output], &numbers)?.swap_remove(0);
        if share.is_none() {
            return Ok(output);
        }
        let of_joins = on_card(&of_joins)?;
        let inputs: Vec<_> = [&output, &self.table, &of_joins].into_iter().chain(sinks).collect();
        let blocks = tiles.len() * heads * shape.rows as usize;
        let join = shape.join_kernel(step.params)?;
        Ok(join.run(blocks, &inputs, &[attended], &[Number::Whole(kv_heads)])?.swap_remove(0))
    }
}

/// What chunk_attention.cu makes of its settings.
struct Shape {
    x: i32,
    group: i32,
    /// Rows of a tile: queries of all heads of a group.
    rows: i32,
    /// Keys that are looked at together.
    keys: i32,
}

impl Shape {
    fn of(params: &AttentionParams, dtype: Dtype) -> Self {
        let (rows, keys) = if params.head_dim == 256 { (64, 32) } else { (128, 64) };
        let x = i32::from(dtype == Dtype::Float16);
        Self { x, group: params.heads / params.kv_heads, rows, keys }
    }

    fn settings(&self, params: &AttentionParams) -> Vec<(&'static str, i32)> {
        vec![
            ("X", self.x),
            ("DIM", params.head_dim),
            ("HEADS", self.group),
            ("SINKS", i32::from(params.sinks.is_some())),
        ]
    }

    fn kernel(&self, params: &AttentionParams, shared: bool) -> Result<Arc<Kernel>> {
        let mut settings = self.settings(params);
        settings
            .extend([("CAP", i32::from(params.soft_cap.is_some())), ("SHARED", i32::from(shared))]);
        let source = Source {
            text: concat!(
                include_str!("../numbers.cuh"),
                include_str!("../rows.cuh"),
                include_str!("../chunk_attention.cu")
            ),
            name: c"nodemlx_chunk_attention",
            settings,
        };
        // Queries, and two stages of keys and values.
        let shared_memory = ((self.rows + 4 * self.keys) * params.head_dim * 2) as usize;
        Kernel::of(&source, Block { threads: THREADS, shared_memory })
    }

    fn join_kernel(&self, params: &AttentionParams) -> Result<Arc<Kernel>> {
        let mut settings = self.settings(params);
        settings.push(("TILE", self.rows));
        let source = Source {
            text: concat!(
                include_str!("../numbers.cuh"),
                include_str!("../chunk_attention_join.cu")
            ),
            name: c"nodemlx_chunk_attention_join",
            settings,
        };
        Kernel::of(&source, Block { threads: params.head_dim as usize, shared_memory: 0 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_position_is_in_one_tile_with_the_keys_that_it_sees() {
        let rows = [(0, 70), (5, 1), (1000, 32)].map(|(before, new)| Lengths { before, new });
        let tiles = tiles(&rows, 32);
        let expected = [(2, 0, 1032), (0, 64, 70), (0, 32, 64), (0, 0, 32), (1, 0, 6)]
            .map(|(row, first, keys)| Tile { row, first, keys });
        assert_eq!(tiles, expected);
    }

    #[test]
    fn keys_are_split_where_tiles_are_few_and_keys_are_many() {
        let tile = |keys| Tile { row: 0, first: 0, keys };
        assert_eq!(keys_of_share(&[tile(700)], 8, 132), None, "too few to be worth it");
        assert_eq!(keys_of_share(&[tile(16_384)], 8, 132), Some(512));
        assert_eq!(keys_of_share(&[tile(1000)], 8, 132), Some(256));
        assert_eq!(keys_of_share(&vec![tile(100_000); 33], 8, 132), None, "enough blocks");
    }

    #[test]
    fn shares_hold_all_keys_once() {
        let tiles = [(1, 32, 700), (0, 0, 256)].map(|(row, first, keys)| Tile { row, first, keys });
        let [blocks, joins] = tables(&tiles, Some(256));
        let expected: [[u32; 4]; 4] =
            [[1, 32, 0, 256], [1, 32, 256, 512], [1, 32, 512, 700], [0, 0, 0, 256]];
        assert_eq!(blocks, expected.concat());
        assert_eq!(joins, [[1, 32, 0, 3], [0, 0, 3, 1]].concat());
        let [blocks, _] = tables(&tiles, None);
        assert_eq!(blocks, [[1, 32, 0, 700], [0, 0, 0, 256]].concat());
    }
}
