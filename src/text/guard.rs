//! Runs the tokenizer library on data from outside.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;

use crate::error::{Error, Result};

/// An error of a tokenizer's file.
pub(super) fn broken(path: &Path, message: impl ToString) -> Error {
    Error::tokenizer(path, message.to_string())
}

/// Runs the library. Some of its parts index without checking, so that a strange file panics; that
/// is an error of the file, not of the process.
pub(super) fn guarded<T>(path: &Path, run: impl FnOnce() -> tokenizers::Result<T>) -> Result<T> {
    match catch_unwind(AssertUnwindSafe(run)) {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(broken(path, &error).with_cause(Some(Arc::from(error)))),
        Err(_) => Err(broken(path, "the tokenizer library failed on this file")),
    }
}
