//! Phixtral (Labonne 2024): Phi 2, whose experts are plain MLPs.

use serde_json::json;

use crate::error::Result;
use crate::mlx::{Array, eval, ops};
use crate::models::config::{ConfigFile, RopeDefaults};
use crate::models::{Architecture, LanguageModel};
use crate::nn::{
    Activation, DecoderNames, ExpertLinear, ExpertMatrix, Experts, Moe, MoeConfig, Norm,
    NormLayout, Router, Routing,
};
use crate::weights::Weights;

pub(super) const ARCHITECTURE: Architecture = Architecture::new(&["phixtral", "phi-msft"], build);

/// The names of the parts of fields, as published and as mlx-lm has them.
const PUBLISHED: [(&str, &str); 4] = [
    ("hidden_size", "n_embd"),
    ("num_hidden_layers", "n_layer"),
    ("num_attention_heads", "n_head"),
    ("hidden_act", "activation_function"),
];
const CONVERTED: [(&str, &str); 4] = [
    ("hidden_size", "model_dim"),
    ("num_hidden_layers", "num_layers"),
    ("num_attention_heads", "num_heads"),
    ("vocab_size", "num_vocab"),
];

fn build(file: &ConfigFile, w: &Weights) -> Result<Box<dyn LanguageModel>> {
    let converted = !file.values().contains_key("n_embd");
    let names = if converted { &CONVERTED } else { &PUBLISHED };
    let file = &file.renamed(names).with_defaults([
        ("hidden_size", json!(2560)),
        ("num_hidden_layers", json!(32)),
        ("num_attention_heads", json!(32)),
        ("vocab_size", json!(51_200)),
        ("rotary_dim", json!(32)),
        ("num_local_experts", json!(4)),
        ("attention_bias", json!(true)),
    ]);
    let rope = RopeDefaults { base: Some(10_000.0), traditional: false, share: Some(1.0) };
    let mut decoder = file.decoder(&rope)?;
    decoder.norm = Norm::layer;
    decoder.layout = NormLayout::parallel("ln");
    decoder.names = DecoderNames {
        model: "",
        embedding: "transformer.embd.wte",
        layers: "transformer.h",
        attention: "mixer",
        norm: "lm_head.ln",
        head: "lm_head.linear",
    };
    decoder.tied = Some(false);
    decoder.attention.qkv = &["Wqkv"];
    decoder.attention.output = "out_proj";
    let (dims, experts) = (decoder.attention.dims, file.size("num_local_experts")?);
    let hidden = file.size_or("n_inner", dims.saturating_mul(4))?;
    let active = file.active_experts(experts, Some(2))?;
    let activation = file.optional("hidden_act")?.unwrap_or(Activation::GeluTanh);
    let routing = Routing::TopThenSoftmax;
    let config = MoeConfig { dims, hidden, experts, active, activation, routing };
    Ok(Box::new(decoder.build(w, |_, w| {
        let w = w.at("moe");
        let router = Router::new(&w.at("gate"), config, false)?;
        let up = expert_linear(&w, "fc1", [dims, hidden], experts)?;
        let down = expert_linear(&w, "fc2", [hidden, dims], experts)?;
        Ok(Box::new(Moe::of(router, Experts::plain([up, down], activation))))
    })?))
}

/// Takes a layer of all experts, stacked or one by one (`mlp.N`), with its biases.
fn expert_linear(
    w: &Weights,
    name: &str,
    [inputs, outputs]: [i32; 2],
    experts: i32,
) -> Result<ExpertLinear> {
    let stacked = w.at("switch_mlp").at(name);
    let single = |expert: i32| w.at("mlp").at(expert).at(name);
    let bias = if stacked.has("bias") {
        stacked.take("bias", &[experts, outputs])?
    } else {
        let biases = (0..experts).map(|expert| single(expert).take("bias", &[outputs]));
        let biases = biases.collect::<Result<Vec<Array>>>()?;
        let joined = ops::concatenate(&biases.iter().collect::<Vec<_>>(), 0)?;
        ops::reshape(&joined, &[experts, outputs])?
    };
    eval(&[&bias])?;
    let matrix = ExpertMatrix::new(&stacked, single, inputs, outputs, experts)?;
    let additions = stacked.expert_site(experts, [inputs, outputs]);
    Ok(ExpertLinear::new(matrix, Some(bias)).with_additions(additions))
}
