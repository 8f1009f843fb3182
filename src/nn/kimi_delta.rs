//! Kimi delta attention (Kimi Team 2025): the gated delta rule with a decay of each feature of the
//! keys, behind short convolutions, a norm and a gate.

use super::conv::CausalConv;
use super::gated_delta::unit;
use super::linear::{Linear, Projections};
use super::mixer::Mixer;
use super::norm::Norm;
use super::residual::Input;
use super::rows::{Row, Rows};
use crate::cache::Cache;
use crate::error::Result;
use crate::fused::dplr::GeneralizedDeltaRule;
use crate::fused::math::{kept_or_zeros, scaled, softplus};
use crate::mlx::{Array, Dtype, eval, ops};
use crate::weights::Weights;

/// What varies between architectures.
#[derive(Debug, Clone, Copy)]
pub struct KimiDeltaConfig {
    /// Input and output features.
    pub dims: i32,
    /// Heads.
    pub heads: i32,
    /// Features of a head's queries, keys and values.
    pub head_dim: i32,
    /// Positions that the convolutions see.
    pub kernel: i32,
    /// Epsilon of the norm.
    pub eps: f32,
    /// The logarithm of the strongest decay (below 0), which bounds all; `None` for no bound.
    pub lower_bound: Option<f32>,
    /// Whether one convolution, with one state, is that of queries, keys and values.
    pub joint_conv: bool,
}

/// q, k, v = silu(conv(in(x))), q and k of length 1; S = S · diag(w) + β (v − S · diag(w) · k) kᵀ
/// with β = σ(b(x)) and w = exp(−exp(A_log) · softplus(f(x) + dt_bias)), or with a bound
/// w = exp(bound · σ(exp(A_log) · (f(x) + dt_bias))); out(norm(S · q) · σ(g(x))).
#[derive(Debug)]
pub struct KimiDelta {
    config: KimiDeltaConfig,
    /// Queries, keys and values, what decays and gates are made of, and b.
    input: Projections,
    /// Of each, or of all.
    convs: Vec<CausalConv>,
    /// From features of low rank to what decays are made of; `None` for those of the input.
    decay: Option<Linear>,
    /// The same for gates.
    gate: Option<Linear>,
    query_norm: Norm,
    key_norm: Norm,
    /// `[heads, head_dim]`, `f32`, as all numbers of the recurrence are: its errors add up.
    step_bias: Array,
    /// exp(A_log), `[heads, 1]`, `f32`.
    rates: Array,
    norm: Norm,
    output: Linear,
}

impl KimiDelta {
    /// Takes the projections, of queries, keys and values perhaps in one (`qkv_proj`), of decays and
    /// gates whole (`f_proj`, `g_proj`) or of low rank (`f_a_proj` and `f_b_proj`, …), the
    /// convolutions by either of their names, `A_log`, `dt_bias` and `o_norm`; the output
    /// projection is `o_proj` or `dense`.
    pub fn new(w: &Weights, config: KimiDeltaConfig) -> Result<Self> {
        let KimiDeltaConfig { dims, heads, head_dim, kernel, eps, .. } = config;
        let inner = heads * head_dim;
        let linear = |name, inputs, outputs| Linear::new(&w.at(name), inputs, outputs, false);
        let of_low_rank = |names: [&'static str; 3]| -> Result<_> {
            let [whole, first, second] = names;
            match w.at(whole).has("weight") {
                true => Ok(((whole, inner), None)),
                false => Ok(((first, head_dim), Some(linear(second, head_dim, inner)?))),
            }
        };
        let (decays, decay) = of_low_rank(["f_proj", "f_a_proj", "f_b_proj"])?;
        let (gates, gate) = of_low_rank(["g_proj", "g_a_proj", "g_b_proj"])?;
        let qkv = ["q_proj", "k_proj", "v_proj"].map(|name| (name, inner));
        let mut parts = match config.joint_conv && w.at("qkv_proj").has("weight") {
            true => vec![("qkv_proj", 3 * inner)],
            false => qkv.to_vec(),
        };
        parts.extend([decays, gates, ("b_proj", heads)]);
        let parts =
            parts.into_iter().map(|(name, outputs)| Ok((linear(name, dims, outputs)?, outputs)));
        let conv = |names: [&str; 2], channels: i32| -> Result<_> {
            let [published, converted] = names.map(|name| w.at(name));
            let w = if published.has("weight") { published } else { converted };
            Ok(CausalConv::new(&w, channels, kernel, false)?.with_silu())
        };
        let single = || -> Result<_> {
            Ok([
                conv(["q_conv1d", "q_conv.conv"], inner)?,
                conv(["k_conv1d", "k_conv.conv"], inner)?,
                conv(["v_conv1d", "v_conv.conv"], inner)?,
            ])
        };
        let convs = match (config.joint_conv, w.at("qkv_conv.conv").has("weight")) {
            (true, true) => vec![conv(["qkv_conv", "qkv_conv.conv"], 3 * inner)?],
            (true, false) => vec![CausalConv::joined(single()?)?],
            (false, _) => single()?.into(),
        };
        let output = if w.at("dense").has("weight") { "dense" } else { "o_proj" };
        let rates = ops::exp(&w.take_reshaped_f32("A_log", &[heads, 1])?)?;
        let step_bias = w.take_reshaped_f32("dt_bias", &[heads, head_dim])?;
        eval(&[&rates, &step_bias])?;
        Ok(Self {
            config,
            input: Projections::new(w, parts.collect::<Result<_>>()?)?,
            convs,
            decay,
            gate,
            query_norm: Norm::of(w, unit(head_dim, (head_dim as f32).sqrt().recip())?),
            key_norm: Norm::of(w, unit(head_dim, 1.0)?),
            step_bias,
            rates,
            norm: Norm::rms(&w.at("o_norm"), head_dim, eps)?,
            output: linear(output, inner, dims)?,
        })
    }

    /// What a sequence's states give, `[batch, length, heads, head_dim]`, in `f32`.
    fn recurrence(&self, qkv: &[&Array], [decay, rate]: [&Array; 2], row: Row) -> Result<Array> {
        let KimiDeltaConfig { heads, head_dim, .. } = self.config;
        let (batch, length, inner) = (decay.dim(0), row.length, heads * head_dim);
        let state = row.cache.state()?;
        let by_head = |x: &Array, features: i32| {
            let x = ops::reshape(x, &[batch, length, heads, features])?;
            ops::astype(&x, Dtype::Float32)
        };
        let mut mixed = Vec::with_capacity(3);
        for (index, (conv, part)) in self.convs.iter().zip(qkv).enumerate() {
            mixed.push(conv.forward(part, state, index)?);
        }
        if let [joint] = &mixed[..] {
            mixed = ops::split_at(joint, &[inner, 2 * inner], -1)?;
        }
        for part in &mut mixed {
            *part = by_head(part, head_dim)?;
        }
        let (queries, keys) =
            (self.query_norm.forward(&mixed[0])?, self.key_norm.forward(&mixed[1])?);
        let shifted = ops::add(&by_head(decay, head_dim)?, &self.step_bias)?;
        let log_decay = match self.config.lower_bound {
            Some(bound) => scaled(&ops::sigmoid(&ops::multiply(&self.rates, &shifted)?)?, bound)?,
            None => ops::negative(&ops::multiply(&self.rates, &softplus(&shifted)?)?)?,
        };
        let rated = ops::multiply(&keys, &ops::sigmoid(&by_head(rate, 1)?)?)?;
        // The key reads what has faded.
        let read = ops::negative(&ops::multiply(&ops::exp(&log_decay)?, &keys)?)?;
        let rule = GeneralizedDeltaRule {
            queries: &queries,
            keys: &rated,
            values: &mixed[2],
            log_decay: &log_decay,
            read: &read,
            written: &rated,
        };
        let shape = [batch, heads, head_dim, head_dim];
        let before = kept_or_zeros(state.get(self.convs.len()), &shape, Dtype::Float32)?;
        let (y, after) = rule.run(&before)?;
        state.set(self.convs.len(), after);
        state.advance(length);
        Ok(y)
    }
}

impl Mixer for KimiDelta {
    fn forward(&self, x: &Input, rows: &mut Rows) -> Result<Array> {
        let KimiDeltaConfig { heads, head_dim, .. } = self.config;
        let (batch, length, dtype) = (x.dim(0), x.dim(1), x.dtype());
        let projected = x.project(&self.input)?;
        let of = |second: &Option<Linear>, first: &Array| match second {
            Some(second) => second.forward(first),
            None => Ok(first.clone()),
        };
        let (qkv, rest) = projected.split_at(projected.len() - 3);
        let decay = of(&self.decay, &rest[0])?;
        let gate = ops::astype(&of(&self.gate, &rest[1])?, Dtype::Float32)?;
        let y = if self.convs.len() == 1 {
            let joint = match qkv {
                [joint] => joint.clone(),
                parts => ops::concatenate(&parts.iter().collect::<Vec<_>>(), -1)?,
            };
            rows.mix([&joint, &decay, &rest[2]], |[joint, decay, rate], row| {
                self.recurrence(&[joint], [decay, rate], row)
            })
        } else {
            let parts = [&qkv[0], &qkv[1], &qkv[2], &decay, &rest[2]];
            rows.mix(parts, |[queries, keys, values, decay, rate], row| {
                self.recurrence(&[queries, keys, values], [decay, rate], row)
            })
        }?;
        let normed = self.norm.forward(&y)?;
        let normed = ops::reshape(&normed, &[batch, length, heads * head_dim])?;
        let gated = ops::multiply(&normed, &ops::sigmoid(&gate)?)?;
        self.output.forward(&ops::astype(&gated, dtype)?)
    }

    fn make_cache(&self) -> Cache {
        Cache::arrays_of(self.convs.len() + 1)
    }
}
