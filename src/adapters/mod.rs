//! Adapters: small matrices, trained by mlx-lm or PEFT, that change what a model's layers compute.
//!
//! A model may have several at once, and a step runs with one of them or with none. Loading one
//! touches no weight: a layer keeps beside its own what each adapter adds (`crate::fused::adapter`).

mod attach;
mod config;
mod file;
mod mlx_lm;
mod names;
mod peft;
mod tensors;
mod update;

use std::cell::RefCell;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use crate::error::{Error, Result};
pub use crate::fused::adapter::AdapterId;
use crate::mlx::Dtype;
use crate::weights::Sites;
pub use config::AdapterKind;
pub use file::AdapterFile;
pub use names::canonical;
pub use update::{LowRank, Module, Update};

/// Adapters of one model at most: each takes memory, and a program that forgets to let go of them
/// hears of it.
const MAX_ADAPTERS: usize = 1000;

/// What is known of a loaded adapter.
#[derive(Debug, Clone)]
pub struct AdapterInfo {
    /// Its folder.
    pub path: PathBuf,
    /// How it was trained.
    pub kind: AdapterKind,
    /// The largest rank of its products; 0 without one.
    pub rank: i32,
    /// Modules that it changes.
    pub modules: usize,
    /// Its numbers.
    pub parameters: u64,
    /// The bytes of its arrays.
    pub bytes: usize,
    /// Tells its numbers from those of other adapters.
    pub fingerprint: String,
}

/// The adapters of a model.
pub struct Adapters {
    sites: Sites,
    /// The type of activations; `None` for that of the checkpoint.
    activations: Option<Dtype>,
    loaded: RefCell<HashMap<AdapterId, HeldAdapter>>,
}

/// An adapter that stays while this is held.
#[derive(Clone)]
pub struct HeldAdapter(Rc<Attached>);

impl HeldAdapter {
    /// Its number.
    pub fn id(&self) -> AdapterId {
        self.0.id
    }

    /// Tells its numbers from those of other adapters.
    pub fn fingerprint(&self) -> &str {
        &self.0.fingerprint
    }
}

/// What an adapter adds to the layers; it goes with this.
struct Attached {
    id: AdapterId,
    fingerprint: String,
    sites: Sites,
}

impl Drop for Attached {
    fn drop(&mut self) {
        self.sites.remove(self.id);
    }
}

impl Adapters {
    /// Those of the model with these layers, none yet.
    pub fn new(sites: Sites, activations: Option<Dtype>) -> Self {
        Self { sites, activations, loaded: RefCell::default() }
    }

    /// Loads the adapter of a folder, on the model's thread, by a number that no other has.
    ///
    /// # Errors
    /// [`Error::Adapter`] for a broken one and one of another model, [`Error::Unsupported`] for
    /// what is not known how to add, and [`Error::Io`].
    pub fn load(&self, id: AdapterId, dir: &Path) -> Result<AdapterInfo> {
        if self.loaded.borrow().len() >= MAX_ADAPTERS {
            let message = format!("the model has {MAX_ADAPTERS} adapters; dispose of some");
            return Err(Error::Unsupported(message));
        }
        let file = AdapterFile::open(dir)?;
        // After a failure it goes, from those layers that have it.
        let fingerprint = file.fingerprint.clone();
        let attached = Attached { id, fingerprint, sites: self.sites.clone() };
        let info = attach::attach(&self.sites, id, &file, self.activations)?;
        self.loaded.borrow_mut().insert(id, HeldAdapter(Rc::new(attached)));
        Ok(info)
    }

    /// Forgets an adapter, once nobody holds it any more.
    pub fn remove(&self, adapter: AdapterId) {
        self.loaded.borrow_mut().remove(&adapter);
    }

    /// The adapter with this fingerprint, if it is loaded.
    pub fn find(&self, fingerprint: &str) -> Option<HeldAdapter> {
        self.loaded.borrow().values().find(|it| it.fingerprint() == fingerprint).cloned()
    }

    /// An adapter that is loaded.
    pub fn hold(&self, adapter: AdapterId) -> Option<HeldAdapter> {
        self.loaded.borrow().get(&adapter).cloned()
    }

    /// Builds something of the model's with an adapter, or of the model as it is.
    pub fn scope<T>(&self, adapter: Option<&HeldAdapter>, build: impl FnOnce() -> T) -> T {
        self.sites.selection.scope(adapter.map(HeldAdapter::id), build)
    }
}
