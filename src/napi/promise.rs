//! Promises that are settled from other threads.

use napi::bindgen_prelude::{Object, ToNapiValue};
use napi::{Env, JsDeferred};

use super::error::{Result, throw};
use crate::engine::Callback;
use crate::error::Error;

type Resolver<J> = Box<dyn FnOnce(Env) -> napi::Result<J> + Send>;

/// A promise, and the callback that settles it with what `convert` makes of the result, on the
/// JavaScript thread.
///
/// The promise keeps Node.js alive while it is pending. A callback that is dropped unanswered
/// rejects it. After the end of its environment the callback does nothing.
pub fn promise<'env, T, J>(
    env: &'env Env,
    convert: impl FnOnce(T) -> J + Send + 'static,
) -> Result<(Object<'env>, Callback<T>)>
where
    T: Send + 'static,
    J: ToNapiValue + 'static,
{
    let (deferred, object) = env.create_deferred::<J, Resolver<J>>()?;
    let settle = Settle(Some(deferred));
    let callback: Callback<T> = Box::new(move |result| {
        settle.settle(Box::new(move |env| match result {
            Ok(value) => Ok(convert(value)),
            Err(error) => Err(throw(&env, &error)),
        }));
    });
    Ok((object, callback))
}

struct Settle<J: ToNapiValue>(Option<JsDeferred<J, Resolver<J>>>);

impl<J: ToNapiValue> Settle<J> {
    fn settle(mut self, resolver: Resolver<J>) {
        if let Some(deferred) = self.0.take() {
            deferred.resolve(resolver);
        }
    }
}

impl<J: ToNapiValue> Drop for Settle<J> {
    fn drop(&mut self) {
        if let Some(deferred) = self.0.take() {
            deferred.resolve(Box::new(|env| {
                let error = Error::EngineFailed("a request was lost".to_owned());
                Err(throw(&env, &error))
            }));
        }
    }
}
