//! The folder of a conversion's result: beside its place until it is whole.

use std::fs::{self, File, TryLockError};
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::error::{Error, Result};

/// The largest file that is copied with a model: tokenizers, templates and texts are smaller.
const MAX_COPIED_BYTES: u64 = 256 << 20;

/// What belongs to a model besides its weights: tokenizers, templates, texts about it.
const COPIED: [&str; 9] = ["json", "jinja", "txt", "model", "tiktoken", "jsonl", "py", "md", "spm"];

/// What belongs to a model and has a name without an extension.
const TEXTS: [&str; 4] = ["LICENSE", "NOTICE", "COPYING", "USE_POLICY"];

/// The names of files that conversions write and copy, in small letters.
const MODEL_TEXTS: [&str; 36] = [
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "tokenizer.model",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
    "spiece.model",
    "sentencepiece.bpe.model",
    "spm.model",
    "chat_template.jinja",
    "chat_template.json",
    "preprocessor_config.json",
    "processor_config.json",
    "video_preprocessor_config.json",
    "image_processor_config.json",
    "params.json",
    "tekken.json",
    "modules.json",
    "sentence_bert_config.json",
    "config_sentence_transformers.json",
    "configuration.json",
    "readme.md",
    "model_card.md",
    "license",
    "license.txt",
    "license.md",
    "notice",
    "notice.txt",
    "use_policy",
    "use_policy.md",
    "copying",
    ".gitattributes",
];

/// What a file system needs beside the weights, and the files that are copied with them.
const SPARE_BYTES: u64 = 16 << 20;

/// A folder of chat templates.
const TEMPLATES: &str = "additional_chat_templates";

/// The files of a module of sentence-transformers.
const MODULE_FILES: [&str; 2] = ["config.json", "model.safetensors"];

/// Files of other weights, and those that are written anew.
const NOT_COPIED: [&str; 3] = ["config.json", "adapter_config.json", "hf_quant_config.json"];

/// A folder that becomes the target. While it is written it has a name of its own, which tells
/// others that the target is being made, and a lock, which tells that it still is.
pub(super) struct Target {
    place: PathBuf,
    folder: PathBuf,
    /// Holds the lock; the system gives it up with the process.
    _lock: File,
    overwrite: bool,
    source: PathBuf,
    finished: bool,
}

impl Target {
    /// A new folder beside `place`, which must not be there or be empty, or with `overwrite` hold a
    /// model and nothing else.
    pub(super) fn new(source: &Path, place: &Path, overwrite: bool) -> Result<Self> {
        let Some(name) = place.file_name() else {
            return Err(refused(place, "is not the name of a folder"));
        };
        let parent = match place.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        if overlap(source, parent, place) {
            return Err(refused(place, "is the source, or one lies within the other"));
        }
        check_place(source, place, overwrite)?;
        fs::create_dir_all(parent).map_err(|error| Error::io(parent, error))?;
        let folder = parent.join(format!(".{}.incomplete", name.to_string_lossy()));
        let Some(lock) = claim(&folder).map_err(|error| Error::io(&folder, error))? else {
            return Err(refused(place, "is being written by another conversion"));
        };
        let target = Self {
            place: place.to_owned(),
            folder,
            _lock: lock,
            overwrite,
            source: source.to_owned(),
            finished: false,
        };
        // What a conversion left that was killed.
        if let Some(entry) = foreign_to_model(source, &target.folder) {
            let message = format!(
                "has {} beside it, which holds \"{entry}\": move that away",
                target.folder.display()
            );
            target.keep();
            return Err(refused(place, &message));
        }
        clear(&target.folder).map_err(|error| Error::io(&target.folder, error))?;
        Ok(target)
    }

    /// Leaves the folder as it is.
    fn keep(mut self) {
        self.finished = true;
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Gives the folder its name. What has come to its place meanwhile stays there.
    pub(super) fn finish(mut self) -> Result<()> {
        // The names, too. Not every system can; the contents are safe.
        let _ = File::open(&self.folder).and_then(|folder| folder.sync_all());
        check_place(&self.source, &self.place, self.overwrite)?;
        let failed = |error: std::io::Error| Error::io(&self.place, error);
        let old = self.folder.with_extension("replaced");
        let replaces = self.place.symlink_metadata().is_ok();
        if replaces {
            if old.is_dir() {
                // Of a conversion that was killed while it removed what it had replaced.
                remove_model(&self.source, &old).map_err(|error| Error::io(&old, error))?;
            }
            fs::rename(&self.place, &old).map_err(failed)?;
        }
        // A folder is moved to where there is nothing or an empty folder, and replaces nothing else.
        let outcome = match replaces.then(|| check_place(&self.source, &old, true)) {
            Some(Err(_)) => Err(refused(&self.place, CHANGED)),
            _ => fs::rename(&self.folder, &self.place).map_err(|error| match error.kind() {
                ErrorKind::DirectoryNotEmpty | ErrorKind::NotADirectory => {
                    refused(&self.place, CHANGED)
                }
                _ => failed(error),
            }),
        };
        if outcome.is_err() && replaces {
            fs::rename(&old, &self.place).map_err(failed)?;
        }
        outcome?;
        self.finished = true;
        if replaces {
            remove_model(&self.source, &old).map_err(|error| Error::io(&old, error))?;
        }
        Ok(())
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        if !self.finished {
            // Whoever converts to the same place next clears it.
            let _ = fs::remove_dir_all(&self.folder);
        }
    }
}

const CHANGED: &str = "has been written by somebody else meanwhile, and is not replaced";

fn refused(place: &Path, message: &str) -> Error {
    Error::argument("target", format!("{} {message}", place.display()))
}

/// Makes a folder of one's own and takes its lock; `None` where somebody else holds it.
fn claim(folder: &Path) -> std::io::Result<Option<File>> {
    loop {
        let made = match fs::create_dir(folder) {
            Ok(()) => true,
            Err(error) if error.kind() == ErrorKind::AlreadyExists => false,
            Err(error) => return Err(error),
        };
        let lock = match File::open(folder) {
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            opened => opened?,
        };
        match lock.try_lock() {
            Err(TryLockError::WouldBlock) => return Ok(None),
            // File systems of networks may know no locks: nobody can tell whether its maker lives.
            Err(TryLockError::Error(_)) if !made => return Ok(None),
            Err(TryLockError::Error(_)) | Ok(()) => {}
        }
        // Whoever had it may have moved or removed the folder before giving up its lock.
        let is_same = |there: fs::Metadata| -> std::io::Result<bool> {
            let own = lock.metadata()?;
            Ok((own.dev(), own.ino()) == (there.dev(), there.ino()))
        };
        if folder.symlink_metadata().and_then(is_same).unwrap_or(false) {
            return Ok(Some(lock));
        }
    }
}

/// Removes what is in a folder.
fn clear(folder: &Path) -> std::io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            fs::remove_dir_all(entry.path())?;
        } else {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// Whether the source and the target are the same folder, or one is within the other.
fn overlap(source: &Path, parent: &Path, place: &Path) -> bool {
    // Folders above the target may not be there yet.
    let there = parent.ancestors().find_map(|folder| {
        let rest = place.strip_prefix(folder).ok()?;
        let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
        folder.canonicalize().ok().map(|folder| folder.join(rest))
    });
    let Some(there) = place.canonicalize().ok().or(there) else { return false };
    source
        .canonicalize()
        .is_ok_and(|source| source.starts_with(&there) || there.starts_with(&source))
}

/// Refuses a place at which something is that must stay.
fn check_place(source: &Path, place: &Path, overwrite: bool) -> Result<()> {
    let Ok(metadata) = place.symlink_metadata() else { return Ok(()) };
    let is_empty = || fs::read_dir(place).is_ok_and(|mut entries| entries.next().is_none());
    if metadata.is_dir() && is_empty() {
        return Ok(());
    }
    if !overwrite {
        return Err(refused(place, "is already there; choose another, or set overwrite"));
    }
    let foreign = if metadata.is_dir() { foreign_to_model(source, place) } else { None };
    let has_config = crate::files::read(&place.join("config.json"), MAX_COPIED_BYTES)
        .ok()
        .flatten()
        .and_then(|text| crate::json::parse(&text).ok())
        .is_some_and(|config| config.get("model_type").is_some_and(Value::is_string));
    let has_weights = || fs::read_dir(place).is_ok_and(|mut it| it.any(|it| is_weights(&it)));
    match foreign {
        _ if !metadata.is_dir() || !has_config || !has_weights() => {
            Err(refused(place, "holds something else than a model, and is not replaced"))
        }
        Some(entry) => Err(refused(
            place,
            &format!(
                "holds \"{entry}\" beside a model, which no conversion writes, and is not replaced; \
                 move it away, or choose another folder"
            ),
        )),
        None => Ok(()),
    }
}

fn is_weights(entry: &std::io::Result<fs::DirEntry>) -> bool {
    entry.as_ref().is_ok_and(|entry| {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        name.starts_with("model") && name.ends_with(".safetensors")
    })
}

/// The first entry of a folder that is none of a model's, neither by its name nor because the source
/// has the same one.
fn foreign_to_model(source: &Path, place: &Path) -> Option<String> {
    let entries = fs::read_dir(place).ok()?.flatten();
    let is_foreign = |entry: &fs::DirEntry| {
        let (name, path) = (entry.file_name(), entry.path());
        let text = name.to_string_lossy();
        if entry.file_type().is_ok_and(|it| it.is_dir()) {
            let of_model = match text.as_ref() {
                TEMPLATES => |name: &str| name.ends_with(".jinja"),
                name if is_module(name) => |name: &str| MODULE_FILES.contains(&name),
                _ => return true,
            };
            let mut inner = fs::read_dir(&path).into_iter().flatten().flatten();
            return !inner.all(|entry| {
                let is_file = entry.file_type().is_ok_and(|it| it.is_file());
                is_file && of_model(&entry.file_name().to_string_lossy())
            });
        }
        !is_model_file(&text) && !is_same_file(&source.join(&name), &path)
    };
    entries.into_iter().find(is_foreign).map(|entry| entry.file_name().to_string_lossy().into())
}

/// Whether checkpoints have files of this name.
fn is_model_file(name: &str) -> bool {
    let is_text = MODEL_TEXTS.contains(&name.to_lowercase().as_str());
    let is_weight = name.starts_with("model")
        && (name.ends_with(".safetensors") || name.ends_with(".safetensors.index.json"));
    let is_code = name.ends_with(".py")
        && ["modeling_", "configuration_", "tokenization_"].iter().any(|it| name.starts_with(it));
    is_text || is_weight || is_code || name.ends_with(".tiktoken")
}

/// Whether two files have the same contents, as that which was copied has.
fn is_same_file(source: &Path, copy: &Path) -> bool {
    let length = |path: &Path| fs::metadata(path).map(|it| it.len()).ok();
    let small = length(copy).filter(|&bytes| bytes <= MAX_COPIED_BYTES);
    small.is_some() && small == length(source) && fs::read(source).ok() == fs::read(copy).ok()
}

/// Checks that the disk of a folder has room for so many bytes.
///
/// # Errors
/// [`Error::Io`] for a disk that is too full.
pub(super) fn check_room(folder: &Path, bytes: u64) -> Result<()> {
    // Who knows nothing of the disk finds out while writing.
    let Ok(disk) = rustix::fs::statvfs(folder) else { return Ok(()) };
    let room = disk.f_bavail.saturating_mul(disk.f_frsize);
    if bytes.saturating_add(SPARE_BYTES) <= room {
        return Ok(());
    }
    let mib = |bytes: u64| bytes.div_ceil(1 << 20);
    let message = format!("needs {} MiB, and the disk has {} MiB", mib(bytes), mib(room));
    Err(Error::io(folder, std::io::Error::new(ErrorKind::StorageFull, message)))
}

/// Removes a model that was replaced, and nothing that has come to it since.
fn remove_model(source: &Path, folder: &Path) -> std::io::Result<()> {
    if foreign_to_model(source, folder).is_none() {
        clear(folder)?;
    }
    fs::remove_dir(folder)
}

/// Whether a folder is of a module of sentence-transformers: `1_Pooling`, `2_Dense`.
fn is_module(name: &str) -> bool {
    let number = name.split_once('_').map(|(number, _)| number);
    number.is_some_and(|it| !it.is_empty() && it.bytes().all(|byte| byte.is_ascii_digit()))
}

/// Copies the configuration and the weights of such a module, which stay as they are.
fn copy_module(source: &Path, target: &Path) -> Result<()> {
    for name in MODULE_FILES {
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
            if name == TEMPLATES {
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
            || !(extension.is_some_and(|extension| COPIED.contains(&extension))
                || TEXTS.contains(&text.as_ref()))
            || metadata.len() > MAX_COPIED_BYTES
        {
            continue;
        }
        let copy = target.join(name);
        fs::copy(&path, &copy).map_err(|error| Error::io(&copy, error))?;
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn a_disk_without_room_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let error = check_room(folder.path(), 1 << 60).unwrap_err();
        assert_eq!(error.code(), "DISK_FULL");
        assert!(error.to_string().contains("MiB, and the disk has"), "{error}");
        check_room(folder.path(), 0).unwrap();
    }
}
