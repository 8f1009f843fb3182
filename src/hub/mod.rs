//! From the name of a model to the folder with its files.

mod aliases;
mod cache;

use std::path::{Path, PathBuf};

pub use aliases::{Alias, recommended_models};

use crate::error::{Error, Result};

/// The folder of `model`, an absolute path. The model is one of, in this order:
/// - the path of a folder, as seen from the folder `current`;
/// - an alias of [`recommended_models`];
/// - `owner/name` or `owner/name@revision`, in the Hugging Face cache of this machine. The revision
///   is a branch, a tag or a commit; `main` if none is given.
///
/// # Errors
/// [`Error::ModelNotFound`] says where it was looked for.
pub fn resolve(model: &str, current: &Path) -> Result<PathBuf> {
    let cache = cache::directory(|name| std::env::var_os(name)).map(|cache| current.join(cache));
    resolve_in(model, current, cache.as_deref())
}

fn resolve_in(model: &str, current: &Path, cache: Option<&Path>) -> Result<PathBuf> {
    if model.trim().is_empty() {
        return Err(Error::argument("model", "expected a folder, an alias or \"owner/name\""));
    }
    let path = current.join(model);
    if path.is_dir() {
        return Ok(path);
    }
    if path.is_file() {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let kind = crate::foreign::describe(name).map(|kind| format!(", {kind}"));
        return Err(Error::ModelNotFound(format!(
            "{model} is a file{}; give the folder that holds config.json and the weights",
            kind.unwrap_or_default()
        )));
    }
    let repository = aliases::find(model).map_or(model, |alias| alias.repository);
    let Some(id) = cache::RepositoryId::parse(repository) else {
        return Err(Error::ModelNotFound(format!(
            "there is no folder {model}, and it is neither an alias nor \"owner/name\"{}",
            aliases::suggestion(model)
        )));
    };
    let Some(cache) = cache else {
        return Err(Error::ModelNotFound(format!(
            "{repository}: there is no Hugging Face cache, because neither HF_HUB_CACHE, HF_HOME \
             nor HOME is set; give the path of a folder"
        )));
    };
    cache::find(cache, &id)
}

#[cfg(test)]
mod tests;
