//! The folder of a conversion's result: beside its place until it is whole.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::error::{Error, Result};

/// The largest file that is copied with a model: tokenizers, templates and texts are smaller.
const MAX_COPIED_BYTES: u64 = 256 << 20;

/// What belongs to a model besides its weights: tokenizers, templates, texts about it.
const COPIED: [&str; 9] = ["json", "jinja", "txt", "model", "tiktoken", "jsonl", "py", "md", "spm"];

/// Files of other weights, and those that are written anew.
const NOT_COPIED: [&str; 3] = ["config.json", "adapter_config.json", "hf_quant_config.json"];

/// A folder that becomes the target.
pub(super) struct Target {
    place: PathBuf,
    folder: TempDir,
}

impl Target {
    /// A new folder beside `place`, which must not be there, or with `overwrite` be a model.
    pub(super) fn new(source: &Path, place: &Path, overwrite: bool) -> Result<Self> {
        let refused = |message: &str| {
            Err(Error::argument("target", format!("{} {message}", place.display())))
        };
        let Some(name) = place.file_name() else { return refused("is not the name of a folder") };
        let exists = place.symlink_metadata().is_ok();
        if exists && !overwrite {
            return refused("is already there; choose another, or set overwrite");
        }
        if let (Ok(source), Ok(place)) = (source.canonicalize(), place.canonicalize())
            && (source.starts_with(&place) || place.starts_with(&source))
        {
            return refused("is the source, or one lies within the other");
        }
        if exists && !is_model(place) {
            return refused("holds something else than a model, and is not replaced");
        }
        let parent = match place.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        fs::create_dir_all(parent).map_err(|error| Error::io(parent, error))?;
        let mut builder = tempfile::Builder::new();
        let prefix = format!(".{}-", name.to_string_lossy());
        builder.prefix(&prefix).suffix(".incomplete");
        // Those of any new folder: the system takes away what the process's umask says.
        #[cfg(unix)]
        builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o777));
        let folder = builder.tempdir_in(parent).map_err(|error| Error::io(parent, error))?;
        Ok(Self { place: place.to_owned(), folder })
    }

    pub(super) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Gives the folder its name.
    pub(super) fn finish(self) -> Result<()> {
        let Self { place, folder } = self;
        let failed = |error: std::io::Error| Error::io(&place, error);
        // The names, too. Not every system can; the contents are safe.
        #[cfg(unix)]
        let _ = File::open(folder.path()).and_then(|folder| folder.sync_all());
        let mut old = None;
        if place.symlink_metadata().is_ok() {
            let aside = folder.path().with_extension("replaced");
            fs::rename(&place, &aside).map_err(failed)?;
            old = Some(aside);
        }
        if let Err(error) = fs::rename(folder.path(), &place) {
            if let Some(old) = old {
                let _ = fs::rename(old, &place);
            }
            return Err(failed(error));
        }
        let _ = folder.keep();
        if let Some(old) = old {
            fs::remove_dir_all(&old).map_err(|error| Error::io(&old, error))?;
        }
        Ok(())
    }
}

/// Whether a folder is one that a conversion may replace: a model's, or empty.
fn is_model(place: &Path) -> bool {
    let is_folder = place.symlink_metadata().is_ok_and(|metadata| metadata.is_dir());
    let is_empty = || fs::read_dir(place).is_ok_and(|mut entries| entries.next().is_none());
    is_folder && (place.join("config.json").is_file() || is_empty())
}

/// Whether a folder is of a module of sentence-transformers: `1_Pooling`, `2_Dense`.
fn is_module(name: &str) -> bool {
    let number = name.split_once('_').map(|(number, _)| number);
    number.is_some_and(|it| !it.is_empty() && it.bytes().all(|byte| byte.is_ascii_digit()))
}

/// Copies the configuration and the weights of such a module, which stay as they are.
fn copy_module(source: &Path, target: &Path) -> Result<()> {
    for name in ["config.json", "model.safetensors"] {
        let path = source.join(name);
        let is_small = |it: fs::Metadata| it.is_file() && it.len() <= MAX_COPIED_BYTES;
        if fs::metadata(&path).is_ok_and(is_small) {
            fs::create_dir_all(target).map_err(|error| Error::io(target, error))?;
            let copy = target.join(name);
            fs::copy(&path, &copy).map_err(|error| Error::io(&copy, error))?;
        }
    }
    Ok(())
}

/// Copies what belongs to a model besides its weights.
pub(super) fn copy_files(source: &Path, target: &Path) -> Result<()> {
    for entry in fs::read_dir(source).map_err(|error| Error::io(source, error))? {
        let path = entry.map_err(|error| Error::io(source, error))?.path();
        let Some(name) = path.file_name() else { continue };
        // Files of a hub's cache are links.
        let Ok(metadata) = fs::metadata(&path) else { continue };
        if metadata.is_dir() {
            if name == "additional_chat_templates" {
                let folder = target.join(name);
                fs::create_dir_all(&folder).map_err(|error| Error::io(&folder, error))?;
                copy_files(&path, &folder)?;
            } else if is_module(&name.to_string_lossy()) {
                copy_module(&path, &target.join(name))?;
            }
            continue;
        }
        let text = name.to_string_lossy();
        let extension = path.extension().and_then(|extension| extension.to_str());
        if text.starts_with('.')
            || text.ends_with(".index.json")
            || NOT_COPIED.contains(&text.as_ref())
            || !extension.is_some_and(|extension| COPIED.contains(&extension))
            || metadata.len() > MAX_COPIED_BYTES
        {
            continue;
        }
        let copy = target.join(name);
        fs::copy(&path, &copy).map_err(|error| Error::io(&copy, error))?;
    }
    Ok(())
}
