//! Reading the small text and JSON files that lie beside a checkpoint.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use serde_json::Value;

use crate::error::{Error, Result};

/// The bytes of `path`, or `None` if there is no such file.
pub(crate) fn read(path: &Path) -> Result<Option<Vec<u8>>> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::io(path, &error)),
    }
}

/// Says what is wrong with a file that holds nothing, or a pointer to its content instead of the
/// content: the two usual results of a download that was cut short or made without Git LFS.
pub(crate) fn placeholder(bytes: &[u8]) -> Option<&'static str> {
    if bytes.iter().all(u8::is_ascii_whitespace) {
        Some("the file is empty; download it again")
    } else if bytes.starts_with(b"version https://git-lfs.github.com/") {
        Some("the file is a Git LFS pointer, not the content; run `git lfs pull` in its folder")
    } else {
        None
    }
}

/// The JSON object in `path`, or `None` if there is no such file. `broken` makes the error for a
/// file that is not JSON or not an object.
pub(crate) fn read_object(path: &Path, broken: impl Fn(String) -> Error) -> Result<Option<Value>> {
    let Some(bytes) = read(path)? else { return Ok(None) };
    if let Some(problem) = placeholder(&bytes) {
        return Err(broken(problem.to_owned()));
    }
    let value: Value =
        crate::json::parse(&bytes).map_err(|error| broken(format!("not JSON: {error}")))?;
    if value.is_object() {
        Ok(Some(value))
    } else {
        Err(broken("expected a JSON object".to_owned()))
    }
}
