//! The gated delta net (Yang et al. 2024): a short convolution, the gated delta rule, and a gated
//! norm.

use super::conv::CausalConv;
use super::linear::{Linear, Projections, regrouped};
use super::mixer::Mixer;
use super::residual::Input;
use super::rows::{Row, Rows};
use crate::cache::Cache;
use crate::error::Result;
use crate::fused::Device;
use crate::fused::gated_delta::{GatedDeltaInputs, GatedDeltaParams, gated_delta};
use crate::fused::norm::NormParams;
use crate::mlx::{Array, eval, ops, scalar};
use crate::weights::Weights;

/// What varies between architectures.
#[derive(Debug, Clone, Copy)]
pub struct GatedDeltaConfig {
    /// Input and output features.
    pub dims: i32,
    /// Heads of queries and keys.
    pub key_heads: i32,
    /// Heads of values; a multiple of `key_heads`.
    pub value_heads: i32,
    /// Features of a query or key.
    pub key_dim: i32,
    /// Features of a value.
    pub value_dim: i32,
    /// Positions that the convolution sees.
    pub kernel: i32,
    /// Epsilon of the gated norm.
    pub eps: f32,
    /// Multiplies the rates: with 2, what a key has written can also be turned around (Grazzi et
    /// al. 2024).
    pub rate_scale: f32,
}

impl GatedDeltaConfig {
    /// Features of all queries, all keys and all values.
    fn parts(self) -> [i32; 3] {
        let keys = self.key_heads * self.key_dim;
        [keys, keys, self.value_heads * self.value_dim]
    }
}

/// How a checkpoint cuts the input projections.
#[derive(Debug, Clone, Copy)]
pub enum DeltaProjections {
    /// `in_proj_qkvz` and `in_proj_ba`, in which the outputs of each key head lie together.
    ByKeyHead,
    /// `in_proj_qkv`, `in_proj_z`, `in_proj_b` and `in_proj_a`.
    Separate,
    /// `q_proj`, `k_proj`, `v_proj`, `g_proj` for z, `b_proj` and `a_proj`, with convolutions for
    /// each of the first three.
    EachApart,
}

impl DeltaProjections {
    /// The names of the convolutions, the norm and the output.
    fn names(self) -> (&'static [&'static str], &'static str, &'static str) {
        match self {
            Self::ByKeyHead | Self::Separate => (&["conv1d"], "norm", "out_proj"),
            Self::EachApart => (&["q_conv1d", "k_conv1d", "v_conv1d"], "o_norm", "o_proj"),
        }
    }

    /// Takes what gives queries, keys and values, and z; and what gives b and a.
    fn take(self, w: &Weights, config: GatedDeltaConfig) -> Result<(Projections, Projections)> {
        let GatedDeltaConfig { dims, key_heads, value_heads, key_dim, value_dim, .. } = config;
        let parts = config.parts();
        let wide = [parts.iter().sum(), parts[2]];
        let narrow = [value_heads, value_heads];
        let linear = |name: &str, outputs| Linear::new(&w.at(name), dims, outputs, false);
        let together = |names: &[&str], outputs: &[i32]| {
            let part = |(&name, &outputs)| Ok((linear(name, outputs)?, outputs));
            let parts = names.iter().zip(outputs).map(part);
            Projections::new(w, parts.collect::<Result<_>>()?)
        };
        match self {
            Self::ByKeyHead => {
                let group = value_heads / key_heads;
                let values = group * value_dim;
                let order = regrouped(key_heads, &[key_dim, key_dim, values, values]);
                let qkvz = linear("in_proj_qkvz", wide.iter().sum())?.with_rows(&order)?;
                let order = regrouped(key_heads, &[group, group]);
                let ba = linear("in_proj_ba", narrow.iter().sum())?.with_rows(&order)?;
                Ok((Projections::stacked(qkvz, &wide), Projections::stacked(ba, &narrow)))
            }
            Self::Separate => Ok((
                together(&["in_proj_qkv", "in_proj_z"], &wide)?,
                together(&["in_proj_b", "in_proj_a"], &narrow)?,
            )),
            Self::EachApart => {
                let [queries, keys, values] = parts;
                let names = ["q_proj", "k_proj", "v_proj", "g_proj"];
                Ok((
                    together(&names, &[queries, keys, values, values])?,
                    together(&["b_proj", "a_proj"], &narrow)?,
                ))
            }
        }
    }
}

/// q, k, v, z, b, a = in(x); q, k, v = silu(conv(q, k, v)); y = delta rule(q, k, v) with rates σ(b)
/// and decays exp(−exp(A_log) · softplus(a + dt_bias)); out(norm(y) · silu(z)).
#[derive(Debug)]
pub struct GatedDelta {
    config: GatedDeltaConfig,
    /// Queries, keys and values, together or apart; z.
    wide: Projections,
    /// b; a.
    narrow: Projections,
    /// Over queries, keys and values together, or over each.
    convs: Vec<CausalConv>,
    heads: GatedDeltaParams,
    output: Linear,
    device: Device,
}

impl GatedDelta {
    /// Takes the input projections, convolutions, `dt_bias`, `A_log`, the norm and the output.
    pub fn new(
        w: &Weights,
        config: GatedDeltaConfig,
        projections: DeltaProjections,
    ) -> Result<Self> {
        let GatedDeltaConfig { dims, value_heads, value_dim, kernel, .. } = config;
        let parts = config.parts();
        let (names, norm, output) = projections.names();
        let channels = match names {
            [_] => vec![parts.iter().sum()],
            _ => parts.to_vec(),
        };
        let conv = |(name, &channels): (&&str, &i32)| {
            Ok(CausalConv::new(&w.at(name), channels, kernel, false)?.with_silu())
        };
        let (wide, narrow) = projections.take(w, config)?;
        let a = ops::negative(&ops::exp(&w.take_f32("A_log", &[value_heads])?)?)?;
        eval(&[&a])?;
        Ok(Self {
            config,
            wide,
            narrow,
            convs: names.iter().zip(&channels).map(conv).collect::<Result<_>>()?,
            heads: GatedDeltaParams {
                key_heads: config.key_heads,
                value_heads,
                key_dim: config.key_dim,
                value_dim,
                unit_norms: [
                    unit(config.key_dim, (config.key_dim as f32).sqrt().recip())?,
                    unit(config.key_dim, 1.0)?,
                ],
                step_bias: w.take_f32("dt_bias", &[value_heads])?,
                a,
                norm: w.at(norm).take("weight", &[value_dim])?,
                eps: config.eps,
                rate_scale: config.rate_scale,
            },
            output: Linear::new(&w.at(output), parts[2], dims, false)?,
            device: w.device(),
        })
    }

    /// What the heads give for a sequence, `[batch, length, value_heads · value_dim]`, from what is
    /// projected for its queries, keys and values, for its rates, its decays and its gate.
    fn recurrence(&self, [mixed, rate, decay, gate]: [&Array; 4], row: Row) -> Result<Array> {
        let state = row.cache.state()?;
        let mixed = &match &*self.convs {
            [conv] => conv.forward(mixed, state, 0)?,
            convs => {
                let [queries, keys, _] = self.config.parts();
                let mut parts = ops::split_at(mixed, &[queries, queries + keys], -1)?;
                for (index, (conv, part)) in convs.iter().zip(&mut parts).enumerate() {
                    *part = conv.forward(part, state, index)?;
                }
                ops::concatenate(&parts.iter().collect::<Vec<_>>(), -1)?
            }
        };
        let inputs = GatedDeltaInputs { mixed, rate, decay, gate };
        let index = self.convs.len();
        let (y, after) = gated_delta(self.device, &inputs, state.get(index), &self.heads)?;
        state.set(index, after);
        state.advance(row.length);
        Ok(y)
    }
}

/// The norm x / √(Σ x² + 10⁻⁶) · `scale` over the last axis, as one of root-mean-squares.
pub(super) fn unit(dims: i32, scale: f32) -> Result<NormParams> {
    let width = dims as f32;
    let weight = ops::broadcast_to(&scalar(scale / width.sqrt()), &[dims])?;
    let weight = ops::contiguous(&weight)?;
    eval(&[&weight])?;
    Ok(NormParams::Rms { weight: Some(weight), eps: 1e-6 / width })
}

impl Mixer for GatedDelta {
    fn forward(&self, x: &Input, rows: &mut Rows) -> Result<Array> {
        let x = x.array()?;
        let (wide, narrow) = (self.wide.forward(x)?, self.narrow.forward(x)?);
        let (mixed, z) = wide.split_at(wide.len() - 1);
        let mixed = match mixed {
            [mixed] => mixed.clone(),
            parts => ops::concatenate(&parts.iter().collect::<Vec<_>>(), -1)?,
        };
        let parts = [&mixed, &narrow[0], &narrow[1], &z[0]];
        self.output.forward(&rows.mix(parts, |parts, row| self.recurrence(parts, row))?)
    }

    fn make_cache(&self) -> Cache {
        Cache::arrays_of(self.convs.len() + 1)
    }
}
