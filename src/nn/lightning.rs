//! Lightning attention (Qin et al. 2024): linear attention whose past fades at a rate of each head,
//! behind a norm and a gate.

use super::alibi::slopes;
use super::attention::QkNorms;
use super::attention_config::{AttentionConfig, LayerConfig};
use super::linear::{Linear, Projections};
use super::mixer::Mixer;
use super::norm::Norm;
use super::residual::Input;
use super::rope::Rope;
use super::rows::{Row, Rows};
use crate::cache::Cache;
use crate::error::Result;
use crate::fused::Device;
use crate::fused::attention::split_heads;
use crate::fused::math::scaled;
use crate::fused::norm::rms_norm_of_groups;
use crate::fused::rope::rope;
use crate::fused::ssm::Scan;
use crate::mlx::{Array, Dtype, eval, from_f32, ops};
use crate::weights::Weights;

/// The measures of a layer.
#[derive(Debug, Clone, Copy)]
pub struct LightningConfig {
    /// Projections, heads and norms, with as many heads of keys and values as of queries.
    pub attention: AttentionConfig,
    /// Groups of features that are normalized together.
    pub norm_groups: i32,
    /// Epsilon of this norm.
    pub eps: f32,
    /// How many layers count as lying before it.
    pub before: usize,
    /// How many layers the model has.
    pub layers: usize,
}

impl LightningConfig {
    /// The logarithm of the decay of each head: −slope, the slopes of ALiBi (Press et al. 2021),
    /// times 1 + 10⁻⁵ less the share of the layers that lie before.
    fn log_decays(&self) -> Vec<f32> {
        let factor = 1.0 + 1e-5 - self.before as f64 / self.layers.saturating_sub(1).max(1) as f64;
        let slopes = slopes(self.attention.heads.unsigned_abs(), 8.0);
        slopes.into_iter().map(|slope| (-slope * factor) as f32).collect()
    }
}

/// For each head hₜ = a · hₜ₋₁ + kₜ ⊗ vₜ and yₜ = scale · qₜ · hₜ; out(norm(y) · σ(gate(x))).
#[derive(Debug)]
pub struct LightningAttention {
    config: LightningConfig,
    qkv: Projections,
    qk_norms: Option<[Norm; 2]>,
    rope: Option<Rope>,
    /// Multiplies the queries.
    scale: f32,
    /// `[heads, 1]`, `f32`.
    log_decays: Array,
    gate: Linear,
    /// `[heads · head_dim]`.
    norm: Array,
    output: Linear,
    device: Device,
}

impl LightningAttention {
    /// Takes the projections and norms as attention has them, `g_proj` and `g_norm`.
    pub fn new(w: &Weights, config: &LightningConfig, layer: LayerConfig) -> Result<Self> {
        let AttentionConfig { dims, heads, head_dim, .. } = config.attention;
        let parts = config.attention.parts(w, layer)?;
        let log_decays = from_f32(&config.log_decays(), &[heads, 1]);
        eval(&[&log_decays])?;
        Ok(Self {
            config: *config,
            qkv: parts.qkv,
            qk_norms: match parts.qk_norms {
                Some(QkNorms::EachHead(norms) | QkNorms::AllHeads(norms)) => Some(norms),
                None => None,
            },
            rope: parts.rope,
            scale: parts.scale,
            log_decays,
            gate: Linear::new(&w.at("g_proj"), dims, heads * head_dim, false)?,
            norm: w.take("g_norm.weight", &[heads * head_dim])?,
            output: parts.output,
            device: w.device(),
        })
    }

    /// y of a sequence, `[batch, length, heads · head_dim]`.
    fn recurrence(&self, [queries, keys, values]: [&Array; 3], row: Row) -> Result<Array> {
        let AttentionConfig { heads, head_dim, .. } = self.config.attention;
        let (batch, length, dtype) = (queries.dim(0), row.length, queries.dtype());
        let state = row.cache.state()?;
        let params = self.rope.as_ref().map(|rope| rope.at(state.offset(), length));
        let prepared = |x: &Array, part: usize| -> Result<_> {
            let mut x = split_heads(x, heads)?;
            if let Some(norms) = &self.qk_norms {
                x = norms[part].forward(&x)?;
            }
            if let Some(params) = &params {
                x = rope(self.device, &x, params)?;
            }
            ops::contiguous(&ops::transpose(&ops::astype(&x, Dtype::Float32)?, &[0, 2, 1, 3])?)
        };
        let shape = [batch, length, heads, 1, head_dim];
        let log_decay = ops::broadcast_to(&self.log_decays, &shape[..4])?;
        let scan = Scan {
            x: &ops::astype(&ops::reshape(values, &shape)?, Dtype::Float32)?,
            log_decay: &ops::contiguous(&log_decay)?,
            b: &prepared(keys, 1)?,
            c: &scaled(&prepared(queries, 0)?, self.scale)?,
        };
        let shape = [batch, heads, 1, head_dim, head_dim];
        let before = match state.get(0) {
            // One that was read from a file may have another type.
            Some(before) => {
                let before = ops::astype(&ops::swap_axes(before, -1, -2)?, Dtype::Float32)?;
                ops::contiguous(&ops::reshape(&before, &shape)?)?
            }
            None => ops::zeros(&shape, Dtype::Float32)?,
        };
        let (y, after) = scan.run(self.device, &before)?;
        let after = ops::reshape(&after, &[batch, heads, head_dim, head_dim])?;
        // Keys before values, as mlx-lm keeps it.
        state.set(0, ops::swap_axes(&after, -1, -2)?);
        state.advance(length);
        ops::astype(&ops::reshape(&y, &[batch, length, heads * head_dim])?, dtype)
    }
}

impl Mixer for LightningAttention {
    fn forward(&self, x: &Input, rows: &mut Rows) -> Result<Array> {
        let LightningConfig { norm_groups: groups, eps, .. } = self.config;
        let qkv = x.project(&self.qkv)?;
        let gate = ops::sigmoid(&self.gate.forward(x.array()?)?)?;
        let parts = [&qkv[0], &qkv[1], &qkv[2]];
        let y = rows.mix(parts, |parts, row| self.recurrence(parts, row))?;
        let normed = rms_norm_of_groups(self.device, &y, &self.norm, groups, eps)?;
        self.output.forward(&ops::multiply(&normed, &gate)?)
    }

    fn make_cache(&self) -> Cache {
        Cache::arrays_of(1)
    }
}
