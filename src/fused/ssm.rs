//! The selective state-space recurrence of Mamba 2 (Dao and Gu 2024, "Transformers are SSMs").
//!
//! For each head, with a step Δₜ, a decay aₜ = exp(Δₜ · A), inputs xₜ `[head_dim]`, and Bₜ and Cₜ
//! `[state]` that a group of heads shares:
//!
//! ```text
//! hₜ = aₜ · hₜ₋₁ + Δₜ · xₜ ⊗ Bₜ
//! yₜ = hₜ · Cₜ
//! ```

use super::cpu;
use super::device::{Backend, Device};
use crate::error::Result;
use crate::mlx::{Array, ops};

/// Positions that are computed as one block of (masked, decayed) attention.
const CHUNK: i32 = 256;

/// What one pass over the recurrence reads, all in `f32`.
#[derive(Debug)]
pub struct Scan<'a> {
    /// Δ · x, `[batch, length, groups, heads per group, head_dim]`.
    pub x: &'a Array,
    /// Δ · A, the logarithms of the decays, `[batch, length, groups, heads per group]`.
    pub log_decay: &'a Array,
    /// B, `[batch, length, groups, state]`.
    pub b: &'a Array,
    /// C, of the same shape.
    pub c: &'a Array,
}

impl Scan<'_> {
    /// y, of the shape of `x`, and the state after the last position,
    /// `[batch, groups, heads per group, head_dim, state]`, from the state before the first.
    pub fn run(&self, device: Device, state: &Array) -> Result<(Array, Array)> {
        self.run_in_blocks(device, state, CHUNK)
    }

    /// The same with so many positions as one block where it is composed: its scores are the square
    /// of it for each head.
    pub fn run_in_blocks(
        &self,
        device: Device,
        state: &Array,
        chunk: i32,
    ) -> Result<(Array, Array)> {
        let Self { x, log_decay, b, c } = *self;
        match device.backend(x) {
            Backend::Cpu(options) => {
                cpu::recurrence::recurrence(options, [c, b, x, log_decay], None, state)
            }
            Backend::Mlx | Backend::Plain => self.run_in_chunks(state, chunk),
        }
    }

    /// [`Scan::run`], composed.
    pub fn run_plain(&self, state: &Array) -> Result<(Array, Array)> {
        self.run_in_chunks(state, CHUNK)
    }

    fn run_in_chunks(&self, state: &Array, chunk: i32) -> Result<(Array, Array)> {
        let length = self.x.dim(1);
        if length == 1 {
            return self.step(state);
        }
        let (mut state, mut outputs) = (state.clone(), Vec::new());
        for start in (0..length).step_by(chunk as usize) {
            let stop = length.min(start + chunk);
            let part = |a: &Array| ops::slice_axis(a, 1, start, stop);
            let (x, log_decay) = (part(self.x)?, part(self.log_decay)?);
            let (b, c) = (part(self.b)?, part(self.c)?);
            let part = Scan { x: &x, log_decay: &log_decay, b: &b, c: &c };
            let (output, after) = part.block(&state)?;
            outputs.push(output);
            state = after;
        }
        let y = match outputs.as_slice() {
            [single] => single.clone(),
            several => ops::concatenate(&several.iter().collect::<Vec<_>>(), 1)?,
        };
        Ok((y, state))
    }

    /// One position.
    fn step(&self, state: &Array) -> Result<(Array, Array)> {
        let (batch, groups, heads) = (self.x.dim(0), self.x.dim(2), self.x.dim(3));
        let (head_dim, size) = (self.x.dim(4), self.b.dim(3));
        let x = ops::reshape(self.x, &[batch, groups, heads, head_dim, 1])?;
        let decay = ops::exp(&ops::reshape(self.log_decay, &[batch, groups, heads, 1, 1])?)?;
        let b = ops::reshape(self.b, &[batch, groups, 1, 1, size])?;
        let c = ops::reshape(self.c, &[batch, groups, size, 1])?;
        let state = ops::add(&ops::multiply(&decay, state)?, &ops::multiply(&x, &b)?)?;
        let flat = ops::reshape(&state, &[batch, groups, heads * head_dim, size])?;
        let y = ops::matmul(&flat, &c)?;
        Ok((ops::reshape(&y, self.x.shape())?, state))
    }

    /// Several positions at once. With cₜ = Σ_{s ≤ t} log aₛ, the decay from s to t is exp(cₜ −
    /// cₛ), and
    ///
    /// ```text
    /// yₜ = Σ_{s ≤ t} (Cₜ · Bₛ) exp(cₜ − cₛ) Δₛ xₛ + exp(cₜ) h₀ · Cₜ
    /// ```
    fn block(&self, state: &Array) -> Result<(Array, Array)> {
        let length = self.x.dim(1);
        let by_head = |a: &Array| ops::transpose(a, &[0, 2, 3, 1]);
        let sums = by_head(&ops::cumsum(self.log_decay, 1, false, true)?)?;
        // `[batch, groups, 1, length, state]` each, `[batch, groups, heads, length, head_dim]` for
        // x.
        let by_group = |a: &Array| ops::expand_dims(&ops::transpose(a, &[0, 2, 1, 3])?, 2);
        let (b, c) = (by_group(self.b)?, by_group(self.c)?);
        let x = ops::transpose(self.x, &[0, 2, 3, 1, 4])?;

        let (to, from) = (ops::expand_dims(&sums, -1)?, ops::expand_dims(&sums, -2)?);
        // Above the diagonal the difference is positive; it must not overflow before it is dropped.
        let decay = ops::exp(&ops::lower_triangle(&ops::subtract(&to, &from)?, true)?)?;
        let scores = ops::matmul(&c, &ops::swap_axes(&b, -1, -2)?)?;
        let scores = ops::lower_triangle(&ops::multiply(&scores, &decay)?, true)?;
        let within = ops::matmul(&scores, &x)?;
        let before = ops::matmul(&c, &ops::swap_axes(state, -1, -2)?)?;
        let y = ops::add(&within, &ops::multiply(&ops::exp(&to)?, &before)?)?;

        let last = ops::slice_axis(&to, 3, length - 1, length)?;
        let left = ops::multiply(&x, &ops::exp(&ops::subtract(&last, &to)?)?)?;
        let added = ops::matmul(&ops::swap_axes(&left, -1, -2)?, &b)?;
        let state = ops::add(&ops::multiply(&ops::exp(&last)?, state)?, &added)?;
        Ok((ops::transpose(&y, &[0, 3, 1, 2, 4])?, state))
    }
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

    #[test]
    fn chunks_and_the_kernel_agree_with_single_steps() {
        mlx::enter(DeviceKind::Cpu).unwrap();
        let (length, groups, heads, head_dim, size) = (11, 2, 3, 4, 5);
        let x = noise(&[2, length, groups, heads, head_dim], 0.1);
        let steps = ops::negative(&ops::square(&noise(&[2, length, groups, heads], 0.2)).unwrap());
        let (b, c) =
            (noise(&[2, length, groups, size], 0.3), noise(&[2, length, groups, size], 0.4));
        let log_decay = steps.unwrap();
        let scan = Scan { x: &x, log_decay: &log_decay, b: &b, c: &c };
        let start = noise(&[2, groups, heads, head_dim, size], 0.5);
        let (expected, expected_state) = scan.run_in_chunks(&start, 1).unwrap();
        let of_chunks = [3, 4, 256].map(|chunk| scan.run_in_chunks(&start, chunk).unwrap());
        for (y, state) in
            of_chunks.into_iter().chain([scan.run(Device::default(), &start).unwrap()])
        {
            for (actual, expected) in [(&y, &expected), (&state, &expected_state)] {
                assert_eq!(actual.shape(), expected.shape());
                let actual = mlx::to_f32_vec(actual).unwrap();
                let expected = mlx::to_f32_vec(expected).unwrap();
                assert!(actual.iter().zip(&expected).all(|(a, b)| (a - b).abs() < 1e-5));
            }
        }
    }

    #[test]
    fn a_strong_decay_leaves_nothing_infinite() {
        mlx::enter(DeviceKind::Cpu).unwrap();
        let x = noise(&[1, 8, 1, 1, 2], 0.1);
        let log_decay = mlx::from_f32(&[-1000.0; 8], &[1, 8, 1, 1]);
        let b = noise(&[1, 8, 1, 2], 0.2);
        let scan = Scan { x: &x, log_decay: &log_decay, b: &b, c: &b };
        let start = ops::zeros(&[1, 1, 1, 2, 2], x.dtype()).unwrap();
        let (y, state) = scan.run_in_chunks(&start, CHUNK).unwrap();
        for array in [y, state] {
            assert!(mlx::to_f32_vec(&array).unwrap().iter().all(|value| value.is_finite()));
        }
    }
}
