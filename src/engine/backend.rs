//! What the scheduler asks of a model. The scheduler knows nothing else of MLX, so its rules can
//! be tested with models that wait, fail and panic on command.

use std::path::Path;

use crate::adapters::{AdapterId, AdapterInfo};
use crate::cache::CacheLimits;
use crate::cache::file::{CacheBytes, OpenFile};
use crate::error::Result;
use crate::generate::{
    Likelihood, PrefixFetch, Reading, RestoredPrefix, ScoredRow, Segmented, SequenceOptions,
    Speculated, TextPart, TokenOutput,
};
use crate::models::EmbedOptions;

/// What a prompt cache holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PromptCacheSize {
    /// Positions whose keys and values, or state, are there.
    pub tokens: usize,
    /// Their bytes.
    pub bytes: usize,
}

/// A model that sequences run on. Everything happens on the engine's thread.
pub trait Backend {
    /// The state of one sequence: its sampler, its caches, its token in flight.
    type Sequence;
    /// The caches of a sequence that is only read, and what the model runs with. Those of a copy go
    /// their own way.
    type Caches: Clone;
    /// A text that is being embedded.
    type Text;
    /// What a sequence leaves for the next one that begins alike.
    type PromptCache;

    /// Begins a sequence that continues `prompt`, which is not empty, and of which `cache` may hold
    /// a part, with an adapter or none. The cache is taken only if that succeeds.
    fn start(
        &self,
        prompt: Vec<u32>,
        options: SequenceOptions,
        adapter: Option<AdapterId>,
        cache: &mut Option<Self::PromptCache>,
    ) -> Result<Self::Sequence>;

    /// The bytes that the caches of a sequence within `limits` take for so many tokens, and, if it
    /// `speculates`, those of who drafts for it.
    fn cache_bytes(&self, limits: CacheLimits, tokens: usize, speculates: bool) -> Result<usize>;

    /// Frees the caches of a sequence that makes tokens, which reads again what it needs when it goes
    /// on; whether it can.
    fn put_aside(&self, sequence: &mut Self::Sequence) -> bool;

    /// Loads the adapter of a folder, by a number that no other has.
    fn load_adapter(&self, id: AdapterId, path: &Path) -> Result<AdapterInfo>;

    /// Forgets an adapter, once no sequence has it.
    fn drop_adapter(&self, id: AdapterId);

    /// How many of the prompt's tokens were in the cache.
    fn cached_tokens(&self, sequence: &Self::Sequence) -> usize;

    /// Whether a sequence that is to continue `prompt` had better wait: one of `others` is reading
    /// the same beginning. What one of them has read already is there for it from now on.
    fn share(
        &self,
        prompt: &[u32],
        options: &SequenceOptions,
        adapter: Option<AdapterId>,
        others: &mut [&mut Self::Sequence],
    ) -> bool;

    /// Whether what a sequence has read is kept for others at its end.
    fn is_kept(&self, sequence: &Self::Sequence) -> bool;

    /// Keeps what a sequence has read for others that begin alike.
    fn keep(&self, sequence: Self::Sequence);

    /// Forgets all that was kept for others, then calls `done`.
    fn clear_prefixes(&self, done: Box<dyn FnOnce() + Send>);

    /// Files that hold a longer beginning of `prompt` than there is in memory; `None` for none.
    fn fetch(
        &self,
        _prompt: &[u32],
        _options: &SequenceOptions,
        _adapter: Option<AdapterId>,
    ) -> Option<PrefixFetch> {
        None
    }

    /// Takes in what was read from such files, for the sequence that begins next.
    fn admit(&self, _restored: RestoredPrefix) {}

    /// Whether something that was kept for others is on its way to disk.
    fn has_unsaved(&self) -> bool {
        false
    }

    /// Sends a bit of that on its way.
    fn save_next(&self) {}

    /// Saves what was kept for others, as far as it shall be there for another time.
    fn finish(&self) {}

    /// Notes that a sequence's generation has failed, so that it leaves what it began with.
    fn fail(&self, sequence: &mut Self::Sequence);

    /// What a sequence leaves; after a failure, what it began with, as far as that is still there.
    fn leave(&self, sequence: Self::Sequence) -> Self::PromptCache;

    /// An empty one.
    fn prompt_cache(&self, limits: CacheLimits) -> Self::PromptCache;

    /// What it holds.
    fn prompt_cache_size(&self, cache: &Self::PromptCache) -> PromptCacheSize;

    /// Its file's bytes.
    fn prompt_cache_bytes(&self, cache: &Self::PromptCache) -> Result<CacheBytes>;

    /// Reads one from a file.
    fn load_prompt_cache(&self, file: OpenFile) -> Result<Self::PromptCache>;

    /// Reads up to `tokens` of the sequences' prompts, of the first ones first. `alone` tells that
    /// nobody else reads or decodes. A failure is that sequence's alone.
    fn prefill(&self, sequences: &mut [&mut Self::Sequence], tokens: usize, alone: bool)
    -> Reading;

    /// Makes the next tokens of each of `sequences`, in their order; none for one that needs
    /// another turn for that. A failure is that sequence's alone.
    fn decode(&self, sequences: &mut [&mut Self::Sequence]) -> Vec<Result<Vec<TokenOutput>>>;

    /// What came of a sequence's speculation; `None` where there is none.
    fn speculated(&self, _: &Self::Sequence) -> Option<Speculated> {
        None
    }

    /// Empty caches for what is only read, with an adapter or none.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`](crate::error::Error::InvalidArgument) for an adapter that is not
    /// there.
    fn caches(&self, adapter: Option<AdapterId>) -> Result<Self::Caches>;

    /// The logits after each of `tokens`, row by row, and the tokens' keys and values added to
    /// `caches`. A failure is this call's alone.
    fn logits(&self, tokens: &[u32], caches: &mut Self::Caches) -> Result<Vec<f32>>;

    /// Reads the tokens of rows that run with the same adapter; gives the log-probabilities of
    /// their targets, and those of the `top` likeliest tokens. A failure is this call's alone.
    fn logprobs(
        &self,
        rows: &mut [ScoredRow<Self::Caches>],
        top: usize,
    ) -> Result<Vec<Vec<Likelihood>>>;

    /// Begins a text that is to be embedded, with an adapter or none.
    fn begin_text(&self, adapter: Option<AdapterId>, options: &EmbedOptions) -> Result<Self::Text>;

    /// Reads parts of texts that are embedded with the same adapter. A failure is this call's
    /// alone.
    fn read_texts(&self, parts: &mut [TextPart<Self::Text>]) -> Result<()>;

    /// The embeddings of texts that have been read to their ends.
    fn embeddings(&self, texts: Vec<Self::Text>, options: &EmbedOptions) -> Result<Vec<Vec<f32>>>;

    /// The logits of the labels of each text.
    fn classify(&self, texts: &[Segmented], adapter: Option<AdapterId>) -> Result<Vec<Vec<f32>>>;

    /// Starts the measurement of [`Backend::peak_memory`] anew.
    fn reset_peak_memory(&self);

    /// The most memory that arrays took, in bytes, in the whole process.
    fn peak_memory(&self) -> usize;
}
