//! The real [`Backend`]: a language model on this thread's MLX stream.

use std::path::Path;

use super::backend::{Backend, PromptCacheSize};
use crate::adapters::{AdapterId, AdapterInfo};
use crate::cache::file::{CacheBytes, OpenFile};
use crate::cache::{Cache, CacheLimits};
use crate::error::{Error, Result};
use crate::generate::{
    PromptCache, Reading, Sequence, SequenceOptions, TokenOutput, decode, prefill,
};
use crate::mlx;
use crate::mlx::primitive::Failure;
use crate::models::LanguageModel;

/// A language model.
pub struct CoreBackend {
    model: Box<dyn LanguageModel>,
    /// Tells the model from others, in files of prompt caches.
    fingerprint: String,
}

impl CoreBackend {
    /// Runs `model`, which belongs to the calling thread.
    pub fn new(model: Box<dyn LanguageModel>, fingerprint: String) -> Self {
        Self { model, fingerprint }
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
}

/// The error of a backend that knows none.
fn no_adapters() -> Error {
    Error::Unsupported("this model takes no adapters".to_owned())
}

impl Backend for CoreBackend {
    type Sequence = Sequence;
    type Caches = Vec<Cache>;
    type PromptCache = PromptCache;

    fn start(
        &self,
        prompt: Vec<u32>,
        options: SequenceOptions,
        adapter: Option<AdapterId>,
        cache: &mut Option<PromptCache>,
    ) -> Result<Sequence> {
        if adapter.is_some() {
            return Err(no_adapters());
        }
        // A step that was in flight when its sequence ended may fail: nobody waits for it.
        let _ = mlx::settle();
        Sequence::resume(&*self.model, prompt, options, cache)
    }

    fn load_adapter(&self, _: AdapterId, _: &Path) -> Result<AdapterInfo> {
        Err(no_adapters())
    }

    fn drop_adapter(&self, _: AdapterId) {}

    fn cached_tokens(&self, sequence: &Sequence) -> usize {
        sequence.cached_tokens()
    }

    fn leave(&self, sequence: Sequence) -> PromptCache {
        sequence.into_prompt_cache(&*self.model)
    }

    fn prompt_cache(&self, limits: CacheLimits) -> PromptCache {
        PromptCache::new(&*self.model, limits)
    }

    fn prompt_cache_size(&self, cache: &PromptCache) -> PromptCacheSize {
        PromptCacheSize { tokens: cache.length(), bytes: cache.nbytes() }
    }

    fn prompt_cache_bytes(&self, cache: &PromptCache) -> Result<CacheBytes> {
        cache.to_bytes(&self.name_with(None))
    }

    fn load_prompt_cache(&self, file: OpenFile) -> Result<PromptCache> {
        self.restore(file, None)
    }

    fn prefill(&self, sequences: &mut [&mut Sequence], tokens: usize) -> Reading {
        prefill(&*self.model, sequences, tokens)
    }

    fn decode(&self, sequences: &mut [&mut Sequence]) -> Vec<Result<Option<TokenOutput>>> {
        decode(&*self.model, sequences)
    }

    fn caches(&self) -> Vec<Cache> {
        // As in `start`.
        let _ = mlx::settle();
        self.model.make_caches()
    }

    fn logits(&self, tokens: &[u32], caches: &mut Vec<Cache>) -> Result<Vec<f32>> {
        let tokens = mlx::from_u32(tokens, &[1, tokens.len() as i32]);
        let failure = Failure::default();
        let rows = failure
            .scope(|| self.model.logits(&tokens, caches))
            .and_then(|logits| mlx::to_f32_vec(&logits));
        if rows.is_err() {
            // MLX would give the error to whoever waits next, too.
            let _ = mlx::settle();
        }
        failure.check().and(rows)
    }

    fn reset_peak_memory(&self) {
        // A statistic is no reason to fail a generation; the same below.
        let _ = mlx::memory::reset_peak();
    }

    fn peak_memory(&self) -> usize {
        mlx::memory::peak().unwrap_or(0)
    }
}
