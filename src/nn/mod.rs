//! The blocks that models are built of. Weights are immutable after loading (`&self` forward); all
//! state is in the caches that are passed in.

mod altup;
mod attention;
mod backbone;
mod branches;
mod conv;
mod decoder;
mod dense_and_moe;
mod embedding;
mod expert_linear;
mod gated_delta;
mod heads;
mod laurel;
mod linear;
mod mamba2;
mod mixer;
mod mla;
mod mlp;
mod moe;
mod moe_config;
mod norm;
mod per_layer;
mod residual;
mod residual_scale;
mod rope;
mod router;
mod shared_attention;
mod standard;

pub use crate::fused::activation::Activation;
pub use crate::fused::math::{scaled, soft_cap};
pub use altup::{AltUp, AltUpConfig, AltUpProjections, add_per_layer_input};
pub use attention::{
    Attention, AttentionConfig, ProjectionNames, QkNorm, QueryTemperature, Values,
};
pub use backbone::{Backbone, BackboneConfig, Block};
pub use branches::{Branch, Branches};
pub use conv::{CausalConv, ShortConv};
pub use decoder::{BlockNorms, Decoder, DecoderLayer, Head, Norms};
pub use dense_and_moe::DenseAndMoe;
pub use embedding::Embedding;
pub use expert_linear::{ExpertLinear, ExpertMatrix};
pub use gated_delta::{DeltaProjections, GatedDelta, GatedDeltaConfig};
pub use laurel::Laurel;
pub use linear::Linear;
pub use mamba2::{GatedNorm, Mamba2, Mamba2Config};
pub use mixer::{AttentionSpan, Masks, Mixer};
pub use mla::{Mla, MlaConfig};
pub use mlp::{FeedForward, Mlp, PlainMlp};
pub use moe::{ExpertNames, Experts, Moe};
pub use moe_config::MoeConfig;
pub use norm::Norm;
pub use per_layer::{PerLayerConfig, PerLayerDecoder, PerLayerEmbedding, PerLayerGate};
pub use residual::{Input, Residual};
pub use residual_scale::ResidualScale;
pub use rope::{Rope, RopeConfig, RopeScaling};
pub use router::{ExpertGroups, Router, Routing};
pub use shared_attention::{SharedAttention, shared_caches};
pub use standard::{LayerConfig, NormKind, NormLayout, StandardDecoder, language_model};
