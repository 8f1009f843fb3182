//! DeepSeek V4.1 (DeepSeek-AI 2026): several residual streams, attention to a window and to latent
//! vectors of groups of positions, and experts with bounded activations. Of checkpoints that also
//! see images, the language model.

use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::cache::Cache;
use crate::error::Result;
use crate::mlx::Array;
use crate::models::config::{ConfigFile, RopeDefaults};
use crate::models::{Architecture, LanguageModel};
use crate::nn::{
    Activation, Combine, CompressedAttention, CompressedConfig, CompressedNames, DecoderNames,
    Embedding, ExpertNames, Experts, GroupIndexerConfig, HandedOn, HyperConfig, HyperDecoder, Mlp,
    Moe, MoeConfig, NormLayout, Rope, Routing, Score, Step, language_model, limited_swiglu,
};
use crate::weights::Weights;

pub(super) const ARCHITECTURE: Architecture =
    Architecture::new(&["deepseek_v41"], build).with_eps(1e-20).ignoring(|_, tensor| {
        const OTHERS: [&str; 4] = ["vision.", "aligner.", "image_", "mtp."];
        OTHERS.iter().any(|other| tensor.starts_with(other))
            || tensor.contains(".engram.")
            // Of routers, for what is seen.
            || tensor.ends_with(".gate.bias_vl")
    });

/// How a checkpoint names its parts.
struct Names {
    decoder: DecoderNames,
    norms: NormLayout,
    attention: CompressedNames,
    experts: ExpertNames,
    /// Gate, up and down of the expert that sees every token.
    shared: [&'static str; 3],
    feed_forward: &'static str,
    /// In front of what mixes the streams around the attention and the feed-forward block.
    streams: [&'static str; 2],
}

const PUBLISHED: Names = Names {
    decoder: DecoderNames {
        model: "",
        embedding: "embed",
        layers: "layers",
        attention: "attn",
        norm: "norm",
        head: "head",
    },
    norms: NormLayout::pre(["attn_norm", "ffn_norm"]),
    attention: CompressedNames {
        queries_down: "wq_a",
        query_norm: "q_norm",
        queries: "wq_b",
        latents: "wkv",
        gates: "wgate",
        group_norm: "norm",
        index_keys: "wk",
        output_down: "wo_a",
        output: "wo_b",
        sinks: "attn_sink",
    },
    experts: ExpertNames {
        router: "gate",
        correction: &["gate.bias"],
        single: ["w1", "w3", "w2"],
        stacked: ["experts.w1", "experts.w3", "experts.w2"],
        fused: ["experts.gate_up_proj", "experts.down_proj"],
    },
    shared: ["w1", "w3", "w2"],
    feed_forward: "ffn",
    streams: ["hc_attn_", "hc_ffn_"],
};

const CONVERTED: Names = Names {
    decoder: DecoderNames {
        model: "model",
        embedding: "embed_tokens",
        layers: "layers",
        attention: "self_attn",
        norm: "norm",
        head: "lm_head",
    },
    norms: NormLayout::PRE,
    attention: CompressedNames {
        queries_down: "q_a_proj",
        query_norm: "q_a_norm",
        queries: "q_b_proj",
        latents: "kv_proj",
        gates: "gate_proj",
        group_norm: "kv_norm",
        index_keys: "k_proj",
        output_down: "o_a_proj",
        output: "o_b_proj",
        sinks: "sinks",
    },
    experts: ExpertNames {
        router: "gate",
        correction: &["gate.e_score_correction_bias"],
        single: ["gate_proj", "up_proj", "down_proj"],
        stacked: [
            "experts.switch_mlp.gate_proj",
            "experts.switch_mlp.up_proj",
            "experts.switch_mlp.down_proj",
        ],
        fused: ["experts.gate_up_proj", "experts.down_proj"],
    },
    shared: ["gate_proj", "up_proj", "down_proj"],
    feed_forward: "mlp",
    streams: ["attn_hc.", "ffn_hc."],
};

#[derive(Deserialize)]
enum ScoreFunction {
    #[serde(rename = "sigmoid")]
    Sigmoid,
    #[serde(rename = "softmax")]
    Softmax,
    #[serde(rename = "sqrtsoftplus")]
    SqrtSoftplus,
}

fn build(file: &ConfigFile, w: &Weights) -> Result<Box<dyn LanguageModel>> {
    let file = &with_defaults(file);
    let field = "engram_layer_ids";
    if file.optional::<Vec<i64>>(field)?.is_some_and(|layers| !layers.is_empty()) {
        return Err(
            file.error(format!("\"{field}\" names layers with memories, which are not supported"))
        );
    }
    let is_published = w.at("embed").has("weight");
    let names = if is_published { PUBLISHED } else { CONVERTED };
    let mut decoder = file.decoder(&RopeDefaults::base(10_000.0))?;
    decoder.names = names.decoder;
    decoder.layout = names.norms;
    let (dims, eps) = (decoder.attention.dims, decoder.eps);
    let attention = Layers::read(file, eps)?;
    attention.check(file)?;
    let experts = experts(file, dims)?;
    let shared = experts.hidden;
    let limit: f32 = file.optional("swiglu_limit")?.unwrap_or(10.0);
    let limit = if limit > 0.0 { limit } else { f32::INFINITY };
    let combine = Combine { function: limited_swiglu, numbers: [limit, 0.0] };
    let logit_scale = file.optional::<f32>("gate_temp")?.unwrap_or(1.0).recip();
    let handed = HandedOn::default();
    let built = decoder.build_hybrid(
        w,
        |index, w| {
            let (w, config) = (w.at(names.decoder.attention), attention.config(index));
            let (names, handed) = (names.attention, handed.clone());
            Ok(Box::new(CompressedAttention::new(&w, config, names, handed, index == 0)?))
        },
        |_, w| {
            let w = w.at(names.feed_forward);
            let router = names.experts.router(&w, experts)?.with_logit_scale(logit_scale);
            let routed = Experts::combining(&w, experts, names.experts, combine)?;
            let seen = w.at("shared_experts");
            let seen = Mlp::named(&seen, names.shared, dims, shared, false, Activation::Silu)?;
            Ok(Box::new(Moe::of(router, routed).with_shared(seen.combined(combine))))
        },
    )?;
    let config = HyperConfig {
        dims,
        streams: file.bounded("hc_mult", file.require("hc_mult")?, 1 << 6)?,
        iterations: file.bounded(
            "hc_sinkhorn_iters",
            file.require("hc_sinkhorn_iters")?,
            1 << 10,
        )?,
        eps: file.require("hc_eps")?,
        norm_eps: eps,
    };
    let model = if is_published { w.clone() } else { language_model(w) };
    Ok(Box::new(HyperDecoder::new(&model.at("layers"), names.streams, built, config)?))
}

/// The attention of all layers.
struct Layers {
    /// Without what differs between them.
    common: CompressedConfig,
    /// Of layers with groups.
    group_rope: Rope,
    ratios: Vec<i32>,
    compressing: Vec<usize>,
    choosing: Vec<usize>,
    indexer: GroupIndexerConfig,
    /// The layer that limits the choice of those behind it, and how.
    limiting: Option<(i64, [i32; 2])>,
}

impl Layers {
    fn read(file: &ConfigFile, eps: f32) -> Result<Self> {
        let size = |field: &str, most: i64| file.bounded(field, file.require(field)?, most);
        let [heads, groups] = [size("num_attention_heads", 1 << 14)?, size("o_groups", 1 << 14)?];
        if heads % groups != 0 {
            return Err(file.error(format!("\"o_groups\" {groups} does not divide {heads} heads")));
        }
        let head_dim = size("head_dim", 1 << 14)?;
        let rope_dim = size("qk_rope_head_dim", head_dim.into())?;
        let index_dim = size("index_head_dim", 1 << 14)?;
        if index_dim < rope_dim {
            return Err(file.error(format!("\"index_head_dim\" {index_dim} is below {rope_dim}")));
        }
        // Of groups, wavelengths may be stretched by YaRN, whose factor they leave out.
        let plain = file.without_rope_scaling();
        let mut scaling: Option<Map<String, Value>> = file.optional("rope_scaling")?;
        if scaling.is_none() {
            scaling = file.optional("rope_parameters")?;
        }
        if let Some(scaling) = &mut scaling {
            scaling.remove("type");
            scaling.remove("rope_theta");
            scaling.insert("rope_type".to_owned(), json!("yarn"));
            scaling.entry("factor").or_insert(json!(1.0));
            scaling.insert("attention_factor".to_owned(), json!(1.0));
        }
        let of_groups = file.with([
            ("rope_theta", file.require("compress_rope_theta")?),
            ("rope_scaling", json!(scaling)),
            ("rope_parameters", Value::Null),
        ]);
        let common = CompressedConfig {
            dims: size("hidden_size", 1 << 24)?,
            heads,
            head_dim,
            rope_dim,
            rank: size("q_lora_rank", 1 << 24)?,
            groups,
            group_rank: size("o_lora_rank", 1 << 24)?,
            window: file.window()?,
            eps,
            rope: plain.rope(rope_dim, Some(10_000.0), true)?,
            ratio: None,
            compresses: false,
            indexer: None,
        };
        let limiting: Option<i64> = file.optional("candidate_source_layer_id")?;
        let blocks = file.optional::<i64>("candidate_topk_blocks")?.unwrap_or(2048);
        let limiting = match limiting.filter(|layer| *layer >= 0 && blocks > 0) {
            Some(layer) => {
                let blocks = file.bounded("candidate_topk_blocks", blocks, 1 << 30)?;
                Some((layer, [blocks, size("candidate_block_size", 1 << 20)?]))
            }
            None => None,
        };
        let ratios = file.optional::<Vec<i64>>("compress_ratios")?.unwrap_or_default();
        let ratio = |ratio: i64| match ratio {
            0 => Ok(0),
            ratio => file.bounded("compress_ratios", ratio, 1 << 20),
        };
        Ok(Self {
            common,
            group_rope: of_groups.rope(rope_dim, None, true)?,
            ratios: ratios.into_iter().map(ratio).collect::<Result<_>>()?,
            compressing: file.optional("kv_source_layer_ids")?.unwrap_or_default(),
            choosing: file.optional("index_source_layer_ids")?.unwrap_or_default(),
            indexer: GroupIndexerConfig {
                heads: size("index_n_heads", 1 << 14)?,
                head_dim: index_dim,
                top_k: size("index_topk", 1 << 30)?,
                candidates: None,
                eps,
            },
            limiting,
        })
    }

    /// Refuses layers that would look at groups of another size than their own, or than those that
    /// were chosen from.
    fn check(&self, file: &ConfigFile) -> Result<()> {
        let differ = |layer: usize, what: &str| {
            let message = format!("\"compress_ratios\" of layer {layer} and of {what} differ");
            Err(file.error(message))
        };
        let ratio = |layer: usize| self.ratios.get(layer).copied().unwrap_or(0);
        // Of the groups, their keys and those that were chosen, as layers hand them on.
        let (mut groups, mut keys, mut chosen) = (None, None, None);
        for layer in 0..file.layers()? {
            let own = ratio(layer);
            if own == 0 {
                continue;
            }
            let chooses = self.choosing.contains(&layer);
            if self.compressing.contains(&layer) {
                groups = Some(own);
                keys = if chooses { groups } else { keys };
            }
            if chooses {
                chosen = keys;
            }
            if groups.zip(chosen).is_some_and(|(groups, chosen)| groups != chosen) {
                return differ(layer, "the groups that \"index_source_layer_ids\" chose for it");
            }
            if chosen.is_some_and(|chosen| chosen != own) {
                return differ(layer, "the groups that it looks at");
            }
        }
        let Some((limiting, _)) = self.limiting else { return Ok(()) };
        let size = usize::try_from(limiting).map_or(0, ratio);
        let behind = self.choosing.iter().filter(|layer| **layer as i64 > limiting);
        match behind.copied().find(|layer| ![0, size].contains(&ratio(*layer))) {
            None => Ok(()),
            Some(layer) => differ(layer, &format!("the \"candidate_source_layer_id\" {limiting}")),
        }
    }

    fn config(&self, index: usize) -> CompressedConfig {
        let ratio = self.ratios.get(index).copied().filter(|ratio| *ratio > 0);
        let candidates =
            self.limiting.and_then(|(layer, blocks)| (layer == index as i64).then_some(blocks));
        let indexer = GroupIndexerConfig { candidates, ..self.indexer.clone() };
        let rope = if ratio.is_some() { &self.group_rope } else { &self.common.rope };
        CompressedConfig {
            rope: rope.clone(),
            ratio,
            compresses: self.compressing.contains(&index),
            indexer: self.choosing.contains(&index).then_some(indexer),
            ..self.common.clone()
        }
    }
}

fn experts(file: &ConfigFile, dims: i32) -> Result<MoeConfig> {
    let mut config = file.routed_experts(dims)?;
    let score = match file.optional("scoring_func")? {
        Some(ScoreFunction::Sigmoid) => Score::Sigmoid,
        Some(ScoreFunction::Softmax) => Score::Softmax,
        Some(ScoreFunction::SqrtSoftplus) | None => Score::SqrtSoftplus,
    };
    config.routing = Routing::ScoresThenTop {
        score,
        groups: None,
        normalize: config.active > 1 && file.flag_on("norm_topk_prob")?,
        scale: file.optional("routed_scaling_factor")?.unwrap_or(1.5),
    };
    Ok(config)
}

impl LanguageModel for HyperDecoder {
    fn forward(&self, step: &Step, caches: &mut [&mut [Cache]]) -> Result<Array> {
        Self::forward(self, step, caches)
    }

    fn make_caches(&self) -> Vec<Cache> {
        self.decoder().make_caches()
    }

    fn layers(&self) -> usize {
        self.decoder().layers.len()
    }

    fn embedding(&self) -> &Embedding {
        &self.decoder().embedding
    }
}

fn with_defaults(file: &ConfigFile) -> ConfigFile {
    file.with_defaults([
        ("vocab_size", json!(129_280)),
        ("hidden_size", json!(5120)),
        ("num_hidden_layers", json!(40)),
        ("num_attention_heads", json!(64)),
        ("num_key_value_heads", json!(1)),
        ("head_dim", json!(512)),
        ("q_lora_rank", json!(1280)),
        ("qk_rope_head_dim", json!(64)),
        ("o_groups", json!(8)),
        ("o_lora_rank", json!(1024)),
        ("moe_intermediate_size", json!(2304)),
        ("n_routed_experts", json!(384)),
        ("num_experts_per_tok", json!(6)),
        ("sliding_window", json!(128)),
        ("compress_rope_theta", json!(160_000.0)),
        ("candidate_block_size", json!(8)),
        ("index_n_heads", json!(32)),
        ("index_head_dim", json!(128)),
        ("index_topk", json!(512)),
        ("max_position_embeddings", json!(1_048_576)),
        ("hc_mult", json!(4)),
        ("hc_sinkhorn_iters", json!(20)),
        ("hc_eps", json!(1e-6)),
        ("tie_word_embeddings", json!(false)),
    ])
}
