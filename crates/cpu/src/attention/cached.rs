//! Attention of new positions of several sequences, each over a cache of its own, into which they
//! go first.

use super::{Attention, Cached, Mask, run_each};
use crate::error::{Error, Result};
use crate::floats::FloatsMut;
use crate::heads::Heads;
use crate::pool::{DisjointSliceMut, parallel_for};
use crate::prepare::QkNormRope;
use crate::scratch::Scratch;
use crate::simd::Isa;

/// New positions of one sequence, and its cache.
#[derive(Debug)]
pub struct CachedRow<'a> {
    /// Queries, `[batch, heads, length, head_dim]`, as they are projected.
    pub queries: Heads<'a>,
    /// Keys, `[batch, kv_heads, length, head_dim]`, as they are projected.
    pub keys: Heads<'a>,
    /// Values, `[batch, kv_heads, length, value_dim]`.
    pub values: Heads<'a>,
    /// The cache's keys and its values, `[batch, kv_heads, capacity, head_dim]` and `[…,
    /// value_dim]`.
    pub buffers: [FloatsMut<'a>; 2],
    /// For how many positions there is room.
    pub capacity: usize,
    /// The place of the first new position.
    pub start: usize,
    /// What is done to queries and to keys before.
    pub prepare: [QkNormRope<'a>; 2],
    /// Which keys a query sees.
    pub mask: Mask<'a>,
}

/// How the products of queries and keys become scores: see [`Attention`].
#[derive(Clone, Copy, Debug)]
pub struct Scores<'a> {
    /// See [`Attention::scale`].
    pub scale: f32,
    /// See [`Attention::cap`].
    pub cap: Option<f32>,
    /// See [`Attention::sinks`].
    pub sinks: Option<&'a [f32]>,
}

/// Puts the new positions into the caches, and writes what they attend to, of one sequence behind
/// the other: `[batch, length, heads, value_dim]`. The numbers are those of each sequence by
/// itself.
///
/// # Errors
/// `INVALID_ARGUMENT` when sizes or strides do not fit.
pub fn attend(mut rows: Vec<CachedRow>, scores: Scores, y: &mut [f32], isa: Isa) -> Result<()> {
    let sizes: Vec<usize> = rows.iter().map(|row| row.queries.shape.iter().product()).collect();
    let mut memory = Scratch::new(sizes.iter().sum());
    let mut rest = memory.floats();
    let mut works = Vec::with_capacity(rows.len());
    for (row, &size) in rows.iter_mut().zip(&sizes) {
        let (queries, others) = rest.split_at_mut(size);
        works.push((row, queries, Ok(())));
        rest = others;
    }
    let each = DisjointSliceMut::new(&mut works);
    parallel_for(sizes.len(), |i| {
        // SAFETY: every sequence is worked on once.
        let (row, queries, outcome) = &mut unsafe { each.slice(i, 1) }[0];
        *outcome = row.prepare(queries, isa);
    });
    let mut attentions = Vec::with_capacity(works.len());
    for (row, queries, outcome) in &works {
        outcome.clone()?;
        attentions.push(row.attention(queries, scores));
    }
    run_each(&attentions, y, isa)
}

impl CachedRow<'_> {
    /// Puts keys and values into the cache, and the prepared queries into `queries`, `[batch,
    /// heads, length, head_dim]`.
    fn prepare(&mut self, queries: &mut [f32], isa: Isa) -> Result<()> {
        let Self { capacity, start, prepare: [prepare_queries, prepare_keys], .. } = *self;
        if self.keys.shape[2] != self.queries.shape[2] {
            let message = "there must be a key for each query".to_owned();
            return Err(Error::argument("heads", message));
        }
        let [keys, values] = self.buffers.each_mut().map(FloatsMut::reborrow);
        prepare_keys.write(&self.keys, keys, capacity, start, isa)?;
        QkNormRope::default().write(&self.values, values, capacity, start, isa)?;
        let length = self.queries.shape[2];
        prepare_queries.write(&self.queries, FloatsMut::F32(queries), length, 0, isa)
    }

    /// Attention with prepared `queries` to all that is in the cache by now.
    fn attention<'a>(&'a self, queries: &'a [f32], scores: Scores<'a>) -> Attention<'a> {
        let [batch, heads, length, dim] = self.queries.shape;
        let strides = [heads * length * dim, length * dim, dim];
        let [keys, values] = [(&self.buffers[0], &self.keys), (&self.buffers[1], &self.values)]
            .map(|(buffer, new)| {
                let [_, kv_heads, _, dim] = new.shape;
                Cached {
                    values: buffer.as_floats(),
                    shape: [batch, kv_heads, self.start + length, dim],
                    strides: [kv_heads * self.capacity * dim, self.capacity * dim, dim],
                }
            });
        let Scores { scale, cap, sinks } = scores;
        let queries = Heads { values: queries, shape: self.queries.shape, strides };
        Attention { queries, keys, values, scale, cap, mask: self.mask, sinks }
    }
}
