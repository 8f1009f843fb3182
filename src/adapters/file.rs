//! An adapter's folder: its configuration, and what it does to which modules.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::config::{AdapterConfig, AdapterKind};
use super::tensors::AdapterTensors;
use super::update::Module;
use super::{mlx_lm, peft};
use crate::error::{Error, Result};
use crate::weights::Trainer;

/// An adapter as it is on the disk.
pub struct AdapterFile {
    /// Its folder.
    pub path: PathBuf,
    /// How it was trained.
    pub kind: AdapterKind,
    /// The program that trained it.
    pub trainer: Trainer,
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
        let trainer = if config.is_peft() { Trainer::Peft } else { Trainer::MlxLm };
        Ok(Self { path: dir.to_owned(), kind, trainer, modules, fingerprint })
    }

    /// Refuses an adapter whose matrices belong to another form of the checkpoint than those of a
    /// model that takes adapters of `wanted` alone.
    ///
    /// # Errors
    /// [`Error::Unsupported`].
    pub fn check_trainer(&self, wanted: Option<Trainer>) -> Result<()> {
        let Some(wanted) = wanted.filter(|wanted| *wanted != self.trainer) else { return Ok(()) };
        let form = match wanted {
            Trainer::MlxLm => "as mlx-lm converts them, with factors multiplied in",
            Trainer::Peft => {
                "as they were published, without the factors that mlx-lm multiplies in"
            }
        };
        Err(Error::Unsupported(format!(
            "{}: the adapter is one of {}, and this model's matrices are {form}; the same adapter \
             would change them by other amounts than it was trained to. Take one of {} for them.",
            self.path.display(),
            self.trainer.name(),
            wanted.name()
        )))
    }

    /// An error about one of its modules.
    pub fn error(&self, module: &Module, message: &str) -> Error {
        Error::adapter(&self.path, format!("\"{}\" {message}", module.name))
    }
}
