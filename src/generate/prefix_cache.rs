//! What sequences have read, for all others that begin alike.
//!
//! A sequence leaves its caches at its end, without a copy; what cannot be cut (see [`CachePart`])
//! it leaves on its way, too: where messages end, where another prompt went on differently, and
//! every so many tokens. Sequences that run at the same time share as well: who finds that another
//! one is reading the same beginning waits for it.

use super::prompt_cache::PromptCache;
use super::sequence::Sequence;
use crate::cache::{Cache, CacheLimits, CachePart, PrefixTree};
use crate::models::LanguageModel;

/// Fewer tokens are read as fast as they are found.
const LEAST: usize = 4;

/// Nobody waits for others to read fewer tokens than these, and no two stops are nearer.
const WORTH_WAITING: usize = 32;

/// What cannot be cut is kept each time that so many tokens have been read, or more where it takes
/// as much memory as a window.
const SPACING: usize = 512;

/// At so many ends of messages, the first and the last ones, state is kept.
const MESSAGES: usize = 8;

/// Whose caches can take each other's place: sequences of a model with the same adapter and limits.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct PrefixOwner {
    adapter: Option<String>,
    limits: CacheLimits,
    has_positions: bool,
    has_state: bool,
    /// The tokens between two places where state is kept.
    spacing: usize,
}

impl PrefixOwner {
    /// Sequences of `model` with this adapter and these limits.
    pub fn new(model: &dyn LanguageModel, adapter: Option<&str>, limits: CacheLimits) -> Self {
        let caches = empty(model, limits);
        let windows = caches.iter().flat_map(Cache::parts).filter_map(|cache| match cache {
            Cache::Rotating(cache) => Some(cache.window().unsigned_abs() as usize),
            Cache::Chunked(cache) => Some(cache.chunk().unsigned_abs() as usize),
            _ => None,
        });
        let spacing = windows.max().unwrap_or(0).max(SPACING);
        let has_positions = CachePart::Positions.is_in(&caches);
        let has_state = CachePart::State.is_in(&caches);
        Self { adapter: adapter.map(str::to_owned), limits, has_positions, has_state, spacing }
    }
}

fn empty(model: &dyn LanguageModel, limits: CacheLimits) -> Vec<Cache> {
    model.make_caches().into_iter().map(|cache| cache.limited(&limits)).collect()
}

type Key = (PrefixOwner, CachePart);

/// What the sequences of one model have left.
#[derive(Debug)]
pub struct PrefixCache {
    tree: PrefixTree<Key, Vec<Cache>>,
    limit: usize,
    /// Tokens that end messages.
    end_tokens: Vec<u32>,
}

impl PrefixCache {
    /// An empty one of `limit` bytes, at most, for conversations whose messages end with one of
    /// `end_tokens`.
    pub fn new(limit: usize, end_tokens: Vec<u32>) -> Self {
        Self { tree: PrefixTree::default(), limit, end_tokens }
    }

    /// The bytes held.
    pub fn nbytes(&self) -> usize {
        self.tree.bytes()
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.tree.clear();
    }

    /// The caches for a sequence that is to continue `prompt`, which hold the longest beginning of
    /// it that is known.
    pub fn begin(
        &mut self,
        model: &dyn LanguageModel,
        owner: &PrefixOwner,
        prompt: &[u32],
    ) -> Option<PromptCache> {
        let tokens = &prompt[..self.known(owner, prompt)];
        if tokens.is_empty() {
            return None;
        }
        let mut part = |part, has: bool| match has {
            // Clones share their arrays.
            true => self.tree.longest(&(owner.clone(), part), tokens).map(|it| it.1.clone()),
            false => None,
        };
        let positions = part(CachePart::Positions, owner.has_positions);
        let state = part(CachePart::State, owner.has_state);
        let (empty, length) = (empty(model, owner.limits), i32::try_from(tokens.len()).ok()?);
        let caches = CachePart::join(empty, positions.as_deref(), state.as_deref(), length).ok()?;
        Some(PromptCache::of(caches?, Some(tokens.to_vec()), owner.limits))
    }

    /// How many of a prompt's first tokens are known, the last one excluded: what follows it is
    /// wanted.
    fn known(&self, owner: &PrefixOwner, prompt: &[u32]) -> usize {
        let before_last = &prompt[..prompt.len().saturating_sub(1)];
        let length = match owner.has_positions {
            true => self.longest(owner, CachePart::Positions, before_last),
            false => before_last.len(),
        };
        let length = match owner.has_state {
            true => self.longest(owner, CachePart::State, &before_last[..length]),
            false => length,
        };
        if length < LEAST { 0 } else { length }
    }

    fn longest(&self, owner: &PrefixOwner, part: CachePart, tokens: &[u32]) -> usize {
        self.tree.longest_length(&(owner.clone(), part), tokens)
    }

    /// Lets chunks of a sequence's prompt end where its state is to be kept.
    pub fn plan_stops(&self, owner: &PrefixOwner, sequence: &mut Sequence) {
        if !owner.has_state {
            return;
        }
        let tokens = sequence.tokens();
        let (first, last) = (sequence.cached_tokens() + WORTH_WAITING, tokens.len() - 1);
        let part = if owner.has_positions { CachePart::Positions } else { CachePart::State };
        // Where two prompts have gone different ways, others will, too.
        let fork = self.tree.common_length(&(owner.clone(), part), &tokens[..last]);
        let ends_message = |&position: &usize| self.end_tokens.contains(&tokens[position - 1]);
        let messages: Vec<usize> = (first..last).filter(ends_message).collect();
        let (firsts, rest) = messages.split_at(messages.len().min(MESSAGES / 2));
        let lasts = &rest[rest.len().saturating_sub(MESSAGES / 2)..];
        let regular = (1..).map(|number| number * owner.spacing).take_while(|&at| at < last);
        // The most useful ones first: others that are too near are left out.
        let wanted = firsts.iter().chain(lasts).copied().chain(regular);
        let mut stops: Vec<usize> = Vec::new();
        for stop in std::iter::once(fork).chain(wanted).filter(|&at| at >= first) {
            if stops.iter().all(|other| stop.abs_diff(*other) >= WORTH_WAITING) {
                stops.push(stop);
                sequence.stop_at(stop);
            }
        }
    }

    /// Keeps the state of a sequence that has come to a stop.
    pub fn note(&mut self, owner: &PrefixOwner, sequence: &Sequence) {
        if !owner.has_state || !sequence.is_at_stop() {
            return;
        }
        let Some(tokens) = sequence.tokens_in_caches() else { return };
        if let Some(state) = sequence.copy_state() {
            self.insert(owner, CachePart::State, tokens, state);
        }
    }

    /// Whether a sequence that is to continue `prompt` had better wait, because one of `others` is
    /// reading the same beginning. What one of them has read already is there for it from now on.
    pub fn share(
        &mut self,
        owner: &PrefixOwner,
        prompt: &[u32],
        others: &mut [&mut Sequence],
    ) -> bool {
        let before_last = &prompt[..prompt.len().saturating_sub(1)];
        let known = self.known(owner, prompt);
        let (mut ready, mut expected) = ((known, None), (known, None));
        for (index, other) in others.iter().enumerate() {
            let Some(read) = other.tokens_in_caches() else { continue };
            let common = common_length(other.tokens(), before_last);
            // Its last token is left to its first step, which may have to wait.
            let to_read = common.min(other.tokens().len() - 1);
            if read.len() < to_read && to_read > expected.0 {
                expected = (to_read, Some(index));
            }
            if owner.has_positions {
                let length = match owner.has_state {
                    true => {
                        let read = &before_last[..common.min(read.len())];
                        self.longest(owner, CachePart::State, read)
                    }
                    false => common.min(read.len()),
                };
                if length > ready.0 {
                    ready = (length, Some(index));
                }
            }
        }
        if let (length, Some(index)) = expected
            && length >= ready.0 + WORTH_WAITING
        {
            if owner.has_state {
                others[index].stop_at(length);
            }
            return true;
        }
        if let (length, Some(index)) = ready
            && length >= known + WORTH_WAITING
            && let Some(copy) = others[index].copy_positions(length)
        {
            self.insert(owner, CachePart::Positions, &prompt[..length], copy);
        }
        false
    }

    /// Keeps what a sequence has read.
    pub fn keep(&mut self, owner: &PrefixOwner, sequence: Sequence) {
        let Some((tokens, caches)) = sequence.into_caches() else { return };
        let (positions, state) = CachePart::split(caches);
        if owner.has_positions {
            self.insert(owner, CachePart::Positions, &tokens, positions);
        }
        if owner.has_state {
            self.insert(owner, CachePart::State, &tokens, state);
        }
    }

    fn insert(&mut self, owner: &PrefixOwner, part: CachePart, tokens: &[u32], caches: Vec<Cache>) {
        let bytes = caches.iter().map(Cache::nbytes).sum();
        if tokens.len() < LEAST || bytes > self.limit {
            return;
        }
        let shortest = caches.iter().map(Cache::shortest).max().unwrap_or(0);
        let shortest = shortest.unsigned_abs() as usize;
        self.tree.insert(&(owner.clone(), part), tokens, shortest, bytes, caches);
        while self.tree.bytes() > self.limit {
            self.tree.remove_oldest();
        }
    }
}

fn common_length(a: &[u32], b: &[u32]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}
