//! What a lent prompt cache was, so that no failure of the sequence that has it changes it.

use super::prompt_cache::PromptCache;
use crate::cache::{Cache, CacheLimits};
use crate::error::Result;
use crate::mlx;

/// What brings a prompt cache back.
#[derive(Debug)]
pub(super) enum Origin {
    /// All of it. Who writes to its caches copies them, because what is shared is not updated in
    /// place.
    Whole(PromptCache),
    /// What is behind its first tokens, which the sequence has in its caches. So what grows with
    /// the positions is not copied, but for those that the sequence overwrites.
    Behind {
        /// All tokens.
        tokens: Vec<u32>,
        /// How many of them the sequence begins with.
        kept: usize,
        /// For each cache, see [`Cache::remainder`].
        rest: Vec<Cache>,
        /// What its caches may take.
        limits: CacheLimits,
    },
}

impl Origin {
    /// What brings `cache` back after a sequence that begins with `prompt` has had it.
    ///
    /// # Errors
    /// Those of MLX.
    pub(super) fn of(cache: &PromptCache, prompt: &[u32]) -> Result<Self> {
        let Some((caches, tokens, kept)) = cache.kept_by(prompt) else {
            return Ok(Self::Whole(cache.clone()));
        };
        let length = kept as i32;
        let rest: Result<Vec<Cache>> = caches.iter().map(|it| it.remainder(length)).collect();
        let rest = rest.and_then(|rest| match kept < tokens.len() {
            // It must not hold on to the buffers, which would then be copied as a whole.
            true => Cache::evaluated(rest),
            false => Ok(rest),
        });
        // MLX would tell whoever waits next.
        let rest = rest.inspect_err(|_| drop(mlx::settle()))?;
        Ok(Self::Behind { tokens: tokens.to_vec(), kept, rest, limits: cache.limits() })
    }

    /// The prompt cache as it was. `caches` are those of the sequence, if their beginning is what it
    /// was; `None` where that is missing.
    pub(super) fn restored(&self, caches: Option<&[Cache]>) -> Option<PromptCache> {
        match self {
            Self::Whole(cache) => Some(cache.clone()),
            Self::Behind { tokens, kept, rest, limits } => {
                let caches = caches.unwrap_or_default();
                let whole = |(index, rest): (usize, &Cache)| {
                    rest.behind(caches.get(index), *kept as i32).transpose()
                };
                let whole: Result<Vec<Cache>> = rest.iter().enumerate().filter_map(whole).collect();
                let whole = whole.ok().filter(|whole| whole.len() == rest.len());
                // What a failed step has left uncomputed must not fail the next one.
                let whole = whole.and_then(|whole| Cache::evaluated(whole).ok());
                let whole =
                    whole.map(|whole| PromptCache::of(whole, Some(tokens.clone()), *limits));
                if whole.is_none() {
                    let _ = mlx::settle();
                }
                whole
            }
        }
    }
}
