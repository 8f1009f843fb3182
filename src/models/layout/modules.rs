//! Which modules of an architecture mlx-lm quantizes, and which in a format of their own.

use super::super::config::ConfigFile;
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
}

/// Modules of which a product of low precision would choose other experts, or underflow: mlx-lm
/// gives them eight bits.
const CAREFUL: QuantizationParams =
    QuantizationParams { mode: Mode::Affine, group_size: 64, bits: 8 };

/// Mixtures whose router is no layer of its own in mlx-lm.
const PLAIN_GATES: [&str; 15] = [
    "deepseek",
    "deepseek_v2",
    "deepseek_v3",
    "deepseek_v32",
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
    pub(super) fn new(model_type: &str, config: &ConfigFile) -> Result<Self> {
        let experts = config.optional::<i64>("num_experts")?.unwrap_or(0);
        Ok(Self { model_type: model_type.to_owned(), has_experts: experts > 0 })
    }

    /// What becomes of the module `path` with a `weight` of `dims` axes.
    pub fn quantizing(&self, path: &str, dims: usize) -> Quantizing {
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
            "bailing_moe" | "bailing_moe_linear" => ends(&["mlp.gate.gate_proj"]),
            "lfm2_moe" => ends(&["feed_forward.gate"]),
            "minimax" | "minimax_m2" => ends(&["block_sparse_moe.gate"]),
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
            "deepseek_v3" | "deepseek_v32" | "glm_moe_dsa" | "kimi_k2" | "kimi_k25" | "kimi_vl"
            | "joyai_llm_flash" | "glm4_moe" | "glm4_moe_lite" | "laguna" | "mimo_v2_flash"
            | "exaone_moe" | "solar_open" | "minimax" | "minimax_m2" => {
                !tensor.contains("e_score_correction_bias")
            }
            "step3p5" => !tensor.contains("router_bias"),
            "afmoe" | "bailing_moe" | "bailing_moe_linear" | "Klear" | "lfm2_moe" => {
                !tensor.contains("expert_bias")
            }
            "nemotron_h" => {
                !tensor.contains("e_score_correction_bias") && !tensor.contains("A_log")
            }
            "qwen3_5" | "qwen3_5_moe" => !tensor.ends_with("A_log"),
            _ => true,
        }
    }
}
