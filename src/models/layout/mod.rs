//! The layout in which mlx-lm saves an architecture's tensors, and what it makes of published ones:
//! their names, experts stacked, factors multiplied in, convolutions with channels last. And which
//! of its modules it quantizes.
//!
//! Nothing is computed here: an array of [`Tensors`] is a graph over mapped files.

mod experts;
mod heads;
mod kimi;
mod known;
mod modules;
mod muse;
mod published;
mod renamed;
mod tensors;

use std::collections::HashMap;
use std::path::Path;

use serde_json::Value;

use super::config::ConfigFile;
use super::is_rotary_frequencies;
use super::parts::Parts;
use crate::error::{Error, Result};
use crate::fused::Device;
use crate::fused::linear::AdjustedMatrix;
use crate::mlx::quantized::{Mode, QuantizationParams, QuantizedTensor};
use crate::mlx::{Array, Dtype};
use crate::weights::{Checkpoint, Foreign, LoadPlan, Quantization, Trainer};
use experts::GateUp;
pub use modules::{Modules, Quantizing};
pub use tensors::Tensors;
use tensors::halves;

/// A checkpoint in mlx-lm's layout.
pub struct Layout {
    /// The tensors by their names.
    pub tensors: Tensors,
    /// The formats of those that are quantized.
    pub quantization: Quantization,
    /// Which modules can be quantized, and how.
    pub modules: Modules,
    /// What the tensors are made for, where the configuration does not say.
    pub declared: Vec<(&'static str, Value)>,
    /// The bytes of the checkpoint.
    pub bytes: usize,
    /// The one program whose adapters belong to the tensors (see [`crate::weights::Sites`]).
    pub trainer: Option<Trainer>,
}

/// The checkpoint of a model's folder in mlx-lm's layout; where mlx-lm lacks the model, as it was
/// published.
///
/// # Errors
/// Those of [`super::load`] about the configuration and the files, and
/// [`crate::error::Error::Unsupported`] for what mlx-lm's layout has no place for.
pub fn layout(dir: &Path) -> Result<Layout> {
    let config = ConfigFile::read(dir)?;
    let text = config.text_part_or_whole()?;
    let architecture = super::find(&text)?;
    let model_type = known::model_type(&config, &text)?;
    let is_known = known::MODEL_TYPES.contains(&model_type.as_str());
    let mut quantization = text.quantization()?;
    let mut checkpoint = Checkpoint::open(dir)?;
    // mlx-lm has them as numbers, but for those of DeepSeek V4.1.
    let float8 = quantization.foreign.and_then(Foreign::float8_block);
    let float8 = float8.filter(|_| model_type != "deepseek_v41");
    if let Some(foreign) = quantization.foreign.filter(|_| float8.is_none()) {
        let plan = LoadPlan::new(Device::default(), None);
        checkpoint = checkpoint.translate(foreign, plan)?;
        quantization.default = most_common(&checkpoint);
    }
    // As mlx-lm has blocks of 32 by 32 with scales that are powers of two, whatever else there is.
    if model_type == "deepseek_v41" && quantization.foreign.is_some() {
        quantization.default = Some(MXFP8);
    }
    let parts = Parts::of(&checkpoint);
    let has_parts = config.optional::<Value>("text_config")?.is_some();
    let is_whole = !has_parts && !WRAPPED.contains(&model_type.as_str());
    let rename = |tensor: &str| {
        let name = parts.without_prefix(tensor)?;
        if !is_known {
            let ignored = is_rotary_frequencies(&name) || (architecture.ignores)(&text, &name);
            return (!ignored).then(|| tensor.to_owned());
        }
        // mlx-lm has matrices of Gemma 3n that neither it nor others use.
        let unused = model_type == "gemma3n" && text.is_of_shared_layer(&name);
        let ignored = is_rotary_frequencies(&name) || (architecture.ignores)(&text, &name);
        (unused || !ignored).then(|| named(&model_type, is_whole, name))
    };
    let mut tensors = Tensors::of(&checkpoint, rename)?;
    if let Some([height, width]) = float8 {
        published::float8(&mut tensors, [height as i32, width as i32])?;
    }
    for (path, &params) in checkpoint.formats() {
        let name = rename(&format!("{path}.weight"));
        if let Some(path) = name.as_deref().and_then(|name| name.strip_suffix(".weight")) {
            numbers_of_adjusted(&mut tensors, path, params)?;
        }
    }
    let is_published = tensors.has("model.embed_tokens.weight");
    let source = Source { model_type: &model_type, config: &text };
    match is_known {
        true => source.convert(&mut tensors)?,
        false if model_type == "openai-gpt" => published::openai_gpt(&mut tensors)?,
        false => {}
    }
    // Experts that are packed together are no modules of the checkpoint.
    if quantization.default.is_none()
        && !tensors.names(|name| name.ends_with(".global_scale")).is_empty()
    {
        quantization.default = Some(NVFP4);
    }
    let mut declared = Vec::new();
    let has_head = !tensors.names(|name| name.ends_with("lm_head.weight")).is_empty();
    if has_head && text.optional::<bool>("tie_word_embeddings")?.is_none() {
        declared.push(("tie_word_embeddings", Value::Bool(false)));
    }
    // mlx-lm has another one in its own layout.
    if model_type == "nanochat" && text.optional::<f64>("rms_norm_eps")?.is_none() && is_published {
        declared.push(("rms_norm_eps", Value::from(1e-6)));
    }
    Ok(Layout {
        modules: match is_known {
            true => Modules::new(&model_type, &text, &tensors)?,
            false => Modules::of(super::outline::modules(&text, &quantization, &checkpoint)?),
        },
        declared,
        quantization,
        bytes: checkpoint.bytes(),
        tensors,
        trainer: (model_type == "falcon_h1" && super::falcon_h1::has_factors(&text)?)
            .then_some(Trainer::MlxLm),
    })
}

/// Makes numbers of a packed layer whose inputs stand in another order or whose outputs are
/// multiplied: mlx-lm has no place for that.
fn numbers_of_adjusted(
    tensors: &mut Tensors,
    path: &str,
    params: QuantizationParams,
) -> Result<()> {
    let name = |leaf: &str| format!("{path}.{leaf}");
    let input_order = tensors.remove(&name("input_order"));
    let output_factors = tensors.remove(&name("output_factors"));
    if input_order.is_none() && output_factors.is_none() {
        return Ok(());
    }
    let weight = tensors.require(&name("weight"))?;
    if weight.ndim() != 2 {
        return Err(Error::Unsupported(format!(
            "\"{path}\": experts whose inputs stand in another order, or whose outputs are \
             multiplied, cannot be converted"
        )));
    }
    let (scales, biases) = (tensors.require(&name("scales"))?, tensors.remove(&name("biases")));
    let dtype = biases.as_ref().map_or(Dtype::Bfloat16, Array::dtype);
    let tensor = QuantizedTensor { weight, scales, biases, params, dtype };
    let adjusted = AdjustedMatrix { tensor, rotation: None, input_order, output_factors };
    tensors.insert(name("weight"), adjusted.dequantize()?);
    Ok(())
}

/// The format of most layers that another program has quantized.
fn most_common(checkpoint: &Checkpoint) -> Option<QuantizationParams> {
    let mut counts = HashMap::<QuantizationParams, usize>::new();
    for params in checkpoint.formats().values() {
        *counts.entry(*params).or_default() += 1;
    }
    let most = counts.into_iter().max_by_key(|(params, count)| (*count, params.bits));
    most.map(|(params, _)| params)
}

const NVFP4: QuantizationParams = QuantizationParams { mode: Mode::Nvfp4, group_size: 16, bits: 4 };

const MXFP8: QuantizationParams = QuantizationParams { mode: Mode::Mxfp8, group_size: 32, bits: 8 };

/// Model types whose language model mlx-lm has as one of several parts, also where the configuration
/// knows none.
const WRAPPED: [&str; 5] =
    ["qwen2_vl", "qwen2_5_vl", "qwen3_5", "qwen3_5_moe", "prism_hadamard_qwen35"];

/// mlx-lm's name of a tensor that the language model would have under `name` by itself.
fn named(model_type: &str, is_whole: bool, name: String) -> String {
    match name.strip_prefix("model.") {
        _ if is_whole || model_type == "muse_glimmer" => name,
        None if model_type == "muse_spark" => name,
        Some(rest) if matches!(model_type, "gemma3n" | "muse_spark") => {
            format!("model.language_model.{rest}")
        }
        _ => format!("language_model.{name}"),
    }
}

/// What is known of a checkpoint besides its tensors.
struct Source<'a> {
    model_type: &'a str,
    /// Of the language model.
    config: &'a ConfigFile,
}

impl Source<'_> {
    fn convert(&self, tensors: &mut Tensors) -> Result<()> {
        self.drop_head(tensors)?;
        experts::stack_single(tensors, self.model_type)?;
        if let Some(kind) = GateUp::of(self.model_type) {
            experts::split(tensors, kind)?;
        }
        match self.model_type {
            "deepseek_v3" | "deepseek_v32" | "glm_moe_dsa" | "kimi_k2" | "kimi_k25"
            | "joyai_llm_flash" | "glm4_moe_lite" | "mistral4" | "longcat_flash"
            | "bailing_moe_v3" => heads::latent(tensors, self.config)?,
            "granitemoe" => {
                split_linear(tensors, "block_sparse_moe", "block_sparse_moe.switch_mlp")?
            }
            "granitemoehybrid" => {
                split_linear(tensors, "block_sparse_moe", "block_sparse_moe.switch_mlp")?;
                if self.config.optional::<i64>("num_local_experts")?.unwrap_or(0) == 0 {
                    split_linear(tensors, "shared_mlp", "mlp")?;
                }
            }
            "falcon_h1" => published::falcon_h1(tensors, self.config)?,
            "apertus" => published::single_numbers(tensors)?,
            "bailing_moe" | "bailing_moe_linear" => published::bailing_moe(tensors, self.config)?,
            "bailing_hybrid" => {
                renamed::bailing_router(tensors);
                heads::latent(tensors, self.config)?;
            }
            "baichuan_m1" => heads::unit_rows(tensors)?,
            "deepseek_v41" => renamed::deepseek_v41(tensors, self.config)?,
            "kimi_linear" => kimi::linear(tensors, self.config)?,
            "kimi_k3" => kimi::k3(tensors, self.config)?,
            "longcat_flash_ngram" => {
                heads::latent(tensors, self.config)?;
                renamed::embedding(tensors, "model.ngram_embeddings.word_embeddings");
            }
            "minimax_m3_vl" => experts::minimax_m3(tensors, self.config)?,
            "muse_spark" => muse::spark(tensors, self.config)?,
            "nanochat" => renamed::nanochat(tensors),
            "rwkv7" => heads::rwkv7(tensors, self.config)?,
            "spark2_5" => renamed::embedding(tensors, "model.embedding"),
            "dbrx" => published::dbrx(tensors, self.config)?,
            "exaone_moe" => tensors.rename(|name| {
                name.replace(".mlp.e_score_correction_bias", ".mlp.gate.e_score_correction_bias")
            }),
            "gpt2" => published::gpt2(tensors)?,
            "hunyuan" => published::hunyuan(tensors, self.config)?,
            "laguna" => renamed::laguna(tensors),
            "step3p5" => published::step3p5(tensors)?,
            "gpt_neox" => renamed::gpt_neox(tensors),
            "gptj" => renamed::gptj(tensors),
            "lfm2_moe" => tensors.rename(|name| {
                let names = [("w1", "gate_proj"), ("w2", "down_proj"), ("w3", "up_proj")];
                names.iter().fold(name, |name, (old, new)| {
                    name.replace(&format!(".{old}.weight"), &format!(".{new}.weight"))
                })
            }),
            _ => {}
        }
        let published = published::convolutions(tensors)?;
        if published && matches!(self.model_type, "qwen3_next" | "qwen3_5" | "qwen3_5_moe") {
            published::norms_plus_one(tensors)?;
        }
        Ok(())
    }

    /// mlx-lm has no head where the embedding is one.
    fn drop_head(&self, tensors: &mut Tensors) -> Result<()> {
        let tied = match self.model_type {
            "gemma" | "gemma2" | "cohere" | "cohere2" | "lfm2" => true,
            // What is there is the head.
            "gpt_oss" | "phi" | "recurrent_gemma" => false,
            _ => self.config.optional("tie_word_embeddings")?.unwrap_or(false),
        };
        // Gemma 3 has a head wherever the checkpoint has one.
        if tied && !matches!(self.model_type, "gemma3" | "gemma3_text") {
            tensors.retain(|name| !name.contains("lm_head."));
        }
        Ok(())
    }
}

/// `input_linear`, gate and up in one, and `output_linear` of a block, by mlx-lm's names in
/// `target`.
fn split_linear(tensors: &mut Tensors, block: &str, target: &str) -> Result<()> {
    let ending = format!(".{block}.input_linear.weight");
    for name in tensors.names(|name| name.ends_with(&ending)) {
        let joint = tensors.require(&name)?;
        let layer = name.trim_end_matches(&ending);
        let axis = joint.ndim() - 2;
        for (part, projection) in halves(&joint, axis)?.into_iter().zip(["gate_proj", "up_proj"]) {
            tensors.insert(format!("{layer}.{target}.{projection}.weight"), part);
        }
        let down = tensors.require(&format!("{layer}.{block}.output_linear.weight"))?;
        tensors.insert(format!("{layer}.{target}.down_proj.weight"), down);
    }
    Ok(())
}
