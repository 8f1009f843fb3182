//! Which files of a model's folder hold its weights.
//!
//! `model.safetensors.index.json` is a hint: some are left behind by an earlier version of the
//! weights. The files that hold every tensor of it are taken, whatever it names.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Deserialize;

use super::file::WeightFile;
use crate::error::{Error, Result};
use crate::warning::{Warning, WarningCode};

/// Index files are small; one beyond this size is not an index.
const MAX_INDEX_BYTES: u64 = 64 << 20;

#[derive(Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

/// The files of a folder, each opened once.
struct Folder<'a> {
    dir: &'a Path,
    opened: HashMap<String, Result<Arc<WeightFile>>>,
}

/// The files that hold a model's weights: those that `model.safetensors.index.json` names, or else
/// every `model*.safetensors`.
///
/// # Errors
/// [`Error::ModelNotFound`] without such files; [`Error::Weights`] for a missing or broken one.
pub(super) fn weight_files(
    dir: &Path,
    warnings: &mut Vec<Warning>,
) -> Result<Vec<Arc<WeightFile>>> {
    let mut folder = Folder { dir, opened: HashMap::new() };
    let present = present(dir)?;
    let path = dir.join("model.safetensors.index.json");
    let index = match read_index(&path) {
        Ok(index) => index,
        Err(error) if present.is_empty() => return Err(error),
        Err(error) => {
            let message = format!("{}; it is left out", error.message());
            warnings.push(Warning::new(WarningCode::StaleIndex, &path, message));
            None
        }
    };
    match index {
        Some(index) => folder.of_index(&index, &present, &path, warnings),
        None => folder.without_index(&present),
    }
}

impl Folder<'_> {
    fn of_index(
        &mut self,
        index: &Index,
        present: &BTreeSet<String>,
        path: &Path,
        warnings: &mut Vec<Warning>,
    ) -> Result<Vec<Arc<WeightFile>>> {
        let named: BTreeSet<String> = index.weight_map.values().cloned().collect();
        // A name from an index is data: it must not lead out of the model's folder.
        let leads_out = |name: &&String| {
            Path::new(name).components().count() != 1 || name.contains(['/', '\\'])
        };
        if let Some(name) = named.iter().find(leads_out) {
            return Err(Error::weights(path, format!("\"{name}\" is not the name of a shard")));
        }
        let tensors = || index.weight_map.keys().map(String::as_str);
        let opened = self.open_all(&named);
        if let Ok(files) = &opened
            && lacking(files, tensors()).next().is_none()
        {
            return opened;
        }
        let mut stale = |message: String| {
            warnings.push(Warning::new(WarningCode::StaleIndex, path, message));
        };
        for others in sets(present).into_iter().chain([present.clone()]) {
            if let Ok(files) = self.open_all(&others)
                && lacking(&files, tensors()).next().is_none()
            {
                let names = others.into_iter().collect::<Vec<_>>().join(", ");
                stale(format!(
                    "it does not describe {names}, which hold every tensor that it lists"
                ));
                return Ok(files);
            }
        }
        let absent: Vec<_> = named.iter().filter(|name| !present.contains(*name)).collect();
        match opened {
            // Loading names what the model needs and no file holds.
            Ok(files) => {
                let ghosts: Vec<_> = lacking(&files, tensors()).collect();
                let (count, first) = (ghosts.len(), ghosts.first().copied().unwrap_or_default());
                stale(format!("no file holds \"{first}\", one of {count} tensors that it lists"));
                Ok(files)
            }
            Err(_) if absent.len() == named.len() && !present.is_empty() => {
                stale(format!("it names files that are not there, such as {}", absent[0]));
                self.without_index(present)
            }
            Err(error) if absent.is_empty() => Err(error),
            Err(_) => {
                let names = absent.iter().map(|name| name.as_str()).collect::<Vec<_>>();
                let tensor = index.weight_map.iter().find(|(_, file)| *file == absent[0]);
                let tensor = tensor.map(|(tensor, _)| tensor.as_str()).unwrap_or_default();
                Err(Error::weights(
                    self.dir.join(absent[0]),
                    format!(
                        "the shard is missing: {} of {} that the index names are not there ({}), and \
                         no other file holds their tensors, such as \"{tensor}\"; download them",
                        names.len(),
                        named.len(),
                        names.join(", "),
                    ),
                ))
            }
        }
    }

    /// Every file; or, where some hold the same tensors, the set of files that holds all of them.
    fn without_index(&mut self, present: &BTreeSet<String>) -> Result<Vec<Arc<WeightFile>>> {
        if present.is_empty() {
            let dir = self.dir.display();
            let found = crate::foreign::found_in(self.dir).unwrap_or_else(|| {
                "expected model.safetensors, or shards and model.safetensors.index.json".to_owned()
            });
            return Err(Error::ModelNotFound(format!("{dir} holds no weights: {found}")));
        }
        let files = self.open_all(present)?;
        let tensors: BTreeSet<&str> = files.iter().flat_map(|file| file.names()).collect();
        if tensors.len() == files.iter().map(|file| file.names().count()).sum::<usize>() {
            return Ok(files);
        }
        for set in sets(present) {
            let files = self.open_all(&set)?;
            if lacking(&files, tensors.iter().copied()).next().is_none() {
                return Ok(files);
            }
        }
        Ok(files)
    }

    fn open_all(&mut self, names: &BTreeSet<String>) -> Result<Vec<Arc<WeightFile>>> {
        names
            .iter()
            .map(|name| {
                let open = || WeightFile::open(self.dir.join(name)).map(Arc::new);
                self.opened.entry(name.clone()).or_insert_with(open).clone()
            })
            .collect()
    }
}

/// Those of `tensors` that no file holds.
fn lacking<'a>(
    files: &'a [Arc<WeightFile>],
    tensors: impl Iterator<Item = &'a str>,
) -> impl Iterator<Item = &'a str> {
    tensors.filter(|tensor| !files.iter().any(|file| file.holds(tensor)))
}

/// The sets of files that can be a whole checkpoint each: single files, and shards of the same
/// number. `model.safetensors` comes first, as in transformers.
fn sets(present: &BTreeSet<String>) -> Vec<BTreeSet<String>> {
    let mut sets = BTreeMap::<(bool, &str), BTreeSet<String>>::new();
    for name in present {
        let key = name.rsplit_once("-of-").map_or(name.as_str(), |(_, count)| count);
        sets.entry((name != "model.safetensors", key)).or_default().insert(name.clone());
    }
    sets.into_values().collect()
}

fn read_index(path: &Path) -> Result<Option<Index>> {
    let Some(text) = crate::files::read(path, MAX_INDEX_BYTES)? else { return Ok(None) };
    let broken = |message: String| Error::weights(path, message);
    if let Some(problem) = crate::files::placeholder(&text) {
        return Err(broken(problem.to_owned()));
    }
    let index: Index = crate::json::parse(&text)
        .and_then(serde_json::from_value)
        .map_err(|error| broken(format!("not a valid index: {error}")).caused_by(error))?;
    if index.weight_map.is_empty() {
        return Err(broken("not a valid index: it lists no tensors".to_owned()));
    }
    Ok(Some(index))
}

fn present(dir: &Path) -> Result<BTreeSet<String>> {
    let failed = |error: std::io::Error| Error::io(PathBuf::from(dir), error);
    let mut names = BTreeSet::new();
    for entry in std::fs::read_dir(dir).map_err(failed)? {
        if let Ok(name) = entry.map_err(failed)?.file_name().into_string()
            && name.starts_with("model")
            && name.ends_with(".safetensors")
        {
            names.insert(name);
        }
    }
    Ok(names)
}
