//! The real [`Backend`]: a language model on this thread's MLX stream.

use std::path::Path;

use super::backend::{Backend, PromptCacheSize};
use crate::cache::file::CacheBytes;
use crate::cache::{Cache, CacheLimits};
use crate::error::Result;
use crate::generate::{Prefill, PromptCache, Sequence, SequenceOptions, TokenOutput};
use crate::mlx;
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
}

impl Backend for CoreBackend {
    type Sequence = Sequence;
    type Caches = Vec<Cache>;
    type PromptCache = PromptCache;

    fn start(
        &self,
        prompt: Vec<u32>,
        options: SequenceOptions,
        cache: Option<PromptCache>,
    ) -> Result<Sequence> {
        Sequence::new(&*self.model, prompt, options, cache)
    }

    fn cached_tokens(&self, sequence: &Sequence) -> usize {
        sequence.cached_tokens()
    }

    fn leave(&self, sequence: Sequence) -> PromptCache {
        sequence.into_prompt_cache()
    }

    fn prompt_cache(&self, limits: CacheLimits) -> PromptCache {
        PromptCache::new(&*self.model, limits)
    }

    fn prompt_cache_size(&self, cache: &PromptCache) -> PromptCacheSize {
        PromptCacheSize { tokens: cache.length(), bytes: cache.nbytes() }
    }

    fn prompt_cache_bytes(&self, cache: &PromptCache) -> Result<CacheBytes> {
        cache.to_bytes(&self.fingerprint)
    }

    fn load_prompt_cache(&self, path: &Path) -> Result<PromptCache> {
        PromptCache::read(path, &*self.model, &self.fingerprint)
    }

    fn prefill(&self, sequence: &mut Sequence) -> Result<Prefill> {
        sequence.prefill(&*self.model)
    }

    fn decode(&self, sequences: &mut [&mut Sequence]) -> Vec<Result<TokenOutput>> {
        sequences.iter_mut().map(|sequence| sequence.step(&*self.model)).collect()
    }

    fn caches(&self) -> Vec<Cache> {
        self.model.make_caches()
    }

    fn logits(&self, tokens: &[u32], caches: &mut Vec<Cache>) -> Result<Vec<f32>> {
        let tokens = mlx::from_u32(tokens, &[1, tokens.len() as i32]);
        mlx::to_f32_vec(&self.model.forward(&tokens, caches)?)
    }

    fn reset_peak_memory(&self) {
        // A statistic is no reason to fail a generation; the same below.
        let _ = mlx::memory::reset_peak();
    }

    fn peak_memory(&self) -> usize {
        mlx::memory::peak().unwrap_or(0)
    }
}
