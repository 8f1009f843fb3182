//! What a sequence leaves behind for one that begins alike.

use std::collections::HashMap;
use std::path::Path;

use crate::cache::file::{self, CacheBytes};
use crate::cache::{Cache, CacheLimits};
use crate::error::{Error, Result};
use crate::mlx::{self, Array};
use crate::models::LanguageModel;

/// The header entries of ours in a prompt-cache file: the tokens, and what tells models apart.
const TOKENS: &str = "nodemlx_tokens";
const MODEL: &str = "nodemlx_model";

/// The caches of a sequence, and the tokens that went into them.
#[derive(Debug, Clone)]
pub struct PromptCache {
    caches: Vec<Cache>,
    /// `None` where a file does not say: every prompt then goes on behind what is there.
    tokens: Option<Vec<u32>>,
    limits: CacheLimits,
}

impl PromptCache {
    /// An empty one.
    pub fn new(model: &dyn LanguageModel, limits: CacheLimits) -> Self {
        let caches = model.make_caches().into_iter().map(|cache| cache.limited(&limits)).collect();
        Self { caches, tokens: Some(Vec::new()), limits }
    }

    pub(super) fn of(caches: Vec<Cache>, tokens: Option<Vec<u32>>, limits: CacheLimits) -> Self {
        Self { caches, tokens, limits }
    }

    /// What its caches may take.
    pub fn limits(&self) -> CacheLimits {
        self.limits
    }

    /// How many positions went in.
    pub fn length(&self) -> usize {
        let positions = self.caches.iter().map(Cache::offset).max().unwrap_or(0);
        self.tokens.as_ref().map_or(positions.unsigned_abs() as usize, Vec::len)
    }

    /// The bytes that it holds.
    pub fn nbytes(&self) -> usize {
        self.caches.iter().map(Cache::nbytes).sum()
    }

    /// The caches for `prompt`, its tokens known so far and how many of `prompt`'s first tokens need not be
    /// read again. The last one always is: what follows it is wanted. Where the tokens differ and the caches cannot
    /// go back, everything is read anew.
    pub(super) fn begin(
        mut self,
        model: &dyn LanguageModel,
        prompt: &[u32],
    ) -> (Vec<Cache>, Option<Vec<u32>>, usize) {
        let Some(tokens) = &self.tokens else { return (self.caches, None, 0) };
        let alike = tokens.iter().zip(prompt).take_while(|(a, b)| a == b).count();
        let known = alike.min(prompt.len().saturating_sub(1));
        let surplus = (tokens.len() - known) as i32;
        if surplus > 0 {
            if !self.caches.iter().all(Cache::is_trimmable) {
                self = Self::new(model, self.limits);
                return (self.caches, Some(Vec::new()), 0);
            }
            for cache in &mut self.caches {
                cache.trim(surplus);
            }
        }
        (self.caches, Some(prompt[..known].to_vec()), known)
    }

    /// The file's bytes. `model` names the model that it belongs to.
    pub fn to_bytes(&self, model: &str) -> Result<CacheBytes> {
        let mut texts = HashMap::from([(MODEL.to_owned(), model.to_owned())]);
        if let Some(tokens) = &self.tokens {
            let words: Vec<String> = tokens.iter().map(u32::to_string).collect();
            texts.insert(TOKENS.to_owned(), words.join(" "));
        }
        CacheBytes::of(&self.caches, &texts)
    }

    /// Reads a file that this program or mlx-lm wrote.
    ///
    /// # Errors
    /// [`Error::PromptCache`] for a broken file, or one of another model.
    pub fn read(path: &Path, model: &dyn LanguageModel, name: &str) -> Result<Self> {
        let broken = |message: String| Error::PromptCache { path: path.to_owned(), message };
        let other = || broken("it was made with another model".to_owned());
        let file = file::read(path)?;
        if file.texts.get(MODEL).is_some_and(|writer| writer != name) {
            return Err(other());
        }
        let tokens = match file.texts.get(TOKENS) {
            None => None,
            Some(words) => {
                let tokens: Option<Vec<u32>> =
                    words.split_whitespace().map(|word| word.parse().ok()).collect();
                let tokens =
                    tokens.filter(|it| it.iter().all(|&t| (t as usize) < model.vocabulary()));
                Some(tokens.ok_or_else(|| broken("its list of tokens is broken".to_owned()))?)
            }
        };
        let positions = file.caches.iter().map(Cache::offset).max().unwrap_or(0);
        if let Some(tokens) = &tokens
            && positions > 0
            && positions as usize != tokens.len()
        {
            return Err(broken("its list of tokens is not as long as its caches".to_owned()));
        }
        if !fits(model, &file.caches)? {
            return Err(other());
        }
        let limits = CacheLimits::of(&file.caches);
        Ok(Self { caches: file.caches, tokens, limits })
    }
}

/// Whether `caches` could be those of `model`: of the same kinds, and of the shapes that a step of the model
/// would make. Nothing is computed.
fn fits(model: &dyn LanguageModel, caches: &[Cache]) -> Result<bool> {
    let empty = model.make_caches();
    if empty.len() != caches.len() {
        return Ok(false);
    }
    let limits = CacheLimits::of(caches);
    let mut made: Vec<Cache> = empty.into_iter().map(|cache| cache.limited(&limits)).collect();
    model.forward(&mlx::from_u32(&[0], &[1, 1]), &mut made)?;
    let same = |(made, cache): (&Cache, &Cache)| {
        let shapes = |cache: &Cache| -> Vec<Vec<i32>> {
            // The axis of positions grows; a recurrence has the same shapes always.
            let without_positions = |array: &&Array| {
                let grows = !matches!(cache, Cache::Arrays(_));
                let axes = array.shape().iter().enumerate();
                axes.filter(|(axis, _)| !(grows && *axis == 2)).map(|(_, &dim)| dim).collect()
            };
            cache.arrays().iter().map(without_positions).collect()
        };
        std::mem::discriminant(made) == std::mem::discriminant(cache)
            && (cache.arrays().is_empty() || shapes(made) == shapes(cache))
    };
    let alike = |(made, cache): (&Cache, &Cache)| {
        std::mem::discriminant(made) == std::mem::discriminant(cache)
            && made.parts().len() == cache.parts().len()
            && made.parts().iter().zip(cache.parts()).all(same)
    };
    Ok(made.iter().zip(caches).all(alike))
}
