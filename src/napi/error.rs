//! Errors with their stable codes, on the way to JavaScript.

use napi::bindgen_prelude::JsObjectValue;
use napi::{Env, JsValue};

use crate::error::Error;

/// An error's stable code, as napi-rs wants the status of an error that is thrown.
pub struct Code(&'static str);

impl AsRef<str> for Code {
    fn as_ref(&self) -> &str {
        self.0
    }
}

impl From<napi::Status> for Code {
    fn from(_: napi::Status) -> Self {
        Self("INTERNAL_ERROR")
    }
}

/// The result of a function that throws [`Error`]s. napi-derive looks for this very name.
pub type Result<T, E = napi::Error<Code>> = std::result::Result<T, E>;

/// `error` for a function that throws it.
pub fn throw(error: Error) -> napi::Error<Code> {
    napi::Error::new(Code(error.code()), error.to_string())
}

/// A failure of Node-API itself, for a function that throws.
pub fn internal(error: napi::Error) -> napi::Error<Code> {
    napi::Error::new(Code("INTERNAL_ERROR"), error.reason.clone())
}

/// `error` for a promise that is rejected with it. On the JavaScript thread only.
pub fn rejection(env: &Env, error: &Error) -> napi::Error {
    let build = || {
        let mut object = env.create_error(napi::Error::from_reason(error.to_string()))?;
        object.set_named_property("code", error.code())?;
        Ok::<_, napi::Error>(napi::Error::from(object.to_unknown()))
    };
    build().unwrap_or_else(|failure| failure)
}
