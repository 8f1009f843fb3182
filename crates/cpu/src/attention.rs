//! Scaled dot-product attention with grouped-query heads, computed block by block with a running
//! maximum and sum (Milakov and Gimelshein 2018; Dao et al. 2022), so that no matrix of scores is
//! ever stored. When there are few queries the keys are split between tasks, whose results are put
//! together in the end.

mod blocks;
mod cached;
mod panels;
mod products;

use std::ops::Range;

use super::floats::Floats;
use super::heads::Heads;
use super::pool::{DisjointSliceMut, parallel_for};
use super::scratch::Scratch;
use super::simd::Isa;
use crate::error::{Error, Result};
use blocks::Compute;
pub use cached::{CachedRow, Scores, attend};

/// Keys that are taken at a time.
const BLOCK: usize = 64;

/// Rows of scores (queries times the heads that share their keys) that a task has, about: whole
/// tiles of products, and many, as keys and values are made panels for them alone.
const ROWS: usize = 96;

/// Keys that a task has at least when they are split.
const SPLIT: usize = 256;

/// Tasks that keep all threads of a large machine busy. Where keys are split decides in which order
/// numbers are summed up, so it depends on shapes alone, and never on how many threads there are.
const TASKS: usize = 64;

/// Keys or values: `[batch, kv_heads, length, head_dim]` with any strides but that of the features,
/// which is 1.
#[derive(Clone, Copy, Debug)]
pub struct Cached<'a> {
    /// From the first to the last element, at least.
    pub values: Floats<'a>,
    /// Lengths of the axes.
    pub shape: [usize; 4],
    /// Distances of neighbours along the first three axes, in elements.
    pub strides: [usize; 3],
}

impl Cached<'_> {
    fn at(&self, batch: usize, head: usize, position: usize) -> usize {
        batch * self.strides[0] + head * self.strides[1] + position * self.strides[2]
    }

    fn fits(&self) -> bool {
        let [batch, heads, length, dim] = self.shape;
        self.shape.contains(&0)
            || self.at(batch - 1, heads - 1, length - 1) + dim <= self.values.len()
    }
}

/// Which keys a query sees.
#[derive(Clone, Copy, Debug)]
pub enum Mask<'a> {
    /// All of them.
    None,
    /// Those up to its own position (the last query is at that of the last key), and of these with
    /// a window only the last so many.
    Causal {
        /// The window's length.
        window: Option<usize>,
    },
    /// Those where the byte is not 0.
    Bytes {
        /// From the first to the last element, at least.
        values: &'a [u8],
        /// Distances along batch, heads, queries and keys; 0 where broadcast.
        strides: [usize; 4],
    },
    /// All, with this added to the scores.
    Added {
        /// From the first to the last element, at least.
        values: Floats<'a>,
        /// Distances along batch, heads, queries and keys; 0 where broadcast.
        strides: [usize; 4],
    },
}

/// An attention.
#[derive(Clone, Copy, Debug)]
pub struct Attention<'a> {
    /// `[batch, heads, queries, head_dim]`.
    pub queries: Heads<'a>,
    /// `[batch, kv_heads, keys, head_dim]`.
    pub keys: Cached<'a>,
    /// `[batch, kv_heads, keys, value_dim]`.
    pub values: Cached<'a>,
    /// Multiplies the scores.
    pub scale: f32,
    /// Scores become `cap · tanh(score / cap)`, before the mask.
    pub cap: Option<f32>,
    /// Which keys a query sees.
    pub mask: Mask<'a>,
    /// A score for each head that takes part in the soft-max and has no value, `[heads]`.
    pub sinks: Option<&'a [f32]>,
}

/// Part of the work: some queries of the heads that share the keys of one head, and some of these
/// keys.
#[derive(Clone, Copy)]
struct Task {
    /// Of which of several attentions.
    attention: usize,
    batch: usize,
    kv_head: usize,
    queries: (usize, usize),
    keys: (usize, usize),
    /// Where its partial results are kept, in floats; `None` where there is nothing to be put
    /// together.
    partial: Option<usize>,
}

/// Partial results that belong together: the first task, and how many.
struct Merge {
    first: usize,
    count: usize,
}

/// Computes several attentions, and writes what [`Attention::run`] does of each, one behind the
/// other. Threads meet once for all, and the numbers are those of each by itself.
///
/// # Errors
/// As for [`Attention::run`].
pub fn run_each(attentions: &[Attention], y: &mut [f32], isa: Isa) -> Result<()> {
    let (mut rest, mut outputs) = (y, Vec::with_capacity(attentions.len()));
    for (i, attention) in attentions.iter().enumerate() {
        let is_last = i + 1 == attentions.len();
        let count = if is_last { rest.len() } else { attention.outputs().min(rest.len()) };
        attention.validate(count)?;
        let (own, others) = rest.split_at_mut(count);
        outputs.push(DisjointSliceMut::new(own));
        rest = others;
    }
    let mut plan = Plan::default();
    for (i, attention) in attentions.iter().enumerate() {
        if attention.outputs() > 0 {
            attention.plan(i, &mut plan);
        }
    }
    let Plan { tasks, merges, floats } = plan;
    let mut partial = Scratch::new(floats);
    let partial = DisjointSliceMut::new(partial.floats());
    parallel_for(tasks.len(), |i| {
        let task = tasks[i];
        let (attention, y) = (&attentions[task.attention], outputs[task.attention]);
        isa.run(Compute { attention, task, y, partial });
    });
    parallel_for(merges.len(), |i| {
        let Merge { first, count } = merges[i];
        let of = tasks[first].attention;
        attentions[of].merge(&tasks[first..first + count], partial, outputs[of]);
    });
    Ok(())
}

/// The tasks of some attentions.
#[derive(Default)]
struct Plan {
    tasks: Vec<Task>,
    /// Those that belong together.
    merges: Vec<Merge>,
    /// The memory for partial results.
    floats: usize,
}

impl<'a> Attention<'a> {
    /// Writes `y`, `[batch, queries, heads, value_dim]`. A query that sees nothing gets 0.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` when sizes or strides do not fit.
    pub fn run(&self, y: &mut [f32], isa: Isa) -> Result<()> {
        run_each(&[*self], y, isa)
    }

    /// Elements of what [`Attention::run`] writes.
    fn outputs(&self) -> usize {
        let [batch, heads, length, _] = self.queries.shape;
        batch * length * heads * self.values.shape[3]
    }

    fn validate(&self, y: usize) -> Result<()> {
        let [batch, heads, length, dim] = self.queries.shape;
        let [key_batch, kv_heads, keys, key_dim] = self.keys.shape;
        let fail = |message: &str| Err(Error::argument("attention", message.to_owned()));
        if (key_batch, key_dim) != (batch, dim)
            || self.values.shape[..3] != self.keys.shape[..3]
            || kv_heads == 0
            || dim == 0
            || !heads.is_multiple_of(kv_heads)
        {
            return fail("queries, keys and values do not fit together");
        }
        if y != self.outputs() {
            return fail("the output has another size");
        }
        if !self.queries.fits() || !self.keys.fits() || !self.values.fits() {
            return fail("the strides lead outside of the memory");
        }
        if self.sinks.is_some_and(|sinks| sinks.len() != heads) {
            return fail("there must be a sink for each head");
        }
        let last = |strides: [usize; 4]| {
            let axes = [batch, heads, length, keys];
            let ends = axes.iter().zip(strides).map(|(len, stride)| len.saturating_sub(1) * stride);
            ends.sum::<usize>()
        };
        let empty = [batch, heads, length, keys].contains(&0);
        match self.mask {
            Mask::Causal { .. } if keys < length => fail("there are more queries than keys"),
            Mask::Bytes { values, strides } if !empty && last(strides) >= values.len() => {
                fail("the mask's strides lead outside of its memory")
            }
            Mask::Added { values, strides } if !empty && last(strides) >= values.len() => {
                fail("the mask's strides lead outside of its memory")
            }
            _ => Ok(()),
        }
    }

    fn group(&self) -> usize {
        self.queries.shape[1] / self.keys.shape[1]
    }

    /// The keys that query `i` sees by its position.
    fn visible(&self, i: usize) -> Range<usize> {
        let keys = self.keys.shape[2];
        match self.mask {
            Mask::Causal { window } => {
                let end = keys - self.queries.shape[2] + i + 1;
                end.saturating_sub(window.unwrap_or(end))..end
            }
            _ => 0..keys,
        }
    }

    /// Adds the tasks of attention number `attention`. Which they are depends on its own shapes
    /// alone.
    fn plan(&self, attention: usize, plan: &mut Plan) {
        let [batch, _, length, _] = self.queries.shape;
        let kv_heads = self.keys.shape[1];
        let step = (ROWS / self.group()).max(1);
        let blocks = batch * kv_heads * length.div_ceil(step);
        let wanted = TASKS.div_ceil(blocks);
        let Plan { tasks, merges, floats } = plan;
        for i in 0..batch * kv_heads {
            let (batch, kv_head) = (i / kv_heads, i % kv_heads);
            // The last queries see most: they come first.
            for from in (0..length).step_by(step).rev() {
                let queries = (from, (from + step).min(length));
                let keys = self.visible(queries.0).start..self.visible(queries.1 - 1).end;
                let each = keys.len().div_ceil(wanted).max(SPLIT).next_multiple_of(BLOCK);
                let parts = keys.len().div_ceil(each).max(1);
                let first = tasks.len();
                for part in 0..parts {
                    let start = keys.start + part * each;
                    let keys = (start, (start + each).min(keys.end));
                    let partial = (parts > 1).then_some(*floats);
                    if parts > 1 {
                        let rows = (queries.1 - queries.0) * self.group();
                        *floats += rows * (2 + self.values.shape[3]);
                    }
                    tasks.push(Task { attention, batch, kv_head, queries, keys, partial });
                }
                if parts > 1 {
                    merges.push(Merge { first, count: parts });
                }
            }
        }
    }

    /// The output of one query and head.
    ///
    /// # Safety
    /// No two parts that overlap are alive at the same time.
    unsafe fn output(
        &self,
        y: DisjointSliceMut<f32>,
        batch: usize,
        query: usize,
        head: usize,
    ) -> &'a mut [f32] {
        let [_, heads, length, _] = self.queries.shape;
        let dim = self.values.shape[3];
        // SAFETY: the caller's promise.
        unsafe { y.slice(((batch * length + query) * heads + head) * dim, dim) }
    }

    /// The sink of a head as a partial result: its score, and a sum of 1.
    fn sink(&self, head: usize) -> Option<f32> {
        self.sinks.map(|sinks| sinks[head])
    }

    /// Puts partial results, each with a maximum, a sum and a weighted sum of values, together.
    fn merge(&self, tasks: &[Task], partial: DisjointSliceMut<f32>, y: DisjointSliceMut<f32>) {
        let group = self.group();
        let Task { batch, kv_head, queries, .. } = tasks[0];
        let dim = self.values.shape[3];
        for row in 0..(queries.1 - queries.0) * group {
            let head = kv_head * group + row % group;
            // SAFETY: every query and head belongs to one merge.
            let y = unsafe { self.output(y, batch, queries.0 + row / group, head) };
            let part = |task: &Task| {
                let from = task.partial.unwrap_or(0) + row * (2 + dim);
                // SAFETY: the tasks have ended, and the results of a task are read by one merge.
                unsafe { &*partial.slice(from, 2 + dim) }
            };
            let mut most = self.sink(head).unwrap_or(f32::NEG_INFINITY);
            for task in tasks {
                most = most.max(part(task)[0]);
            }
            y.fill(0.0);
            let mut sum = self.sink(head).map_or(0.0, |sink| (sink - most).exp());
            for task in tasks {
                let part = part(task);
                if part[0] == f32::NEG_INFINITY && part[1] == 0.0 {
                    continue;
                }
                let factor = (part[0] - most).exp();
                sum += part[1] * factor;
                for (y, value) in y.iter_mut().zip(&part[2..]) {
                    *y += value * factor;
                }
            }
            if sum != 0.0 {
                y.iter_mut().for_each(|y| *y /= sum);
            }
        }
    }
}

impl Attention<'_> {
    /// Whether the mask lets all of these queries see all of these keys as they are.
    fn shows(&self, queries: (usize, usize), keys: &Range<usize>) -> bool {
        match self.mask {
            Mask::None => true,
            Mask::Causal { .. } => {
                let (first, last) = (self.visible(queries.0), self.visible(queries.1 - 1));
                last.start <= keys.start && keys.end <= first.end
            }
            Mask::Bytes { .. } | Mask::Added { .. } => false,
        }
    }

    /// Applies the mask to the scores of one query with the keys from `start`.
    fn hide(&self, batch: usize, head: usize, query: usize, start: usize, scores: &mut [f32]) {
        match self.mask {
            Mask::None => {}
            Mask::Causal { .. } => {
                let Range { start: low, end: high } = self.visible(query);
                let low = low.saturating_sub(start).min(scores.len());
                let high = high.saturating_sub(start).min(scores.len());
                scores[..low].fill(f32::NEG_INFINITY);
                scores[high..].fill(f32::NEG_INFINITY);
            }
            Mask::Bytes { values, strides: [b, h, q, k] } => {
                let from = batch * b + head * h + query * q + start * k;
                for (i, score) in scores.iter_mut().enumerate() {
                    if values[from + i * k] == 0 {
                        *score = f32::NEG_INFINITY;
                    }
                }
            }
            Mask::Added { values, strides: [b, h, q, k] } => {
                let from = batch * b + head * h + query * q + start * k;
                for (i, score) in scores.iter_mut().enumerate() {
                    *score += values.get(from + i * k);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
