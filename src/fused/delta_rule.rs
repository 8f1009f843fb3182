//! The gated delta rule (Yang et al. 2024, "Gated Delta Networks").
//!
//! A head's state S `[value_dim, key_dim]` is a memory that a key reads and corrects: with a decay
//! gₜ and a rate βₜ,
//!
//! ```text
//! δₜ = βₜ (vₜ − gₜ Sₜ₋₁ kₜ)
//! Sₜ = gₜ Sₜ₋₁ + δₜ kₜᵀ
//! yₜ = Sₜ qₜ
//! ```
//!
//! One key head serves a group of value heads.

use super::cpu;
use super::device::{Backend, Device};
use crate::error::Result;
use crate::mlx::{Array, Dtype, ops, scalar};

/// Positions that are computed at once; a power of two.
const CHUNK: i32 = 64;

/// What one pass reads, all in `f32`.
#[derive(Debug)]
pub struct DeltaRule<'a> {
    /// `[batch, length, key_heads, key_dim]`.
    pub queries: &'a Array,
    /// `[batch, length, key_heads, key_dim]`.
    pub keys: &'a Array,
    /// `[batch, length, key_heads, value heads per key head, value_dim]`.
    pub values: &'a Array,
    /// log g, `[batch, length, key_heads, value heads per key head]`.
    pub log_decay: &'a Array,
    /// β, of the same shape.
    pub rate: &'a Array,
}

impl DeltaRule<'_> {
    /// y, of the shape of `values`, and the state after the last position, `[batch, key_heads,
    /// value heads per key head, value_dim, key_dim]`, from the state before the first.
    pub fn run(&self, device: Device, state: &Array) -> Result<(Array, Array)> {
        let Self { queries, keys, values, log_decay, rate } = *self;
        match device.backend(values) {
            Backend::Cpu(options) => {
                let arrays = [queries, keys, values, log_decay];
                cpu::recurrence::recurrence(options, arrays, Some(rate), state)
            }
            Backend::Mlx | Backend::Plain => self.run_plain(state),
        }
    }

    /// [`DeltaRule::run`], composed.
    pub fn run_plain(&self, state: &Array) -> Result<(Array, Array)> {
        let length = self.values.dim(1);
        if length == 1 {
            return self.step(state);
        }
        self.chunks(state, CHUNK.min(length.unsigned_abs().next_power_of_two() as i32))
    }

    /// One position. The state is read once for both products:
    /// yₜ = gₜ Sₜ₋₁ qₜ + δₜ (kₜ · qₜ).
    fn step(&self, state: &Array) -> Result<(Array, Array)> {
        let [batch, _, key_heads, heads, value_dim] = five(self.values);
        let key_dim = self.keys.dim(3);
        let key = ops::reshape(self.keys, &[batch, key_heads, key_dim, 1])?;
        let query = ops::reshape(self.queries, &[batch, key_heads, key_dim, 1])?;
        let flat = ops::reshape(state, &[batch, key_heads, heads * value_dim, key_dim])?;
        let read = ops::matmul(&flat, &ops::concatenate(&[&key, &query], -1)?)?;
        let read = ops::reshape(&read, &[batch, key_heads, heads, value_dim, 2])?;
        let scalars = [batch, key_heads, heads, 1, 1];
        let decay = ops::exp(&ops::reshape(self.log_decay, &scalars)?)?;
        let rate = ops::reshape(self.rate, &scalars)?;
        let read = ops::split_at(&ops::multiply(&decay, &read)?, &[1], -1)?;
        let value = ops::reshape(self.values, &[batch, key_heads, heads, value_dim, 1])?;
        let delta = ops::multiply(&rate, &ops::subtract(&value, &read[0])?)?;
        let row = [batch, key_heads, 1, 1, key_dim];
        let key = ops::reshape(self.keys, &row)?;
        let query = ops::reshape(self.queries, &row)?;
        let overlap = ops::sum(&ops::multiply(&key, &query)?, -1)?;
        let y = ops::add(&read[1], &ops::multiply(&delta, &overlap)?)?;
        let state = ops::multiply(&decay, state)?;
        let state = ops::add(&state, &ops::multiply(&delta, &key)?)?;
        Ok((ops::reshape(&y, self.values.shape())?, state))
    }

    /// Chunk by chunk, in the form of Yang et al. 2024, "Parallelizing Linear Transformers with the
    /// Delta Rule". Within a chunk let cₜ = Σ_{s ≤ t} log gₛ and Dₜₛ = exp(cₜ − cₛ) for s ≤ t. The
    /// corrections δ (as rows) solve a triangular system,
    ///
    /// ```text
    /// (I + A) δ = β (V − exp(c) K S₀ᵀ),  Aₜₛ = βₜ Dₜₛ (kₜ · kₛ) for s < t
    /// ```
    ///
    /// so that with the inverse of I + A, which does not depend on the state,
    ///
    /// ```text
    /// y = exp(c) Q S₀ᵀ + (D ∘ Q Kᵀ) δ
    /// S = exp(c_last) S₀ + δᵀ exp(c_last − c) K
    /// ```
    fn chunks(&self, state: &Array, chunk: i32) -> Result<(Array, Array)> {
        let [batch, length, key_heads, heads, value_dim] = five(self.values);
        let key_dim = self.keys.dim(3);
        let count = (length + chunk - 1) / chunk;
        let padding = count * chunk - length;
        // A rate of 0 and a decay of 1 after the last position leave the state as it is.
        let padded = |a: &Array| match padding {
            0 => Ok(a.clone()),
            _ => ops::pad_end(a, 1, padding),
        };
        // `[batch, key_heads, heads or 1, count, chunk, features]`.
        let by_key = |a: &Array| {
            let split = ops::reshape(&padded(a)?, &[batch, count, chunk, key_heads, 1, key_dim])?;
            ops::transpose(&split, &[0, 3, 4, 1, 2, 5])
        };
        let by_value = |a: &Array, features: i32| {
            let shape = [batch, count, chunk, key_heads, heads, features];
            ops::transpose(&ops::reshape(&padded(a)?, &shape)?, &[0, 3, 4, 1, 2, 5])
        };
        let (queries, keys) = (by_key(self.queries)?, by_key(self.keys)?);
        let values = by_value(self.values, value_dim)?;
        let rate = by_value(self.rate, 1)?;
        let sums = ops::cumsum(&by_value(self.log_decay, 1)?, -2, false, true)?;
        let last = ops::slice_axis(&sums, 4, chunk - 1, chunk)?;

        let difference = ops::subtract(&sums, &ops::swap_axes(&sums, -1, -2)?)?;
        // Above the diagonal the difference is positive; it must not overflow before it is dropped.
        let decay = ops::exp(&ops::lower_triangle(&difference, true)?)?;
        let overlaps = |rows: &Array| ops::matmul(rows, &ops::swap_axes(&keys, -1, -2)?);
        let system = ops::multiply(&ops::multiply(&rate, &decay)?, &overlaps(&keys)?)?;
        let inverse = inverse_of_unit_lower(&ops::lower_triangle(&system, false)?)?;
        let scores = ops::lower_triangle(&ops::multiply(&decay, &overlaps(&queries)?)?, true)?;

        let grown = ops::exp(&sums)?;
        let corrections = ops::matmul(&inverse, &ops::multiply(&rate, &values)?)?;
        let weighted_keys = ops::multiply(&ops::multiply(&rate, &grown)?, &keys)?;
        let readers = ops::matmul(&inverse, &weighted_keys)?;
        // What reads the state, in one: the keys of the corrections, then the queries.
        let readers = ops::concatenate(&[&readers, &ops::multiply(&grown, &queries)?], -2)?;
        let writers = ops::multiply(&ops::exp(&ops::subtract(&last, &sums)?)?, &keys)?;
        let last = ops::exp(&last)?;

        let each = |a: &Array| split_chunks(a, count);
        let (corrections, readers, scores) = (each(&corrections)?, each(&readers)?, each(&scores)?);
        let (writers, last) = (each(&writers)?, each(&last)?);
        let mut state = state.clone();
        let mut outputs = Vec::new();
        for index in 0..count as usize {
            let read = ops::matmul(&readers[index], &ops::swap_axes(&state, -1, -2)?)?;
            let read = ops::split_at(&read, &[chunk], -2)?;
            let delta = ops::subtract(&corrections[index], &read[0])?;
            outputs.push(ops::add(&read[1], &ops::matmul(&scores[index], &delta)?)?);
            let written = ops::matmul(&ops::swap_axes(&delta, -1, -2)?, &writers[index])?;
            state = ops::add(&ops::multiply(&last[index], &state)?, &written)?;
        }
        let y = ops::concatenate(&outputs.iter().collect::<Vec<_>>(), 3)?;
        let y = ops::transpose(&y, &[0, 3, 1, 2, 4])?;
        let y = if padding == 0 { y } else { ops::slice_axis(&y, 1, 0, length)? };
        Ok((y, state))
    }
}

fn five(a: &Array) -> [i32; 5] {
    [a.dim(0), a.dim(1), a.dim(2), a.dim(3), a.dim(4)]
}

/// `[batch, key_heads, heads, count, rows, columns]` as `count` arrays without the fourth axis.
fn split_chunks(a: &Array, count: i32) -> Result<Vec<Array>> {
    let pieces = ops::split_at(a, &(1..count).collect::<Vec<_>>(), 3)?;
    pieces.iter().map(|piece| ops::squeeze(piece, 3)).collect()
}

/// (I + A)⁻¹ for strictly lower triangular A, `[…, size, size]` with a power of two.
///
/// Blocks on the diagonal are inverted, and pairs of them put together: the inverse of
/// \[\[P, 0\], \[R, Q\]\] is \[\[P⁻¹, 0\], \[−Q⁻¹ R P⁻¹, Q⁻¹\]\]. Unlike the series I − A + A² − …,
/// this is stable where keys resemble each other and the powers of A grow.
pub(super) fn inverse_of_unit_lower(a: &Array) -> Result<Array> {
    let size = a.dim(-1);
    let flat = ops::reshape(a, &[-1, size, size])?;
    let batch = flat.dim(0);
    let mut inverse = ops::broadcast_to(&scalar(1.0), &[batch, size, 1, 1])?;
    let mut block = 1;
    while block < size {
        let pairs = size / (2 * block);
        let tiles = ops::reshape(&flat, &[batch, pairs, 2, block, pairs, 2, block])?;
        // The lower left tile of each pair, `[batch, pairs, block, block]`.
        let lower = ops::slice_axis(&ops::slice_axis(&tiles, 2, 1, 2)?, 5, 0, 1)?;
        let lower = ops::reshape(&lower, &[batch, pairs, block, pairs, block])?;
        let lower = ops::transpose(&ops::diagonal(&lower, 1, 3)?, &[0, 3, 1, 2])?;
        let both = ops::reshape(&inverse, &[batch, pairs, 2, block, block])?;
        let both = ops::split_at(&both, &[1], 2)?;
        let (first, second) = (ops::squeeze(&both[0], 2)?, ops::squeeze(&both[1], 2)?);
        let corner = ops::matmul(&ops::matmul(&second, &lower)?, &first)?;
        let nothing = ops::zeros(&[batch, pairs, block, block], Dtype::Float32)?;
        let upper = ops::concatenate(&[&first, &nothing], -1)?;
        let lower = ops::concatenate(&[&ops::negative(&corner)?, &second], -1)?;
        inverse = ops::concatenate(&[&upper, &lower], -2)?;
        block *= 2;
    }
    ops::reshape(&inverse, a.shape())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::mlx::{self, DeviceKind};

    /// Numbers between −1 and 1 without order.
    fn noise(shape: &[i32], seed: f32) -> Array {
        let count: i32 = shape.iter().product();
        let values: Vec<f32> = (0..count).map(|i| ((i as f32 + seed) * 78.233).sin()).collect();
        mlx::from_f32(&values, shape)
    }

    fn assert_close(actual: &Array, expected: &Array) {
        assert_eq!(actual.shape(), expected.shape());
        let (actual, expected) =
            (mlx::to_f32_vec(actual).unwrap(), mlx::to_f32_vec(expected).unwrap());
        let error = actual.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(error < 1e-4, "off by {error}");
    }

    /// Position by position.
    fn stepwise(rule: &DeltaRule, state: &Array) -> (Array, Array) {
        let (mut state, mut outputs) = (state.clone(), Vec::new());
        for t in 0..rule.values.dim(1) {
            let at = |a: &Array| ops::slice_axis(a, 1, t, t + 1).unwrap();
            let (queries, keys, values) = (at(rule.queries), at(rule.keys), at(rule.values));
            let (log_decay, rate) = (at(rule.log_decay), at(rule.rate));
            let step = DeltaRule {
                queries: &queries,
                keys: &keys,
                values: &values,
                log_decay: &log_decay,
                rate: &rate,
            };
            let (y, after) = step.step(&state).unwrap();
            outputs.push(y);
            state = after;
        }
        (ops::concatenate(&outputs.iter().collect::<Vec<_>>(), 1).unwrap(), state)
    }

    /// Keys of length 1.
    fn unit(keys: &Array) -> Array {
        let width = keys.dim(-1) as f32;
        let normed = crate::mlx::fast::rms_norm(keys, None, 0.0).unwrap();
        ops::multiply(&normed, &scalar(width.sqrt().recip())).unwrap()
    }

    #[test]
    fn chunks_and_the_kernel_agree_with_single_steps() {
        mlx::enter(DeviceKind::Cpu).unwrap();
        let (length, key_heads, heads, key_dim, value_dim) = (13, 2, 3, 8, 5);
        let queries = noise(&[2, length, key_heads, key_dim], 0.1);
        let keys = unit(&noise(&[2, length, key_heads, key_dim], 0.2));
        let values = noise(&[2, length, key_heads, heads, value_dim], 0.3);
        let log_decay = noise(&[2, length, key_heads, heads], 0.4);
        let log_decay = ops::negative(&ops::square(&log_decay).unwrap()).unwrap();
        let rate = ops::sigmoid(&noise(&[2, length, key_heads, heads], 0.5)).unwrap();
        let rule = DeltaRule {
            queries: &queries,
            keys: &keys,
            values: &values,
            log_decay: &log_decay,
            rate: &rate,
        };
        let start = noise(&[2, key_heads, heads, value_dim, key_dim], 0.6);
        let (expected, expected_state) = stepwise(&rule, &start);
        let of_chunks = [2, 4, 16, 64].map(|chunk| rule.chunks(&start, chunk).unwrap());
        for (y, state) in
            of_chunks.into_iter().chain([rule.run(Device::default(), &start).unwrap()])
        {
            assert_close(&y, &expected);
            assert_close(&state, &expected_state);
        }
    }

    #[test]
    fn a_key_that_is_repeated_without_decay_is_solved_exactly() {
        mlx::enter(DeviceKind::Cpu).unwrap();
        let length = 64;
        let keys = mlx::from_f32(&[0.6, 0.8].repeat(64), &[1, length, 1, 2]);
        let values = noise(&[1, length, 1, 1, 3], 0.3);
        let log_decay = ops::zeros(&[1, length, 1, 1], Dtype::Float32).unwrap();
        let rate = mlx::from_f32(&[1.0; 64], &[1, length, 1, 1]);
        let rule = DeltaRule {
            queries: &keys,
            keys: &keys,
            values: &values,
            log_decay: &log_decay,
            rate: &rate,
        };
        let start = ops::zeros(&[1, 1, 1, 3, 2], Dtype::Float32).unwrap();
        // A rate of 1 replaces what the key reads by the newest value.
        assert_close(&rule.chunks(&start, 64).unwrap().0, &values);
    }
}
