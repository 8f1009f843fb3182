//! The blocks that models are built of. Weights are immutable after loading (`&self` forward); all
//! state is in the caches that are passed in.

mod activation;
mod altup;
mod attention;
mod backbone;
mod branches;
mod conv;
mod decoder;
mod delta;
mod dot_product;
mod embedding;
mod gated_delta;
mod heads;
mod laurel;
mod linear;
mod mamba2;
mod mixer;
mod mla;
mod mlp;
mod moe;
mod norm;
mod per_layer;
mod residual;
mod rope;
mod router;
mod scaled;
mod shared_attention;
mod side_experts;
mod ssm;
mod standard;

pub use activation::Activation;
pub use altup::{AltUp, AltUpConfig, AltUpEnds, add_to_others};
pub use attention::{
    Attention, AttentionConfig, ProjectionNames, QkNorm, QueryTemperature, Values,
};
pub use backbone::{Backbone, BackboneConfig, Block};
pub use branches::{Branch, Branches};
pub use conv::{CausalConv, ShortConv};
pub use decoder::{Decoder, DecoderLayer, Head, Norms, scaled, soft_cap};
pub use embedding::Embedding;
pub use gated_delta::{DeltaProjections, GatedDelta, GatedDeltaConfig};
pub use laurel::Laurel;
pub use linear::{ExpertLinear, ExpertMatrix, Linear};
pub use mamba2::{GatedNorm, Mamba2, Mamba2Config};
pub use mixer::{Masks, Mixer, Reach};
pub use mla::{Mla, MlaConfig};
pub use mlp::{FeedForward, Mlp, PlainMlp};
pub use moe::{ExpertNames, Experts, Moe, MoeConfig};
pub use norm::Norm;
pub use per_layer::{PerLayerConfig, PerLayerDecoder, PerLayerEmbedding, PerLayerGate};
pub use residual::Residual;
pub use rope::{Rope, RopeConfig, RopeScaling};
pub use router::{ExpertGroups, Router, Routing};
pub use scaled::Scaled;
pub use shared_attention::{SharedAttention, shared_caches};
pub use side_experts::SideExperts;
pub use standard::{LayerConfig, NormKind, NormLayout, StandardDecoder, language_model};
