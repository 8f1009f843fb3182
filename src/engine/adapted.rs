//! A [`Backend`] whose sequences may each have an adapter.
//!
//! Sequences with the same adapter share their steps; those with others have steps of their own.
//! Keys and values that were made with one adapter are of no use with another, so a prompt cache
//! belongs to the adapter that it was made with, as does what sequences share.

use std::cell::RefCell;
use std::path::Path;
use std::time::Instant;

use super::backend::{Backend, PromptCacheSize};
use super::core::CoreBackend;
use super::exit;
use crate::adapters::{AdapterId, AdapterInfo, Adapters, HeldAdapter};
use crate::cache::file::{CacheBytes, OpenFile};
use crate::cache::{Cache, CacheLimits};
use crate::error::{Error, Result};
use crate::generate::{
    EmbeddedText, Likelihood, PrefixCache, PrefixFetch, PrefixOwner, PromptCache, Reading,
    RestoredPrefix, ScoredRow, Segmented, Sequence, SequenceOptions, Speculated, TextPart,
    TokenOutput,
};
use crate::models::EmbedOptions;

/// A language model and its adapters.
pub struct AdaptedBackend {
    core: CoreBackend,
    adapters: Adapters,
    /// What sequences share; `None` where they share nothing.
    prefixes: Option<RefCell<PrefixCache>>,
}

/// A sequence and its adapter.
pub struct AdaptedSequence {
    sequence: Sequence,
    adapter: Option<HeldAdapter>,
    /// With whom it shares what it reads.
    owner: Option<PrefixOwner>,
    /// The prompt cache that was lent to it, if another adapter made that: it is of no use, and
    /// comes back after a failure.
    other: Option<AdaptedCache>,
}

/// The caches of a sequence that is only read, and its adapter.
#[derive(Clone)]
pub struct AdaptedCaches {
    caches: Vec<Cache>,
    adapter: Option<HeldAdapter>,
}

/// A text that is being embedded, and its adapter.
pub struct AdaptedText {
    text: EmbeddedText,
    adapter: Option<HeldAdapter>,
}

/// A prompt cache and the fingerprint of the adapter that it was made with.
pub struct AdaptedCache {
    cache: PromptCache,
    adapter: Option<String>,
}

impl AdaptedBackend {
    /// The backend of a model with these adapters.
    pub fn new(core: CoreBackend, adapters: Adapters, prefixes: Option<PrefixCache>) -> Self {
        Self { core, adapters, prefixes: prefixes.map(RefCell::new) }
    }

    /// Who shares what a sequence with these options reads, and where that is; `None` for nobody.
    /// What was read in other pieces may differ in the last bits.
    fn sharing(
        &self,
        options: &SequenceOptions,
        adapter: Option<&HeldAdapter>,
    ) -> Option<(PrefixOwner, &RefCell<PrefixCache>)> {
        let prefixes = self.prefixes.as_ref().filter(|_| !options.generation.deterministic)?;
        let (model, limits) = (self.core.model(), options.generation.cache_limits());
        Some((PrefixOwner::new(model, fingerprint(adapter), limits), prefixes))
    }

    /// What is known of a sequence's beginning to who drafts for it.
    fn begin_drafts(
        &self,
        prefixes: &mut PrefixCache,
        owner: &PrefixOwner,
        sequence: &Sequence,
    ) -> Option<(Vec<Cache>, usize)> {
        if !sequence.speculates() {
            return None;
        }
        self.core.with_drafter(|drafter| {
            prefixes.begin_drafts(drafter?, owner, sequence.tokens(), sequence.cached_tokens())
        })
    }

    /// Gives up what is kept for others after a failure of MLX: the memory may be short.
    fn make_room<T>(&self, results: &[Result<T>]) {
        if results.iter().any(|result| matches!(result, Err(Error::Mlx(_))))
            && let Some(prefixes) = &self.prefixes
        {
            prefixes.borrow_mut().make_room();
        }
    }

    /// An adapter that a request names.
    fn hold(&self, adapter: Option<AdapterId>) -> Result<Option<HeldAdapter>> {
        let Some(id) = adapter else { return Ok(None) };
        let message = "is none of this model, or has been disposed of";
        self.adapters.hold(id).map(Some).ok_or_else(|| Error::argument("adapter", message))
    }

    /// Does something with the sequences of each adapter at once, those of the first sequence's
    /// first; gives what comes of each, in their order.
    fn by_adapter<T>(
        &self,
        sequences: &mut [&mut AdaptedSequence],
        mut run: impl FnMut(&mut [&mut Sequence]) -> Vec<T>,
    ) -> Vec<T> {
        let id = |adapter: &Option<HeldAdapter>| adapter.as_ref().map(HeldAdapter::id);
        let mut adapters: Vec<Option<HeldAdapter>> = Vec::new();
        for sequence in sequences.iter() {
            if !adapters.iter().any(|other| id(other) == id(&sequence.adapter)) {
                adapters.push(sequence.adapter.clone());
            }
        }
        let mut results: Vec<Option<T>> = sequences.iter().map(|_| None).collect();
        for adapter in &adapters {
            let of_adapter = sequences.iter_mut().zip(&mut results);
            let (mut group, places): (Vec<_>, Vec<_>) = of_adapter
                .filter(|(sequence, _)| id(&sequence.adapter) == id(adapter))
                .map(|(sequence, place)| (&mut sequence.sequence, place))
                .unzip();
            let made = self.adapters.scope(adapter.as_ref(), || run(&mut group));
            places.into_iter().zip(made).for_each(|(place, result)| *place = Some(result));
        }
        results.into_iter().flatten().collect()
    }
}

fn fingerprint(adapter: Option<&HeldAdapter>) -> Option<&str> {
    adapter.map(HeldAdapter::fingerprint)
}

impl Backend for AdaptedBackend {
    type Sequence = AdaptedSequence;
    type Caches = AdaptedCaches;
    type Text = AdaptedText;
    type PromptCache = AdaptedCache;

    fn start(
        &self,
        prompt: Vec<u32>,
        options: SequenceOptions,
        adapter: Option<AdapterId>,
        cache: &mut Option<AdaptedCache>,
    ) -> Result<AdaptedSequence> {
        let adapter = self.hold(adapter)?;
        let sharing = match cache {
            None => self.sharing(&options, adapter.as_ref()),
            Some(_) => None,
        };
        if let Some((owner, prefixes)) = sharing {
            let begun = prefixes.borrow_mut().begin(self.core.model(), &owner, &prompt);
            let mut sequence = self
                .adapters
                .scope(adapter.as_ref(), || self.core.start_behind(prompt, options, begun))?;
            let mut prefixes = prefixes.borrow_mut();
            prefixes.plan_stops(&owner, &mut sequence);
            if let Some((begun, length)) = self.begin_drafts(&mut prefixes, &owner, &sequence) {
                sequence.begin_drafts(begun, length);
            }
            return Ok(AdaptedSequence { sequence, adapter, owner: Some(owner), other: None });
        }
        let of_another =
            |cache: &AdaptedCache| cache.adapter.as_deref() != fingerprint(adapter.as_ref());
        let other = cache.take_if(|cache| of_another(cache));
        let mut inner = match &other {
            Some(other) => Some(self.core.prompt_cache(other.cache.limits())),
            None => cache.take().map(|cache| cache.cache),
        };
        let started =
            self.adapters.scope(adapter.as_ref(), || self.core.start(prompt, options, &mut inner));
        match started {
            Ok(sequence) => Ok(AdaptedSequence { sequence, adapter, owner: None, other }),
            Err(error) => {
                // Nothing is taken.
                let own = |cache| AdaptedCache {
                    cache,
                    adapter: fingerprint(adapter.as_ref()).map(str::to_owned),
                };
                *cache = other.or_else(|| inner.map(own));
                Err(error)
            }
        }
    }

    fn cache_bytes(&self, limits: CacheLimits, tokens: usize, speculates: bool) -> Result<usize> {
        self.core.cache_bytes(limits, tokens, speculates)
    }

    fn put_aside(&self, sequence: &mut AdaptedSequence) -> bool {
        self.core.put_aside(&mut sequence.sequence)
    }

    fn load_adapter(&self, id: AdapterId, path: &Path) -> Result<AdapterInfo> {
        self.adapters.load(id, path)
    }

    fn drop_adapter(&self, id: AdapterId) {
        self.adapters.remove(id);
    }

    fn cached_tokens(&self, sequence: &AdaptedSequence) -> usize {
        self.core.cached_tokens(&sequence.sequence)
    }

    fn share(
        &self,
        prompt: &[u32],
        options: &SequenceOptions,
        adapter: Option<AdapterId>,
        others: &mut [&mut AdaptedSequence],
    ) -> bool {
        // What is wrong with the adapter is told when the sequence begins.
        let Ok(adapter) = self.hold(adapter) else { return false };
        let Some((owner, prefixes)) = self.sharing(options, adapter.as_ref()) else { return false };
        let same = others.iter_mut().filter(|other| other.owner.as_ref() == Some(&owner));
        let mut same: Vec<&mut Sequence> = same.map(|other| &mut other.sequence).collect();
        prefixes.borrow_mut().share(&owner, prompt, &mut same)
    }

    fn is_kept(&self, sequence: &AdaptedSequence) -> bool {
        sequence.owner.is_some()
    }

    fn keep(&self, sequence: AdaptedSequence) {
        let AdaptedSequence { mut sequence, adapter, owner, .. } = sequence;
        if let (Some(owner), Some(prefixes)) = (&owner, &self.prefixes) {
            self.adapters.scope(adapter.as_ref(), || {
                sequence.catch_up(self.core.model());
                self.core
                    .with_drafter(|drafter| prefixes.borrow_mut().keep(owner, drafter, sequence));
            });
        }
    }

    fn clear_prefixes(&self, done: Box<dyn FnOnce() + Send>) {
        match &self.prefixes {
            Some(prefixes) => prefixes.borrow_mut().clear(done),
            None => done(),
        }
    }

    fn fetch(
        &self,
        prompt: &[u32],
        options: &SequenceOptions,
        adapter: Option<AdapterId>,
    ) -> Option<PrefixFetch> {
        // As in `share`.
        let adapter = self.hold(adapter).ok()?;
        let (owner, prefixes) = self.sharing(options, adapter.as_ref())?;
        let prefixes = prefixes.borrow();
        let own = prefixes.fetch(&owner, prompt);
        let drafts = self.core.with_drafter(|drafter| {
            let drafter = drafter.filter(|_| options.speculation.is_some())?;
            prefixes.fetch(&owner.of_drafter(drafter)?, prompt)
        });
        match own {
            Some(own) => Some(own.and(drafts)),
            None => drafts,
        }
    }

    fn admit(&self, restored: RestoredPrefix) {
        if let Some(prefixes) = &self.prefixes {
            self.core.with_drafter(|drafter| {
                prefixes.borrow_mut().admit(self.core.model(), drafter, restored);
            });
        }
    }

    fn has_unsaved(&self) -> bool {
        self.prefixes.as_ref().is_some_and(|prefixes| prefixes.borrow().has_unsaved())
    }

    fn save_next(&self) {
        if let Some(prefixes) = &self.prefixes {
            prefixes.borrow_mut().save_next();
        }
    }

    fn finish(&self) {
        if let Some(prefixes) = &self.prefixes {
            prefixes.borrow_mut().finish(Instant::now() + exit::TIME_TO_SAVE);
        }
    }

    fn fail(&self, sequence: &mut AdaptedSequence) {
        sequence.sequence.fail();
    }

    fn leave(&self, sequence: AdaptedSequence) -> AdaptedCache {
        let AdaptedSequence { mut sequence, adapter, other, .. } = sequence;
        if !sequence.finish()
            && let Some(other) = other
        {
            return other;
        }
        let cache = self.adapters.scope(adapter.as_ref(), || self.core.leave(sequence));
        AdaptedCache { cache, adapter: fingerprint(adapter.as_ref()).map(str::to_owned) }
    }

    fn prompt_cache(&self, limits: CacheLimits) -> AdaptedCache {
        AdaptedCache { cache: self.core.prompt_cache(limits), adapter: None }
    }

    fn prompt_cache_size(&self, cache: &AdaptedCache) -> PromptCacheSize {
        self.core.prompt_cache_size(&cache.cache)
    }

    fn prompt_cache_bytes(&self, cache: &AdaptedCache) -> Result<CacheBytes> {
        cache.cache.to_bytes(&self.core.name_with(cache.adapter.as_deref()))
    }

    fn load_prompt_cache(&self, file: OpenFile) -> Result<AdaptedCache> {
        let adapter = PromptCache::writer(&file)
            .and_then(|writer| writer.strip_prefix(&self.core.name_with(Some(""))))
            .and_then(|fingerprint| self.adapters.find(fingerprint));
        let adapter = fingerprint(adapter.as_ref()).map(str::to_owned);
        let cache = self.core.restore(file, adapter.as_deref())?;
        Ok(AdaptedCache { cache, adapter })
    }

    fn prefill(
        &self,
        sequences: &mut [&mut AdaptedSequence],
        tokens: usize,
        alone: bool,
    ) -> Reading {
        let mut left = tokens;
        let before: Vec<usize> =
            sequences.iter().map(|it| it.sequence.progress().processed).collect();
        let progress = self.by_adapter(sequences, |group| {
            let reading = match left {
                0 => return group.iter().map(|sequence| Ok(sequence.progress())).collect(),
                left => self.core.prefill(group, left, alone),
            };
            left = left.saturating_sub(reading.tokens);
            reading.progress
        });
        self.make_room(&progress);
        for ((sequence, before), progress) in sequences.iter_mut().zip(before).zip(&progress) {
            if let (Some(owner), Some(prefixes), Ok(progress)) =
                (&sequence.owner, &self.prefixes, progress)
                && progress.processed != before
            {
                prefixes.borrow_mut().note(owner, &mut sequence.sequence);
            }
        }
        Reading { progress, tokens: tokens - left }
    }

    fn decode(&self, sequences: &mut [&mut AdaptedSequence]) -> Vec<Result<Vec<TokenOutput>>> {
        let all = sequences.len();
        let outputs = self.by_adapter(sequences, |group| {
            if group.len() < all {
                // The device also does the steps of the others.
                self.core.interrupt();
            }
            self.core.decode(group)
        });
        self.make_room(&outputs);
        outputs
    }

    fn speculated(&self, sequence: &AdaptedSequence) -> Option<Speculated> {
        sequence.sequence.speculated()
    }

    fn caches(&self, adapter: Option<AdapterId>) -> Result<AdaptedCaches> {
        Ok(AdaptedCaches { adapter: self.hold(adapter)?, caches: self.core.caches() })
    }

    fn logits(&self, tokens: &[u32], caches: &mut AdaptedCaches) -> Result<Vec<f32>> {
        let AdaptedCaches { caches, adapter } = caches;
        self.adapters.scope(adapter.as_ref(), || self.core.logits(tokens, caches))
    }

    fn logprobs(
        &self,
        rows: &mut [ScoredRow<AdaptedCaches>],
        top: usize,
    ) -> Result<Vec<Vec<Likelihood>>> {
        let adapter = rows.first().and_then(|row| row.caches.adapter.clone());
        let inner = rows.iter_mut().map(|ScoredRow { tokens, targets, caches }| ScoredRow {
            tokens,
            targets: std::mem::take(targets),
            caches: &mut caches.caches,
        });
        let mut inner: Vec<ScoredRow<Vec<Cache>>> = inner.collect();
        self.adapters.scope(adapter.as_ref(), || self.core.logprobs(&mut inner, top))
    }

    fn begin_text(
        &self,
        adapter: Option<AdapterId>,
        options: &EmbedOptions,
    ) -> Result<AdaptedText> {
        Ok(AdaptedText { adapter: self.hold(adapter)?, text: self.core.begin_text(options)? })
    }

    fn read_texts(&self, parts: &mut [TextPart<AdaptedText>]) -> Result<()> {
        let adapter = parts.first().and_then(|part| part.text.adapter.clone());
        let inner = parts.iter_mut().map(|TextPart { tokens, is_last, text }| TextPart {
            tokens,
            is_last: *is_last,
            text: &mut text.text,
        });
        let mut inner: Vec<TextPart<EmbeddedText>> = inner.collect();
        self.adapters.scope(adapter.as_ref(), || self.core.read_texts(&mut inner))
    }

    fn embeddings(&self, texts: Vec<AdaptedText>, options: &EmbedOptions) -> Result<Vec<Vec<f32>>> {
        let texts: Vec<EmbeddedText> = texts.into_iter().map(|text| text.text).collect();
        self.core.embeddings(&texts, options)
    }

    fn classify(&self, texts: &[Segmented], adapter: Option<AdapterId>) -> Result<Vec<Vec<f32>>> {
        let adapter = self.hold(adapter)?;
        self.adapters.scope(adapter.as_ref(), || self.core.classify(texts))
    }

    fn reset_peak_memory(&self) {
        self.core.reset_peak_memory();
    }

    fn peak_memory(&self) -> usize {
        self.core.peak_memory()
    }
}
