//! What sequences have read, for all others that begin alike.
//!
//! A sequence leaves its caches at its end, without a copy; what cannot be cut (see [`CachePart`])
//! it leaves on its way, too: where messages end, where another prompt went on differently, every
//! so many tokens, and before the last token of its prompt. Sequences that run at the same time
//! share as well: who finds that another one is reading the same beginning waits for it.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use super::prefix_disk::{DiskTier, PrefixFetch, RestoredPrefix};
use super::prefix_owner::{Drafter, Key, PrefixOwner, WORTH_WAITING};
use super::prompt_cache::PromptCache;
use super::sequence::Sequence;
use crate::cache::prefix_store::{Beginning, PrefixStore};
use crate::cache::{Cache, CachePart, PrefixTree};
use crate::models::LanguageModel;

/// Fewer tokens are read as fast as they are found.
const LEAST: usize = 4;

/// At so many ends of messages, the first and the last ones, state is kept.
const MESSAGES: usize = 8;

/// What the sequences of one model have left.
#[derive(Debug)]
pub struct PrefixCache {
    tree: PrefixTree<Key, Vec<Cache>>,
    limit: usize,
    /// Tokens that end messages.
    end_tokens: Vec<u32>,
    /// Where what is given up goes, if anywhere.
    disk: Option<DiskTier>,
}

impl PrefixCache {
    /// An empty one of `limit` bytes, at most, for conversations whose messages end with one of
    /// `end_tokens`.
    pub fn new(limit: usize, end_tokens: Vec<u32>) -> Self {
        Self { tree: PrefixTree::default(), limit, end_tokens, disk: None }
    }

    /// The same with files for what there is no room for in memory.
    pub fn with_store(self, store: Option<Arc<PrefixStore>>) -> Self {
        Self { disk: store.map(DiskTier::new), ..self }
    }

    /// The bytes held.
    pub fn nbytes(&self) -> usize {
        self.tree.bytes()
    }

    /// Forgets what is in memory.
    pub fn make_room(&mut self) {
        self.tree.clear();
        if let Some(disk) = &mut self.disk {
            disk.drop_unsaved();
        }
    }

    /// Forgets everything, then calls `done`.
    pub fn clear(&mut self, done: Box<dyn FnOnce() + Send>) {
        self.make_room();
        match &self.disk {
            Some(disk) => disk.store().clear(done),
            None => done(),
        }
    }

    /// The files that know a longer beginning of `prompt` than there is in memory, if it is so much
    /// longer that reading them pays.
    pub fn fetch(&self, owner: &PrefixOwner, prompt: &[u32]) -> Option<PrefixFetch> {
        let disk = self.disk.as_ref()?;
        let (known, name) = (self.known(owner, prompt), owner.name());
        // The longest in memory, and on disk if that is longer.
        let longest = |part, tokens: &[u32]| {
            let held = self.longest(owner, part, tokens);
            match disk.store().longest(&name, part, tokens) {
                Some((length, file)) if length > held => (length, Some(file)),
                _ => (held, None),
            }
        };
        let mut tokens = &prompt[..prompt.len().saturating_sub(1)];
        if owner.has_positions {
            tokens = &tokens[..longest(CachePart::Positions, tokens).0];
        }
        let mut files = Vec::new();
        if owner.has_state {
            let (length, file) = longest(CachePart::State, tokens);
            tokens = &tokens[..length];
            files.extend(file);
        }
        if tokens.len() < known + WORTH_WAITING {
            return None;
        }
        if owner.has_positions {
            files.extend(longest(CachePart::Positions, tokens).1);
        }
        Some(PrefixFetch::new(disk.store(), owner, files))
    }

    /// Takes in what was read back from files, for a sequence that begins next.
    pub fn admit(
        &mut self,
        model: &dyn LanguageModel,
        drafter: Option<Drafter>,
        restored: RestoredPrefix,
    ) {
        let Some(disk) = &self.disk else { return };
        for (owner, beginning, caches) in restored.into_parts(disk.store(), model, drafter) {
            let Beginning { part, tokens, .. } = beginning;
            self.insert_unlimited(&(owner, part), &tokens, caches);
        }
    }

    /// Prepares a bit of what goes to disk, which is not much more than a copy of one array;
    /// whether there is more to do.
    pub fn save_next(&mut self) -> bool {
        self.disk.as_mut().is_some_and(DiskTier::save_next)
    }

    /// Whether [`PrefixCache::save_next`] has something to do.
    pub fn has_unsaved(&self) -> bool {
        self.disk.as_ref().is_some_and(DiskTier::has_unsaved)
    }

    /// Writes what there is to disk as far as there is room, until `deadline`: what was used last
    /// comes first.
    pub fn finish(&mut self, deadline: Instant) {
        let Some(disk) = &mut self.disk else { return };
        let (mut used, mut left) = (SystemTime::now(), disk.store().limit());
        disk.save_all(deadline);
        while Instant::now() < deadline
            && let Some(removed) = self.tree.remove_newest()
        {
            let bytes: usize = removed.payload.iter().map(Cache::nbytes).sum();
            let Some(rest) = left.checked_sub(bytes as u64) else { continue };
            left = rest;
            disk.offer(removed, used);
            disk.save_all(deadline);
            // In their order.
            used -= Duration::from_millis(1);
        }
        disk.store().flush(deadline);
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
        let begun = self.join(owner.caches(model), owner, tokens, tokens.len());
        // What was read back may be beyond it.
        self.shrink();
        Some(PromptCache::of(begun?, Some(tokens.to_vec()), owner.limits()))
    }

    /// The caches of who drafts for a sequence of `owner` that is to continue `prompt`, `cached` of
    /// whose first tokens it need not read; and how many positions they hold. A head has read one
    /// token more than these are: of each position it sees the token behind.
    pub fn begin_drafts(
        &mut self,
        drafter: Drafter,
        owner: &PrefixOwner,
        prompt: &[u32],
        cached: usize,
    ) -> Option<(Vec<Cache>, usize)> {
        let own = owner.of_drafter(drafter)?;
        let (tokens, positions) = match drafter {
            Drafter::Model(..) => {
                let known = self.known(&own, prompt);
                (&prompt[..known], known)
            }
            Drafter::Head(..) => {
                let read = self.longest(&own, CachePart::Positions, &prompt[..=cached]);
                (&prompt[..read], read.saturating_sub(1))
            }
        };
        let caches = self.join(drafter.caches(owner.limits()), &own, tokens, positions)?;
        Some((caches, positions))
    }

    /// Caches like `empty` that hold `length` positions, made of what is known of `tokens`.
    fn join(
        &mut self,
        empty: Vec<Cache>,
        owner: &PrefixOwner,
        tokens: &[u32],
        length: usize,
    ) -> Option<Vec<Cache>> {
        if length == 0 {
            return None;
        }
        let mut part = |part, has: bool| match has {
            // Clones share their arrays.
            true => self.tree.longest(&(owner.clone(), part), tokens).map(|it| it.1.clone()),
            false => None,
        };
        let positions = part(CachePart::Positions, owner.has_positions);
        let state = part(CachePart::State, owner.has_state);
        let length = i32::try_from(length).ok()?;
        CachePart::join(empty, positions.as_deref(), state.as_deref(), length).ok()?
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

    /// Lets a sequence leave its state, and chunks of its prompt end where that is to be kept.
    pub fn plan_stops(&self, owner: &PrefixOwner, sequence: &mut Sequence) {
        if !owner.has_state {
            return;
        }
        sequence.leave_state();
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
    pub fn note(&mut self, owner: &PrefixOwner, sequence: &mut Sequence) {
        if let Some((tokens, state)) = sequence.take_state() {
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
        if self.limit == 0 {
            return false;
        }
        let before_last = &prompt[..prompt.len().saturating_sub(1)];
        let known = self.known(owner, prompt);
        let (mut ready, mut expected) = ((known, None), (known, None));
        for (index, other) in others.iter().enumerate() {
            let Some(read) = other.tokens_in_caches() else { continue };
            let common = common_length(other.tokens(), before_last);
            // Its last token may be left to its first step, which may have to wait.
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

    /// Keeps what a sequence has read, and who drafts for it.
    pub fn keep(&mut self, owner: &PrefixOwner, drafter: Option<Drafter>, mut sequence: Sequence) {
        let drafts = drafter.and_then(|drafter| {
            let (length, caches) = sequence.take_drafts()?;
            let tokens = sequence.tokens().get(..length)?.to_vec();
            Some((owner.of_drafter(drafter)?, tokens, caches))
        });
        let Some((tokens, caches)) = sequence.into_caches() else { return };
        self.insert_parts(owner, &tokens, caches);
        if let Some((owner, tokens, caches)) = drafts {
            self.insert_parts(&owner, &tokens, caches);
        }
    }

    fn insert_parts(&mut self, owner: &PrefixOwner, tokens: &[u32], caches: Vec<Cache>) {
        let (positions, state) = CachePart::split(caches);
        if owner.has_positions {
            self.insert(owner, CachePart::Positions, tokens, positions);
        }
        if owner.has_state {
            self.insert(owner, CachePart::State, tokens, state);
        }
    }

    fn insert(&mut self, owner: &PrefixOwner, part: CachePart, tokens: &[u32], caches: Vec<Cache>) {
        if tokens.len() >= LEAST {
            self.insert_unlimited(&(owner.clone(), part), tokens, caches);
            self.shrink();
        }
    }

    fn insert_unlimited(&mut self, key: &Key, tokens: &[u32], caches: Vec<Cache>) {
        let bytes = caches.iter().map(Cache::nbytes).sum();
        let shortest = caches.iter().map(Cache::shortest).max().unwrap_or(0);
        let shortest = shortest.unsigned_abs() as usize;
        self.tree.insert(key, tokens, shortest, bytes, caches);
    }

    /// Gives up what was not used for longest, down to the limit; or what came last, where that
    /// alone is beyond it.
    fn shrink(&mut self) {
        while self.tree.bytes() > self.limit {
            let removed = match self.tree.newest_bytes() > self.limit {
                true => self.tree.remove_newest(),
                false => self.tree.remove_oldest(),
            };
            let Some(removed) = removed else { return };
            if let Some(disk) = &mut self.disk {
                disk.offer(removed, SystemTime::now());
                disk.drop_surplus(self.limit);
            }
        }
    }
}

fn common_length(a: &[u32], b: &[u32]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}
