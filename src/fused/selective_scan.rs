//! The heads of a Mamba 2 mixer (Dao and Gu 2024), between its convolution and its norm.

use super::cuda;
use super::device::Device;
use super::math::{kept_or_zeros, softplus};
use super::ssm::Scan;
use crate::error::Result;
use crate::mlx::{Array, Dtype, ops, scalar};

/// The weights and sizes of the heads.
#[derive(Debug)]
pub struct SelectiveScanParams {
    /// Heads.
    pub heads: i32,
    /// Features of a head.
    pub head_dim: i32,
    /// Groups of heads that share B and C; divides `heads`.
    pub groups: i32,
    /// Numbers that each feature of a head remembers.
    pub state: i32,
    /// `[heads]`, `f32`, as all numbers of the recurrence are: its errors add up.
    pub step_bias: Array,
    /// A = −exp(A_log), `[groups, heads per group]`, `f32`.
    pub a: Array,
    /// `[heads, 1]`, `f32`.
    pub d: Array,
    /// The least and the largest step.
    pub step_limit: (f32, f32),
}

impl SelectiveScanParams {
    /// Δ = softplus(raw + bias), within the limits.
    fn steps(&self, raw: &Array) -> Result<Array> {
        let shifted = ops::add(&ops::astype(raw, Dtype::Float32)?, &self.step_bias)?;
        let mut steps = softplus(&shifted)?;
        let (least, largest) = self.step_limit;
        if least > 0.0 {
            steps = ops::maximum(&steps, &scalar(least))?;
        }
        if largest < f32::INFINITY {
            steps = ops::minimum(&steps, &scalar(largest))?;
        }
        Ok(steps)
    }
}

/// scan(x, Δ, B, C) + D · x, `[batch, length, heads · head_dim]` of the type of `mixed`, and the
/// state after the last position, `[batch, heads, head_dim, state]`, `f32`.
///
/// `mixed` are x, B and C of one sequence behind the convolution,
/// `[batch, length, heads · head_dim + 2 · groups · state]`; `raw_steps` is
/// `[batch, length, heads]`; `before` is the state before the first position, `None` for zeros.
pub fn selective_scan(
    device: Device,
    mixed: &Array,
    raw_steps: &Array,
    before: Option<&Array>,
    params: &SelectiveScanParams,
) -> Result<(Array, Array)> {
    let &SelectiveScanParams { heads, head_dim, state, .. } = params;
    let shape = [mixed.dim(0), heads, head_dim, state];
    let before = kept_or_zeros(before, &shape, Dtype::Float32)?;
    if device.cuda().is_some()
        && let Some(result) = cuda::recurrence::selective_scan(mixed, raw_steps, &before, params)?
    {
        return Ok(result);
    }
    selective_scan_composed(device, mixed, raw_steps, &before, params)
}

/// [`selective_scan`], composed.
fn selective_scan_composed(
    device: Device,
    mixed: &Array,
    raw_steps: &Array,
    before: &Array,
    params: &SelectiveScanParams,
) -> Result<(Array, Array)> {
    let &SelectiveScanParams { heads, head_dim, groups, state, .. } = params;
    let (batch, length) = (mixed.dim(0), mixed.dim(1));
    let (inner, shared) = (heads * head_dim, groups * state);
    let parts = ops::split_at(mixed, &[inner, inner + shared], -1)?;
    let part = |index: usize, shape: &[i32]| {
        let part = ops::reshape(&parts[index], &[&[batch, length], shape].concat())?;
        ops::astype(&part, Dtype::Float32)
    };
    let x = part(0, &[heads, head_dim])?;
    let (b, c) = (part(1, &[groups, state])?, part(2, &[groups, state])?);
    let steps = params.steps(raw_steps)?;
    let weighted = ops::multiply(&x, &ops::expand_dims(&steps, -1)?)?;
    let by_group = [batch, length, groups, heads / groups, head_dim];
    let log_decay = ops::multiply(&ops::reshape(&steps, &by_group[..4])?, &params.a)?;
    let weighted = ops::reshape(&weighted, &by_group)?;
    let scan = Scan { x: &weighted, log_decay: &log_decay, b: &b, c: &c };
    let shape = [batch, groups, heads / groups, head_dim, state];
    let (y, after) = scan.run(device, &ops::reshape(before, &shape)?)?;
    let y = ops::reshape(&y, &[batch, length, heads, head_dim])?;
    let y = ops::add(&y, &ops::multiply(&params.d, &x)?)?;
    let y = ops::astype(&ops::reshape(&y, &[batch, length, inner])?, mixed.dtype())?;
    Ok((y, ops::reshape(&after, &[batch, heads, head_dim, state])?))
}
