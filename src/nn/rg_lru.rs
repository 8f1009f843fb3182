//! The recurrent block of Griffin (De et al. 2024): a short convolution and the real-gated linear
//! recurrent unit, behind a gate.

use super::conv::CausalConv;
use super::linear::{Linear, Projections};
use super::mixer::Mixer;
use super::residual::Input;
use super::rows::{Row, Rows};
use crate::cache::Cache;
use crate::error::Result;
use crate::fused::Device;
use crate::fused::activation::Activation;
use crate::fused::math::{kept_or_zeros, scaled, softplus};
use crate::fused::ssm::Scan;
use crate::mlx::{Array, Dtype, eval, ops, scalar};
use crate::weights::Weights;

/// Positions that are computed together: every feature decays by itself.
const CHUNK: i32 = 16;

/// c of the decays, aₜ = exp(−c · softplus(Λ) · rₜ).
const DECAY: f32 = 8.0;

/// What varies between architectures.
#[derive(Debug, Clone, Copy)]
pub struct RecurrentConfig {
    /// Input and output features.
    pub dims: i32,
    /// Features of the recurrence.
    pub width: i32,
    /// Blocks of its gates' matrices; divides `width`.
    pub heads: i32,
    /// Positions that the convolution sees.
    pub kernel: i32,
    /// Of the gate.
    pub activation: Activation,
}

/// y, x = in(u); x = conv(x); out(act(y) · h), with h of the recurrence
///
/// ```text
/// rₜ, iₜ = σ(W xₜ + b)
/// aₜ = exp(−8 · softplus(Λ) · rₜ)
/// hₜ = aₜ · hₜ₋₁ + √(1 − aₜ²) · iₜ · xₜ
/// ```
///
/// where the first position has 1 in place of the root.
#[derive(Debug)]
pub struct RecurrentBlock {
    config: RecurrentConfig,
    /// y and x.
    input: Projections,
    conv: CausalConv,
    input_gate: BlockLinear,
    recurrent_gate: BlockLinear,
    /// −8 · softplus(Λ), `[width]`, `f32`, as all numbers of the recurrence are.
    log_decay: Array,
    output: Linear,
    device: Device,
}

impl RecurrentBlock {
    /// Takes `linear_y`, `linear_x`, `conv_1d`, `rg_lru` and `linear_out`.
    pub fn new(w: &Weights, config: RecurrentConfig) -> Result<Self> {
        let RecurrentConfig { dims, width, heads, kernel, .. } = config;
        let project = |name: &str| Linear::new(&w.at(name), dims, width, true);
        let input = vec![(project("linear_y")?, width), (project("linear_x")?, width)];
        let unit = w.at("rg_lru");
        let rates = unit.take_f32("recurrent_param", &[width])?;
        let log_decay = scaled(&softplus(&rates)?, -DECAY)?;
        eval(&[&log_decay])?;
        Ok(Self {
            config,
            input: Projections::new(w, input)?,
            conv: CausalConv::new(&w.at("conv_1d"), width, kernel, true)?,
            input_gate: BlockLinear::new(&unit, "input_gate", heads, width)?,
            recurrent_gate: BlockLinear::new(&unit, "recurrent_gate", heads, width)?,
            log_decay,
            output: Linear::new(&w.at("linear_out"), width, dims, true)?,
            device: w.device(),
        })
    }

    /// h of a sequence, `[batch, length, width]`, from what is projected for x.
    fn recurrence(&self, x: &Array, row: Row) -> Result<Array> {
        let width = self.config.width;
        let (batch, length, dtype) = (x.dim(0), row.length, x.dtype());
        let state = row.cache.state()?;
        let first = state.offset() == 0;
        let x = ops::astype(&self.conv.forward(x, state, 0)?, Dtype::Float32)?;
        let input_gate = ops::sigmoid(&self.input_gate.forward(&x)?)?;
        let recurrent_gate = ops::sigmoid(&self.recurrent_gate.forward(&x)?)?;
        let log_decay = ops::multiply(&self.log_decay, &recurrent_gate)?;
        let square = ops::exp(&scaled(&log_decay, 2.0)?)?;
        let mut root = ops::sqrt(&ops::subtract(&scalar(1.0), &square)?)?;
        if first {
            let one = ops::broadcast_to(&scalar(1.0), &[batch, 1, width])?;
            root = ops::concatenate(&[&one, &ops::slice_axis(&root, 1, 1, length)?], 1)?;
        }
        let x = ops::multiply(&ops::multiply(&x, &input_gate)?, &root)?;
        // Each feature is a head by itself, of one number.
        let one = ops::contiguous(&ops::broadcast_to(&scalar(1.0), &[batch, length, 1, 1])?)?;
        let scan = Scan {
            x: &ops::reshape(&x, &[batch, length, 1, width, 1])?,
            log_decay: &ops::reshape(&log_decay, &[batch, length, 1, width])?,
            b: &one,
            c: &one,
        };
        let before = kept_or_zeros(state.get(1), &[batch, width], Dtype::Float32)?;
        let before = ops::reshape(&before, &[batch, 1, width, 1, 1])?;
        let (h, after) = scan.run_in_blocks(self.device, &before, CHUNK)?;
        state.set(1, ops::reshape(&after, &[batch, width])?);
        state.advance(length);
        ops::astype(&ops::reshape(&h, &[batch, length, width])?, dtype)
    }
}

impl Mixer for RecurrentBlock {
    fn forward(&self, x: &Input, rows: &mut Rows) -> Result<Array> {
        let projected = x.project(&self.input)?;
        let h = rows.mix([&projected[1]], |[x], row| self.recurrence(x, row))?;
        let gate = self.config.activation.apply(&projected[0])?;
        self.output.forward(&ops::multiply(&gate, &h)?)
    }

    fn make_cache(&self) -> Cache {
        Cache::arrays_of(2)
    }
}

/// A matrix of blocks along its diagonal, and a bias.
#[derive(Debug)]
struct BlockLinear {
    /// `[heads, width / heads, width / heads]`, inputs before outputs, in `f32`.
    weight: Array,
    /// `[width]`, in `f32`.
    bias: Array,
}

impl BlockLinear {
    /// Takes `{name}_weight` and `{name}_bias`.
    fn new(w: &Weights, name: &str, heads: i32, width: i32) -> Result<Self> {
        let each = width / heads;
        let bias = w.take_f32(&format!("{name}_bias"), &[heads, each])?;
        Ok(Self {
            weight: w.take_f32(&format!("{name}_weight"), &[heads, each, each])?,
            bias: ops::reshape(&bias, &[width])?,
        })
    }

    /// `[batch, length, width]` in `f32` to the same.
    fn forward(&self, x: &Array) -> Result<Array> {
        let (batch, length, width) = (x.dim(0), x.dim(1), x.dim(2));
        let (heads, each) = (self.weight.dim(0), self.weight.dim(1));
        let blocks = ops::reshape(x, &[batch, length, heads, 1, each])?;
        let product = ops::matmul(&blocks, &self.weight)?;
        ops::add(&ops::reshape(&product, &[batch, length, width])?, &self.bias)
    }
}
