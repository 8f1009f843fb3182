//! Reading the small text and JSON files that lie beside a checkpoint.

use std::path::Path;

use serde_json::Value;

use crate::error::{Error, Result};
pub(crate) use crate::files::placeholder;

/// Five times the largest tokenizer.json that is published.
const MAX_BYTES: u64 = 256 << 20;

/// The bytes of `path`, or `None` if there is no such file.
pub(crate) fn read(path: &Path) -> Result<Option<Vec<u8>>> {
    crate::files::read(path, MAX_BYTES)
}

/// The JSON object in `path`, or `None` if there is no such file. `broken` makes the error for a
/// file that is not JSON or not an object.
pub(crate) fn read_object(path: &Path, broken: impl Fn(String) -> Error) -> Result<Option<Value>> {
    let Some(bytes) = read(path)? else { return Ok(None) };
    if let Some(problem) = placeholder(&bytes) {
        return Err(broken(problem.to_owned()));
    }
    let value: Value = crate::json::parse(&bytes)
        .map_err(|error| broken(format!("not JSON: {error}")).caused_by(error))?;
    if value.is_object() {
        Ok(Some(value))
    } else {
        Err(broken("expected a JSON object".to_owned()))
    }
}
