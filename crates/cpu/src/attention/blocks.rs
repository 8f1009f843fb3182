//! The work of one task: blocks of keys and values, with a running maximum and sum.
#![allow(unsafe_op_in_unsafe_fn, reason = "pure vector code with the conditions of `Simd`")]

use std::f32::consts::LOG2_E;

use super::panels::{FEATURES, KeyPanels, MANY, ValuePanel};
use super::products::{Block, Scores, Sums};
use super::{Attention, BLOCK, Cached, Task, panels};
use crate::gemm::VECTORS;
use crate::math::{exp2_of_negative, tanh};
use crate::pool::DisjointSliceMut;
use crate::scratch::Scratch;
use crate::simd::{Kernel, Simd};

/// Computes a task.
pub struct Compute<'a> {
    pub attention: &'a Attention<'a>,
    pub task: Task,
    pub y: DisjointSliceMut<f32>,
    pub partial: DisjointSliceMut<f32>,
}

impl Kernel for Compute<'_> {
    type Output = ();
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let Self { attention, task, y, partial } = self;
        let Attention { queries, keys, values, .. } = attention;
        let group = attention.group();
        let dim = queries.shape[3];
        let value_dim = values.shape[3];
        let rows = (task.queries.1 - task.queries.0) * group;
        let many = rows >= MANY;
        let wide = dim.next_multiple_of(S::LANES);
        let value_wide = value_dim.next_multiple_of(if many { VECTORS } else { 1 } * S::LANES);
        // Of many rows the features lie in parts.
        let (part, q_wide) =
            if many { (FEATURES, wide.next_multiple_of(FEATURES)) } else { (wide, wide) };
        let mut memory = Scratch::new(rows * (q_wide + BLOCK + value_wide + 2) + 16);
        let q = memory.floats().as_mut_ptr();
        let scores = q.add(rows * q_wide);
        let acc = scores.add(rows * BLOCK);
        let sums = acc.add(rows * value_wide);
        let most = sums.add(rows);
        std::ptr::write_bytes(acc, 0, rows * value_wide);
        for row in 0..rows {
            let head = task.kv_head * group + row % group;
            let from = queries.vector(task.batch, head, task.queries.0 + row / group);
            for at in (0..q_wide).step_by(part) {
                let to = q.add(at * rows + row * part);
                std::ptr::write_bytes(to, 0, part);
                for (k, x) in from.iter().skip(at).take(part).enumerate() {
                    *to.add(k) = x * attention.scale;
                }
            }
            *sums.add(row) = 0.0;
            *most.add(row) = f32::NEG_INFINITY;
        }
        let mut panel_memory =
            Scratch::new(if many { (BLOCK + S::LANES) * wide.max(value_wide) } else { 0 });
        let panel = panel_memory.floats().as_mut_ptr();
        for start in (task.keys.0..task.keys.1).step_by(BLOCK) {
            let count = BLOCK.min(task.keys.1 - start);
            let block = |cached, start| {
                let from = Cached::at(cached, task.batch, task.kv_head, start);
                Block { cached, from, count }
            };
            let (key_block, value_block) = (block(keys, start), block(values, start));
            if many {
                let lines = panel.add(BLOCK * wide);
                S::enter(KeyPanels { keys: key_block, next: value_block, lines, panels: panel });
                S::enter(panels::Scores { panels: panel, count, wide, q, rows, scores });
            } else {
                S::enter(Scores { keys: key_block, next: value_block, q, wide, rows, scores });
            }
            let all_seen = attention.shows(task.queries, &(start..start + count));
            for row in 0..rows {
                let query = task.queries.0 + row / group;
                // The last block is filled up to whole vectors.
                let padded = count.next_multiple_of(S::LANES);
                let scores = std::slice::from_raw_parts_mut(scores.add(row * BLOCK), padded);
                scores[count..].fill(f32::NEG_INFINITY);
                if let Some(cap) = attention.cap {
                    for i in (0..count).step_by(S::LANES) {
                        let to = scores.as_mut_ptr().add(i);
                        let capped = tanh::<S>(S::div(S::load(to), S::splat(cap)));
                        S::store(to, S::mul(S::splat(cap), capped));
                    }
                    scores[count..].fill(f32::NEG_INFINITY);
                }
                if !all_seen {
                    let head = task.kv_head * group + row % group;
                    attention.hide(task.batch, head, query, start, &mut scores[..count]);
                }
                let factor = soften::<S>(scores, &mut *most.add(row), &mut *sums.add(row));
                if factor != 1.0 {
                    for k in (0..value_wide).step_by(S::LANES) {
                        let to = acc.add(row * value_wide + k);
                        S::store(to, S::mul(S::load(to), S::splat(factor)));
                    }
                }
            }
            let next = if start + BLOCK < keys.shape[2] {
                block(keys, start + BLOCK)
            } else {
                // The next task is likely that of the next head, which need not be there.
                let first = block(keys, attention.visible(task.queries.0).start);
                Block { from: first.from + keys.strides[1], ..first }
            };
            let (weights, sums, wide) = (scores.cast_const(), acc, value_wide);
            if many {
                S::enter(ValuePanel { values: value_block, next, wide, panel });
                S::enter(panels::Sums { panel, count, weights, wide, rows, sums });
            } else {
                S::enter(Sums { values: value_block, next, weights, wide, rows, sums });
            }
        }
        for row in 0..rows {
            let head = task.kv_head * group + row % group;
            let acc = std::slice::from_raw_parts(acc.add(row * value_wide), value_dim);
            let (most, mut sum) = (*most.add(row), *sums.add(row));
            if let Some(at) = task.partial {
                let to = partial.slice(at + row * (2 + value_dim), 2 + value_dim);
                to[0] = most;
                to[1] = sum;
                to[2..].copy_from_slice(acc);
                continue;
            }
            let y = attention.output(y, task.batch, task.queries.0 + row / group, head);
            let mut factor = 1.0;
            if let Some(sink) = attention.sink(head) {
                let all = most.max(sink);
                factor = if most == f32::NEG_INFINITY { 0.0 } else { (most - all).exp() };
                sum = sum * factor + (sink - all).exp();
            }
            let factor = if sum == 0.0 { 0.0 } else { factor / sum };
            for (y, acc) in y.iter_mut().zip(acc) {
                *y = acc * factor;
            }
        }
    }
}

/// Turns a block of scores, whole vectors, into weights: e^(score − maximum so far). Gives the
/// factor by which what was summed up before is to be multiplied.
#[inline(always)]
unsafe fn soften<S: Simd>(scores: &mut [f32], most: &mut f32, sum: &mut f32) -> f32 {
    let mut block_most = S::splat(*most);
    for i in (0..scores.len()).step_by(S::LANES) {
        block_most = S::max(S::load(scores.as_ptr().add(i)), block_most);
    }
    let new_most = S::max_lane(block_most);
    let base = if new_most == f32::NEG_INFINITY { 0.0 } else { new_most };
    // e^(x − base) = 2^(x log₂ e − base log₂ e).
    let (factor, addend) = (S::splat(LOG2_E), S::splat(-base * LOG2_E));
    let mut block_sum = S::splat(0.0);
    for i in (0..scores.len()).step_by(S::LANES) {
        let to = scores.as_mut_ptr().add(i);
        let weight = exp2_of_negative::<S>(S::fma(S::load(to), factor, addend));
        block_sum = S::add(block_sum, weight);
        S::store(to, weight);
    }
    let factor = if *most == new_most { 1.0 } else { (*most - new_most).exp() };
    *sum = *sum * factor + S::sum(block_sum);
    *most = new_most;
    factor
}
