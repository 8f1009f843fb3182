//! Architectures. Each file reads its config, says which blocks the model is made of, and maps its
//! weight names; this one finds the file and loads a checkpoint with it.

mod cohere;
mod cohere2;
mod config;
mod deepseek_v3;
mod ernie4_5;
mod exaone4;
mod falcon_h1;
mod gemma;
mod gemma2;
mod gemma3;
mod gemma3n;
mod gemma4;
mod glm4;
mod glm4_moe;
mod gpt_oss;
mod granite;
mod granitemoehybrid;
mod helium;
mod lfm2;
mod llama;
mod llama4;
mod mamba2;
mod ministral3;
mod mixtral;
mod nemotron;
mod nemotron_h;
mod olmo2;
mod olmo3;
mod olmoe;
mod phi;
mod phi3;
mod qwen2;
mod qwen2_moe;
mod qwen3;
mod qwen3_5;
mod qwen3_moe;
mod qwen3_next;
mod seed_oss;
mod smollm3;
mod stablelm;
mod starcoder2;

use std::ops::ControlFlow;
use std::path::Path;

use config::ConfigFile;
pub use config::GenerationDefaults;

use crate::cache::Cache;
use crate::error::{Error, Result};
use crate::fused::Device;
use crate::mlx::quantized::QuantizationParams;
use crate::mlx::{self, Array, Dtype};
use crate::nn::{Activation, Backbone, Decoder, Embedding, FeedForward, Mlp};
use crate::warning::Warning;
use crate::weights::{Checkpoint, LoadPlan, Weights};

/// A language model: tokens in, logits out.
pub trait LanguageModel {
    /// Tokens `[batch, length]` (`uint32`) to logits `[batch, length, vocabulary]`. Each cache
    /// takes the new positions of its layer.
    fn forward(&self, tokens: &Array, caches: &mut [Cache]) -> Result<Array>;

    /// An empty cache for each layer that needs one.
    fn make_caches(&self) -> Vec<Cache>;

    /// Number of layers, of which some may have no cache.
    fn layers(&self) -> usize;

    /// Token embeddings.
    fn embedding(&self) -> &Embedding;

    /// Number of tokens that the model tells apart.
    fn vocabulary(&self) -> usize {
        self.embedding().vocabulary()
    }

    /// What it runs with.
    fn device(&self) -> Device {
        self.embedding().device()
    }
}

impl LanguageModel for Decoder {
    fn forward(&self, tokens: &Array, caches: &mut [Cache]) -> Result<Array> {
        Self::forward(self, tokens, caches)
    }

    fn make_caches(&self) -> Vec<Cache> {
        Self::make_caches(self)
    }

    fn layers(&self) -> usize {
        self.layers.len()
    }

    fn embedding(&self) -> &Embedding {
        &self.embedding
    }
}

impl LanguageModel for Backbone {
    fn forward(&self, tokens: &Array, caches: &mut [Cache]) -> Result<Array> {
        Self::forward(self, tokens, caches)
    }

    fn make_caches(&self) -> Vec<Cache> {
        Self::make_caches(self)
    }

    fn layers(&self) -> usize {
        self.layers.len()
    }

    fn embedding(&self) -> &Embedding {
        &self.embedding
    }
}

/// How to load a model.
#[derive(Debug, Clone, Copy, Default)]
pub struct LoadOptions {
    /// What the model runs with.
    pub device: Device,
    /// The type of activations and unquantized weights; `None` chooses: what the checkpoint has on
    /// a GPU, `float32` on the CPU.
    pub dtype: Option<Dtype>,
}

/// How far loading has come.
#[derive(Debug, Clone, Copy)]
pub struct Progress {
    /// Bytes of weights read.
    pub loaded_bytes: usize,
    /// Bytes of weights in the checkpoint.
    pub total_bytes: usize,
}

/// What is known of a loaded model.
#[derive(Debug, Clone)]
pub struct Info {
    /// `model_type` of the configuration.
    pub model_type: String,
    /// The architecture that runs it, which several model types may share.
    pub architecture: &'static str,
    /// Number of parameters, counting packed ones by what they stand for.
    pub parameters: u64,
    /// Bytes of weights in the checkpoint.
    pub bytes: usize,
    /// The packing of most of what is quantized, if anything is.
    pub quantization: Option<QuantizationParams>,
    /// Whether some layers have another packing, or none.
    pub mixed_quantization: bool,
    /// Positions the model is made for.
    pub context_length: Option<usize>,
    /// Rows of the output.
    pub vocabulary_size: usize,
    /// Number of layers.
    pub layers: usize,
    /// The type of activations.
    pub dtype: Dtype,
    /// What `generation_config.json` says of sampling.
    pub generation: GenerationDefaults,
    /// Tells its weights from those of other models.
    pub fingerprint: String,
    /// What of its files could not be used.
    pub warnings: Vec<Warning>,
}

/// A model, and what is known of it.
pub struct Loaded {
    /// The model.
    pub model: Box<dyn LanguageModel>,
    /// What is known of it.
    pub info: Info,
}

/// What an architecture's file provides.
struct Architecture {
    /// Its name.
    name: &'static str,
    /// The values of `model_type` that it runs.
    model_types: &'static [&'static str],
    /// Builds the model, taking its weights.
    build: fn(&ConfigFile, &Weights) -> Result<Box<dyn LanguageModel>>,
    /// Whether a tensor of published checkpoints is left aside on purpose.
    ignores: fn(&ConfigFile, &str) -> bool,
}

const ARCHITECTURES: &[Architecture] = &[
    cohere::ARCHITECTURE,
    cohere2::ARCHITECTURE,
    deepseek_v3::ARCHITECTURE,
    ernie4_5::ARCHITECTURE,
    exaone4::ARCHITECTURE,
    falcon_h1::ARCHITECTURE,
    gemma::ARCHITECTURE,
    gemma2::ARCHITECTURE,
    gemma3::ARCHITECTURE,
    gemma3n::ARCHITECTURE,
    gemma4::ARCHITECTURE,
    glm4::ARCHITECTURE,
    glm4_moe::ARCHITECTURE,
    gpt_oss::ARCHITECTURE,
    granite::ARCHITECTURE,
    granitemoehybrid::ARCHITECTURE,
    helium::ARCHITECTURE,
    lfm2::ARCHITECTURE,
    llama::ARCHITECTURE,
    llama4::ARCHITECTURE,
    mamba2::ARCHITECTURE,
    ministral3::ARCHITECTURE,
    mixtral::ARCHITECTURE,
    nemotron::ARCHITECTURE,
    nemotron_h::ARCHITECTURE,
    olmo2::ARCHITECTURE,
    olmo3::ARCHITECTURE,
    olmoe::ARCHITECTURE,
    phi::ARCHITECTURE,
    phi3::ARCHITECTURE,
    qwen2::ARCHITECTURE,
    qwen2_moe::ARCHITECTURE,
    qwen3::ARCHITECTURE,
    qwen3_5::ARCHITECTURE,
    qwen3_moe::ARCHITECTURE,
    qwen3_next::ARCHITECTURE,
    seed_oss::ARCHITECTURE,
    smollm3::ARCHITECTURE,
    stablelm::ARCHITECTURE,
    starcoder2::ARCHITECTURE,
];

/// The feed-forward block of most models: a gated MLP with SiLU in every layer.
fn mlp(
    file: &ConfigFile,
    dims: i32,
) -> Result<impl Fn(usize, &Weights) -> Result<Box<dyn FeedForward>> + use<>> {
    let (hidden, bias) = (file.size("intermediate_size")?, file.flag("mlp_bias")?);
    Ok(move |_, w: &Weights| -> Result<Box<dyn FeedForward>> {
        Ok(Box::new(Mlp::new(&w.at("mlp"), dims, hidden, bias, Activation::Silu)?))
    })
}

/// The language model of a checkpoint that may have other parts, where it was converted: published
/// ones have it where they would have it by itself, or see [`crate::nn::language_model`].
fn language_part<'a>(w: &Weights<'a>) -> Weights<'a> {
    let converted = w.at("language_model");
    if converted.at("model.embed_tokens").has("weight") { converted } else { w.clone() }
}

/// As [`rotary_frequencies`], and the parts of a checkpoint that see images.
fn vision(file: &ConfigFile, tensor: &str) -> bool {
    let part = tensor.strip_prefix("model.").unwrap_or(tensor);
    ["visual.", "vision_tower.", "multi_modal_projector."].iter().any(|name| part.starts_with(name))
        || rotary_frequencies(file, tensor)
}

/// Tensors that published checkpoints carry and models compute themselves.
fn rotary_frequencies(_: &ConfigFile, tensor: &str) -> bool {
    tensor.ends_with("rotary_emb.inv_freq")
}

/// As [`rotary_frequencies`], and the layers after the last one, which predict more tokens than the
/// next (multi-token prediction, Gloeckle et al. 2024).
fn prediction_layers(file: &ConfigFile, tensor: &str) -> bool {
    let layer = tensor.strip_prefix("model.layers.").and_then(|rest| rest.split('.').next());
    let index = layer.and_then(|layer| layer.parse::<usize>().ok());
    index.zip(file.layers().ok()).is_some_and(|(index, layers)| index >= layers)
        || rotary_frequencies(file, tensor)
}

/// The architectures that can be loaded, each with the values of `model_type` that it runs.
pub fn architectures() -> impl Iterator<Item = (&'static str, &'static [&'static str])> {
    ARCHITECTURES.iter().map(|architecture| (architecture.name, architecture.model_types))
}

/// The architecture of a model's folder, of which no more than `config.json` needs to be there.
///
/// # Errors
/// As those of [`load`] about the configuration: an architecture or a quantization that is not
/// supported is known before there are weights.
pub fn architecture_of(dir: &Path) -> Result<&'static str> {
    let config = ConfigFile::read(dir)?;
    let architecture = find(config.model_type()?)?;
    config.text_part_or_whole()?.quantization()?;
    Ok(architecture.name)
}

fn find(model_type: String) -> Result<&'static Architecture> {
    ARCHITECTURES
        .iter()
        .find(|candidate| candidate.model_types.contains(&model_type.as_str()))
        .ok_or(Error::UnknownArchitecture { model_type })
}

/// Loads the model of a folder, on this thread.
///
/// # Errors
/// [`Error::ModelNotFound`], [`Error::Config`], [`Error::UnknownArchitecture`] and
/// [`Error::Weights`] say which file, field or tensor is wrong; [`Error::Aborted`] if `progress`
/// breaks.
pub fn load(
    dir: &Path,
    options: &LoadOptions,
    progress: &mut dyn FnMut(Progress) -> ControlFlow<()>,
) -> Result<Loaded> {
    let mut warnings = Vec::new();
    let config = ConfigFile::read(dir)?;
    let model_type = config.model_type()?;
    let architecture = find(model_type.clone())?;
    let quantization = config.text_part_or_whole()?.quantization()?;
    let checkpoint = Checkpoint::open(dir)?;
    let total_bytes = checkpoint.bytes();
    mlx::enter(options.device.kind)?;
    let plan = LoadPlan::new(options.device, options.dtype);
    let weights = Weights::new(&checkpoint, &quantization, plan, |loaded_bytes| {
        progress(Progress { loaded_bytes, total_bytes }).is_continue()
    });
    let model = (architecture.build)(&config, &weights)?;
    weights.finish(|name| (architecture.ignores)(&config, name))?;
    warnings.extend_from_slice(checkpoint.warnings());
    warnings.extend(weights.warnings());
    let (quantization, mixed_quantization) = weights.quantization();
    let dtype = plan.activations.or_else(|| weights.stored_dtype()).unwrap_or(Dtype::Float32);
    let info = Info {
        fingerprint: format!("{model_type}-{:016x}", checkpoint.fingerprint(&config.text())),
        model_type,
        architecture: architecture.name,
        parameters: weights.parameters(),
        bytes: total_bytes,
        quantization,
        mixed_quantization,
        context_length: config.context_length(),
        vocabulary_size: model.vocabulary(),
        layers: model.layers(),
        dtype,
        generation: GenerationDefaults::read(dir, &mut warnings),
        warnings,
    };
    Ok(Loaded { model, info })
}
