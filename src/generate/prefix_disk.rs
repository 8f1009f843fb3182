//! The way of what sequences have read to disk, and back.
//!
//! What leaves the memory is copied array by array between the steps of an engine, written by a
//! thread of the store, and read back by whoever may wait for a disk.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use super::prefix_owner::{Drafter, Key, PrefixOwner, WORTH_WAITING};
use crate::cache::file::CacheBytes;
use crate::cache::prefix_store::{Beginning, PrefixStore, Restored};
use crate::cache::{Cache, CachePart, Removed};
use crate::error::Result;
use crate::mlx;
use crate::models::LanguageModel;

/// No more bytes than these wait to be copied and written, where the memory that is kept is not
/// larger anyway.
const MOST_WAITING: usize = 256 << 20;

/// What is on its way to disk.
#[derive(Debug)]
pub(super) struct DiskTier {
    store: Arc<PrefixStore>,
    unsaved: VecDeque<Unsaved>,
}

struct Unsaved {
    beginning: Beginning,
    bytes: CacheBytes,
    nbytes: usize,
    used: SystemTime,
}

impl std::fmt::Debug for Unsaved {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Unsaved").field("nbytes", &self.nbytes).finish_non_exhaustive()
    }
}

impl DiskTier {
    pub(super) fn new(store: Arc<PrefixStore>) -> Self {
        Self { store, unsaved: VecDeque::new() }
    }

    pub(super) fn store(&self) -> &Arc<PrefixStore> {
        &self.store
    }

    /// Takes what leaves the memory and was used last at `used`, if it is worth a file: others read
    /// a few tokens as fast, and what is there already is not written again.
    pub(super) fn offer(&mut self, removed: Removed<Key, Vec<Cache>>, used: SystemTime) {
        let Removed { owner: (owner, part), tokens, shortest, payload } = removed;
        if tokens.len() < WORTH_WAITING {
            return;
        }
        let beginning = Beginning { owner: owner.name(), part, tokens, shortest };
        if self.store.covers(&beginning) {
            return self.store.touch(beginning, used);
        }
        let Ok(caches) = CachePart::without_room(payload) else { return };
        let nbytes: usize = caches.iter().map(Cache::nbytes).sum();
        if nbytes as u64 > self.store.limit() {
            return;
        }
        if let Ok(bytes) = CacheBytes::begin(&caches, &self.store.texts(&beginning)) {
            self.unsaved.push_back(Unsaved { beginning, bytes, nbytes, used });
        }
    }

    pub(super) fn has_unsaved(&self) -> bool {
        !self.unsaved.is_empty()
    }

    /// Copies the next array; whether there are more.
    pub(super) fn save_next(&mut self) -> bool {
        let Some(mut first) = self.unsaved.pop_front() else { return false };
        match first.bytes.copy_next() {
            Ok(true) => self.unsaved.push_front(first),
            Ok(false) => {
                let Unsaved { beginning, bytes, nbytes, used } = first;
                self.store.save(beginning, bytes, nbytes, used);
            }
            // MLX would tell whoever waits next.
            Err(_) => drop(mlx::settle()),
        }
        self.has_unsaved()
    }

    /// Copies all that there is, as fast as it can be written.
    pub(super) fn save_all(&mut self, deadline: Instant) {
        while Instant::now() < deadline && self.save_next() {}
        if self.store.waiting() > MOST_WAITING {
            self.store.flush(deadline);
        }
    }

    /// Forgets the first of what waits where that is too much beside a memory of `limit` bytes.
    pub(super) fn drop_surplus(&mut self, limit: usize) {
        let limit = limit.max(MOST_WAITING);
        let mut total =
            self.store.waiting() + self.unsaved.iter().map(|it| it.nbytes).sum::<usize>();
        while total > limit && self.unsaved.len() > 1 {
            total -= self.unsaved.pop_front().map_or(0, |it| it.nbytes);
        }
    }

    pub(super) fn drop_unsaved(&mut self) {
        self.unsaved.clear();
    }
}

/// Files that are to be read for a sequence.
pub struct PrefixFetch {
    store: Arc<PrefixStore>,
    /// Whose they are.
    names: Vec<(PrefixOwner, String)>,
}

/// What was read back for a sequence.
pub struct RestoredPrefix {
    files: Vec<(PrefixOwner, Restored)>,
}

impl PrefixFetch {
    pub(super) fn new(store: &Arc<PrefixStore>, owner: &PrefixOwner, names: Vec<String>) -> Self {
        let names = names.into_iter().map(|name| (owner.clone(), name)).collect();
        Self { store: Arc::clone(store), names }
    }

    /// The files of both.
    pub fn and(mut self, other: Option<Self>) -> Self {
        self.names.extend(other.into_iter().flat_map(|other| other.names));
        self
    }

    /// Reads the files, which may be slow; `None` where one is of no use, and not found again.
    pub fn run(self) -> Option<RestoredPrefix> {
        // All of them, so that none that is broken stays.
        let Self { store, names } = self;
        let fetched = |(owner, name): (PrefixOwner, String)| Some((owner, store.fetch(&name)?));
        let files: Vec<Option<_>> = names.into_iter().map(fetched).collect();
        Some(RestoredPrefix { files: files.into_iter().collect::<Option<_>>()? })
    }
}

impl RestoredPrefix {
    /// How many files they come from.
    #[cfg(test)]
    pub fn files(&self) -> usize {
        self.files.len()
    }

    /// The parts that could be those of a sequence of `model`, or of who drafts for it.
    pub(super) fn into_parts(
        self,
        store: &PrefixStore,
        model: &dyn LanguageModel,
        drafter: Option<Drafter>,
    ) -> Vec<(PrefixOwner, Beginning, Vec<Cache>)> {
        let mut parts = Vec::new();
        for (owner, file) in self.files {
            let name = file.name().to_owned();
            match usable(file, &owner, model, drafter) {
                Ok(Some((beginning, caches))) => parts.push((owner, beginning, caches)),
                _ => store.refuse(&name),
            }
        }
        parts
    }
}

/// The caches of a file, if they are such as a step of the model would make. Nothing is computed.
fn usable(
    file: Restored,
    owner: &PrefixOwner,
    model: &dyn LanguageModel,
    drafter: Option<Drafter>,
) -> Result<Option<(Beginning, Vec<Cache>)>> {
    let (beginning, caches) = file.into_caches()?;
    let made = owner.begun(model, drafter)?;
    Ok(beginning.part.is_like(made, &caches).then_some((beginning, caches)))
}
