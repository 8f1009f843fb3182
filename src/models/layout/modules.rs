//! Which modules of an architecture mlx-lm quantizes, and which in a format of their own.

use std::collections::BTreeSet;

use super::super::config::ConfigFile;
use super::tensors::Tensors;
use crate::error::Result;
use crate::mlx::quantized::{Mode, QuantizationParams};

/// What mlx-lm does with a module's matrix when it quantizes a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Quantizing {
    /// It stays as it is.
    Never,
    /// It gets the format of the whole model.
    AsModel,
    /// It gets this format.
    Own(QuantizationParams),
}

/// The modules of an architecture.
pub struct Modules {
    model_type: String,
    /// Whether there are experts, where that decides.
    has_experts: bool,
    /// Layers by their numbers, where that decides.
    layers: BTreeSet<usize>,
    /// The paths of those that can be packed, where mlx-lm says nothing of the model.
    packable: Option<BTreeSet<String>>,
}

/// Modules of which a product of low precision would choose other experts, or underflow: mlx-lm
/// gives them eight bits.
const CAREFUL: QuantizationParams =
    QuantizationParams { mode: Mode::Affine, group_size: 64, bits: 8 };

/// Mixtures whose router is no layer of its own in mlx-lm.
const PLAIN_GATES: [&str; 17] = [
    "bailing_moe_v3",
    "deepseek",
    "deepseek_v2",
    "deepseek_v3",
    "deepseek_v32",
    "deepseek_v41",
    "dots1",
    "exaone_moe",
    "glm4_moe",
    "glm4_moe_lite",
    "glm_moe_dsa",
    "joyai_llm_flash",
    "kimi_k2",
    "kimi_k25",
    "kimi_vl",
    "mimo_v2_flash",
    "solar_open",
];

impl Modules {
    pub(super) fn new(model_type: &str, config: &ConfigFile, tensors: &Tensors) -> Result<Self> {
        let experts = config.optional::<i64>("num_experts")?.unwrap_or(0);
        let layers = match model_type {
            // Those of linear attention.
            "bailing_moe_v3" => {
                let convolutions = tensors.names(|name| name.ends_with(".q_conv1d.weight"));
                convolutions.iter().filter_map(|name| layer_of(name)).collect()
            }
            // The first one and the last one.
            "muse_spark" => [0, config.layers()?.saturating_sub(1)].into(),
            _ => BTreeSet::new(),
        };
        let model_type = model_type.to_owned();
        Ok(Self { model_type, has_experts: experts > 0, layers, packable: None })
    }

    /// The modules of a model that mlx-lm lacks, by the paths of those that can be packed.
    pub(super) fn of(packable: BTreeSet<String>) -> Self {
        let packable = Some(packable);
        Self { model_type: String::new(), has_experts: false, layers: BTreeSet::new(), packable }
    }

    /// What becomes of the module `path` with a `weight` of `dims` axes.
    pub fn quantizing(&self, path: &str, dims: usize) -> Quantizing {
        if let Some(packable) = &self.packable {
            let can = dims >= 2 && packable.contains(path);
            return if can { Quantizing::AsModel } else { Quantizing::Never };
        }
        let name = path.rsplit('.').next().unwrap_or(path);
        // Convolutions and norms of each head.
        if dims < 2 || name.starts_with("conv") || name.ends_with("norm") {
            return Quantizing::Never;
        }
        let ends = |endings: &[&str]| endings.iter().any(|ending| path.ends_with(ending));
        let careful = match self.model_type.as_str() {
            model_type if PLAIN_GATES.contains(&model_type) && ends(&["mlp.gate"]) => {
                return Quantizing::Never;
            }
            "nemotron_h" if ends(&["mixer.gate"]) => return Quantizing::Never,
            "bailing_hybrid" if ends(&["attention.embed_q", "attention.unembed_out"]) => {
                return Quantizing::Never;
            }
            "bailing_moe_v3" if self.is_precise_in_bailing_v3(path) => return Quantizing::Never,
            "kimi_k3" if ends(&["res_proj"]) => return Quantizing::Never,
            "spark2_5" if ends(&["self_attn.g_proj"]) => return Quantizing::Never,
            // Experts of the layers between the first and the last.
            "muse_spark" => {
                let is_expert = ["gate_proj", "up_proj", "down_proj"].contains(&name)
                    && path.contains(".mlp.experts.");
                let inner = layer_of(path).is_some_and(|layer| !self.layers.contains(&layer));
                return match is_expert && inner {
                    true => Quantizing::AsModel,
                    false => Quantizing::Never,
                };
            }
            "gemma4" | "gemma4_text" | "gemma4_unified" => ends(&["router.proj"]),
            "gpt_oss" => ends(&["router"]),
            "granite" => ends(&["self_attn.o_proj", "mlp.down_proj"]) || path == "lm_head",
            "granitemoe" => {
                let careful =
                    ["block_sparse_moe.router.layer", "self_attn.o_proj", "mlp.down_proj"];
                ends(&careful) || path == "lm_head"
            }
            "granitemoehybrid" => self.has_experts && ends(&["router.layer"]),
            "qwen3_moe" | "qwen3_vl_moe" | "Klear" | "mellum" => ends(&["mlp.gate"]),
            "laguna" => ends(&["mlp.gate.proj"]),
            "step3p5" => path.contains("mlp.gate.gate"),
            "afmoe" => path.contains("router.gate"),
            "bailing_moe" | "bailing_moe_linear" | "bailing_hybrid" => {
                ends(&["mlp.gate.gate_proj"])
            }
            "jamba" => ends(&["router"]),
            "kimi_linear" | "kimi_k3" => ends(&["mlp.gate"]),
            "longcat_flash" | "longcat_flash_ngram" => ends(&["classifier"]),
            "rwkv7" => path.contains("lora.2") || path.contains("embeddings"),
            "lfm2_moe" => ends(&["feed_forward.gate"]),
            "minimax" | "minimax_m2" | "minimax_m3_vl" => ends(&["block_sparse_moe.gate"]),
            "qwen3_next" => ends(&["mlp.gate", "shared_expert_gate"]),
            "qwen3_5" | "qwen3_5_moe" => {
                self.has_experts && ends(&["mlp.gate", "shared_expert_gate"])
            }
            _ => false,
        };
        if careful { Quantizing::Own(CAREFUL) } else { Quantizing::AsModel }
    }

    /// Whether a tensor of floating-point numbers takes another type with the whole model.
    pub fn casts(&self, tensor: &str) -> bool {
        match self.model_type.as_str() {
            "deepseek_v3"
            | "deepseek_v32"
            | "glm_moe_dsa"
            | "kimi_k2"
            | "kimi_k25"
            | "kimi_vl"
            | "joyai_llm_flash"
            | "glm4_moe"
            | "glm4_moe_lite"
            | "laguna"
            | "mimo_v2_flash"
            | "exaone_moe"
            | "solar_open"
            | "minimax"
            | "minimax_m2"
            | "minimax_m3_vl"
            | "longcat_flash"
            | "longcat_flash_ngram" => !tensor.contains("e_score_correction_bias"),
            "step3p5" => !tensor.contains("router_bias"),
            "afmoe" | "bailing_moe" | "bailing_moe_linear" | "bailing_hybrid" | "Klear"
            | "lfm2_moe" => !tensor.contains("expert_bias"),
            "nemotron_h" => {
                !tensor.contains("e_score_correction_bias") && !tensor.contains("A_log")
            }
            "qwen3_5" | "qwen3_5_moe" | "prism_hadamard_qwen35" => !tensor.ends_with("A_log"),
            "kimi_linear" | "kimi_k3" => !["e_score_correction_bias", "A_log", "dt_bias"]
                .iter()
                .any(|name| tensor.ends_with(name)),
            "muse_spark" => !tensor.ends_with("_alpha") && !tensor.ends_with("_beta"),
            "deepseek_v41" => {
                !["attn_hc.", "ffn_hc.", "sinks", "e_score_correction_bias", "compressor."]
                    .iter()
                    .any(|name| tensor.contains(name))
            }
            _ => true,
        }
    }
    /// Whether mlx-lm leaves a module of Ling 3 as it is: what makes latent vectors, queries and
    /// gates of the layers of full attention, and embeddings.
    fn is_precise_in_bailing_v3(&self, path: &str) -> bool {
        const PRECISE: [&str; 6] = [
            "attention.q_a_proj",
            "attention.q_b_proj",
            "attention.kv_a_proj_with_mqa",
            "attention.embed_q",
            "attention.unembed_out",
            "attention.b_proj",
        ];
        let of_full_attention = ["attention.q_proj", "attention.g_proj"];
        ["model.word_embeddings", "lm_head"].contains(&path)
            || PRECISE.iter().any(|ending| path.ends_with(ending))
            || of_full_attention.iter().any(|ending| path.ends_with(ending))
                && layer_of(path).is_some_and(|layer| !self.layers.contains(&layer))
    }
}

/// The number of the layer that a path goes through.
fn layer_of(path: &str) -> Option<usize> {
    path.split('.').find_map(|part| part.parse().ok())
}
