//! What a sequence leaves behind for one that begins alike.

use std::collections::HashMap;
use std::path::Path;

use crate::cache::file::{CacheBytes, OpenFile};
use crate::cache::{Cache, CacheLimits};
use crate::error::{Error, Result};
use crate::mlx;
use crate::models::LanguageModel;

/// The header entries of ours in a prompt-cache file: the tokens, and what tells models apart.
const TOKENS: &str = "nodemlx_tokens";
const MODEL: &str = "nodemlx_model";

/// Tokens of an answer for which there is room from the beginning.
const SHORT_ANSWER: u64 = 128;

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

    /// The same as it was after the first `length` tokens; `None` where it cannot go back so far.
    pub(super) fn rewound(mut self, length: usize) -> Option<Self> {
        let tokens = self.tokens.as_mut()?;
        tokens.truncate(length);
        if !rewind(&mut self.caches, length) {
            return None;
        }
        // What a failed step has left uncomputed must not fail the next one.
        self.caches = Cache::evaluated(self.caches).ok()?;
        Some(self)
    }

    /// Whether all that it holds can go back to what it was after the first `length` tokens.
    pub(super) fn goes_back(&self, length: usize) -> bool {
        let goes_back = |cache: &Cache| cache.shortest().unsigned_abs() as usize <= length;
        self.tokens.is_some() && self.caches.iter().all(goes_back)
    }

    /// Its caches, its tokens, and how many of these a sequence that begins with `prompt` keeps;
    /// `None` where it is not known, or where the caches cannot go back.
    pub(super) fn kept_by(&self, prompt: &[u32]) -> Option<(&[Cache], &[u32], usize)> {
        let tokens = self.tokens.as_ref()?;
        let kept = kept(tokens, prompt);
        let goes_back = kept == tokens.len() || (kept > 0 && self.goes_back(kept));
        goes_back.then_some((&self.caches, tokens, kept))
    }

    /// Its caches.
    pub(crate) fn into_caches(self) -> Vec<Cache> {
        self.caches
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

    /// The caches for `prompt`, the tokens in them, and how many of `prompt`'s first tokens need
    /// not be read again. The last one always is: what follows it is wanted. Where the tokens
    /// differ and the caches cannot go back, everything is read anew. Buffers that must grow will
    /// have room for the prompt and a short answer of at most `max_tokens`.
    pub(super) fn begin(
        self,
        model: &dyn LanguageModel,
        prompt: &[u32],
        max_tokens: u64,
    ) -> (Vec<Cache>, Option<Vec<u32>>, usize) {
        let before = if self.tokens.is_some() { 0 } else { self.length() };
        let answer = max_tokens.min(SHORT_ANSWER) as usize;
        let (mut caches, tokens, kept) = self.continued(model, prompt);
        if let Ok(positions) = i32::try_from(before + prompt.len() + answer) {
            caches.iter_mut().for_each(|cache| cache.expect(positions));
        }
        (caches, tokens, kept)
    }

    fn continued(
        mut self,
        model: &dyn LanguageModel,
        prompt: &[u32],
    ) -> (Vec<Cache>, Option<Vec<u32>>, usize) {
        let Some(tokens) = &self.tokens else { return (self.caches, None, 0) };
        let kept = kept(tokens, prompt);
        // Where nothing is kept, who lent it may still have the buffers.
        if tokens.len() > kept && (kept == 0 || !rewind(&mut self.caches, kept)) {
            self = Self::new(model, self.limits);
            return (self.caches, Some(Vec::new()), 0);
        }
        (self.caches, Some(prompt[..kept].to_vec()), kept)
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
        Self::restore(OpenFile::open(path)?, model, name)
    }

    /// The name of the model that wrote a file, where it says so.
    pub fn writer(file: &OpenFile) -> Option<&str> {
        file.text(MODEL)
    }

    /// [`PromptCache::read`] of a file that is open.
    pub fn restore(file: OpenFile, model: &dyn LanguageModel, name: &str) -> Result<Self> {
        let path = file.path().to_owned();
        let broken = |message: String| Error::prompt_cache(&path, message);
        let other = || broken("it was made with another model".to_owned());
        let file = file.read()?;
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
        let limits = limits_of(model, &file.caches).ok_or_else(other)?;
        Ok(Self { caches: file.caches, tokens, limits })
    }
}

/// How many of the first tokens of `prompt` need not be read behind `tokens`.
fn kept(tokens: &[u32], prompt: &[u32]) -> usize {
    let common_prefix = tokens.iter().zip(prompt).take_while(|(a, b)| a == b).count();
    common_prefix.min(prompt.len().saturating_sub(1))
}

/// Takes `caches` back to the first `length` positions; whether they could go back so far. Where
/// they cannot, they are of no use any more.
fn rewind(caches: &mut [Cache], length: usize) -> bool {
    let length = i32::try_from(length);
    length.is_ok_and(|length| caches.iter_mut().all(|cache| cache.rewind(length)))
}

/// The limits of `caches`, if they could be those of `model`: of the kinds, types and shapes that a
/// step of the model would make within these limits. Nothing is computed.
fn limits_of(model: &dyn LanguageModel, caches: &[Cache]) -> Option<CacheLimits> {
    let own = model.make_caches();
    let limits = CacheLimits::within(&own, caches);
    let mut made: Vec<Cache> = own.into_iter().map(|cache| cache.limited(&limits)).collect();
    // Limits that no step of the model can keep are not its own.
    model.logits(&mlx::from_u32(&[0], &[1, 1]), &mut made).ok()?;
    Cache::all_alike(&made, caches).then_some(limits)
}
