//! The Mamba mixer (Gu and Dao 2023): a state-space recurrence whose steps, inputs and outputs
//! depend on the token.

use super::conv::CausalConv;
use super::linear::Linear;
use super::mixer::Mixer;
use super::norm::{Norm, TakeNorm};
use super::residual::Input;
use super::rows::{Row, Rows};
use crate::cache::Cache;
use crate::error::Result;
use crate::fused::Device;
use crate::fused::activation::swiglu;
use crate::fused::math::softplus;
use crate::fused::ssm::Scan;
use crate::mlx::{Array, Dtype, eval, ops};
use crate::weights::Weights;

/// Positions that are computed together: there are heads for each number of the state.
const CHUNK: i32 = 16;

/// What varies between architectures.
#[derive(Debug, Clone, Copy)]
pub struct MambaConfig {
    /// Input and output features.
    pub dims: i32,
    /// Features inside.
    pub inner: i32,
    /// Numbers that each of them remembers.
    pub state: i32,
    /// Positions that the convolution sees.
    pub kernel: i32,
    /// Features that steps are made of.
    pub rank: i32,
    /// Whether the convolution has a bias.
    pub conv_bias: bool,
    /// Whether the projections from and to the residual stream have biases.
    pub projection_bias: bool,
    /// Takes the norms of what the steps, B and C are made of, and their epsilon; `None` for no
    /// norms.
    pub norm: Option<(TakeNorm, f32)>,
}

/// u, z = in(x); u = silu(conv(u)); Δ, B, C = project(u); Δ = softplus(step(Δ));
/// h = exp(Δ · A) · h + Δ · u · B; out(silu(z) · (C · h + D · u)).
#[derive(Debug)]
pub struct Mamba {
    config: MambaConfig,
    input: Linear,
    conv: CausalConv,
    /// From the features to those that steps are made of, B and C.
    project: Linear,
    step: Linear,
    /// Of what the steps, B and C are made of.
    norms: Option<[Norm; 3]>,
    /// A = −exp(A_log), `[state, inner]`, `f32`, as all numbers of the recurrence are.
    a: Array,
    /// `[inner]`, `f32`.
    d: Array,
    output: Linear,
    device: Device,
}

impl Mamba {
    /// Takes `in_proj`, `conv1d`, `x_proj`, where there are norms `dt_layernorm`, `b_layernorm` and
    /// `c_layernorm`, `dt_proj`, `A_log`, `D` and `out_proj`.
    pub fn new(w: &Weights, config: MambaConfig) -> Result<Self> {
        let MambaConfig { dims, inner, state, kernel, rank, projection_bias: bias, .. } = config;
        let a = ops::negative(&ops::exp(&w.take_f32("A_log", &[inner, state])?)?)?;
        let a = ops::contiguous(&ops::swap_axes(&a, 0, 1)?)?;
        eval(&[&a])?;
        let projected = rank + 2 * state;
        let norms = |(take, eps): (TakeNorm, f32)| -> Result<_> {
            Ok([
                take(&w.at("dt_layernorm"), rank, eps)?,
                take(&w.at("b_layernorm"), state, eps)?,
                take(&w.at("c_layernorm"), state, eps)?,
            ])
        };
        Ok(Self {
            config,
            input: Linear::new(&w.at("in_proj"), dims, 2 * inner, bias)?,
            conv: CausalConv::new(&w.at("conv1d"), inner, kernel, config.conv_bias)?.with_silu(),
            project: Linear::new(&w.at("x_proj"), inner, projected, false)?,
            step: Linear::new(&w.at("dt_proj"), rank, inner, true)?,
            norms: config.norm.map(norms).transpose()?,
            a,
            d: w.take_f32("D", &[inner])?,
            output: Linear::new(&w.at("out_proj"), inner, dims, bias)?,
            device: w.device(),
        })
    }

    /// The recurrence of one row, `[batch, length, inner]` to the same shape. Each number of the
    /// state is a group by itself, of as many heads as there are features.
    fn recurrence(&self, u: &Array, row: Row) -> Result<Array> {
        let MambaConfig { inner, state: size, rank, .. } = self.config;
        let (batch, length, dtype) = (u.dim(0), u.dim(1), u.dtype());
        let state = row.cache.state()?;
        let u = self.conv.forward(u, state, 0)?;
        let mut parts = ops::split_at(&self.project.forward(&u)?, &[rank, rank + size], -1)?;
        if let Some(norms) = &self.norms {
            for (part, norm) in parts.iter_mut().zip(norms) {
                *part = norm.forward(part)?;
            }
        }
        let single = |x: &Array| ops::astype(x, Dtype::Float32);
        let u = single(&u)?;
        let steps = single(&self.step.forward(&parts[0])?)?;
        let steps = softplus(&steps)?;
        let by_group = [batch, length, size, inner];
        let wide = |x: &Array| ops::expand_dims(x, 2);
        let log_decay = ops::multiply(&wide(&steps)?, &self.a)?;
        let weighted = ops::broadcast_to(&wide(&ops::multiply(&steps, &u)?)?, &by_group)?;
        let numbers = |x: &Array| ops::expand_dims(&single(x)?, -1);
        let scan = Scan {
            x: &ops::expand_dims(&weighted, -1)?,
            log_decay: &log_decay,
            b: &numbers(&parts[1])?,
            c: &numbers(&parts[2])?,
        };
        let before = match state.get(1) {
            // `[batch, inner, state]`, perhaps of another type where it was read from a file.
            Some(before) => single(&ops::swap_axes(before, 1, 2)?)?,
            None => ops::zeros(&[batch, size, inner], Dtype::Float32)?,
        };
        let before = ops::reshape(&before, &[batch, size, inner, 1, 1])?;
        let (y, after) = scan.run_in_blocks(self.device, &before, CHUNK)?;
        let after = ops::reshape(&after, &[batch, size, inner])?;
        state.set(1, ops::contiguous(&ops::swap_axes(&after, 1, 2)?)?);
        state.advance(length);
        let y = ops::sum(&ops::reshape(&y, &by_group)?, 2)?;
        let y = ops::reshape(&y, &[batch, length, inner])?;
        ops::astype(&ops::add(&y, &ops::multiply(&self.d, &u)?)?, dtype)
    }
}

impl Mixer for Mamba {
    fn forward(&self, x: &Input, rows: &mut Rows) -> Result<Array> {
        let projected = self.input.forward(x.array()?)?;
        let parts = ops::split_at(&projected, &[self.config.inner], -1)?;
        let y = rows.mix([&parts[0]], |[u], row| self.recurrence(u, row))?;
        self.output.forward(&swiglu(self.device, &parts[1], &y)?)
    }

    fn make_cache(&self) -> Cache {
        Cache::arrays_of(2)
    }
}
