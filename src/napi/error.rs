//! Errors on the way to JavaScript: a message, a stable code, and what the error is about.

use napi::bindgen_prelude::{JsObjectValue, Object};
use napi::{Env, JsValue};

use crate::error::Error;

/// The result of a function that throws. napi-derive looks for this very name.
pub type Result<T, E = napi::Error> = std::result::Result<T, E>;

/// `error` for a function that throws it, or a promise that is rejected with it: an `Error` of
/// JavaScript with the properties `code` and, where they are known, `option` and `path`. On the
/// JavaScript thread only.
pub fn throw(env: &Env, error: &Error) -> napi::Error {
    build(env, error).unwrap_or_else(|failure| failure)
}

fn build(env: &Env, error: &Error) -> napi::Result<napi::Error> {
    let mut object: Object<'_> = env.create_error(napi::Error::from_reason(error.to_string()))?;
    object.set_named_property("code", error.code())?;
    if let Some(option) = error.option() {
        object.set_named_property("option", option)?;
    }
    if let Some(path) = error.path() {
        object.set_named_property("path", path.to_string_lossy().as_ref())?;
    }
    Ok(napi::Error::from(object.to_unknown()))
}
