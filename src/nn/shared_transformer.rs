//! A transformer block that several layers share, each with low-rank matrices of its own (Glorioso
//! et al. 2024, "Zamba 2").

use std::rc::Rc;

use super::attention::Attention;
use super::attention_config::{AttentionConfig, LayerConfig};
use super::linear::Linear;
use super::mixer::Mixer;
use super::norm::Norm;
use super::residual::Residual;
use super::rows::Rows;
use crate::cache::Cache;
use crate::error::Result;
use crate::fused::activation::Activation;
use crate::mlx::{Array, Dtype, ops};
use crate::weights::Weights;

/// The measures of a [`SharedTransformer`].
#[derive(Debug)]
pub struct SharedTransformerConfig {
    /// Its attention, whose inputs are the residual stream and the embeddings.
    pub attention: AttentionConfig,
    /// How that tells positions apart.
    pub layer: LayerConfig,
    /// Features of the gate of its MLP.
    pub hidden: i32,
    /// Whether the MLP has biases.
    pub bias: bool,
    /// That of the gate.
    pub activation: Activation,
    /// Epsilon of the norms.
    pub eps: f32,
    /// The rank of the matrices that a layer has by itself.
    pub rank: i32,
    /// Whether it has them for queries, keys and values, too.
    pub adapts_attention: bool,
}

/// mlp(norm(attention(norm(x, embeddings)))), with x and the embeddings side by side, and no
/// residual stream.
#[derive(Debug)]
pub struct SharedTransformer {
    norm: Norm,
    attention: Attention,
    mlp_norm: Norm,
    gate_up: Linear,
    down: Linear,
    hidden: i32,
    activation: Activation,
}

impl SharedTransformer {
    /// Takes `input_layernorm`, `self_attn`, `pre_ff_layernorm`, and `gate_up_proj` and `down_proj`
    /// of `feed_forward`.
    pub fn new(w: &Weights, config: &SharedTransformerConfig) -> Result<Self> {
        let SharedTransformerConfig { attention, hidden, bias, eps, .. } = *config;
        let (dims, mlp) = (attention.dims, w.at("feed_forward"));
        Ok(Self {
            norm: Norm::rms(&w.at("input_layernorm"), 2 * dims, eps)?,
            attention: attention.build(&w.at("self_attn"), config.layer.clone())?,
            mlp_norm: Norm::rms(&w.at("pre_ff_layernorm"), dims, eps)?,
            gate_up: Linear::new(&mlp.at("gate_up_proj"), dims, 2 * hidden, bias)?,
            down: Linear::new(&mlp.at("down_proj"), hidden, dims, bias)?,
            hidden,
            activation: config.activation,
        })
    }
}

/// up(down(x)), through few features.
#[derive(Debug)]
struct LowRank([Linear; 2]);

impl LowRank {
    /// Takes `0` and `1`.
    fn new(w: &Weights, inputs: i32, rank: i32, outputs: i32) -> Result<Self> {
        let down = Linear::new(&w.at(0), inputs, rank, false)?;
        Ok(Self([down, Linear::new(&w.at(1), rank, outputs, false)?]))
    }

    /// `sum` and what is made of `x`.
    fn add_to(&self, sum: &Array, x: &Array) -> Result<Array> {
        let Self([down, up]) = self;
        ops::add(sum, &up.forward(&down.forward(x)?)?)
    }
}

/// A [`SharedTransformer`] as one of the layers runs it: out(transformer(x, embeddings)).
#[derive(Debug)]
pub struct LayerOfShared {
    shared: Rc<SharedTransformer>,
    /// What is added to the projections of queries, keys and values.
    qkv: Option<[LowRank; 3]>,
    /// And to that of the MLP's gate and up.
    gate_up: LowRank,
    output: Linear,
}

impl LayerOfShared {
    /// Takes from the view `w` of what is shared number `index` of `linear_q_adapter_list` … and
    /// `gate_up_proj_adapter_list`, and `output`.
    pub fn new(
        shared: Rc<SharedTransformer>,
        w: &Weights,
        index: usize,
        output: &Weights,
        config: &SharedTransformerConfig,
    ) -> Result<Self> {
        let SharedTransformerConfig { attention, hidden, rank, .. } = *config;
        let (dims, inner) = (attention.dims, attention.heads * attention.head_dim);
        let adapter = |block: &str, list: &str, inputs, outputs| {
            LowRank::new(&w.at(block).at(list).at(index), inputs, rank, outputs)
        };
        let of_attention = |list| adapter("self_attn", list, 2 * dims, inner);
        let qkv = match config.adapts_attention {
            true => Some([
                of_attention("linear_q_adapter_list")?,
                of_attention("linear_k_adapter_list")?,
                of_attention("linear_v_adapter_list")?,
            ]),
            false => None,
        };
        let gate_up = adapter("feed_forward", "gate_up_proj_adapter_list", dims, 2 * hidden)?;
        Ok(Self { shared, qkv, gate_up, output: Linear::new(output, dims, dims, false)? })
    }

    /// What is added to the residual stream `x`, `[batch, length, dims]` as `embeddings` are, for
    /// the mixer to read.
    pub fn forward(&self, x: &Array, embeddings: &Array, rows: &mut Rows) -> Result<Array> {
        let shared = &*self.shared;
        let joined = Residual::from(ops::concatenate(&[x, embeddings], -1)?);
        let input = joined.normed(&shared.norm);
        if self.qkv.is_some() {
            // The low-rank matrices read it, too.
            input.array()?;
        }
        let (mut qkv, _) = shared.attention.project(&input)?;
        for (part, adapter) in qkv.iter_mut().zip(self.qkv.iter().flatten()) {
            *part = adapter.add_to(part, input.array()?)?;
        }
        let attended = shared.mlp_norm.forward(&shared.attention.attend(qkv, None, rows)?)?;
        let gate_up = self.gate_up.add_to(&shared.gate_up.forward(&attended)?, &attended)?;
        let gate_up = ops::split_at(&gate_up, &[shared.hidden], -1)?;
        let hidden = ops::multiply(&shared.activation.apply(&gate_up[0])?, &gate_up[1])?;
        self.output.forward(&shared.down.forward(&hidden)?)
    }

    /// Room in the caches of its attention; see [`Mixer::make_room`].
    pub fn make_room(&self, rows: &mut Rows, batch: i32, dtype: Dtype) -> Result<Vec<Array>> {
        self.shared.attention.make_room(rows, batch, dtype)
    }

    /// An empty cache of its attention.
    pub fn make_cache(&self) -> Cache {
        self.shared.attention.make_cache()
    }
}
