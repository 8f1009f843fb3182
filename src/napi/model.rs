//! A loaded model.

use std::path::PathBuf;

use napi::Env;
use napi::bindgen_prelude::{Float32Array, Object, Uint32Array};
use napi_derive::napi;

use super::adapter::NativeAdapter;
use super::error::{Result, throw};
use super::evaluation::{
    NativeEmbedRequest, NativeEmbeddings, NativeJudgeRequest, NativeJudgements, NativeScoreRequest,
    NativeScores, RunningEvaluations,
};
use super::generation::NativeGeneration;
use super::promise::promise;
use super::prompt_cache::{NativeCacheLimits, NativePromptCache};
use super::request::{NativeGenerateRequest, NativePrompt};
use super::system::device_name;
use crate::engine::Model;
use crate::mlx::dtype_name;
use crate::models::EmbedderInfo;
use crate::warning::Warning;

/// What is known of a model.
#[napi(object, object_from_js = false)]
pub struct NativeModelInfo {
    /// The architecture that runs it.
    pub architecture: String,
    /// `model_type` of its `config.json`.
    pub model_type: String,
    /// The number of its parameters, counted before quantization.
    pub parameters: f64,
    /// The bytes of its weights.
    pub bytes: f64,
    /// How it is quantized; `null` where it is not.
    #[napi(ts_type = "NativeQuantization | null")]
    pub quantization: napi::Either<NativeQuantization, napi::bindgen_prelude::Null>,
    /// The most tokens that a prompt and its answer can have together, where the model says so.
    pub context_length: Option<f64>,
    /// The number of its tokens.
    pub vocabulary_size: u32,
    /// The number of its layers.
    pub layers: u32,
    /// Where it runs.
    #[napi(ts_type = "'gpu' | 'cpu'")]
    pub device: &'static str,
    /// The type of its activations.
    #[napi(ts_type = "'float32' | 'bfloat16' | 'float16'")]
    pub dtype: &'static str,
    /// How many generations run at the same time, at most.
    pub max_sequences: u32,
    /// Whether it takes and gives text.
    pub has_tokenizer: bool,
    /// Whether it takes messages.
    pub has_chat_template: bool,
    /// The tokens that end its texts.
    pub eos_tokens: Vec<u32>,
    /// What it can do.
    pub capabilities: NativeCapabilities,
    /// How it makes embeddings; left out where it makes none.
    pub embedding: Option<NativeEmbeddingInfo>,
    /// What its `generation_config.json` says.
    pub generation_defaults: NativeGenerationDefaults,
    /// Its folder.
    pub path: String,
    /// What of its files could not be used.
    pub warnings: Vec<NativeWarning>,
}

/// What a model can do.
#[napi(object, object_from_js = false)]
pub struct NativeCapabilities {
    /// Whether it continues texts, and tells how likely they are.
    pub generate: bool,
    /// Whether it embeds texts.
    pub embed: bool,
    /// Whether it judges how well documents fit a query.
    pub rerank: bool,
}

/// How a model makes embeddings.
#[napi(object, object_from_js = false)]
pub struct NativeEmbeddingInfo {
    /// Whether the checkpoint's files say so.
    pub declared: bool,
    /// How many numbers they have.
    pub dimensions: u32,
    /// How the states of a text become one; several are put side by side.
    #[napi(ts_type = "NonNullable<NativeEmbedRequest['pooling']>[]")]
    pub pooling: Vec<&'static str>,
    /// Whether they have the length 1.
    pub normalize: bool,
    /// The tasks that texts can be for.
    pub tasks: Vec<String>,
    /// That of texts for which none is named.
    pub default_task: Option<String>,
    /// The most tokens of a text, where its files say so.
    pub max_tokens: Option<u32>,
}

impl NativeEmbeddingInfo {
    fn new(info: &EmbedderInfo, max_tokens: Option<usize>) -> Self {
        Self {
            declared: info.is_declared,
            dimensions: info.dimensions as u32,
            pooling: info.pooling.iter().map(|pooling| pooling.name()).collect(),
            normalize: info.normalizes,
            tasks: info.prompts.keys().cloned().collect(),
            default_task: info.default_task.clone(),
            max_tokens: max_tokens.map(|tokens| tokens as u32),
        }
    }
}

/// Something that does not keep a model from running, and that its user should know.
#[napi(object, object_from_js = false)]
pub struct NativeWarning {
    /// Its kind.
    #[napi(
        ts_type = "'UNUSABLE_FILE' | 'UNUSABLE_FIELD' | 'STALE_INDEX' | 'UNUSED_HEAD' | 'DEQUANTIZED'"
    )]
    pub code: &'static str,
    /// What is wrong, and what is done without it.
    pub message: String,
    /// The file that it is about.
    pub path: String,
}

/// How a model is quantized.
#[napi(object, object_from_js = false)]
pub struct NativeQuantization {
    /// The kind of quantization.
    pub mode: &'static str,
    /// Bits for each weight.
    pub bits: u32,
    /// Weights that share a scale.
    pub group_size: u32,
    /// Whether some layers differ.
    pub mixed: bool,
}

/// What a model's `generation_config.json` says.
#[napi(object, object_from_js = false)]
pub struct NativeGenerationDefaults {
    /// 0 for greedy decoding.
    pub temperature: Option<f64>,
    /// The nucleus.
    pub top_p: Option<f64>,
    /// The number of candidates.
    pub top_k: Option<u32>,
    /// The least probability, as a part of the likeliest token's.
    pub min_p: Option<f64>,
    /// The penalty for tokens already seen.
    pub repetition_penalty: Option<f64>,
    /// The most tokens to make.
    pub max_tokens: Option<f64>,
}

/// Logits, row by row.
#[napi(object, object_from_js = false)]
pub struct NativeLogits {
    /// The rows, one after the other.
    pub data: Float32Array,
    /// The number of rows, and their width.
    pub shape: Vec<u32>,
}

/// A loaded model. Collected as garbage it is disposed of, once its generations are over.
#[napi]
pub struct NativeModel {
    model: Model,
    evaluations: RunningEvaluations,
}

impl NativeModel {
    /// The JavaScript side of `model`.
    pub fn new(model: Model) -> Self {
        Self { model, evaluations: RunningEvaluations::default() }
    }
}

#[napi]
impl NativeModel {
    /// What is known of it.
    #[napi]
    pub fn info(&self) -> NativeModelInfo {
        let info = self.model.info();
        let defaults = &info.model.generation;
        NativeModelInfo {
            architecture: info.model.architecture.to_owned(),
            model_type: info.model.model_type.clone(),
            parameters: info.model.parameters as f64,
            bytes: info.model.bytes as f64,
            quantization: match info.model.quantization {
                Some(format) => napi::Either::A(NativeQuantization {
                    mode: format.mode.name(),
                    bits: format.bits.unsigned_abs(),
                    group_size: format.group_size.unsigned_abs(),
                    mixed: info.model.mixed_quantization,
                }),
                None => napi::Either::B(napi::bindgen_prelude::Null),
            },
            context_length: info.model.context_length.map(|length| length as f64),
            vocabulary_size: info.model.vocabulary_size as u32,
            layers: info.model.layers as u32,
            device: device_name(info.device),
            dtype: dtype_name(info.model.dtype),
            max_sequences: info.max_sequences as u32,
            has_tokenizer: info.has_tokenizer,
            has_chat_template: info.has_chat_template,
            eos_tokens: info.end_tokens.clone(),
            capabilities: NativeCapabilities {
                generate: info.model.abilities.writes,
                embed: info.model.embedder.is_some(),
                // What writes can be asked.
                rerank: info.model.abilities.labels == Some(1)
                    || info.model.abilities.writes && info.has_chat_template,
            },
            embedding: info
                .model
                .embedder
                .as_ref()
                .map(|it| NativeEmbeddingInfo::new(it, info.model.max_text_tokens)),
            generation_defaults: NativeGenerationDefaults {
                temperature: defaults.temperature().map(widen),
                top_p: defaults.top_p.map(widen),
                top_k: defaults.top_k,
                min_p: defaults.min_p.map(widen),
                repetition_penalty: defaults.repetition_penalty.map(widen),
                max_tokens: defaults.max_new_tokens.map(|tokens| tokens as f64),
            },
            path: info.path.to_string_lossy().into_owned(),
            warnings: info.model.warnings.iter().map(NativeWarning::from).collect(),
        }
    }

    /// Begins a generation. Throws for options out of range; everything else is told by
    /// `NativeGeneration.next`.
    #[napi]
    pub fn generate(&self, env: &Env, request: NativeGenerateRequest) -> Result<NativeGeneration> {
        request
            .translate()
            .and_then(|request| self.model.generate(request))
            .map(NativeGeneration::new)
            .map_err(|error| throw(env, &error))
    }

    /// An empty prompt cache.
    #[napi]
    pub fn prompt_cache(&self, env: &Env, limits: NativeCacheLimits) -> Result<NativePromptCache> {
        limits
            .translate()
            .map(|limits| NativePromptCache::new(self.model.prompt_cache(limits)))
            .map_err(|error| throw(env, &error))
    }

    /// A prompt cache from a file.
    #[napi(ts_return_type = "Promise<NativePromptCache>")]
    pub fn load_prompt_cache<'env>(&self, env: &'env Env, path: String) -> Result<Object<'env>> {
        let (promise, callback) = promise(env, NativePromptCache::new)?;
        self.model.load_prompt_cache(PathBuf::from(path), callback);
        Ok(promise)
    }

    /// Forgets what generations have left for others that begin alike.
    #[napi(ts_return_type = "Promise<void>")]
    pub fn clear_prefix_cache<'env>(&self, env: &'env Env) -> Result<Object<'env>> {
        let (promise, callback) = promise(env, |()| ())?;
        self.model.clear_prefix_cache(callback);
        Ok(promise)
    }

    /// An adapter from a folder.
    #[napi(ts_return_type = "Promise<NativeAdapter>")]
    pub fn load_adapter<'env>(&self, env: &'env Env, path: String) -> Result<Object<'env>> {
        let (promise, callback) = promise(env, NativeAdapter::new)?;
        self.model.load_adapter(PathBuf::from(path), callback);
        Ok(promise)
    }

    /// The tokens of a prompt.
    #[napi(ts_return_type = "Promise<Uint32Array>")]
    pub fn tokenize<'env>(&self, env: &'env Env, prompt: NativePrompt) -> Result<Object<'env>> {
        let (prompt, encoding) = prompt.translate().map_err(|error| throw(env, &error))?;
        let (promise, callback) = promise(env, Uint32Array::new)?;
        self.model.tokenize(prompt, encoding, callback);
        Ok(promise)
    }

    /// The number of a prompt's tokens.
    #[napi(ts_return_type = "Promise<number>")]
    pub fn count_tokens<'env>(&self, env: &'env Env, prompt: NativePrompt) -> Result<Object<'env>> {
        let (prompt, encoding) = prompt.translate().map_err(|error| throw(env, &error))?;
        let (promise, callback) = promise(env, |count: usize| count as u32)?;
        self.model.count_tokens(prompt, encoding, callback);
        Ok(promise)
    }

    /// The text of tokens.
    #[napi(ts_return_type = "Promise<string>")]
    pub fn detokenize<'env>(
        &self,
        env: &'env Env,
        tokens: Uint32Array,
        skip_special_tokens: bool,
    ) -> Result<Object<'env>> {
        let (promise, callback) = promise(env, |text: String| text)?;
        self.model.detokenize(tokens.to_vec(), skip_special_tokens, callback);
        Ok(promise)
    }

    /// A conversation as the model's chat template writes it.
    #[napi(ts_return_type = "Promise<string>")]
    pub fn apply_chat_template<'env>(
        &self,
        env: &'env Env,
        messages_json: String,
        options_json: String,
    ) -> Result<Object<'env>> {
        let (promise, callback) = promise(env, |text: String| text)?;
        self.model.apply_chat_template(messages_json, options_json, callback);
        Ok(promise)
    }

    /// The logits after each of the tokens.
    #[napi(ts_return_type = "Promise<NativeLogits>")]
    pub fn logits<'env>(&self, env: &'env Env, tokens: Uint32Array) -> Result<Object<'env>> {
        let tokens = tokens.to_vec();
        let shape = vec![tokens.len() as u32, self.model.info().model.vocabulary_size as u32];
        let (promise, callback) = promise(env, move |logits: Vec<f32>| NativeLogits {
            data: Float32Array::new(logits),
            shape,
        })?;
        self.model.logits(tokens, callback);
        Ok(promise)
    }

    /// How likely the continuations of a prompt are.
    #[napi(ts_return_type = "Promise<NativeScores>")]
    pub fn score<'env>(&self, env: &'env Env, request: NativeScoreRequest) -> Result<Object<'env>> {
        let evaluation = request.evaluation;
        let request = request.translate().map_err(|error| throw(env, &error))?;
        let (promise, callback) = promise(env, NativeScores::from)?;
        let (aborted, callback) = self.evaluations.begin(evaluation, callback);
        self.model.score(request, aborted, callback);
        Ok(promise)
    }

    /// The embeddings of texts.
    #[napi(ts_return_type = "Promise<NativeEmbeddings>")]
    pub fn embed<'env>(&self, env: &'env Env, request: NativeEmbedRequest) -> Result<Object<'env>> {
        let evaluation = request.evaluation;
        let request = request.translate().map_err(|error| throw(env, &error))?;
        let (promise, callback) = promise(env, NativeEmbeddings::from)?;
        let (aborted, callback) = self.evaluations.begin(evaluation, callback);
        self.model.embed(request, aborted, callback);
        Ok(promise)
    }

    /// How well documents fit a query, as the model's classifier judges each pair.
    #[napi(ts_return_type = "Promise<NativeJudgements>")]
    pub fn judge<'env>(&self, env: &'env Env, request: NativeJudgeRequest) -> Result<Object<'env>> {
        let evaluation = request.evaluation;
        let (promise, callback) = promise(env, NativeJudgements::from)?;
        let (aborted, callback) = self.evaluations.begin(evaluation, callback);
        self.model.judge(request.translate(), aborted, callback);
        Ok(promise)
    }

    /// Ends an evaluation, which then rejects with `ABORTED`.
    #[napi]
    pub fn cancel(&self, evaluation: f64) {
        self.evaluations.cancel(evaluation);
    }

    /// Ends everything that the model does, and resolves when its memory has been given back.
    #[napi(ts_return_type = "Promise<void>")]
    pub fn dispose<'env>(&self, env: &'env Env) -> Result<Object<'env>> {
        let (promise, callback) = promise(env, |()| ())?;
        self.model.dispose(callback);
        Ok(promise)
    }
}

impl From<&Warning> for NativeWarning {
    fn from(warning: &Warning) -> Self {
        Self {
            code: warning.code.as_str(),
            message: warning.message.clone(),
            path: warning.path.to_string_lossy().into_owned(),
        }
    }
}

/// A number of a JSON file as it was written there: 0.95, not 0.949999988079071.
fn widen(value: f32) -> f64 {
    value.to_string().parse().unwrap_or(f64::from(value))
}
