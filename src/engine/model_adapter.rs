//! An adapter of a model, for its owner.

use std::path::PathBuf;
use std::sync::Arc;

use super::adapters::AdapterRequest;
use super::model::{Engine, Model};
use super::scheduler::Message;
use super::status::{Callback, Reply};
use crate::adapters::{AdapterId, AdapterInfo};
use crate::error::Result;

/// An adapter of a model. Dropping it forgets it.
pub struct ModelAdapter {
    id: AdapterId,
    info: AdapterInfo,
    engine: Arc<Engine>,
}

impl ModelAdapter {
    /// Its number, for requests to the same model.
    pub fn id(&self) -> AdapterId {
        self.id
    }

    /// What is known of it.
    pub fn info(&self) -> &AdapterInfo {
        &self.info
    }

    /// Forgets it before it is dropped.
    pub fn forget(&self) {
        self.engine.send(Message::Adapter(self.id, AdapterRequest::Drop));
    }
}

impl Drop for ModelAdapter {
    fn drop(&mut self) {
        self.forget();
    }
}

impl Model {
    /// Loads the adapter of a folder, for `callback`.
    pub fn load_adapter(&self, path: PathBuf, callback: Callback<ModelAdapter>) {
        let (id, engine) = (AdapterId::next(), Arc::clone(self.engine()));
        let loaded = move |info: Result<AdapterInfo>| {
            callback(info.map(|info| ModelAdapter { id, info, engine }));
        };
        let reply = Reply::new(Box::new(loaded), Arc::clone(self.engine().status()));
        self.engine().send(Message::Adapter(id, AdapterRequest::Load(path, reply)));
    }
}
