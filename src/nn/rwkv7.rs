//! The blocks of RWKV 7 (Peng et al. 2025): time mixing by the generalized delta rule, and channel
//! mixing. Each looks at the position before, too.

use std::cell::RefCell;
use std::rc::Rc;

use super::linear::{Linear, computed};
use super::mixer::Mixer;
use super::residual::Input;
use super::rows::{Row, Rows};
use crate::cache::Cache;
use crate::error::Result;
use crate::fused::Device;
use crate::fused::activation::Activation;
use crate::fused::dplr::GeneralizedDeltaRule;
use crate::fused::math::{kept_or_zeros, scaled};
use crate::fused::norm::layer_norm;
use crate::mlx::{Array, Dtype, ops, scalar};
use crate::weights::Weights;

/// The measures of a layer.
#[derive(Debug, Clone, Copy)]
pub struct Rwkv7Config {
    /// Input and output features.
    pub dims: i32,
    /// Features of a head; divides `dims`.
    pub head_dim: i32,
    /// Features inside channel mixing.
    pub hidden: i32,
    /// Features that decays are made of.
    pub decay_rank: i32,
    /// Features that rates are made of.
    pub rate_rank: i32,
    /// Features that shares of the first layer's values are made of.
    pub value_rank: i32,
    /// Features that gates are made of.
    pub gate_rank: i32,
}

/// The exponent of the fastest decay, 1/√e.
const FASTEST: f32 = 0.606_531;

/// Epsilon of the norm over what heads read.
const HEADS_EPS: f32 = 64e-5;

/// The values of the first layer in this step, which later ones mix into theirs.
#[derive(Debug, Clone, Default)]
pub struct FirstValues(Rc<RefCell<Option<Array>>>);

/// The position before each, of which the first of a step is kept from the step before in entry
/// `index` of the state.
fn shifted(x: &Array, rows: &mut Rows, index: usize) -> Result<Array> {
    rows.mix([x], |[x], row| {
        let (batch, length, dims) = (x.dim(0), x.dim(1), x.dim(2));
        let state = row.cache.state()?;
        let first = kept_or_zeros(state.get(index), &[batch, 1, dims], x.dtype())?;
        // A copy of its own, so that the whole step need not stay in memory.
        state.set(index, ops::contiguous(&ops::slice_axis(x, 1, length - 1, length)?)?);
        match length {
            1 => Ok(first),
            _ => ops::concatenate(&[&first, &ops::slice_axis(x, 1, 0, length - 1)?], 1),
        }
    })
}

/// out(act(in(x))) through few features.
#[derive(Debug)]
struct LowRank {
    input: Linear,
    output: Linear,
    activation: Option<fn(&Array) -> Result<Array>>,
}

impl LowRank {
    fn new(
        w: &Weights,
        [dims, rank]: [i32; 2],
        bias: bool,
        activation: Option<fn(&Array) -> Result<Array>>,
    ) -> Result<Self> {
        Ok(Self {
            input: Linear::new(&w.at("lora.0"), dims, rank, false)?,
            output: Linear::new(&w.at("lora.2"), rank, dims, bias)?,
            activation,
        })
    }

    fn forward(&self, x: &Array) -> Result<Array> {
        let hidden = self.input.forward(x)?;
        self.output.forward(&self.activation.map_or(Ok(hidden.clone()), |it| it(&hidden))?)
    }
}

/// With x* = x + (x' − x) · m* of each position x and the one before, x':
///
/// ```text
/// r, k, v = R xr, K xk, V xv;  w = exp(−σ(W xw) / √e);  a = σ(A xa);  g = G σ(xg)
/// v = v + (v₀ − v) · σ(V₀ xv),  k̂ = norm(k · ξ),  k = k · (1 + (a − 1) · α)
/// S = S (diag(w) − k̂ (a · k̂)ᵀ) + v kᵀ
/// out(g · (norm(S r) + (Σ r · k · ρ) · v))
/// ```
#[derive(Debug)]
pub struct TimeMixing {
    config: Rwkv7Config,
    /// Of r, w, k, v, a and g, `[dims]` each.
    mixes: [Array; 6],
    receptance: Linear,
    key: Linear,
    value: Linear,
    decay: LowRank,
    rate: LowRank,
    gate: LowRank,
    /// Of all layers but the first.
    first_share: Option<LowRank>,
    first: FirstValues,
    /// ξ, α and ρ, `[heads, head_dim]`, `f32`.
    factors: [Array; 3],
    /// `[heads, head_dim]` each, `f32`.
    norm: [Array; 2],
    output: Linear,
    device: Device,
}

impl TimeMixing {
    /// Takes the block of a layer, which is the first one or mixes in its values.
    pub fn new(
        w: &Weights,
        config: Rwkv7Config,
        first: FirstValues,
        is_first: bool,
    ) -> Result<Self> {
        let Rwkv7Config { dims, head_dim, .. } = config;
        let flat = |name: &str| w.take_reshaped(name, &[dims]);
        let by_head =
            |w: &Weights, name: &str| w.take_reshaped_f32(name, &[dims / head_dim, head_dim]);
        let linear = |name: &str| Linear::new(&w.at(name), dims, dims, false);
        let low_rank = |name: &str, rank, bias, activation| {
            LowRank::new(&w.at(name), [dims, rank], bias, activation)
        };
        let norm = w.at("g_norm");
        Ok(Self {
            config,
            mixes: [
                flat("x_r")?,
                flat("x_w")?,
                flat("x_k")?,
                flat("x_v")?,
                flat("x_a")?,
                flat("x_g")?,
            ],
            receptance: linear("r_proj")?,
            key: linear("k_proj")?,
            value: linear("v_proj")?,
            decay: low_rank("w_lora", config.decay_rank, true, Some(ops::tanh))?,
            rate: low_rank("a_lora", config.rate_rank, true, None)?,
            gate: low_rank("g_lora", config.gate_rank, false, Some(ops::sigmoid))?,
            first_share: match is_first {
                true => None,
                false => Some(low_rank("v_lora", config.value_rank, true, None)?),
            },
            first,
            factors: [by_head(w, "k_k")?, by_head(w, "k_a")?, by_head(w, "r_k")?],
            norm: [by_head(&norm, "weight")?, by_head(&norm, "bias")?],
            output: linear("o_proj")?,
            device: w.device(),
        })
    }

    /// The values, `[batch, length, dims]`, into which those of the first layer are mixed.
    fn values(&self, x: &Array) -> Result<Array> {
        let values = self.value.forward(x)?;
        let Some(share) = &self.first_share else {
            *self.first.0.borrow_mut() = Some(values.clone());
            return Ok(values);
        };
        match &*self.first.0.borrow() {
            Some(first) => {
                let share = ops::sigmoid(&share.forward(x)?)?;
                let added = ops::multiply(&ops::subtract(first, &values)?, &share)?;
                ops::add(&values, &added)
            }
            None => Ok(values),
        }
    }

    /// What a sequence's states give, `[batch, length, heads, head_dim]`, in `f32`, of parts of
    /// that shape.
    fn recurrence(&self, parts: [&Array; 6], row: Row) -> Result<Array> {
        let [queries, log_decay, keys, values, read, written] = parts;
        let (batch, heads, head_dim) = (queries.dim(0), queries.dim(2), queries.dim(3));
        let state = row.cache.state()?;
        let shape = [batch, heads, head_dim, head_dim];
        let before = kept_or_zeros(state.get(1), &shape, Dtype::Float32)?;
        let rule = GeneralizedDeltaRule { queries, keys, values, log_decay, read, written };
        let (y, after) = rule.run(&before)?;
        state.set(1, after);
        state.advance(row.length);
        Ok(y)
    }
}

impl Mixer for TimeMixing {
    fn forward(&self, x: &Input, rows: &mut Rows) -> Result<Array> {
        let Rwkv7Config { dims, head_dim, .. } = self.config;
        let x = x.array()?;
        let (batch, length, dtype) = (x.dim(0), x.dim(1), x.dtype());
        let difference = ops::subtract(&shifted(x, rows, 0)?, x)?;
        let mixed = |index: usize| ops::add(x, &ops::multiply(&difference, &self.mixes[index])?);
        let by_head = |x: &Array| {
            let x = ops::reshape(x, &[batch, length, dims / head_dim, head_dim])?;
            ops::astype(&x, Dtype::Float32)
        };
        let queries = by_head(&self.receptance.forward(&mixed(0)?)?)?;
        let decay = ops::sigmoid(&by_head(&self.decay.forward(&mixed(1)?)?)?)?;
        let keys = by_head(&self.key.forward(&mixed(2)?)?)?;
        let values = by_head(&self.values(&mixed(3)?)?)?;
        let rate = ops::sigmoid(&by_head(&self.rate.forward(&mixed(4)?)?)?)?;
        let gate = self.gate.forward(&mixed(5)?)?;

        let [key_factor, rate_factor, bonus] = &self.factors;
        let direction = unit(&ops::multiply(&keys, key_factor)?)?;
        let less = ops::multiply(&ops::subtract(&rate, &scalar(1.0))?, rate_factor)?;
        let keys = ops::multiply(&keys, &ops::add(&less, &scalar(1.0))?)?;
        let log_decay = scaled(&decay, -FASTEST)?;
        let (read, written) = (ops::negative(&direction)?, ops::multiply(&direction, &rate)?);
        let parts = [&queries, &log_decay, &keys, &values, &read, &written];
        let y = rows.mix(parts, |parts, row| self.recurrence(parts, row))?;

        let [weight, bias] = &self.norm;
        let y = layer_norm(self.device, &y, None, None, HEADS_EPS)?;
        let y = ops::add(&ops::multiply(&y, weight)?, bias)?;
        let overlap = ops::multiply(&ops::multiply(&queries, &keys)?, bonus)?;
        let y = ops::add(&y, &ops::multiply(&ops::sum(&overlap, -1)?, &values)?)?;
        let y = ops::astype(&ops::reshape(&y, &[batch, length, dims])?, dtype)?;
        self.output.forward(&ops::multiply(&y, &gate)?)
    }

    fn make_cache(&self) -> Cache {
        // The last one is that of channel mixing.
        Cache::arrays_of(3)
    }
}

/// x / max(‖x‖, 10⁻⁷) over the last axis.
fn unit(x: &Array) -> Result<Array> {
    let length = ops::sqrt(&ops::sum(&ops::square(x)?, -1)?)?;
    ops::divide(x, &ops::maximum(&length, &scalar(1e-7))?)
}

/// out(max(in(x + (x' − x) · m), 0)²) of each position x and the one before, x'. Its state is the
/// third array of the layer's.
#[derive(Debug)]
pub struct ChannelMixing {
    mix: Array,
    key: Linear,
    value: Linear,
}

impl ChannelMixing {
    /// Takes `x_k`, `key` and `value`.
    pub fn new(w: &Weights, config: Rwkv7Config) -> Result<Self> {
        let Rwkv7Config { dims, hidden, .. } = config;
        let mix = computed(w.take_reshaped("x_k", &[dims])?)?;
        Ok(Self {
            mix,
            key: Linear::new(&w.at("key"), dims, hidden, false)?,
            value: Linear::new(&w.at("value"), hidden, dims, false)?,
        })
    }
}

impl Mixer for ChannelMixing {
    fn forward(&self, x: &Input, rows: &mut Rows) -> Result<Array> {
        let x = x.array()?;
        let difference = ops::subtract(&shifted(x, rows, 2)?, x)?;
        let mixed = ops::add(x, &ops::multiply(&difference, &self.mix)?)?;
        self.value.forward(&Activation::ReluSquared.apply(&self.key.forward(&mixed)?)?)
    }

    fn make_cache(&self) -> Cache {
        Cache::arrays_of(3)
    }
}
