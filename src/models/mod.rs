//! Architectures. Each file reads its config, says which blocks the model is made of, and maps its
//! weight names; this one finds the file and loads a checkpoint with it.

/// The architectures of these modules, each with the name of its module. What a module declares and
/// no list names is dead code, which the compiler tells.
macro_rules! architectures {
    ($($module:ident),+ $(,)?) => {
        &[$($module::ARCHITECTURE.named(stringify!($module))),+]
    };
}

mod afm7;
mod afmoe;
mod apertus;
mod arcee;
mod aria;
mod axk1;
mod baichuan_m1;
mod bailing;
mod bamba;
mod biogpt;
mod bitnet;
mod bloom;
mod cohere;
mod cohere2;
mod cohere2_moe;
mod cohere_compass;
mod config;
mod cwm;
mod dbrx;
mod deepseek;
mod diffllama;
mod doge;
mod dots1;
mod encoder;
mod ernie4_5;
mod ernie4_5_moe;
mod exaone;
mod falcon;
mod falcon_h1;
mod flint;
mod gear;
mod gemma;
mod glm;
mod gpt;
mod granite;
mod granitemoehybrid;
mod helium;
mod hunyuan;
mod hyperclovax;
mod internlm2;
mod internlm3;
mod iquestloopcoder;
mod jais2;
mod jamba;
mod kimi_linear;
mod klear;
mod kolibri1;
mod laguna;
mod layout;
mod lfm2;
mod lfm2_moe;
mod lfm3;
mod lille_130m;
mod llama;
mod llama4;
mod longcat_flash;
mod longcat_flash_ngram;
mod mamba;
mod mamba2;
mod mellum;
mod mimo_v2_flash;
mod minicpm;
mod minicpm3;
mod minimax;
mod minimax_m3;
mod mistral;
mod modernbert_decoder;
mod mpt;
mod muse_glimmer;
mod muse_spark;
mod nanbeige;
mod nanochat;
mod nemotron;
mod olmo;
mod openelm;
mod opt;
mod outline;
mod parts;
mod persimmon;
mod phi;
mod plamo;
mod plamo2;
mod plamo3;
mod qwen;
mod recurrent_gemma;
mod rwkv7;
mod seed_oss;
mod sentence;
mod smollm3;
mod spark2_5;
mod stablelm;
mod starcoder2;
mod step3p5;
mod talkie;
mod xglm;
mod youtu_llm;
mod zamba2;

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::Path;

use config::ConfigFile;
pub use config::GenerationDefaults;
pub use layout::{Layout, Modules, Quantizing, Tensors, layout};
pub use outline::{ModelOutline, begun, cache_sizes, check_tensors, head_begun, head_cache_sizes};
use parts::Parts;
pub use sentence::{
    EmbedOptions, Embedder, EmbedderInfo, LabelActivation, PooledText, Pooling, to_rows,
};

use crate::cache::Cache;
use crate::error::{Error, Result};
use crate::fused::Device;
use crate::mlx::quantized::QuantizationParams;
use crate::mlx::{self, Array, Dtype};
use crate::nn::{
    Activation, Backbone, Decoder, Embedding, Encoder, FeedForward, Mlp, PlainMlp, PredictionHead,
    Step,
};
use crate::warning::{Warning, WarningCode};
use crate::weights::{Checkpoint, LoadPlan, Sites, Weights};

/// What a model is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Abilities {
    /// Whether it continues texts.
    pub writes: bool,
    /// Whether it gives hidden states, which embeddings are made of.
    pub embeds: bool,
    /// Whether its tokens see what is behind them, so that a text is read at once.
    pub reads_whole: bool,
    /// How many labels it gives texts, where it judges them.
    pub labels: Option<usize>,
}

/// A language model: a step of new positions in, logits out; or hidden states alone, as its
/// [`Abilities`] say.
pub trait LanguageModel {
    /// The logits that a step wants, `[batch, wanted, vocabulary]`. The caches are those of its
    /// rows, each of which takes the new positions of its layer.
    fn forward(&self, step: &Step, caches: &mut [&mut [Cache]]) -> Result<Array>;

    /// The logits of the next tokens of one sequence: `[batch, length]` (`uint32`) to
    /// `[batch, length, vocabulary]`.
    fn logits(&self, tokens: &Array, caches: &mut [Cache]) -> Result<Array> {
        self.forward(&Step::of_one(tokens), &mut [caches])
    }

    /// What it is for: most continue texts, and nothing else.
    fn abilities(&self) -> Abilities {
        Abilities { writes: true, embeds: false, reads_whole: false, labels: None }
    }

    /// The hidden states that a step wants, behind the last norm, `[batch, wanted, dims]`.
    ///
    /// # Errors
    /// [`Error::Unsupported`] where [`Abilities::embeds`] says so.
    fn states(&self, _: &Step, _: &mut [&mut [Cache]]) -> Result<Array> {
        let message = "embeddings are not supported in this architecture";
        Err(Error::Unsupported(message.to_owned()))
    }

    /// The logits of the labels of each row, `[rows, labels]`.
    ///
    /// # Errors
    /// [`Error::Unsupported`] where [`Abilities::labels`] says so.
    fn classify(&self, _: &Step, _: &mut [&mut [Cache]]) -> Result<Array> {
        Err(Error::Unsupported("the model is no classifier, so it judges no texts".to_owned()))
    }

    /// An empty cache for each layer that needs one.
    fn make_caches(&self) -> Vec<Cache>;

    /// What predicts more tokens than the next, where the model has that.
    fn multi_token_predictor(&self) -> Option<&dyn MultiTokenPredictor> {
        None
    }

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

/// A language model with a head that predicts the token after the next (multi-token prediction):
/// [`crate::nn::PredictionHead`].
pub trait MultiTokenPredictor {
    /// The logits that a step wants, and the hidden states that they are made of,
    /// `[batch, wanted, dims]`.
    fn forward_with_states(&self, step: &Step, caches: &mut [&mut [Cache]]) -> Result<[Array; 2]>;

    /// The same of the head, which reads the tokens behind `states`, `[batch, length, dims]`.
    fn predict(
        &self,
        step: &Step,
        states: &Array,
        caches: &mut [&mut [Cache]],
    ) -> Result<[Array; 2]>;

    /// Empty caches of the head.
    fn make_prediction_caches(&self) -> Vec<Cache>;
}

impl MultiTokenPredictor for Decoder {
    fn forward_with_states(&self, step: &Step, caches: &mut [&mut [Cache]]) -> Result<[Array; 2]> {
        Self::forward_with_states(self, step, caches)
    }

    fn predict(
        &self,
        step: &Step,
        states: &Array,
        caches: &mut [&mut [Cache]],
    ) -> Result<[Array; 2]> {
        Self::predict(self, step, states, caches)
    }

    fn make_prediction_caches(&self) -> Vec<Cache> {
        self.prediction.iter().flat_map(PredictionHead::make_caches).collect()
    }
}

impl MultiTokenPredictor for Backbone {
    fn forward_with_states(&self, step: &Step, caches: &mut [&mut [Cache]]) -> Result<[Array; 2]> {
        Self::forward_with_states(self, step, caches)
    }

    fn predict(
        &self,
        step: &Step,
        states: &Array,
        caches: &mut [&mut [Cache]],
    ) -> Result<[Array; 2]> {
        Self::predict(self, step, states, caches)
    }

    fn make_prediction_caches(&self) -> Vec<Cache> {
        self.prediction.iter().flat_map(PredictionHead::make_caches).collect()
    }
}

impl LanguageModel for Decoder {
    fn forward(&self, step: &Step, caches: &mut [&mut [Cache]]) -> Result<Array> {
        Self::forward(self, step, caches)
    }

    fn abilities(&self) -> Abilities {
        let writes = self.has_head();
        Abilities { writes, embeds: true, reads_whole: false, labels: None }
    }

    fn states(&self, step: &Step, caches: &mut [&mut [Cache]]) -> Result<Array> {
        Self::states(self, step, caches)
    }

    fn make_caches(&self) -> Vec<Cache> {
        Self::make_caches(self)
    }

    fn multi_token_predictor(&self) -> Option<&dyn MultiTokenPredictor> {
        self.prediction.is_some().then_some(self)
    }

    fn layers(&self) -> usize {
        self.layers.len()
    }

    fn embedding(&self) -> &Embedding {
        &self.embedding
    }
}

impl LanguageModel for Backbone {
    fn forward(&self, step: &Step, caches: &mut [&mut [Cache]]) -> Result<Array> {
        Self::forward(self, step, caches)
    }

    fn make_caches(&self) -> Vec<Cache> {
        Self::make_caches(self)
    }

    fn states(&self, step: &Step, caches: &mut [&mut [Cache]]) -> Result<Array> {
        Self::states(self, step, caches)
    }

    fn multi_token_predictor(&self) -> Option<&dyn MultiTokenPredictor> {
        self.prediction.is_some().then_some(self)
    }

    fn layers(&self) -> usize {
        Self::layers(self)
    }

    fn embedding(&self) -> &Embedding {
        &self.embedding
    }
}

/// The error of asking what embeds texts for more of them.
fn writes_nothing() -> Error {
    let message = "the model embeds texts and does not write any: see model.info.capabilities";
    Error::Unsupported(message.to_owned())
}

/// A decoder in which every token sees the whole text.
struct WholeDecoder(Decoder);

impl LanguageModel for WholeDecoder {
    fn forward(&self, _: &Step, _: &mut [&mut [Cache]]) -> Result<Array> {
        Err(writes_nothing())
    }

    fn abilities(&self) -> Abilities {
        Abilities { writes: false, embeds: true, reads_whole: true, labels: None }
    }

    fn states(&self, step: &Step, caches: &mut [&mut [Cache]]) -> Result<Array> {
        self.0.states(step, caches)
    }

    fn make_caches(&self) -> Vec<Cache> {
        self.0.make_caches()
    }

    fn layers(&self) -> usize {
        self.0.layers.len()
    }

    fn embedding(&self) -> &Embedding {
        &self.0.embedding
    }
}

impl LanguageModel for Encoder {
    fn forward(&self, _: &Step, _: &mut [&mut [Cache]]) -> Result<Array> {
        Err(writes_nothing())
    }

    fn abilities(&self) -> Abilities {
        let labels = self.classifier.as_ref().map(|it| it.labels.unsigned_abs() as usize);
        Abilities { writes: false, embeds: labels.is_none(), reads_whole: true, labels }
    }

    fn states(&self, step: &Step, caches: &mut [&mut [Cache]]) -> Result<Array> {
        Self::states(self, step, caches)
    }

    fn classify(&self, step: &Step, caches: &mut [&mut [Cache]]) -> Result<Array> {
        Self::classify(self, step, caches)
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
    /// Whether a head that predicts more tokens than the next is loaded, where the checkpoint has
    /// one.
    pub prediction_heads: bool,
    /// The most tokens of a sequence, prompt and answer together; `None`, or more, for as many as
    /// the model is made for.
    pub context_length: Option<usize>,
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
    /// What it is for.
    pub abilities: Abilities,
    /// How it makes embeddings, where it makes any.
    pub embedder: Option<EmbedderInfo>,
    /// What becomes of the logits of its labels.
    pub label_activation: LabelActivation,
    /// The most tokens of a text that it embeds or judges, where a file limits them beyond its
    /// context.
    pub max_text_tokens: Option<usize>,
    /// What of its files could not be used.
    pub warnings: Vec<Warning>,
}

/// A model, and what is known of it.
pub struct Loaded {
    /// The model.
    pub model: Box<dyn LanguageModel>,
    /// What is known of it.
    pub info: Info,
    /// The layers that adapters can add to.
    pub sites: Sites,
    /// The type of activations; `None` for that of the checkpoint.
    pub activations: Option<Dtype>,
    /// What makes embeddings of its hidden states, where it gives these.
    pub embedder: Option<Embedder>,
}

/// What an architecture's file provides.
#[derive(Clone, Copy)]
struct Architecture {
    /// Its name, which is that of its file.
    name: &'static str,
    /// The values of `model_type` that it runs. Of a checkpoint with other parts it is what runs
    /// the language model where its part of the configuration has no `model_type` of its own.
    model_types: &'static [&'static str],
    /// Builds the model, taking its weights.
    build: fn(&ConfigFile, &Weights) -> Result<Box<dyn LanguageModel>>,
    /// Whether a tensor of published checkpoints is left aside on purpose.
    ignores: fn(&ConfigFile, &str) -> bool,
    /// The epsilon of norms where the configuration does not say.
    eps: f32,
}

impl Architecture {
    const fn new(
        model_types: &'static [&'static str],
        build: fn(&ConfigFile, &Weights) -> Result<Box<dyn LanguageModel>>,
    ) -> Self {
        Self { name: "", model_types, build, ignores: |_, _| false, eps: 1e-5 }
    }

    /// The same that leaves aside the tensors that `ignores` names, as the language model has them
    /// by itself.
    const fn ignoring(self, ignores: fn(&ConfigFile, &str) -> bool) -> Self {
        Self { ignores, ..self }
    }

    /// The same with this epsilon of norms, where the configuration does not say.
    const fn with_eps(self, eps: f32) -> Self {
        Self { eps, ..self }
    }

    const fn named(self, name: &'static str) -> Self {
        Self { name, ..self }
    }

    /// Whether it runs this `model_type`, or the text part of what has it.
    fn runs(&self, model_type: &str) -> bool {
        let whole = model_type.strip_suffix("_text").unwrap_or(model_type);
        self.model_types.iter().any(|known| *known == model_type || *known == whole)
    }
}

const FAMILIES: &[&[Architecture]] = &[
    architectures![
        afm7,
        afmoe,
        apertus,
        arcee,
        aria,
        axk1,
        baichuan_m1,
        bamba,
        biogpt,
        bitnet,
        bloom,
        cohere,
        cohere2,
        cohere2_moe,
        cohere_compass,
        cwm,
        dbrx,
        diffllama,
        doge,
        dots1,
        ernie4_5,
        ernie4_5_moe,
        falcon,
        falcon_h1,
        flint,
        gear,
        granite,
        granitemoehybrid,
        helium,
        hyperclovax,
        internlm2,
        internlm3,
        iquestloopcoder,
        jais2,
        jamba,
        kimi_linear,
        klear,
        kolibri1,
        laguna,
        lfm2,
        lfm2_moe,
        lfm3,
        lille_130m,
        llama,
        llama4,
        longcat_flash,
        longcat_flash_ngram,
        mamba,
        mamba2,
        mellum,
        mimo_v2_flash,
        minicpm,
        minicpm3,
        minimax,
        minimax_m3,
        modernbert_decoder,
        mpt,
        muse_glimmer,
        muse_spark,
        nanbeige,
        nanochat,
        openelm,
        opt,
        persimmon,
        plamo,
        plamo2,
        plamo3,
        recurrent_gemma,
        rwkv7,
        seed_oss,
        smollm3,
        spark2_5,
        stablelm,
        starcoder2,
        step3p5,
        talkie,
        xglm,
        youtu_llm,
        zamba2,
    ],
    bailing::ARCHITECTURES,
    deepseek::ARCHITECTURES,
    exaone::ARCHITECTURES,
    gemma::ARCHITECTURES,
    glm::ARCHITECTURES,
    gpt::ARCHITECTURES,
    hunyuan::ARCHITECTURES,
    mistral::ARCHITECTURES,
    nemotron::ARCHITECTURES,
    olmo::ARCHITECTURES,
    phi::ARCHITECTURES,
    qwen::ARCHITECTURES,
];

/// The feed-forward block of most models: a gated MLP with SiLU in every layer.
fn mlp(
    file: &ConfigFile,
    dims: i32,
) -> Result<impl Fn(usize, &Weights) -> Result<Box<dyn FeedForward>> + use<>> {
    let (hidden, bias) = (file.size("intermediate_size")?, file.flag("mlp_bias")?);
    let activation = file.activation()?;
    Ok(move |_, w: &Weights| -> Result<Box<dyn FeedForward>> {
        Ok(Box::new(Mlp::new(&w.at("mlp"), dims, hidden, bias, activation)?))
    })
}

/// A plain MLP in every layer, with the square of ReLU unless the configuration says otherwise.
fn plain_mlp(
    file: &ConfigFile,
    dims: i32,
) -> Result<impl Fn(usize, &Weights) -> Result<Box<dyn FeedForward>> + use<>> {
    let (hidden, bias) = (file.size("intermediate_size")?, file.flag("mlp_bias")?);
    let activation = file.optional("hidden_act")?.unwrap_or(Activation::ReluSquared);
    Ok(move |_, w: &Weights| -> Result<Box<dyn FeedForward>> {
        let names = ["up_proj", "down_proj"];
        Ok(Box::new(PlainMlp::new(&w.at("mlp"), names, dims, hidden, bias, activation)?))
    })
}

/// Tensors that published checkpoints carry and models compute themselves.
fn is_rotary_frequencies(tensor: &str) -> bool {
    tensor.ends_with("rotary_emb.inv_freq")
}

/// The layers after the last one, which predict more tokens than the next (multi-token prediction,
/// Gloeckle et al. 2024).
fn is_prediction_layer(file: &ConfigFile, tensor: &str) -> bool {
    layer_of(tensor).zip(file.layers().ok()).is_some_and(|(index, layers)| index >= layers)
}

/// The number of the layer that a tensor is of.
fn layer_of(tensor: &str) -> Option<usize> {
    tensor.strip_prefix("model.layers.")?.split('.').next()?.parse().ok()
}

/// The architectures that write texts, by name, each with the values of `model_type` that it runs.
pub fn architectures() -> BTreeMap<&'static str, &'static [&'static str]> {
    let all = FAMILIES.iter().copied().flatten();
    all.map(|architecture| (architecture.name, architecture.model_types)).collect()
}

/// The same of those that read texts alone, to embed or to judge them.
pub fn encoders() -> BTreeMap<&'static str, &'static [&'static str]> {
    let all = encoder::ARCHITECTURES.iter();
    all.map(|architecture| (architecture.name, architecture.model_types)).collect()
}

/// The architecture of a model's folder, of which no more than `config.json` needs to be there.
///
/// # Errors
/// As those of [`load`] about the configuration: an architecture or a quantization that is not
/// supported is known before there are weights.
pub fn architecture_of(dir: &Path) -> Result<&'static str> {
    let config = ConfigFile::read(dir)?.text_part_or_whole()?;
    let architecture = find(&config)?;
    config.quantization()?;
    Ok(architecture.name)
}

/// How many tokens a prompt and its answer can have together, of the model of a folder, of which no
/// more than `config.json` needs to be there; `None` where it does not say.
///
/// # Errors
/// As those of [`load`] about the configuration.
pub fn context_length(dir: &Path) -> Result<Option<usize>> {
    let config = ConfigFile::read(dir)?;
    Ok(room(&config, &config.text_part_or_whole()?))
}

/// The same by the configuration of a whole model and that of its language model.
fn room(config: &ConfigFile, text: &ConfigFile) -> Option<usize> {
    config.context_length().map(|it| it - encoder::reserved(text, it))
}

/// The architecture of a language model: that of its `model_type`, which for the text part of a
/// checkpoint with others is that of the whole where it has none of its own.
fn find(text: &ConfigFile) -> Result<&'static Architecture> {
    let model_type = text.model_type()?;
    FAMILIES
        .iter()
        .copied()
        .flatten()
        .chain(encoder::ARCHITECTURES)
        .find(|candidate| candidate.runs(&model_type))
        .ok_or(Error::UnknownArchitecture { model_type })
}

/// Builds the language model of a checkpoint, each of whose tensors belongs to it or is known to be
/// left aside.
fn build(
    architecture: &Architecture,
    text: &ConfigFile,
    checkpoint: &Checkpoint,
    weights: &Weights,
) -> Result<Box<dyn LanguageModel>> {
    let parts = Parts::of(checkpoint);
    let text = text
        .with_default_eps(architecture.eps)
        .with_default_sizes(&text.model_type()?, architecture.name);
    let model = (architecture.build)(&text, &parts.language_model(weights))
        .map_err(|error| text.with_used_sizes(error))?;
    weights.finish(|tensor| match parts.without_prefix(tensor) {
        Some(tensor) => is_rotary_frequencies(&tensor) || (architecture.ignores)(&text, &tensor),
        None => true,
    })?;
    Ok(model)
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
    let (model_type, text) = (config.model_type()?, config.text_part_or_whole()?);
    let architecture = find(&text)?;
    let quantization = text.quantization()?;
    let LoadOptions { device, dtype, prediction_heads, context_length } = *options;
    let context_length = room(&config, &text).into_iter().chain(context_length).min();
    let text = text.with_context(context_length);
    let plan = LoadPlan { prediction_heads, ..LoadPlan::new(device, dtype) };
    let mut checkpoint = Checkpoint::open(dir)?;
    if let Some(foreign) = quantization.foreign {
        checkpoint = checkpoint.translate(foreign, plan)?;
    }
    let total_bytes = checkpoint.bytes();
    mlx::enter(device.kind)?;
    let weights = Weights::new(&checkpoint, &quantization, plan, |loaded_bytes| {
        progress(Progress { loaded_bytes, total_bytes }).is_continue()
    });
    let model = build(architecture, &text, &checkpoint, &weights)?;
    warnings.extend_from_slice(checkpoint.warnings());
    warnings.extend(weights.warnings());
    let (quantization, mixed_quantization) = weights.quantization();
    let abilities = model.abilities();
    let features = model.embedding().dims();
    let embedder = match abilities.embeds {
        true => match Embedder::read(dir, config.values(), plan, features, &mut warnings) {
            // It is made for something else.
            Err(error) if abilities.writes => {
                let path = dir.join("modules.json");
                let message = format!("the model embeds no texts: {error}");
                warnings.push(Warning::new(WarningCode::UnusableFile, &path, message));
                None
            }
            embedder => Some(embedder?),
        },
        false => None,
    };
    let label_activation = match abilities.labels {
        Some(_) => sentence::label_activation(dir, config.values())?,
        None => LabelActivation::Identity,
    };
    let dtype = plan.activations.or_else(|| weights.stored_dtype()).unwrap_or(Dtype::Float32);
    let mut described = config.text();
    if text.is_for_short_contexts() {
        described.push_str("short");
    }
    let info = Info {
        fingerprint: format!("{model_type}-{:016x}", checkpoint.fingerprint(&described)),
        model_type,
        architecture: architecture.name,
        parameters: weights.parameters(),
        bytes: total_bytes,
        quantization,
        mixed_quantization,
        context_length,
        vocabulary_size: model.vocabulary(),
        layers: model.layers(),
        dtype,
        generation: GenerationDefaults::read(dir, &mut warnings),
        abilities,
        label_activation,
        max_text_tokens: sentence::max_tokens(dir)?,
        embedder: embedder.as_ref().map(|it| it.info().clone()),
        warnings,
    };
    let sites = weights.sites().clone();
    Ok(Loaded { model, info, sites, activations: plan.activations, embedder })
}
