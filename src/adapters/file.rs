//! An adapter's folder: its configuration, and what it does to which modules.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::config::{AdapterConfig, AdapterKind};
use super::tensors::AdapterTensors;
use super::update::Module;
use super::{mlx_lm, peft};
use crate::error::{Error, Result};

/// An adapter as it is on the disk.
pub struct AdapterFile {
    /// Its folder.
    pub path: PathBuf,
    /// How it was trained.
    pub kind: AdapterKind,
    /// What it changes, by the modules' canonical paths.
    pub modules: BTreeMap<String, Module>,
    /// Tells its numbers from those of other adapters.
    pub fingerprint: String,
}

impl AdapterFile {
    /// Opens the adapter of a folder.
    ///
    /// # Errors
    /// [`Error::Adapter`] for a broken one, [`Error::Unsupported`] for one of a kind that is not
    /// known how to apply, and [`Error::Io`].
    pub fn open(dir: &Path) -> Result<Self> {
        let config = AdapterConfig::read(dir)?;
        let name =
            if config.is_peft() { "adapter_model.safetensors" } else { "adapters.safetensors" };
        let path = dir.join(name);
        if !path.is_file() {
            let pickle = dir.join("adapter_model.bin").is_file();
            let message = match pickle {
                true => {
                    "there is only adapter_model.bin, a Python pickle, which is not read: save it as safetensors"
                }
                false => "there is no such file",
            };
            return Err(Error::adapter(path, message));
        }
        let tensors = AdapterTensors::open(path)?;
        let (kind, modules) = match config.is_peft() {
            true => peft::read(&config, &tensors)?,
            false => mlx_lm::read(&config, &tensors)?,
        };
        if modules.is_empty() {
            return Err(tensors.error("holds no tensors"));
        }
        let fingerprint = tensors.fingerprint(&config.text());
        Ok(Self { path: dir.to_owned(), kind, modules, fingerprint })
    }

    /// An error about one of its modules.
    pub fn error(&self, module: &Module, message: &str) -> Error {
        Error::adapter(&self.path, format!("\"{}\" {message}", module.name))
    }
}
