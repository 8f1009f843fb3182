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
use crate::fused::math::{kept_or_zeros, softplus};
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
}

/// q, k, v = silu(conv(in(x))), q and k of length 1; S = S · diag(w) + β (v − S · diag(w) · k) kᵀ
/// with β = σ(b(x)) and w = exp(−exp(A_log) · softplus(f(x) + dt_bias));
/// out(norm(S · q) · σ(g(x))).
#[derive(Debug)]
pub struct KimiDelta {
    config: KimiDeltaConfig,
    /// Queries, keys and values, what decays and gates are made of, and b.
    input: Projections,
    convs: [CausalConv; 3],
    decay: Linear,
    gate: Linear,
    query_norm: Norm,
    key_norm: Norm,
    /// `[heads, head_dim]`, `f32`, as all numbers of the recurrence are: its errors add up.
    step_bias: Array,
    /// −exp(A_log), `[heads, 1]`, `f32`.
    a: Array,
    norm: Norm,
    output: Linear,
}

impl KimiDelta {
    /// Takes the projections, the convolutions by either of their names, `A_log`, `dt_bias` and
    /// `o_norm`.
    pub fn new(w: &Weights, config: KimiDeltaConfig) -> Result<Self> {
        let KimiDeltaConfig { dims, heads, head_dim, kernel, eps } = config;
        let inner = heads * head_dim;
        let linear = |name, inputs, outputs| Linear::new(&w.at(name), inputs, outputs, false);
        let parts = [
            ("q_proj", inner),
            ("k_proj", inner),
            ("v_proj", inner),
            ("f_a_proj", head_dim),
            ("g_a_proj", head_dim),
            ("b_proj", heads),
        ];
        let parts = parts.map(|(name, outputs)| Ok((linear(name, dims, outputs)?, outputs)));
        let conv = |names: [&str; 2]| -> Result<_> {
            let [published, converted] = names.map(|name| w.at(name));
            let w = if published.has("weight") { published } else { converted };
            Ok(CausalConv::new(&w, inner, kernel, false)?.with_silu())
        };
        let a = ops::negative(&ops::exp(&w.take_reshaped_f32("A_log", &[heads, 1])?)?)?;
        let step_bias = w.take_reshaped_f32("dt_bias", &[heads, head_dim])?;
        eval(&[&a, &step_bias])?;
        Ok(Self {
            config,
            input: Projections::new(w, parts.into_iter().collect::<Result<_>>()?)?,
            convs: [
                conv(["q_conv1d", "q_conv.conv"])?,
                conv(["k_conv1d", "k_conv.conv"])?,
                conv(["v_conv1d", "v_conv.conv"])?,
            ],
            decay: linear("f_b_proj", head_dim, inner)?,
            gate: linear("g_b_proj", head_dim, inner)?,
            query_norm: Norm::of(w, unit(head_dim, (head_dim as f32).sqrt().recip())?),
            key_norm: Norm::of(w, unit(head_dim, 1.0)?),
            step_bias,
            a,
            norm: Norm::rms(&w.at("o_norm"), head_dim, eps)?,
            output: linear("o_proj", inner, dims)?,
        })
    }

    /// What a sequence's states give, `[batch, length, heads, head_dim]`, in `f32`.
    fn recurrence(&self, parts: [&Array; 5], row: Row) -> Result<Array> {
        let KimiDeltaConfig { heads, head_dim, .. } = self.config;
        let [queries, keys, values, decay, rate] = parts;
        let (batch, length) = (queries.dim(0), row.length);
        let state = row.cache.state()?;
        let by_head = |x: &Array, features: i32| {
            let x = ops::reshape(x, &[batch, length, heads, features])?;
            ops::astype(&x, Dtype::Float32)
        };
        let mut mixed = Vec::with_capacity(3);
        for (index, (conv, part)) in self.convs.iter().zip([queries, keys, values]).enumerate() {
            mixed.push(by_head(&conv.forward(part, state, index)?, head_dim)?);
        }
        let (queries, keys) =
            (self.query_norm.forward(&mixed[0])?, self.key_norm.forward(&mixed[1])?);
        let shifted = ops::add(&by_head(decay, head_dim)?, &self.step_bias)?;
        let log_decay = ops::multiply(&self.a, &softplus(&shifted)?)?;
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
        let before = kept_or_zeros(state.get(3), &shape, Dtype::Float32)?;
        let (y, after) = rule.run(&before)?;
        state.set(3, after);
        state.advance(length);
        Ok(y)
    }
}

impl Mixer for KimiDelta {
    fn forward(&self, x: &Input, rows: &mut Rows) -> Result<Array> {
        let KimiDeltaConfig { heads, head_dim, .. } = self.config;
        let (batch, length, dtype) = (x.dim(0), x.dim(1), x.dtype());
        let projected = x.project(&self.input)?;
        let decay = self.decay.forward(&projected[3])?;
        let gate = ops::astype(&self.gate.forward(&projected[4])?, Dtype::Float32)?;
        let parts = [&projected[0], &projected[1], &projected[2], &decay, &projected[5]];
        let y = rows.mix(parts, |parts, row| self.recurrence(parts, row))?;
        let normed = self.norm.forward(&y)?;
        let normed = ops::reshape(&normed, &[batch, length, heads * head_dim])?;
        let gated = ops::multiply(&normed, &ops::sigmoid(&gate)?)?;
        self.output.forward(&ops::astype(&gated, dtype)?)
    }

    fn make_cache(&self) -> Cache {
        Cache::arrays_of(4)
    }
}
