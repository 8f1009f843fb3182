//! A language model on this thread's MLX stream, as the scheduler uses it.

use std::cell::RefCell;
use std::num::NonZero;
use std::thread;

use super::backend::PromptCacheSize;
use crate::cache::file::OpenFile;
use crate::cache::{Cache, CacheLimits};
use crate::error::{Error, Result};
use crate::fused::Device;
use crate::generate::{
    Drafter, EmbeddedText, GenerationOptions, Likelihood, PromptCache, Reading, ScoredRow,
    Segmented, Sequence, SequenceOptions, Speculator, TextPart, TokenOutput, classify, decode,
    embeddings, guarded, logprobs, prefill, read_texts,
};
use crate::mlx;
use crate::models::{EmbedOptions, Embedder, LanguageModel, cache_sizes, head_cache_sizes};

/// How long the prompts are whose kernels are compiled when a model is loaded: of different lengths,
/// prompts are multiplied by different kernels.
const WARM_UP_PROMPTS: [usize; 2] = [40, 160];
const WARM_UP_TOKENS: usize = 2;

/// How many sequences are stepped together then, at most, behind prompts of so many tokens. Products
/// have kernels for so many rows or fewer.
const WARM_UP_BATCHES: [usize; 6] = [2, 4, 8, 16, 24, 32];
const SHORT_PROMPT: usize = 4;

/// A language model.
pub struct CoreBackend {
    model: Box<dyn LanguageModel>,
    /// What makes embeddings, where the model gives hidden states.
    embedder: Option<Embedder>,
    /// Tells the model from others, in files of prompt caches.
    fingerprint: String,
    /// What decoding has learnt of the time that steps take, and the draft model.
    speculator: RefCell<Speculator>,
}

impl CoreBackend {
    /// Runs `model`, which belongs to the calling thread.
    pub fn new(model: Box<dyn LanguageModel>, fingerprint: String) -> Self {
        Self { model, embedder: None, fingerprint, speculator: RefCell::default() }
    }

    /// The same with what makes embeddings.
    pub fn with_embedder(self, embedder: Option<Embedder>) -> Self {
        Self { embedder, ..self }
    }

    /// The same with a model that drafts tokens, and what tells that from others.
    pub fn with_draft(self, draft: Option<(Box<dyn LanguageModel>, String)>) -> Self {
        Self { speculator: RefCell::new(Speculator::new(draft)), ..self }
    }

    /// The model.
    pub fn model(&self) -> &dyn LanguageModel {
        &*self.model
    }

    /// What tells the model with an adapter, which this is the fingerprint of, from others.
    pub fn name_with(&self, adapter: Option<&str>) -> String {
        match adapter {
            Some(adapter) => format!("{}+{adapter}", self.fingerprint),
            None => self.fingerprint.clone(),
        }
    }

    /// A prompt cache of the model with an adapter, from a file.
    pub fn restore(&self, file: OpenFile, adapter: Option<&str>) -> Result<PromptCache> {
        PromptCache::restore(file, &*self.model, &self.name_with(adapter))
    }

    /// Begins a sequence that continues `prompt`; takes the lent cache only if that succeeds.
    pub fn start(
        &self,
        prompt: Vec<u32>,
        options: SequenceOptions,
        cache: &mut Option<PromptCache>,
    ) -> Result<Sequence> {
        // A step that was in flight when its sequence ended may fail: nobody waits for it.
        let _ = mlx::settle();
        Sequence::resume(&*self.model, prompt, options, cache)
    }

    /// The same behind what others have left, if that is of use.
    pub fn start_behind(
        &self,
        prompt: Vec<u32>,
        options: SequenceOptions,
        begun: Option<PromptCache>,
    ) -> Result<Sequence> {
        // As in `start`.
        let _ = mlx::settle();
        Sequence::new(&*self.model, prompt, options, begun)
    }

    /// Does something with who drafts for the model's sequences, if anybody does.
    pub fn with_drafter<T>(&self, run: impl FnOnce(Option<Drafter>) -> T) -> T {
        run(self.speculator.borrow().drafter(&*self.model))
    }

    /// The bytes that caches within `limits` take for so many tokens, those of who drafts for a
    /// sequence that `speculates` included.
    pub fn cache_bytes(
        &self,
        limits: CacheLimits,
        tokens: usize,
        speculates: bool,
    ) -> Result<usize> {
        let mut caches = cache_sizes(&*self.model, limits)?;
        caches.extend(self.with_drafter(|drafter| match drafter.filter(|_| speculates) {
            None => Ok(Vec::new()),
            Some(Drafter::Model(draft, _)) => cache_sizes(draft, limits),
            Some(Drafter::Head(model, head)) => head_cache_sizes(model, head, limits),
        })?);
        let tokens = i32::try_from(tokens).unwrap_or(i32::MAX);
        Ok(caches.iter().map(|cache| cache.bytes(tokens)).fold(0, usize::saturating_add))
    }

    /// Frees the caches of a sequence; see [`Sequence::put_aside`].
    pub fn put_aside(&self, sequence: &mut Sequence) -> bool {
        self.interrupt();
        sequence.put_aside(&*self.model)
    }

    /// How many of the prompt's tokens were in the cache.
    pub fn cached_tokens(&self, sequence: &Sequence) -> usize {
        sequence.cached_tokens()
    }

    /// What a sequence leaves for the next one that begins alike.
    pub fn leave(&self, sequence: Sequence) -> PromptCache {
        sequence.into_prompt_cache(&*self.model)
    }

    /// An empty prompt cache within `limits`.
    pub fn prompt_cache(&self, limits: CacheLimits) -> PromptCache {
        PromptCache::new(&*self.model, limits)
    }

    /// How much one holds.
    pub fn prompt_cache_size(&self, cache: &PromptCache) -> PromptCacheSize {
        PromptCacheSize { tokens: cache.length(), bytes: cache.nbytes() }
    }

    /// Notes that the device does something else beside the step in flight, so that how long that
    /// takes says nothing.
    pub fn interrupt(&self) {
        self.speculator.borrow_mut().interrupt();
    }

    /// Reads up to `tokens` of prompts; see [`prefill`].
    pub fn prefill(&self, sequences: &mut [&mut Sequence], tokens: usize, alone: bool) -> Reading {
        self.interrupt();
        prefill(&*self.model, sequences, tokens, alone)
    }

    /// Makes the next tokens; see [`decode`].
    pub fn decode(&self, sequences: &mut [&mut Sequence]) -> Vec<Result<Vec<TokenOutput>>> {
        decode(&*self.model, &mut self.speculator.borrow_mut(), sequences)
    }

    /// Empty caches for what is only read.
    pub fn caches(&self) -> Vec<Cache> {
        // As in `start`.
        let _ = mlx::settle();
        self.model.make_caches()
    }

    /// The logits after each of `tokens`, which go into `caches`.
    pub fn logits(&self, tokens: &[u32], caches: &mut [Cache]) -> Result<Vec<f32>> {
        self.interrupt();
        let tokens = mlx::from_u32(tokens, &[1, tokens.len() as i32]);
        guarded(|| mlx::to_f32_vec(&self.model.logits(&tokens, caches)?))
    }

    /// The log-probabilities of rows' targets; see [`logprobs`].
    pub fn logprobs(
        &self,
        rows: &mut [ScoredRow<Vec<Cache>>],
        top: usize,
    ) -> Result<Vec<Vec<Likelihood>>> {
        self.interrupt();
        logprobs(&*self.model, rows, top)
    }

    /// A text that is to be embedded.
    pub fn begin_text(&self, options: &EmbedOptions) -> Result<EmbeddedText> {
        Ok(EmbeddedText { pooled: self.embedder()?.begin(options), caches: self.caches() })
    }

    /// Reads parts of texts; see [`read_texts`].
    pub fn read_texts(&self, parts: &mut [TextPart<EmbeddedText>]) -> Result<()> {
        self.interrupt();
        read_texts(&*self.model, parts)
    }

    /// The embeddings of texts; see [`embeddings`].
    pub fn embeddings(
        &self,
        texts: &[EmbeddedText],
        options: &EmbedOptions,
    ) -> Result<Vec<Vec<f32>>> {
        self.interrupt();
        embeddings(self.embedder()?, texts, options)
    }

    /// The logits of texts' labels; see [`classify`].
    pub fn classify(&self, texts: &[Segmented]) -> Result<Vec<Vec<f32>>> {
        self.interrupt();
        classify(&*self.model, texts)
    }

    fn embedder(&self) -> Result<&Embedder> {
        self.embedder.as_ref().ok_or_else(|| {
            Error::Unsupported("the model gives no hidden states, so it embeds no texts".to_owned())
        })
    }

    /// Makes a few tokens that nobody sees, so that what they need is compiled for the card before
    /// the first text: for prompts of a line and of a page, and for steps of one sequence. Kernels of
    /// ours are compiled beside each other, those for steps of more sequences too where there are
    /// processors to do so.
    ///
    /// What fails is left for the first text to fail with.
    pub fn warm_up(
        &self,
        device: Device,
        generation: &GenerationOptions,
        longest: usize,
        go_on: &(dyn Fn() -> bool + Sync),
    ) {
        let prompts = WARM_UP_PROMPTS.map(|it| it.min(longest));
        let make = |length: usize, count: usize| {
            // Nobody looks at what went wrong.
            let _ = self.make_unseen(generation, length, count, go_on);
        };
        let processors = thread::available_parallelism().map_or(1, NonZero::get);
        let rehearse = || {
            prompts.iter().for_each(|&length| make(length, 1));
            let batches = WARM_UP_BATCHES.into_iter().filter(|&it| it <= 2 * processors);
            batches.for_each(|count| make(SHORT_PROMPT.min(longest), count));
        };
        device.prepare(rehearse, go_on);
        prompts.iter().for_each(|&length| make(length, 1));
    }

    /// Makes tokens of so many sequences together, behind prompts of this length.
    fn make_unseen(
        &self,
        generation: &GenerationOptions,
        length: usize,
        count: usize,
        go_on: &(dyn Fn() -> bool + Sync),
    ) -> Result<()> {
        let begin = |_| {
            let options = SequenceOptions::new(generation.clone(), length);
            self.start_behind(vec![0; length], options, None)
        };
        let mut sequences = (0..count).map(begin).collect::<Result<Vec<_>>>()?;
        let mut all: Vec<_> = sequences.iter_mut().collect();
        while go_on() && all.iter().any(|sequence| !sequence.progress().done) {
            let reading = self.prefill(&mut all, length * count, count == 1);
            reading.progress.into_iter().collect::<Result<Vec<_>>>()?;
        }
        for _ in 0..WARM_UP_TOKENS {
            if go_on() {
                self.decode(&mut all).into_iter().collect::<Result<Vec<_>>>()?;
            }
        }
        Ok(())
    }

    /// Measures the peak from now on.
    pub fn reset_peak_memory(&self) {
        // A statistic is no reason to fail a generation; the same below.
        let _ = mlx::memory::reset_peak();
    }

    /// The most bytes that MLX held.
    pub fn peak_memory(&self) -> usize {
        mlx::memory::peak().unwrap_or(0)
    }
}
