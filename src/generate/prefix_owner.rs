//! Whose caches can take each other's place.

use crate::cache::{Cache, CacheLimits, CachePart};
use crate::error::{Error, Result};
use crate::models::{self, LanguageModel, MultiTokenPredictor};

/// Nobody waits for others to read fewer tokens than these, no file is written or read for fewer,
/// and no two stops are nearer.
pub(super) const WORTH_WAITING: usize = 32;

/// What cannot be cut is kept each time that so many tokens have been read, or more where it takes
/// as much memory as a window.
const SPACING: usize = 512;

/// Who drafts for the sequences of a model: another model, with the name that tells it from others,
/// or a head of the model's own.
#[derive(Clone, Copy)]
pub enum Drafter<'a> {
    /// Another model.
    Model(&'a dyn LanguageModel, &'a str),
    /// A head of this model.
    Head(&'a dyn LanguageModel, &'a dyn MultiTokenPredictor),
}

impl Drafter<'_> {
    /// Its caches for a sequence that begins.
    pub(super) fn caches(self, limits: CacheLimits) -> Vec<Cache> {
        match self {
            Self::Model(model, _) => empty(model.make_caches(), limits),
            Self::Head(_, head) => empty(head.make_prediction_caches(), limits),
        }
    }

    /// The same behind a first token. Nothing is computed.
    pub(super) fn begun(self, limits: CacheLimits) -> Result<Vec<Cache>> {
        let caches = self.caches(limits);
        match self {
            Self::Model(model, _) => models::begun(model, caches),
            Self::Head(model, head) => models::head_begun(model, head, caches),
        }
    }
}

/// Whose caches can take each other's place: sequences of a model with the same adapter and limits,
/// or who drafts for them.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct PrefixOwner {
    adapter: Option<String>,
    /// The name of who drafts, if these are the caches of that one.
    drafter: Option<String>,
    limits: CacheLimits,
    pub(super) has_positions: bool,
    pub(super) has_state: bool,
    /// The tokens between two places where state is kept.
    pub(super) spacing: usize,
}

impl PrefixOwner {
    /// Sequences of `model` with this adapter and these limits.
    pub fn new(model: &dyn LanguageModel, adapter: Option<&str>, limits: CacheLimits) -> Self {
        let adapter = adapter.map(str::to_owned);
        Self::with(&empty(model.make_caches(), limits), adapter, None, limits)
    }

    /// Who drafts for these sequences; `None` for a head that looks at a window, of which nothing
    /// is kept. What another model reads knows of no adapter.
    pub fn of_drafter(&self, drafter: Drafter) -> Option<Self> {
        let caches = drafter.caches(self.limits);
        let (adapter, name) = match drafter {
            Drafter::Model(_, name) => (None, name),
            Drafter::Head(..) if CachePart::State.is_in(&caches) => return None,
            Drafter::Head(..) => (self.adapter.clone(), "head"),
        };
        Some(Self::with(&caches, adapter, Some(name.to_owned()), self.limits))
    }

    fn with(
        caches: &[Cache],
        adapter: Option<String>,
        drafter: Option<String>,
        limits: CacheLimits,
    ) -> Self {
        let windows = caches.iter().flat_map(Cache::parts).filter_map(|cache| match cache {
            Cache::Rotating(cache) => Some(cache.window().unsigned_abs() as usize),
            Cache::Chunked(cache) => Some(cache.chunk().unsigned_abs() as usize),
            _ => None,
        });
        let spacing = windows.max().unwrap_or(0).max(SPACING);
        let has_positions = CachePart::Positions.is_in(caches);
        let has_state = CachePart::State.is_in(caches);
        Self { adapter, drafter, limits, has_positions, has_state, spacing }
    }

    /// What tells it from others of the model, in files.
    pub(super) fn name(&self) -> String {
        let Self { adapter, limits: CacheLimits { max_size, quantization }, .. } = self;
        let quantization = quantization.map(|it| (it.bits, it.group_size));
        let drafter =
            self.drafter.as_ref().map(|name| format!("drafter {name:?} ")).unwrap_or_default();
        format!("{drafter}adapter {adapter:?} size {max_size:?} quantization {quantization:?}")
    }

    /// What its caches may take.
    pub(super) fn limits(&self) -> CacheLimits {
        self.limits
    }

    /// Empty caches within its limits.
    pub(super) fn caches(&self, model: &dyn LanguageModel) -> Vec<Cache> {
        empty(model.make_caches(), self.limits)
    }

    /// Caches that hold a first token, of `model` or of who drafts for it. Nothing is computed.
    ///
    /// # Errors
    /// Those of building the graph, or where nobody drafts.
    pub(super) fn begun(
        &self,
        model: &dyn LanguageModel,
        drafter: Option<Drafter>,
    ) -> Result<Vec<Cache>> {
        match (&self.drafter, drafter) {
            (None, _) => models::begun(model, self.caches(model)),
            (Some(_), Some(drafter)) => drafter.begun(self.limits),
            (Some(_), None) => Err(Error::Unsupported("nobody drafts".to_owned())),
        }
    }
}

fn empty(caches: Vec<Cache>, limits: CacheLimits) -> Vec<Cache> {
    caches.into_iter().map(|cache| cache.limited(&limits)).collect()
}

pub(super) type Key = (PrefixOwner, CachePart);
