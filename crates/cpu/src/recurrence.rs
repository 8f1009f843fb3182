//! Linear recurrences whose state is a matrix for each head: the selective scan of Mamba 2 (Dao and
//! Gu 2024) and the gated delta rule (Yang et al. 2024).
#![allow(unsafe_op_in_unsafe_fn, reason = "pure vector code with the conditions of `Simd`")]

use super::pool::{DisjointSliceMut, parallel_for};
use super::simd::{Isa, Kernel, Simd};
use crate::error::{Error, Result};

/// Rows of a state that one task takes through all positions; they stay in the first-level cache.
const ROWS: usize = 16;

/// Rows that are computed side by side.
const TILE: usize = 4;

/// A head's state S `[value_dim, key_dim]` goes from position to position as
///
/// ```text
/// Sₜ = gₜ Sₜ₋₁ + δₜ kₜᵀ,  yₜ = Sₜ qₜ
/// ```
///
/// where δ is the value v, or with rates β what corrects the state towards it,
/// δₜ = βₜ (vₜ − gₜ Sₜ₋₁ kₜ). Heads come in groups that share keys and queries.
#[derive(Clone, Copy, Debug)]
pub struct Recurrence<'a> {
    /// `[batch, length, groups, key_dim]`.
    pub queries: &'a [f32],
    /// Of the same shape.
    pub keys: &'a [f32],
    /// `[batch, length, groups, heads, value_dim]`.
    pub values: &'a [f32],
    /// log g, `[batch, length, groups, heads]`.
    pub log_decay: &'a [f32],
    /// β, of the same shape.
    pub rates: Option<&'a [f32]>,
    /// The lengths of these axes: batch, length, groups, heads, value_dim, key_dim.
    pub shape: [usize; 6],
}

impl Recurrence<'_> {
    /// Writes y, of the shape of the values, and the last state from the one before the first
    /// position, both `[batch, groups, heads, value_dim, key_dim]`.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` when the lengths do not fit.
    pub fn run(&self, before: &[f32], y: &mut [f32], after: &mut [f32], isa: Isa) -> Result<()> {
        let [batch, length, groups, heads, value_dim, key_dim] = self.shape;
        let scalars = batch * length * groups * heads;
        let states = batch * groups * heads;
        let fits = key_dim > 0
            && self.queries.len() == batch * length * groups * key_dim
            && self.keys.len() == self.queries.len()
            && self.values.len() == scalars * value_dim
            && y.len() == self.values.len()
            && self.log_decay.len() == scalars
            && self.rates.is_none_or(|rates| rates.len() == scalars)
            && before.len() == states * value_dim * key_dim
            && after.len() == before.len();
        if !fits {
            return Err(Error::argument("state", format!("does not fit {:?}", self.shape)));
        }
        let blocks = value_dim.div_ceil(ROWS);
        let (y, after) = (DisjointSliceMut::new(y), DisjointSliceMut::new(after));
        parallel_for(states * blocks, |task| {
            let (state, first) = (task / blocks, task % blocks * ROWS);
            let rows = ROWS.min(value_dim - first);
            let from = (state * value_dim + first) * key_dim;
            // SAFETY: every block of rows belongs to one task.
            let block = unsafe { after.slice(from, rows * key_dim) };
            block.copy_from_slice(&before[from..from + rows * key_dim]);
            isa.run(Rows { recurrence: self, state, first, block, y });
        });
        Ok(())
    }
}

/// Some rows of one head's state, through all positions.
struct Rows<'a> {
    recurrence: &'a Recurrence<'a>,
    /// The head, counted over the batch.
    state: usize,
    /// The first of the rows.
    first: usize,
    /// `[rows, key_dim]`.
    block: &'a mut [f32],
    y: DisjointSliceMut<f32>,
}

impl Kernel for Rows<'_> {
    type Output = ();
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let Self { recurrence, state, first, block, y } = self;
        let [_, length, groups, heads, value_dim, key_dim] = recurrence.shape;
        let (batch, group) = (state / (groups * heads), state / heads % groups);
        let head = state % heads;
        let rows = block.len() / key_dim;
        for t in 0..length {
            let at = (batch * length + t) * groups + group;
            let shared = at * key_dim..(at + 1) * key_dim;
            let scalar = at * heads + head;
            let from = scalar * value_dim + first;
            let step = Step {
                key: &recurrence.keys[shared.clone()],
                query: &recurrence.queries[shared],
                decay: recurrence.log_decay[scalar].exp(),
                rate: recurrence.rates.map(|rates| rates[scalar]),
            };
            let values = &recurrence.values[from..from + rows];
            let y = y.slice(from, rows);
            let whole = rows - rows % TILE;
            for row in (0..whole).step_by(TILE) {
                let tile = &mut block[row * key_dim..(row + TILE) * key_dim];
                step.rows::<S, TILE>(tile, &values[row..row + TILE], &mut y[row..row + TILE]);
            }
            for row in whole..rows {
                let tile = &mut block[row * key_dim..(row + 1) * key_dim];
                step.rows::<S, 1>(tile, &values[row..row + 1], &mut y[row..row + 1]);
            }
        }
    }
}

/// What one position does to every row of a head's state.
struct Step<'a> {
    key: &'a [f32],
    query: &'a [f32],
    decay: f32,
    rate: Option<f32>,
}

impl Step<'_> {
    /// Takes `N` rows of the state, `[N, key_dim]`, one position further.
    #[inline(always)]
    unsafe fn rows<S: Simd, const N: usize>(
        &self,
        state: &mut [f32],
        values: &[f32],
        y: &mut [f32],
    ) {
        let Self { key, query, decay, rate } = *self;
        let len = key.len();
        let whole = len - len % S::LANES;
        let mut delta = [0.0; N];
        delta.copy_from_slice(values);
        if let Some(rate) = rate {
            let mut sums = [S::splat(0.0); N];
            for i in (0..whole).step_by(S::LANES) {
                let key = S::load(key.as_ptr().add(i));
                for n in 0..N {
                    sums[n] = S::fma(S::load(state.as_ptr().add(n * len + i)), key, sums[n]);
                }
            }
            for n in 0..N {
                let rest: f32 = (whole..len).map(|i| state[n * len + i] * key[i]).sum();
                delta[n] = rate * (delta[n] - decay * (S::sum(sums[n]) + rest));
            }
        }
        let mut sums = [S::splat(0.0); N];
        for i in (0..whole).step_by(S::LANES) {
            let (key, query) = (S::load(key.as_ptr().add(i)), S::load(query.as_ptr().add(i)));
            for n in 0..N {
                let at = state.as_mut_ptr().add(n * len + i);
                let kept = S::mul(S::load(at), S::splat(decay));
                let new = S::fma(S::splat(delta[n]), key, kept);
                S::store(at, new);
                sums[n] = S::fma(new, query, sums[n]);
            }
        }
        for n in 0..N {
            let mut sum = S::sum(sums[n]);
            for i in whole..len {
                let at = &mut state[n * len + i];
                *at = *at * decay + delta[n] * key[i];
                sum += *at * query[i];
            }
            y[n] = sum;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Random, assert_close};
    use super::*;

    /// The recurrence as it is written down, in f64: outputs and states.
    fn reference(r: &Recurrence, before: &[f32]) -> (Vec<f64>, Vec<f64>) {
        let [batch, length, groups, heads, value_dim, key_dim] = r.shape;
        let mut states: Vec<f64> = before.iter().map(|&s| f64::from(s)).collect();
        let mut y = vec![0.0; r.values.len()];
        for (b, t) in (0..batch).flat_map(|b| (0..length).map(move |t| (b, t))) {
            for head in 0..groups * heads {
                let scalar = (b * length + t) * groups * heads + head;
                let shared = ((b * length + t) * groups + head / heads) * key_dim;
                let (key, query) = (&r.keys[shared..][..key_dim], &r.queries[shared..][..key_dim]);
                let decay = f64::from(r.log_decay[scalar]).exp();
                for row in 0..value_dim {
                    let from = ((b * groups * heads + head) * value_dim + row) * key_dim;
                    let state = &mut states[from..from + key_dim];
                    let dot = |state: &[f64], x: &[f32]| -> f64 {
                        state.iter().zip(x).map(|(s, &x)| s * f64::from(x)).sum()
                    };
                    let value = f64::from(r.values[scalar * value_dim + row]);
                    let delta = match r.rates {
                        Some(rates) => f64::from(rates[scalar]) * (value - decay * dot(state, key)),
                        None => value,
                    };
                    for (s, &k) in state.iter_mut().zip(key) {
                        *s = decay * *s + delta * f64::from(k);
                    }
                    y[scalar * value_dim + row] = dot(state, query);
                }
            }
        }
        (y, states)
    }

    #[test]
    fn outputs_and_states_follow_the_recurrence() {
        let mut random = Random::new(7);
        for shape in
            [[1, 1, 1, 1, 1, 1], [2, 5, 2, 3, 6, 7], [1, 9, 1, 2, 33, 64], [1, 1, 3, 1, 16, 40]]
        {
            let [batch, length, groups, heads, value_dim, key_dim] = shape;
            let scalars = batch * length * groups * heads;
            let unit = (key_dim as f32).sqrt().recip();
            let shared: usize = batch * length * groups * key_dim;
            let queries: Vec<_> = random.normals(shared).iter().map(|x| x * unit).collect();
            let keys: Vec<_> = random.normals(shared).iter().map(|x| x * unit).collect();
            let values = random.normals(scalars * value_dim);
            let log_decay: Vec<_> = random.normals(scalars).iter().map(|x| -x * x).collect();
            let rates: Vec<_> =
                random.normals(scalars).iter().map(|x| 1.0 / (1.0 + x.exp())).collect();
            let before = random.normals(batch * groups * heads * value_dim * key_dim);
            for rates in [None, Some(&rates[..])] {
                let recurrence = Recurrence {
                    queries: &queries,
                    keys: &keys,
                    values: &values,
                    log_decay: &log_decay,
                    rates,
                    shape,
                };
                let (expected_y, expected_state) = reference(&recurrence, &before);
                for isa in Isa::available() {
                    let mut y = vec![f32::NAN; values.len()];
                    let mut after = vec![f32::NAN; before.len()];
                    recurrence.run(&before, &mut y, &mut after, isa).unwrap();
                    assert_close(&y, &expected_y, 1.0, 1e-4, &(shape, isa));
                    assert_close(&after, &expected_state, 1.0, 1e-4, &(shape, isa));
                }
            }
        }
    }

    #[test]
    fn wrong_lengths_are_refused() {
        let recurrence = Recurrence {
            queries: &[0.0; 4],
            keys: &[0.0; 4],
            values: &[0.0; 2],
            log_decay: &[0.0; 1],
            rates: None,
            shape: [1, 1, 1, 1, 2, 4],
        };
        let run = |recurrence: Recurrence, state: usize| {
            let (mut y, mut after) = ([0.0; 2], [0.0; 8]);
            recurrence.run(&vec![0.0; state], &mut y, &mut after, Isa::best())
        };
        assert!(run(recurrence, 8).is_ok());
        assert!(run(recurrence, 7).is_err());
        let short = Recurrence { keys: &[0.0; 3], ..recurrence };
        assert!(run(short, 8).is_err());
        let rates = Recurrence { rates: Some(&[0.0; 2]), ..recurrence };
        assert!(run(rates, 8).is_err());
    }
}
