//! The Mamba 2 mixer (Dao and Gu 2024): a short convolution, the selective state-space recurrence,
//! and a gated norm.

use super::conv::CausalConv;
use super::linear::Linear;
use super::mixer::Mixer;
use super::residual::Input;
use super::rows::{Row, Rows};
use crate::cache::Cache;
use crate::error::Result;
use crate::fused::Device;
use crate::fused::activation::swiglu;
use crate::fused::norm::{rms_norm, rms_norm_of_groups};
use crate::fused::selective_scan::{SelectiveScanParams, selective_scan};
use crate::mlx::{Array, eval, from_f32, ops};
use crate::weights::Weights;

/// What varies between architectures.
#[derive(Debug, Clone, Copy)]
pub struct Mamba2Config {
    /// Input and output features.
    pub dims: i32,
    /// Heads of the recurrence.
    pub heads: i32,
    /// Features of a head.
    pub head_dim: i32,
    /// Numbers that each feature of a head remembers.
    pub state: i32,
    /// Groups of heads that share B and C, and are normalized together; divides `heads`.
    pub groups: i32,
    /// Positions that the convolution sees.
    pub kernel: i32,
    /// Where the norm stands.
    pub norm: GatedNorm,
    /// Its epsilon.
    pub eps: f32,
    /// Whether the convolution has a bias.
    pub conv_bias: bool,
    /// Whether the input projection has a bias.
    pub projection_bias: bool,
    /// Whether the output projection has one.
    pub output_bias: bool,
    /// Multiply what the input projection gives: the gate, x, B, C and Δ (Yang et al. 2022, "Tensor
    /// Programs V"); `None` for 1.
    pub projection_scales: Option<[f32; 5]>,
    /// The least and the largest step.
    pub time_step_limit: (f32, f32),
}

/// Where a mixer's root-mean-square norm of each group stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GatedNorm {
    /// norm(silu(gate) · y).
    AfterGate,
    /// silu(gate) · norm(y).
    BeforeGate,
    /// There is none: silu(gate) · y.
    None,
}

/// gate, u, Δ = in(x); x, B, C = silu(conv(u)); y = scan(x, Δ, B, C) + D · x;
/// out(norm(silu(gate) · y)), or with the norm elsewhere.
#[derive(Debug)]
pub struct Mamba2 {
    config: Mamba2Config,
    input: Linear,
    /// A factor for each output of it, `[2 · inner + 2 · groups · state + heads]`.
    scales: Option<Array>,
    conv: CausalConv,
    heads: SelectiveScanParams,
    /// `[inner]`.
    norm: Option<Array>,
    output: Linear,
    device: Device,
}

impl Mamba2 {
    /// Takes `in_proj`, `conv1d`, `dt_bias`, `A_log`, `D`, where there is one `norm`, and
    /// `out_proj`.
    pub fn new(w: &Weights, config: Mamba2Config) -> Result<Self> {
        let Mamba2Config { dims, heads, head_dim, state, groups, kernel, .. } = config;
        let inner = heads * head_dim;
        let channels = inner + 2 * groups * state;
        let outputs = inner + channels + heads;
        let scales = config.projection_scales.map(|scales| {
            let sizes = [inner, inner, groups * state, groups * state, heads];
            let each = scales.into_iter().zip(sizes);
            let all: Vec<_> =
                each.flat_map(|(scale, size)| std::iter::repeat_n(scale, size as usize)).collect();
            from_f32(&all, &[outputs])
        });
        let a = ops::negative(&ops::exp(&w.take_f32("A_log", &[heads])?)?)?;
        let a = ops::reshape(&a, &[groups, heads / groups])?;
        eval(&[&a])?;
        Ok(Self {
            config,
            input: Linear::new(&w.at("in_proj"), dims, outputs, config.projection_bias)?,
            scales,
            conv: CausalConv::new(&w.at("conv1d"), channels, kernel, config.conv_bias)?.with_silu(),
            heads: SelectiveScanParams {
                heads,
                head_dim,
                groups,
                state,
                step_bias: w.take_f32("dt_bias", &[heads])?,
                a,
                d: ops::reshape(&w.take_f32("D", &[heads])?, &[heads, 1])?,
                step_limit: config.time_step_limit,
            },
            norm: match config.norm {
                GatedNorm::None => None,
                GatedNorm::AfterGate | GatedNorm::BeforeGate => {
                    Some(w.take("norm.weight", &[inner])?)
                }
            },
            output: Linear::new(&w.at("out_proj"), inner, dims, config.output_bias)?,
            device: w.device(),
        })
    }

    /// scan(x, Δ, B, C) + D · x of a sequence, `[batch, length, inner]`, from what is projected for
    /// x, B and C and for Δ.
    fn recurrence(&self, mixed: &Array, steps: &Array, row: Row) -> Result<Array> {
        let state = row.cache.state()?;
        let mixed = self.conv.forward(mixed, state, 0)?;
        let (y, after) = selective_scan(self.device, &mixed, steps, state.get(1), &self.heads)?;
        state.set(1, after);
        state.advance(row.length);
        Ok(y)
    }

    /// y, gated and normalized.
    fn gated(&self, gate: &Array, y: &Array) -> Result<Array> {
        match self.config.norm {
            GatedNorm::AfterGate => self.normed(&swiglu(self.device, gate, y)?),
            GatedNorm::BeforeGate => swiglu(self.device, gate, &self.normed(y)?),
            GatedNorm::None => swiglu(self.device, gate, y),
        }
    }

    /// Root-mean-square norm of each group.
    fn normed(&self, x: &Array) -> Result<Array> {
        let Mamba2Config { groups, eps, .. } = self.config;
        let Some(weight) = self.norm.as_ref().filter(|_| groups > 1) else {
            return rms_norm(self.device, x, self.norm.as_ref(), eps);
        };
        rms_norm_of_groups(self.device, x, weight, groups, eps)
    }
}

impl Mixer for Mamba2 {
    fn forward(&self, x: &Input, rows: &mut Rows) -> Result<Array> {
        let Mamba2Config { heads, head_dim, state: size, groups, .. } = self.config;
        let (inner, shared) = (heads * head_dim, groups * size);
        let mut projected = self.input.forward(x.array()?)?;
        if let Some(scales) = &self.scales {
            projected = ops::multiply(&projected, &ops::astype(scales, x.dtype())?)?;
        }
        let projected = ops::split_at(&projected, &[inner, 2 * inner + 2 * shared], -1)?;
        let y = rows.mix([&projected[1], &projected[2]], |[mixed, steps], row| {
            self.recurrence(mixed, steps, row)
        })?;
        self.output.forward(&self.gated(&projected[0], &y)?)
    }

    fn make_cache(&self) -> Cache {
        Cache::arrays_of(2)
    }
}
