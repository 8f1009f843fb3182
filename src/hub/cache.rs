//! The Hugging Face cache: where it is, and what is in it.
//!
//! Layout (as written by huggingface_hub): `models--owner--name/refs/<revision>` holds a commit;
//! `models--owner--name/snapshots/<commit>/` holds the files, as links into `blobs/`.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

/// `owner/name@revision`, checked: its parts become parts of paths.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RepositoryId {
    owner: String,
    name: String,
    revision: String,
}

impl RepositoryId {
    /// `None` if `text` is no repository.
    pub fn parse(text: &str) -> Option<Self> {
        let (repository, revision) = match text.split_once('@') {
            Some((repository, revision)) => (repository, revision),
            None => (text, "main"),
        };
        let (owner, name) = repository.split_once('/')?;
        let valid = is_name(owner)
            && is_name(name)
            && !revision.is_empty()
            && revision.split('/').all(is_name);
        valid.then(|| Self {
            owner: owner.to_owned(),
            name: name.to_owned(),
            revision: revision.to_owned(),
        })
    }

    fn folder(&self) -> String {
        format!("models--{}--{}", self.owner, self.name)
    }
}

impl std::fmt::Display for RepositoryId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.owner, self.name)?;
        if self.revision == "main" { Ok(()) } else { write!(f, "@{}", self.revision) }
    }
}

/// Whether `part` is one component of a path that cannot leave its folder.
fn is_name(part: &str) -> bool {
    !part.is_empty()
        && part != "."
        && part != ".."
        && part.chars().all(|it| it.is_ascii_alphanumeric() || matches!(it, '-' | '_' | '.'))
}

/// The cache's folder: `HF_HUB_CACHE`, the older `HUGGINGFACE_HUB_CACHE`, `HF_HOME/hub`,
/// `XDG_CACHE_HOME/huggingface/hub` or `~/.cache/huggingface/hub`. `variable` reads the environment.
pub(super) fn directory(variable: impl Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    let set = |name: &str| variable(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let home = || set("HOME").or_else(|| set("USERPROFILE"));
    let path = set("HF_HUB_CACHE")
        .or_else(|| set("HUGGINGFACE_HUB_CACHE"))
        .or_else(|| set("HF_HOME").map(|it| it.join("hub")))
        .or_else(|| set("XDG_CACHE_HOME").map(|it| it.join("huggingface/hub")))
        .or_else(|| home().map(|it| it.join(".cache/huggingface/hub")))?;
    Some(match (path.strip_prefix("~"), home()) {
        (Ok(rest), Some(home)) => home.join(rest),
        _ => path,
    })
}

/// The folder of a downloaded snapshot.
pub(super) fn find(cache: &Path, id: &RepositoryId) -> Result<PathBuf> {
    let repository = cache.join(id.folder());
    if !repository.is_dir() {
        return Err(Error::ModelNotFound(format!(
            "{id} is not in the Hugging Face cache {}. This version does not download models; get \
             it with `hf download {}/{}`, or give the path of a folder",
            cache.display(),
            id.owner,
            id.name
        )));
    }
    let commit = commit_of(&repository, &id.revision)?;
    let snapshot = commit.map(|it| repository.join("snapshots").join(it));
    let Some(snapshot) = snapshot.filter(|it| it.is_dir()) else {
        let known = revisions(&repository);
        let known = if known.is_empty() { "nothing".to_owned() } else { known.join(", ") };
        return Err(Error::ModelNotFound(format!(
            "{id}: the Hugging Face cache has no revision \"{}\" of this model, only {known} (in {})",
            id.revision,
            repository.display()
        )));
    };
    if let Some(missing) = missing_file(&snapshot) {
        let of_model = ["config.json", "model.safetensors"].contains(&missing.as_str());
        if let Some(found) = crate::foreign::found_in(&snapshot).filter(|_| of_model) {
            let folder = snapshot.display();
            return Err(Error::ModelNotFound(format!("{id}: {folder} lacks {missing}; {found}")));
        }
        return Err(Error::ModelNotFound(format!(
            "{id}: the download in {} is not complete: {missing} is missing. Finish it with \
             `hf download {}/{}`",
            snapshot.display(),
            id.owner,
            id.name
        )));
    }
    Ok(snapshot)
}

/// The commit that `revision` names: through `refs/`, or because it is one.
fn commit_of(repository: &Path, revision: &str) -> Result<Option<String>> {
    let reference = repository.join("refs").join(revision);
    match fs::read_to_string(&reference) {
        Ok(commit) if is_name(commit.trim()) => return Ok(Some(commit.trim().to_owned())),
        Ok(_) => {
            return Err(Error::ModelNotFound(format!(
                "{} does not hold a commit; delete it and download the model again",
                reference.display()
            )));
        }
        Err(_) if revision.contains('/') => return Ok(None),
        Err(_) => {}
    }
    if repository.join("snapshots").join(revision).is_dir() {
        return Ok(Some(revision.to_owned()));
    }
    // The beginning of a commit is enough if it names only one snapshot.
    let is_hash = revision.len() >= 7 && revision.bytes().all(|it| it.is_ascii_hexdigit());
    let mut matching = entries(&repository.join("snapshots"))
        .into_iter()
        .filter(|name| is_hash && name.starts_with(revision));
    Ok(match (matching.next(), matching.next()) {
        (Some(only), None) => Some(only),
        _ => None,
    })
}

fn revisions(repository: &Path) -> Vec<String> {
    let mut names = entries(&repository.join("refs"));
    names.extend(entries(&repository.join("snapshots")));
    names
}

/// The names in `folder`, sorted; none if it cannot be read.
fn entries(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(folder)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect();
    names.sort();
    names
}

/// The first file that a usable snapshot needs and this one lacks: config.json, weights, every shard
/// of the index, and the target of every link.
fn missing_file(snapshot: &Path) -> Option<String> {
    if !snapshot.join("config.json").is_file() {
        return Some("config.json".to_owned());
    }
    let names = entries(snapshot);
    if let Some(dangling) = names.iter().find(|name| !snapshot.join(name).exists()) {
        return Some(dangling.clone());
    }
    let index = fs::read(snapshot.join("model.safetensors.index.json")).ok();
    let index = index.and_then(|it| serde_json::from_slice::<serde_json::Value>(&it).ok());
    if let Some(shards) = index.as_ref().and_then(|it| it.get("weight_map")?.as_object()) {
        let shards: Vec<&str> = shards.values().filter_map(serde_json::Value::as_str).collect();
        // Weights that the index does not name may be those of a later version.
        let is_other = |name: &String| {
            name.starts_with("model")
                && name.ends_with(".safetensors")
                && !shards.contains(&name.as_str())
        };
        let missing = shards.iter().find(|shard| !snapshot.join(shard).is_file());
        return missing.filter(|_| !names.iter().any(is_other)).map(|shard| (*shard).to_owned());
    }
    let weights = names.iter().any(|name| name.ends_with(".safetensors"));
    (!weights).then(|| "model.safetensors".to_owned())
}
