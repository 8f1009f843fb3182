//! The mixer of PLaMo 2 (Preferred Networks 2025): Mamba 2's recurrence of heads, whose steps,
//! inputs and outputs are made of the convolved features as in Mamba.

use super::conv::CausalConv;
use super::linear::{Linear, Projections, computed, regrouped};
use super::mixer::Mixer;
use super::residual::Input;
use super::rows::{Row, Rows};
use crate::cache::Cache;
use crate::error::Result;
use crate::fused::Device;
use crate::fused::activation::swiglu;
use crate::fused::norm::rms_norm;
use crate::fused::selective_scan::{SelectiveScanParams, selective_scan};
use crate::mlx::{Array, ops};
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
    heads: SelectiveScanParams,
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
        let order = regrouped(heads, &[head_dim, head_dim]);
        let input = linear("in_proj", dims, 2 * inner)?.with_rows(&order)?;
        let a = ops::negative(&ops::exp(&w.take_f32("A_log", &[heads])?)?)?;
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
            heads: SelectiveScanParams {
                heads,
                head_dim,
                groups: 1,
                state,
                step_bias: w.take_f32("dt_bias", &[heads])?,
                a: computed(ops::reshape(&a, &[1, heads])?)?,
                d: ops::reshape(&w.take_f32("D", &[heads])?, &[heads, 1])?,
                step_limit: (0.0, f32::INFINITY),
            },
            output: linear("out_proj", inner, dims)?,
            device: w.device(),
        })
    }

    /// h · C + D · x of a sequence, `[batch, length, inner]`, from what is projected for x.
    fn recurrence(&self, x: &Array, row: Row) -> Result<Array> {
        let HeadMambaConfig { state: size, eps, .. } = self.config;
        let state = row.cache.state()?;
        let x = self.conv.forward(x, state, 0)?;
        let parts = ops::split_at(&self.project.forward(&x)?, &[size, 2 * size], -1)?;
        let normed =
            |part: usize| rms_norm(self.device, &parts[part], Some(&self.norms[part]), eps);
        let mixed = ops::concatenate(&[&x, &normed(0)?, &normed(1)?], -1)?;
        let steps = self.step.forward(&normed(2)?)?;
        let (y, after) = selective_scan(self.device, &mixed, &steps, state.get(1), &self.heads)?;
        state.set(1, after);
        state.advance(row.length);
        Ok(y)
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
