//! Zamba 2 (Zyphra 2024): Mamba 2 mixers, some of which read what one of a few shared transformer
//! blocks makes of the residual stream and the embeddings.

use std::rc::Rc;

use serde::Deserialize;
use serde_json::{Value, json};

use super::config::{ConfigFile, Mamba2Fields, RopeDefaults};
use super::{Architecture, LanguageModel, layer_of};
use crate::error::Result;
use crate::nn::{
    Activation, AttentionConfig, AttentionSpan, Backbone, Block, Embedding, Head, LayerConfig,
    LayerOfShared, Mamba2, Mamba2Config, Norm, SharedTransformer, SharedTransformerConfig,
    language_model,
};
use crate::weights::Weights;

pub(super) const ARCHITECTURE: Architecture =
    Architecture::new(&["zamba2"], build).ignoring(is_of_another_layer);

/// Whether a tensor is a low-rank matrix of another layer: each block has those of all, also where
/// blocks are not shared, as heads and embeddings are not.
fn is_of_another_layer(file: &ConfigFile, tensor: &str) -> bool {
    let adapter = tensor.split_once("_adapter_list.").and_then(|(_, rest)| rest.split('.').next());
    let adapter = adapter.and_then(|number| number.parse::<usize>().ok());
    let layer = layer_of(tensor);
    let (Some(layer), Some(adapter), Ok(kinds)) = (layer, adapter, kinds(file)) else {
        return false;
    };
    let before = kinds.iter().take(layer).filter(|kind| **kind == Kind::Hybrid).count();
    matches!(file.optional("tie_word_embeddings"), Ok(Some(false))) && adapter != before
}

#[derive(Clone, Copy, PartialEq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Kind {
    #[serde(alias = "mamba")]
    LinearAttention,
    /// A shared transformer in front of the mixer.
    Hybrid,
}

fn build(file: &ConfigFile, w: &Weights) -> Result<Box<dyn LanguageModel>> {
    let file = &with_derived(file)?;
    let decoder = file.decoder(&RopeDefaults::base(10_000.0))?;
    let (dims, eps) = (decoder.attention.dims, decoder.eps);
    let kinds = kinds(file)?;
    let (mamba, config) = (mamba(file)?, transformer(file, decoder.attention, &decoder.layers)?);
    let blocks = file.size_or("num_mem_blocks", 1)?.unsigned_abs() as usize;
    let model = language_model(w);
    // Those before it, with the layers whose tensors they are made of.
    let mut shared: Vec<(Rc<SharedTransformer>, Weights)> = Vec::new();
    let mut before = 0;
    let mut layers = Vec::new();
    for (index, kind) in kinds.into_iter().enumerate() {
        let w = model.at("layers").at(index);
        let mixer = match kind {
            Kind::LinearAttention => w.clone(),
            Kind::Hybrid => w.at("mamba_decoder"),
        };
        let norm = Norm::rms(&mixer.at("input_layernorm"), dims, eps)?;
        let mixer = Box::new(Mamba2::new(&mixer.at("mamba"), mamba)?);
        let block = match kind {
            Kind::LinearAttention => Block::Mixer(mixer),
            Kind::Hybrid => {
                let own = w.at("shared_transformer");
                // Some writers repeat the tensors in every layer.
                if before < blocks || own.at("self_attn.q_proj").has("weight") {
                    let block = (Rc::new(SharedTransformer::new(&own, &config)?), own);
                    match before < blocks {
                        true => shared.push(block),
                        false => shared[before % blocks] = block,
                    }
                }
                let (block, view) = &shared[before % blocks];
                let (block, output) = (Rc::clone(block), w.at("linear"));
                let layer = LayerOfShared::new(block, view, before, &output, &config)?;
                before += 1;
                Block::WithShared(Box::new(layer), mixer)
            }
        };
        layers.push((norm, block));
    }
    let (embedding, tied) = (model.at("embed_tokens"), decoder.tied);
    Ok(Box::new(Backbone {
        embedding: Embedding::new(&embedding, decoder.vocabulary, dims)?,
        embedding_norm: None,
        layers,
        norm: Norm::rms(&model.at("final_layernorm"), dims, eps)?,
        head: Head::new(&w.at("lm_head"), &embedding, tied, dims, decoder.vocabulary)?,
        prediction: None,
    }))
}

/// The sizes that follow from others, whatever a configuration says of them.
fn with_derived(file: &ConfigFile) -> Result<ConfigFile> {
    let file = file.with_defaults([
        ("n_mamba_heads", json!(8)),
        ("mamba_ngroups", json!(1)),
        ("rope_theta", json!(10_000)),
    ]);
    let (dims, heads) = (file.size("hidden_size")?, file.size("num_attention_heads")?);
    let inner = f64::from(dims) * file.optional::<f64>("mamba_expand")?.unwrap_or(2.0);
    let file = file.with([
        ("head_dim", json!(2 * dims / heads)),
        ("attention_bias", json!(false)),
        ("mamba_headdim", json!(inner as i64 / i64::from(file.size("n_mamba_heads")?))),
    ]);
    Ok(match file.flag("use_long_context")? {
        true => file.with([("max_position_embeddings", json!(16_384))]),
        false => file,
    })
}

/// The kind of each layer; where it is not said, those of the model with 2.7 billion parameters.
fn kinds(file: &ConfigFile) -> Result<Vec<Kind>> {
    const HYBRID: [usize; 9] = [6, 12, 18, 24, 30, 36, 42, 47, 51];
    if let Some(kinds) = file.layer_kinds()? {
        return Ok(kinds);
    }
    let layers = file.layers()?;
    if layers != 54 {
        return Err(file.error("\"layers_block_type\" is missing"));
    }
    let kind = |layer| match HYBRID.contains(&layer) {
        true => Kind::Hybrid,
        false => Kind::LinearAttention,
    };
    Ok((0..layers).map(kind).collect())
}

fn mamba(file: &ConfigFile) -> Result<Mamba2Config> {
    let config = file.mamba2(&Mamba2Fields {
        heads: "n_mamba_heads",
        head_dim: "mamba_headdim",
        state: "mamba_d_state",
        groups: "mamba_ngroups",
        kernel: "mamba_d_conv",
        conv_bias: "use_conv_bias",
        projection_bias: "add_bias_linear",
    })?;
    let least = file.optional("time_step_min")?.unwrap_or(0.001);
    // The convolution has a bias and the norm this epsilon, whatever a configuration says.
    let time_step_limit = (least, f32::INFINITY);
    Ok(Mamba2Config { conv_bias: true, eps: 1e-5, time_step_limit, ..config })
}

/// The blocks that layers share. Scores are scaled as if heads had half their features.
fn transformer(
    file: &ConfigFile,
    attention: AttentionConfig,
    layers: &[LayerConfig],
) -> Result<SharedTransformerConfig> {
    let (dims, half) = (attention.dims, attention.head_dim as f32 / 2.0);
    let attention =
        AttentionConfig { inputs: Some(2 * dims), scale: Some(half.sqrt().recip()), ..attention };
    let rotates = file.flag("use_mem_rope")?;
    let rope = layers.first().and_then(|layer| layer.rope.clone()).filter(|_| rotates);
    Ok(SharedTransformerConfig {
        attention,
        layer: LayerConfig { rope, span: AttentionSpan::Full, temperature: None },
        hidden: match file.optional::<Value>("intermediate_size")? {
            Some(_) => file.size("intermediate_size")?,
            None => file.bounded("hidden_size", 4 * i64::from(dims), 1 << 24)?,
        },
        bias: file.flag("add_bias_linear")?,
        activation: file.optional("hidden_act")?.unwrap_or(Activation::Gelu),
        eps: file.eps()?,
        rank: file.size_or("adapter_rank", 128)?,
        adapts_attention: file.flag("use_shared_attention_adapter")?,
    })
}
