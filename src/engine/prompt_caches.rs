//! The prompt caches that callers hold: on the engine's thread, by numbers that go around.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};

use super::backend::{Backend, PromptCacheSize};
use super::pool;
use super::status::Reply;
use crate::cache::CacheLimits;
use crate::cache::file::OpenFile;
use crate::error::{Error, Result};

/// The number of a prompt cache, different from every other in the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PromptCacheId(u64);

impl PromptCacheId {
    /// A new number.
    pub fn next() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        Self(NEXT.fetch_add(1, Ordering::Relaxed))
    }

    /// The number that was handed out as `value`; one that was not names no cache.
    pub fn from_number(value: f64) -> Self {
        Self(value as u64)
    }

    /// The number, for JavaScript.
    pub fn number(self) -> f64 {
        self.0 as f64
    }
}

/// What can be asked of a prompt cache.
pub enum PromptCacheRequest {
    /// Make an empty one.
    Create(CacheLimits),
    /// Make it of a file.
    Load(OpenFile, Reply<()>),
    /// Write it to a file.
    Save(PathBuf, Reply<()>),
    /// Tell its size.
    Measure(Reply<PromptCacheSize>),
    /// Forget it.
    Drop,
}

enum Slot<C> {
    Idle(C),
    /// A generation has it.
    CheckedOut,
}

/// All of one engine's prompt caches.
pub struct PromptCaches<B: Backend> {
    slots: HashMap<PromptCacheId, Slot<B::PromptCache>>,
}

impl<B: Backend> PromptCaches<B> {
    /// An engine's before any is made.
    pub fn new() -> Self {
        Self { slots: HashMap::new() }
    }

    /// Does what is asked of one of them.
    pub fn serve(&mut self, backend: &B, id: PromptCacheId, request: PromptCacheRequest) {
        match request {
            PromptCacheRequest::Create(limits) => {
                self.slots.insert(id, Slot::Idle(backend.prompt_cache(limits)));
            }
            PromptCacheRequest::Load(file, reply) => reply.send(
                backend
                    .load_prompt_cache(file)
                    .map(|cache| drop(self.slots.insert(id, Slot::Idle(cache)))),
            ),
            PromptCacheRequest::Save(path, reply) => {
                match self.idle(id).and_then(|cache| backend.prompt_cache_bytes(cache)) {
                    // Disks may be slow, and other generations go on.
                    Ok(bytes) => {
                        let callback = Box::new(move |outcome| reply.send(outcome));
                        pool::FILES.call(callback, move || bytes.write(&path));
                    }
                    Err(error) => reply.send(Err(error)),
                }
            }
            PromptCacheRequest::Measure(reply) => {
                reply.send(self.idle(id).map(|cache| backend.prompt_cache_size(cache)));
            }
            PromptCacheRequest::Drop => drop(self.slots.remove(&id)),
        }
    }

    /// Gives a cache to a generation, for as long as it runs.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] if another generation has it, or it is not there any more.
    pub fn checkout(&mut self, id: PromptCacheId) -> Result<B::PromptCache> {
        self.idle(id)?;
        match self.slots.insert(id, Slot::CheckedOut) {
            Some(Slot::Idle(cache)) => Ok(cache),
            _ => Err(gone()),
        }
    }

    /// Takes a cache back. One that was forgotten meanwhile is dropped.
    pub fn checkin(&mut self, id: PromptCacheId, cache: B::PromptCache) {
        if let Some(slot) = self.slots.get_mut(&id) {
            *slot = Slot::Idle(cache);
        }
    }

    fn idle(&self, id: PromptCacheId) -> Result<&B::PromptCache> {
        match self.slots.get(&id) {
            Some(Slot::Idle(cache)) => Ok(cache),
            Some(Slot::CheckedOut) => Err(Error::argument(
                "promptCache",
                "is in use by a generation: wait for its end, or make another cache",
            )),
            None => Err(gone()),
        }
    }
}

fn gone() -> Error {
    Error::argument("promptCache", "has been disposed of, or belongs to another model")
}
