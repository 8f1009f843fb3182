//! Trinity (Arcee 2025): norms around each block and over each query and key head, gated attention,
//! most layers within a window beside others that do not look at positions, and experts as DeepSeek
//! V3's.

use serde_json::json;

use crate::error::Result;
use crate::models::config::{ConfigFile, RopeDefaults};
use crate::models::{Architecture, LanguageModel};
use crate::nn::{GatePlace, Norm, NormLayout, OutputGate, QkNorm};
use crate::weights::Weights;

pub(super) const ARCHITECTURE: Architecture = Architecture::new(&["afmoe"], build);

fn build(file: &ConfigFile, w: &Weights) -> Result<Box<dyn LanguageModel>> {
    let file =
        &file.with_defaults([("num_dense_layers", json!(1)), ("num_shared_experts", json!(2))]);
    let mut decoder = file.decoder(&RopeDefaults::base(10_000.0))?;
    decoder.layout = NormLayout::sandwich([
        "input_layernorm",
        "post_attention_layernorm",
        "pre_mlp_layernorm",
        "post_mlp_layernorm",
    ]);
    if file.flag("mup_enabled")? {
        decoder.embedding_scale = Some((decoder.attention.dims as f32).sqrt());
    }
    decoder.attention.qkv = &["q_proj", "k_proj", "v_proj", "gate_proj"];
    decoder.attention.output_gate = Some(OutputGate::sigmoid(GatePlace::EachFeature));
    decoder.attention.qk_norm = Some(QkNorm::each_head(Norm::rms, decoder.eps));
    let step = file.size_or("global_attn_every_n_layers", 4)?;
    for (layer, window) in decoder.layers.iter_mut().zip(file.windows(1024, step)?) {
        layer.span = window.into();
        layer.rope = layer.rope.take().filter(|_| window.is_some());
    }
    let mut layers = file.sparse_layers(decoder.attention.dims)?;
    layers.names.router = "router.gate";
    layers.names.correction = &["expert_bias"];
    layers.names.stacked = ["experts.gate_proj", "experts.up_proj", "experts.down_proj"];
    Ok(Box::new(decoder.build(w, |index, w| layers.build(index, w))?))
}
