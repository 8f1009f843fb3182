//! One sequence: its prompt, cache, sampler and processors, and the decode loop one token ahead.

use super::processors::{Penalties, Processors};
use super::prompt_cache::PromptCache;
use super::sampler::{Sampler, SamplingOptions};
use crate::cache::{Cache, CacheLimits};
use crate::error::{Error, Result};
use crate::fused::Device;
use crate::fused::sampling::{largest_logit, log_probabilities};
use crate::mlx::primitive::Failure;
use crate::mlx::{self, Array, ops};
use crate::models::LanguageModel;

/// Freed buffers are given back after this many tokens, as caches leave sizes behind that never
/// recur.
const CLEAR_EVERY: u64 = 256;

/// How a sequence is generated.
#[derive(Debug, Clone)]
pub struct SequenceOptions {
    /// How tokens are drawn.
    pub sampling: SamplingOptions,
    /// What changes the logits before.
    pub penalties: Penalties,
    /// Names the random draws.
    pub seed: u64,
    /// How many tokens will be asked for at most.
    pub max_tokens: usize,
    /// Report log-probabilities: of the drawn token and this many of the most likely ones.
    pub logprobs: Option<usize>,
    /// Prompt tokens that are processed at once.
    pub prefill_chunk: usize,
    /// What its caches may take.
    pub cache_limits: CacheLimits,
}

/// How far the prompt has been processed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Prefill {
    /// Tokens processed.
    pub processed: usize,
    /// Tokens of the prompt.
    pub total: usize,
    /// Whether [`Sequence::step`] is next.
    pub done: bool,
}

/// A generated token.
#[derive(Debug, Clone, PartialEq)]
pub struct TokenOutput {
    /// Its id.
    pub token: u32,
    /// Its log-probability, if that was asked for. Penalties and biases are included, the
    /// temperature and the filters are not.
    pub logprob: Option<f32>,
    /// The most likely tokens and their log-probabilities, most likely first.
    pub top: Vec<(u32, f32)>,
}

/// What one step computes.
struct Pending {
    token: Array,
    /// See [`largest_logit`].
    largest_logit: Array,
    logprobs: Option<PendingLogprobs>,
    /// What of it fails.
    failure: Failure,
}

struct PendingLogprobs {
    chosen: Array,
    /// Ids and log-probabilities, unordered.
    top: Option<(Array, Array)>,
}

/// A sequence that is being generated.
pub struct Sequence {
    prompt: Vec<u32>,
    processed: usize,
    /// How many of the prompt's first tokens were in the caches from the beginning.
    cached: usize,
    /// What went into the caches, where that is known.
    cached_token_ids: Option<Vec<u32>>,
    caches: Vec<Cache>,
    /// What can be said of the caches.
    state: CacheState,
    /// What the caches were in the beginning, where nothing else can bring that back: the tokens
    /// are not known. It costs a copy, because what is shared is not updated in place.
    origin: Option<PromptCache>,
    sampler: Sampler,
    processors: Processors,
    options: SequenceOptions,
    /// The step that runs on the device while the host reads the one before.
    pending: Option<Pending>,
    /// Steps queued.
    queued: u64,
    device: Device,
}

/// What can be said of a sequence's caches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum CacheState {
    /// They hold what was read.
    Sound,
    /// The positions that the sequence added are wrong, those before are as they were.
    WrongEnd,
    /// They may hold anything.
    Unknown,
}

impl Sequence {
    /// A sequence that begins with `prompt`, of which `cache` may hold a part.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for an empty prompt, a token beyond the vocabulary or an option
    /// out of range.
    pub fn new(
        model: &dyn LanguageModel,
        prompt: Vec<u32>,
        options: SequenceOptions,
        mut cache: Option<PromptCache>,
    ) -> Result<Self> {
        Self::resume(model, prompt, options, &mut cache)
    }

    /// [`Sequence::new`], which takes `cache` only if it succeeds.
    pub fn resume(
        model: &dyn LanguageModel,
        prompt: Vec<u32>,
        mut options: SequenceOptions,
        cache: &mut Option<PromptCache>,
    ) -> Result<Self> {
        let (vocabulary, device) = (model.vocabulary(), model.device());
        if prompt.is_empty() {
            return Err(Error::argument("prompt", "is empty: there is no token to go on from"));
        }
        if let Some(token) = prompt.iter().find(|&&token| token as usize >= vocabulary) {
            let message = format!("token {token} is beyond the model's vocabulary of {vocabulary}");
            return Err(Error::argument("prompt", message));
        }
        if options.prefill_chunk == 0 {
            return Err(Error::argument("prefillChunk", "must be above 0"));
        }
        // All that can be refused comes before the cache is touched.
        let sampler = Sampler::new(options.sampling.clone(), options.seed, device)?;
        let processors = Processors::new(options.penalties.clone(), &prompt, vocabulary, device)?;
        if let Some(cache) = &cache {
            options.cache_limits = cache.limits();
        }
        let origin = cache.as_ref().filter(|cache| !cache.knows_tokens()).cloned();
        let cache = cache.take().unwrap_or_else(|| PromptCache::new(model, options.cache_limits));
        let (caches, cached_token_ids, cached) = cache.begin(model, &prompt);
        Ok(Self {
            sampler,
            processors,
            device,
            caches,
            state: CacheState::Sound,
            origin,
            prompt,
            processed: cached,
            cached,
            cached_token_ids,
            options,
            pending: None,
            queued: 0,
        })
    }

    /// Processes the next chunk of the prompt; its last token is left to the first step.
    pub fn prefill(&mut self, model: &dyn LanguageModel) -> Result<Prefill> {
        let result = self.prefill_step(model);
        self.settle_failure(result)
    }

    fn prefill_step(&mut self, model: &dyn LanguageModel) -> Result<Prefill> {
        let last = self.prompt.len() - 1;
        if self.processed < last {
            let end = last.min(self.processed + self.options.prefill_chunk);
            let chunk = &self.prompt[self.processed..end];
            let chunk = mlx::from_u32(chunk, &[1, chunk.len() as i32]);
            // Only the caches are computed, not the logits.
            let failure = Failure::default();
            failure.scope(|| model.forward(&chunk, &mut self.caches))?;
            let states: Vec<&Array> = self.caches.iter().flat_map(Cache::arrays).collect();
            mlx::eval(&states)?;
            self.check(&failure)?;
            mlx::memory::clear_cache()?;
            if let Some(tokens) = &mut self.cached_token_ids {
                tokens.extend(&self.prompt[self.processed..end]);
            }
            self.processed = end;
        }
        Ok(Prefill {
            processed: self.processed,
            total: self.prompt.len(),
            done: self.processed == last,
        })
    }

    /// Gives the next token. The step after it is queued before this one is waited for.
    ///
    /// # Panics
    /// If the prompt has not been processed.
    pub fn step(&mut self, model: &dyn LanguageModel) -> Result<TokenOutput> {
        let result = self.decode_step(model);
        self.settle_failure(result)
    }

    fn decode_step(&mut self, model: &dyn LanguageModel) -> Result<TokenOutput> {
        let current = match self.pending.take() {
            Some(pending) => pending,
            None => {
                assert!(self.processed + 1 == self.prompt.len(), "prefill comes before step");
                let last = &self.prompt[self.processed..];
                if let Some(tokens) = &mut self.cached_token_ids {
                    tokens.extend(last);
                }
                let last = mlx::from_u32(last, &[1, 1]);
                self.processed += 1;
                self.queue(model, &last)?
            }
        };
        if self.queued < self.options.max_tokens as u64 {
            let token = ops::reshape(&current.token, &[1, 1])?;
            self.pending = Some(self.queue(model, &token)?);
        }
        let number = self.queued - u64::from(self.pending.is_some());
        let output = self.read(&current, number)?;
        if let (Some(tokens), Some(_)) = (&mut self.cached_token_ids, &self.pending) {
            tokens.push(output.token);
        }
        Ok(output)
    }

    /// What a step has computed; it made token `number` of the answer, counted from 1.
    fn read(&mut self, pending: &Pending, number: u64) -> Result<TokenOutput> {
        let output = read(pending)?;
        let largest = mlx::item_f32(&pending.largest_logit)?;
        if !largest.is_finite() {
            self.state = CacheState::WrongEnd;
            return Err(Error::Logits(self.describe_logits(largest, number)));
        }
        self.check(&pending.failure)?;
        Ok(output)
    }

    fn describe_logits(&self, largest: f32, number: u64) -> String {
        let what = match largest {
            f32::INFINITY => "are infinite",
            f32::NEG_INFINITY => "leave no token to choose: all are -Infinity",
            _ => "are not numbers (NaN)",
        };
        let cause = match self.processors.is_empty() {
            true => "",
            false => ", or the penalties and biases of the request lead there",
        };
        format!(
            "the logits for token {number} of the answer {what}: the model's weights are broken or \
             overflow in the type that they run in (load it with dtype \"float32\"){cause}"
        )
    }

    /// Gives the failure of kernels that have run.
    fn check(&mut self, failure: &Failure) -> Result<()> {
        // What kernels update keeps what it held.
        failure.check().inspect_err(|_| self.state = CacheState::WrongEnd)
    }

    /// Lets an error be this sequence's alone: MLX would give it to whoever waits next, too.
    fn settle_failure<T>(&mut self, result: Result<T>) -> Result<T> {
        if result.is_err() {
            if self.state == CacheState::Sound {
                self.state = CacheState::Unknown;
            }
            // It is the error at hand, or one that follows from it.
            let _ = mlx::settle();
        }
        result
    }

    /// How many of the prompt's tokens were there already.
    pub fn cached_tokens(&self) -> usize {
        self.cached
    }

    /// What it leaves for a sequence that begins alike. After a failure that is what it began with,
    /// or, where the caches cannot go back, nothing, within the same limits.
    pub fn into_prompt_cache(mut self, model: &dyn LanguageModel) -> PromptCache {
        let limits = self.options.cache_limits;
        if let Some(Pending { failure, .. }) = self.pending.take() {
            // The step in flight writes to the caches.
            let settled = mlx::settle();
            let checked = settled.and_then(|()| self.check(&failure));
            let _ = self.settle_failure(checked);
        }
        let cache = PromptCache::of(self.caches, self.cached_token_ids, limits);
        let cache = match self.state {
            CacheState::Sound => Some(cache),
            CacheState::WrongEnd if self.origin.is_none() => cache.rewound(self.cached),
            _ => self.origin,
        };
        cache.unwrap_or_else(|| PromptCache::new(model, limits))
    }

    /// The caches, for measuring.
    pub fn caches(&self) -> &[Cache] {
        &self.caches
    }

    /// Starts the step that follows `token` `[1, 1]`.
    fn queue(&mut self, model: &dyn LanguageModel, token: &Array) -> Result<Pending> {
        let failure = Failure::default();
        let pending = failure.scope(|| self.build(model, token, failure.clone()))?;
        let mut outputs = vec![&pending.token, &pending.largest_logit];
        if let Some(logprobs) = &pending.logprobs {
            outputs.push(&logprobs.chosen);
            if let Some((ids, values)) = &logprobs.top {
                outputs.extend([ids, values]);
            }
        }
        mlx::async_eval(&outputs)?;
        if self.queued.is_multiple_of(CLEAR_EVERY) {
            mlx::memory::clear_cache()?;
        }
        Ok(pending)
    }

    /// The graph of the step that follows `token` `[1, 1]`; nothing is computed.
    fn build(
        &mut self,
        model: &dyn LanguageModel,
        token: &Array,
        failure: Failure,
    ) -> Result<Pending> {
        let logits = model.forward(token, &mut self.caches)?;
        let mut logits = ops::reshape(&logits, &[1, logits.dim(-1)])?;
        if !self.processors.is_empty() {
            logits = self.processors.apply(&logits)?;
        }
        let token = self.sampler.sample(&logits, self.queued)?;
        self.queued += 1;
        self.processors.push(&token)?;
        let logprobs =
            self.options.logprobs.map(|count| logprobs(self.device, &logits, &token, count));
        let largest_logit = largest_logit(self.device, &logits)?;
        Ok(Pending { token, largest_logit, logprobs: logprobs.transpose()?, failure })
    }
}

/// The log-probability of `token` by logits `[1, vocabulary]`, and those of the `count` most likely
/// tokens, unordered.
fn logprobs(
    device: Device,
    logits: &Array,
    token: &Array,
    count: usize,
) -> Result<PendingLogprobs> {
    let count = i32::try_from(count).unwrap_or(i32::MAX).min(logits.dim(-1));
    let [chosen, ids, values] = log_probabilities(device, logits, token, count)?;
    Ok(PendingLogprobs { chosen, top: (count > 0).then_some((ids, values)) })
}

fn read(pending: &Pending) -> Result<TokenOutput> {
    let token = mlx::item_u32(&pending.token)?;
    let Some(logprobs) = &pending.logprobs else {
        return Ok(TokenOutput { token, logprob: None, top: Vec::new() });
    };
    let mut top = Vec::new();
    if let Some((ids, values)) = &logprobs.top {
        top = mlx::to_u32_vec(ids)?.into_iter().zip(mlx::to_f32_vec(values)?).collect();
        top.sort_by(|a: &(u32, f32), b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    }
    Ok(TokenOutput { token, logprob: Some(mlx::item_f32(&logprobs.chosen)?), top })
}
