//! The mixer of PLaMo 2 (Preferred Networks 2025): Mamba 2's recurrence of heads, whose steps,
//! inputs and outputs are made of the convolved features as in Mamba.

use super::conv::CausalConv;
use super::linear::{Linear, Projections};
use super::mixer::Mixer;
use super::residual::Input;
use super::rows::{Row, Rows};
use crate::cache::Cache;
use crate::error::Result;
use crate::fused::Device;
use crate::fused::activation::swiglu;
use crate::fused::norm::rms_norm;
use crate::fused::ssm::Scan;
use crate::mlx::{Array, Dtype, eval, from_u32, ops, scalar};
use crate::weights::Weights;

/// What varies between architectures.
#[derive(Debug, Clone, Copy)]
pub struct HeadMambaConfig {
    /// Input and output features.
    pub dims: i32,
    /// Heads.
    pub heads: i32,
    /// Features of a head.
    pub head_dim: i32,
    /// Numbers that each feature remembers.
    pub state: i32,
    /// Positions that the convolution sees.
    pub kernel: i32,
    /// Features that steps are made of.
    pub rank: i32,
    /// Epsilon of the norms.
    pub eps: f32,
}

/// z, x = in(u); x = silu(conv(x)); B, C, Δ = norm(project(x)); Δ = softplus(step(Δ) + dt_bias);
/// h = exp(−exp(A_log) · Δ) · h + Δ · x ⊗ B; out(silu(z) · (h · C + D · x)).
#[derive(Debug)]
pub struct HeadMamba {
    config: HeadMambaConfig,
    /// z and x.
    input: Projections,
    conv: CausalConv,
    /// From the features to B, C and those that steps are made of.
    project: Linear,
    /// The weights of the norms of these.
    norms: [Array; 3],
    step: Linear,
    /// `[heads]`, `f32`, as all numbers of the recurrence are.
    step_bias: Array,
    /// −exp(A_log), `[1, heads]`, `f32`.
    a: Array,
    /// `[heads, 1]`, `f32`.
    d: Array,
    output: Linear,
    device: Device,
}

impl HeadMamba {
    /// Takes `in_proj`, which gives each head its part of z before that of x, `conv1d`,
    /// `bcdt_proj`, `B_norm_weight`, `C_norm_weight`, `dt_norm_weight`, `dt_proj`, `dt_bias`,
    /// `A_log`, `D` and `out_proj`.
    pub fn new(w: &Weights, config: HeadMambaConfig) -> Result<Self> {
        let HeadMambaConfig { dims, heads, head_dim, state, kernel, rank, .. } = config;
        let inner = heads * head_dim;
        let linear = |name: &str, inputs, outputs| Linear::new(&w.at(name), inputs, outputs, false);
        let of_part = |part: i32| {
            let start = move |head: i32| (2 * head + part) * head_dim;
            (0..heads).flat_map(move |head| start(head)..start(head) + head_dim)
        };
        let rows: Vec<u32> = of_part(0).chain(of_part(1)).map(i32::unsigned_abs).collect();
        let input = linear("in_proj", dims, 2 * inner)?;
        let input = input.with_rows(&from_u32(&rows, &[2 * inner]))?;
        let a = ops::negative(&ops::exp(&w.take_f32("A_log", &[heads])?)?)?;
        let a = ops::reshape(&a, &[1, heads])?;
        eval(&[&a])?;
        Ok(Self {
            config,
            input: Projections::stacked(input, &[inner, inner]),
            conv: CausalConv::new(&w.at("conv1d"), inner, kernel, false)?.with_silu(),
            project: linear("bcdt_proj", inner, rank + 2 * state)?,
            norms: [
                w.take("B_norm_weight", &[state])?,
                w.take("C_norm_weight", &[state])?,
                w.take("dt_norm_weight", &[rank])?,
            ],
            step: linear("dt_proj", rank, heads)?,
            step_bias: w.take_f32("dt_bias", &[heads])?,
            a,
            d: ops::reshape(&w.take_f32("D", &[heads])?, &[heads, 1])?,
            output: linear("out_proj", inner, dims)?,
            device: w.device(),
        })
    }

    /// h · C + D · x of a sequence, `[batch, length, inner]`, from what is projected for x.
    fn recurrence(&self, x: &Array, row: Row) -> Result<Array> {
        let HeadMambaConfig { heads, head_dim, state: size, eps, .. } = self.config;
        let (batch, length, dtype) = (x.dim(0), row.length, x.dtype());
        let state = row.cache.state()?;
        let x = self.conv.forward(x, state, 0)?;
        let parts = ops::split_at(&self.project.forward(&x)?, &[size, 2 * size], -1)?;
        let normed =
            |part: usize| rms_norm(self.device, &parts[part], Some(&self.norms[part]), eps);
        let steps = ops::astype(&self.step.forward(&normed(2)?)?, Dtype::Float32)?;
        let steps = ops::log_add_exp(&ops::add(&steps, &self.step_bias)?, &scalar(0.0))?;
        let numbers = |part: usize| {
            let normed = ops::astype(&normed(part)?, Dtype::Float32)?;
            ops::reshape(&normed, &[batch, length, 1, size])
        };
        let x = ops::astype(&ops::reshape(&x, &[batch, length, heads, head_dim])?, Dtype::Float32)?;
        let weighted = ops::multiply(&x, &ops::expand_dims(&steps, -1)?)?;
        let log_decay = ops::multiply(&ops::reshape(&steps, &[batch, length, 1, heads])?, &self.a)?;
        let scan = Scan {
            x: &ops::reshape(&weighted, &[batch, length, 1, heads, head_dim])?,
            log_decay: &log_decay,
            b: &numbers(0)?,
            c: &numbers(1)?,
        };
        let shape = [batch, 1, heads, head_dim, size];
        let before = match state.get(1) {
            // One that was read from a file may have another type.
            Some(before) => ops::astype(&ops::reshape(before, &shape)?, Dtype::Float32)?,
            None => ops::zeros(&shape, Dtype::Float32)?,
        };
        let (y, after) = scan.run(self.device, &before)?;
        state.set(1, ops::reshape(&after, &[batch, heads, head_dim, size])?);
        state.advance(length);
        let y = ops::reshape(&y, &[batch, length, heads, head_dim])?;
        let y = ops::add(&y, &ops::multiply(&self.d, &x)?)?;
        ops::astype(&ops::reshape(&y, &[batch, length, heads * head_dim])?, dtype)
    }
}

impl Mixer for HeadMamba {
    fn forward(&self, x: &Input, rows: &mut Rows) -> Result<Array> {
        let projected = x.project(&self.input)?;
        let y = rows.mix([&projected[1]], |[x], row| self.recurrence(x, row))?;
        self.output.forward(&swiglu(self.device, &projected[0], &y)?)
    }

    fn make_cache(&self) -> Cache {
        Cache::arrays_of(2)
    }
}
