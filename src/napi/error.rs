//! Errors on the way to JavaScript: a message, a stable code, and what the error is about.

use std::error::Error as _;

use napi::bindgen_prelude::{JsObjectValue, Object};
use napi::{Env, JsValue};

use crate::error::Error;

/// The result of a function that throws. napi-derive looks for this very name.
pub type Result<T, E = napi::Error> = std::result::Result<T, E>;

/// `error` for a function that throws it, or a promise that is rejected with it: an `Error` of
/// JavaScript with the properties `code` and, where they are known, `option` with what is wrong
/// with it, `path`, `tensor`, the numbers of tokens, the `modelType` and the `cause`. On the
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
    if let Some(tensor) = error.tensor() {
        object.set_named_property("tensor", tensor)?;
    }
    match error {
        Error::InvalidArgument { message, .. } | Error::UnsupportedOption { message, .. } => {
            object.set_named_property("problem", message.as_str())?;
        }
        Error::ContextOverflow { tokens, context_length, .. } => {
            object.set_named_property("tokens", *tokens as f64)?;
            object.set_named_property("contextLength", *context_length as f64)?;
        }
        Error::UnknownArchitecture { model_type } => {
            object.set_named_property("modelType", model_type.as_str())?;
        }
        _ => {}
    }
    if let Some(cause) = error.source() {
        object.set_named_property("cause", describe(env, cause)?)?;
    }
    Ok(napi::Error::from(object.to_unknown()))
}

/// An `Error` for what is behind an error of ours, with what is behind that as its cause.
fn describe<'env>(
    env: &'env Env,
    error: &(dyn std::error::Error + 'static),
) -> napi::Result<Object<'env>> {
    let mut object: Object<'_> = env.create_error(napi::Error::from_reason(error.to_string()))?;
    if let Some(cause) = error.source() {
        object.set_named_property("cause", describe(env, cause)?)?;
    }
    Ok(object)
}
