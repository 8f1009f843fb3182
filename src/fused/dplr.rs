//! The generalized delta rule (Peng et al. 2025, "RWKV-7"): a recurrence whose transition is
//! diagonal plus low-rank.
//!
//! A head's state S `[value_dim, key_dim]` fades with a decay wₜ of each of its columns, and takes
//! what it reads at aₜ to bₜ:
//!
//! ```text
//! Sₜ = Sₜ₋₁ (diag(wₜ) + aₜ bₜᵀ) + vₜ kₜᵀ
//! yₜ = Sₜ qₜ
//! ```

use super::delta_rule::inverse_of_unit_lower;
use crate::error::Result;
use crate::mlx::{Array, ops};

/// Positions that are computed at once; a power of two. Each pair of them has a decay of its own
/// for every column.
const CHUNK: i32 = 16;

/// What one pass reads, all in `f32`.
#[derive(Debug)]
pub struct GeneralizedDeltaRule<'a> {
    /// q, `[batch, length, heads, key_dim]`.
    pub queries: &'a Array,
    /// k, of the same shape.
    pub keys: &'a Array,
    /// v, `[batch, length, heads, value_dim]`.
    pub values: &'a Array,
    /// log w, `[batch, length, heads, key_dim]`.
    pub log_decay: &'a Array,
    /// a, of the same shape.
    pub read: &'a Array,
    /// b, of the same shape.
    pub written: &'a Array,
}

impl GeneralizedDeltaRule<'_> {
    /// y, of the shape of `values`, and the state after the last position,
    /// `[batch, heads, value_dim, key_dim]`, from the state before the first.
    pub fn run(&self, state: &Array) -> Result<(Array, Array)> {
        match self.values.dim(1) {
            1 => self.step(state),
            length => {
                self.chunks(state, CHUNK.min(length.unsigned_abs().next_power_of_two() as i32))
            }
        }
    }

    /// One position.
    fn step(&self, state: &Array) -> Result<(Array, Array)> {
        let column = |a: &Array| ops::swap_axes(&ops::swap_axes(a, 1, 2)?, -1, -2);
        let row = |a: &Array| ops::swap_axes(a, 1, 2);
        let read = ops::matmul(state, &column(self.read)?)?;
        let state = ops::multiply(state, &ops::exp(&row(self.log_decay)?)?)?;
        let state = ops::add(&state, &ops::multiply(&read, &row(self.written)?)?)?;
        let new = ops::multiply(&column(self.values)?, &row(self.keys)?)?;
        let state = ops::add(&state, &new)?;
        let y = ops::matmul(&state, &column(self.queries)?)?;
        Ok((ops::reshape(&y, self.values.shape())?, state))
    }

    /// Chunk by chunk. Within one let cₜ = Σ_{s ≤ t} log wₛ; what is read, uₜ = Sₜ₋₁ aₜ (as rows),
    /// solves a triangular system,
    ///
    /// ```text
    /// (I − A_b) U = (exp(cₜ₋₁) ∘ A) S₀ᵀ + A_k V,  (A_x)ₜₛ = Σ aₜ xₛ exp(cₜ₋₁ − cₛ) for s < t
    /// ```
    ///
    /// and with (Q_x)ₜₛ = Σ qₜ xₛ exp(cₜ − cₛ) for s ≤ t
    ///
    /// ```text
    /// Y = (exp(c) ∘ Q) S₀ᵀ + Q_b U + Q_k V
    /// S = S₀ diag(exp(c_last)) + Uᵀ (exp(c_last − c) ∘ B) + Vᵀ (exp(c_last − c) ∘ K)
    /// ```
    fn chunks(&self, state: &Array, chunk: i32) -> Result<(Array, Array)> {
        let length = self.values.dim(1);
        let padding = (chunk - length % chunk) % chunk;
        // Zeros after the last position leave the state as it is.
        let by_head = |a: &Array| {
            let padded = if padding == 0 { a.clone() } else { ops::pad_end(a, 1, padding)? };
            ops::contiguous(&ops::transpose(&padded, &[0, 2, 1, 3])?)
        };
        let (queries, keys) = (by_head(self.queries)?, by_head(self.keys)?);
        let (values, log_decay) = (by_head(self.values)?, by_head(self.log_decay)?);
        let (read, written) = (by_head(self.read)?, by_head(self.written)?);
        let (mut state, mut outputs) = (state.clone(), Vec::new());
        for start in (0..length).step_by(chunk as usize) {
            let part = |a: &Array| ops::slice_axis(a, 2, start, start + chunk);
            let (queries, keys, values) = (part(&queries)?, part(&keys)?, part(&values)?);
            let (read, written, log_decay) = (part(&read)?, part(&written)?, part(&log_decay)?);
            let sums = ops::cumsum(&log_decay, 2, false, true)?;
            let before = ops::subtract(&sums, &log_decay)?;
            let of_queries = Pairs::new(&queries, &sums, &sums, true)?;
            let of_reads = Pairs::new(&read, &before, &sums, false)?;

            let transposed = ops::swap_axes(&state, -1, -2)?;
            let carried = |a: &Array, sums: &Array| {
                ops::matmul(&ops::multiply(a, &ops::exp(sums)?)?, &transposed)
            };
            let right = ops::matmul(&of_reads.with(&keys)?, &values)?;
            let right = ops::add(&carried(&read, &before)?, &right)?;
            let system = ops::negative(&of_reads.with(&written)?)?;
            let taken = ops::matmul(&inverse_of_unit_lower(&system)?, &right)?;

            let y = ops::matmul(&of_queries.with(&written)?, &taken)?;
            let y = ops::add(&y, &ops::matmul(&of_queries.with(&keys)?, &values)?)?;
            outputs.push(ops::add(&carried(&queries, &sums)?, &y)?);

            let last = ops::slice_axis(&sums, 2, chunk - 1, chunk)?;
            let left = ops::exp(&ops::subtract(&last, &sums)?)?;
            let added = |rows: &Array, columns: &Array| {
                ops::matmul(&ops::swap_axes(rows, -1, -2)?, &ops::multiply(columns, &left)?)
            };
            state = ops::multiply(&state, &ops::exp(&last)?)?;
            state = ops::add(&state, &added(&taken, &written)?)?;
            state = ops::add(&state, &added(&values, &keys)?)?;
        }
        let y = ops::concatenate(&outputs.iter().collect::<Vec<_>>(), 2)?;
        let y = ops::transpose(&ops::slice_axis(&y, 2, 0, length)?, &[0, 2, 1, 3])?;
        Ok((y, state))
    }
}

/// Rows of a chunk, times the decay between each of them and every earlier one,
/// `[batch, heads, key_dim, length, length]`.
struct Pairs {
    weighted: Array,
    inclusive: bool,
}

impl Pairs {
    /// Rows whose decays are summed up to `to`, over those of the others, `from`; `inclusive` of
    /// their own position.
    fn new(rows: &Array, to: &Array, from: &Array, inclusive: bool) -> Result<Self> {
        let by_column = |a: &Array| ops::swap_axes(a, -1, -2);
        let to = ops::expand_dims(&by_column(to)?, -1)?;
        let from = ops::expand_dims(&by_column(from)?, -2)?;
        // Above the diagonal the difference is positive; it must not overflow before it is dropped.
        let difference = ops::lower_triangle(&ops::subtract(&to, &from)?, inclusive)?;
        let rows = ops::expand_dims(&by_column(rows)?, -1)?;
        Ok(Self { weighted: ops::multiply(&ops::exp(&difference)?, &rows)?, inclusive })
    }

    /// Their products with other rows, `[batch, heads, length, length]`.
    fn with(&self, others: &Array) -> Result<Array> {
        let others = ops::expand_dims(&ops::swap_axes(others, -1, -2)?, -2)?;
        let products = ops::sum(&ops::multiply(&self.weighted, &others)?, 2)?;
        ops::lower_triangle(&ops::reshape(&products, &self.shape())?, self.inclusive)
    }

    fn shape(&self) -> [i32; 4] {
        let dim = |axis| self.weighted.dim(axis);
        [dim(0), dim(1), dim(3), dim(4)]
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::mlx::{self, DeviceKind, Dtype};

    /// Numbers between −1 and 1 without order.
    fn noise(shape: &[i32], seed: f32) -> Array {
        let count: i32 = shape.iter().product();
        let values: Vec<f32> = (0..count).map(|i| ((i as f32 + seed) * 78.233).sin()).collect();
        mlx::from_f32(&values, shape)
    }

    #[track_caller]
    fn assert_close(actual: &Array, expected: &Array) {
        assert_eq!(actual.shape(), expected.shape());
        let (actual, expected) =
            (mlx::to_f32_vec(actual).unwrap(), mlx::to_f32_vec(expected).unwrap());
        let error = actual.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(error < 1e-4, "off by {error}");
    }

    #[test]
    fn chunks_agree_with_single_steps_however_fast_columns_fade() {
        mlx::enter(DeviceKind::Cpu).unwrap();
        let (length, heads, key_dim, value_dim) = (21, 2, 4, 3);
        let keyed = |seed| noise(&[2, length, heads, key_dim], seed);
        let values = noise(&[2, length, heads, value_dim], 0.3);
        let start = noise(&[2, heads, value_dim, key_dim], 0.6);
        for strength in [1.0, 200.0] {
            let log_decay = ops::square(&keyed(0.4)).unwrap();
            let log_decay = ops::multiply(&log_decay, &mlx::scalar(-strength)).unwrap();
            let half = mlx::scalar(0.5);
            let rule = GeneralizedDeltaRule {
                queries: &keyed(0.1),
                keys: &keyed(0.2),
                values: &values,
                log_decay: &log_decay,
                read: &ops::multiply(&keyed(0.5), &half).unwrap(),
                written: &ops::multiply(&keyed(0.7), &half).unwrap(),
            };
            let (mut state, mut outputs) = (start.clone(), Vec::new());
            for t in 0..length {
                let at = |a: &Array| ops::slice_axis(a, 1, t, t + 1).unwrap();
                let step = GeneralizedDeltaRule {
                    queries: &at(rule.queries),
                    keys: &at(rule.keys),
                    values: &at(rule.values),
                    log_decay: &at(rule.log_decay),
                    read: &at(rule.read),
                    written: &at(rule.written),
                };
                let (y, after) = step.step(&state).unwrap();
                outputs.push(y);
                state = after;
            }
            let expected = ops::concatenate(&outputs.iter().collect::<Vec<_>>(), 1).unwrap();
            for chunk in [2, 8, 16, 32] {
                let (y, after) = rule.chunks(&start, chunk).unwrap();
                assert_close(&y, &expected);
                assert_close(&after, &state);
            }
        }
    }

    #[test]
    fn without_low_rank_and_decay_it_sums_up_what_is_written() {
        mlx::enter(DeviceKind::Cpu).unwrap();
        let ones = mlx::from_f32(&[1.0; 5], &[1, 5, 1, 1]);
        let zeros = ops::zeros(&[1, 5, 1, 1], Dtype::Float32).unwrap();
        let rule = GeneralizedDeltaRule {
            queries: &ones,
            keys: &ones,
            values: &ones,
            log_decay: &zeros,
            read: &zeros,
            written: &zeros,
        };
        let start = ops::zeros(&[1, 1, 1, 1], Dtype::Float32).unwrap();
        let y = rule.run(&start).unwrap().0;
        assert_eq!(mlx::to_f32_vec(&y).unwrap(), [1.0, 2.0, 3.0, 4.0, 5.0]);
    }
}
