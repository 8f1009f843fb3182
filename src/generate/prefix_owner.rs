//! Whose caches can take each other's place.

use crate::cache::{Cache, CacheLimits, CachePart};
use crate::models::LanguageModel;

/// Nobody waits for others to read fewer tokens than these, no file is written or read for fewer,
/// and no two stops are nearer.
pub(super) const WORTH_WAITING: usize = 32;

/// What cannot be cut is kept each time that so many tokens have been read, or more where it takes
/// as much memory as a window.
const SPACING: usize = 512;

/// Whose caches can take each other's place: sequences of a model with the same adapter and limits.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct PrefixOwner {
    adapter: Option<String>,
    limits: CacheLimits,
    pub(super) has_positions: bool,
    pub(super) has_state: bool,
    /// The tokens between two places where state is kept.
    pub(super) spacing: usize,
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

    /// What tells it from others of the model, in files.
    pub(super) fn name(&self) -> String {
        let Self { adapter, limits: CacheLimits { max_size, quantization }, .. } = self;
        let quantization = quantization.map(|it| (it.bits, it.group_size));
        format!("adapter {adapter:?} size {max_size:?} quantization {quantization:?}")
    }

    /// What its caches may take.
    pub(super) fn limits(&self) -> CacheLimits {
        self.limits
    }

    /// Empty caches within its limits.
    pub(super) fn caches(&self, model: &dyn LanguageModel) -> Vec<Cache> {
        empty(model, self.limits)
    }
}

fn empty(model: &dyn LanguageModel, limits: CacheLimits) -> Vec<Cache> {
    model.make_caches().into_iter().map(|cache| cache.limited(&limits)).collect()
}

pub(super) type Key = (PrefixOwner, CachePart);
