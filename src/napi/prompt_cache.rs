//! A prompt cache.

use std::path::PathBuf;

use napi::Env;
use napi::bindgen_prelude::Object;
use napi_derive::napi;

use super::error::Result;
use super::promise::promise;
use crate::engine::{HeldPromptCache, PromptCacheSize};

/// What a prompt cache may take.
#[napi(object, object_to_js = false)]
pub struct NativeCacheLimits {
    /// The most positions that a layer's cache holds.
    pub max_kv_size: Option<f64>,
    /// The bits of cached keys and values.
    pub kv_bits: Option<f64>,
    /// How many features of them share a scale.
    pub kv_group_size: Option<f64>,
}

/// What a prompt cache holds.
#[napi(object, object_from_js = false)]
pub struct NativePromptCacheSize {
    /// The tokens.
    pub tokens: f64,
    /// The bytes.
    pub bytes: f64,
}

/// A prompt cache. Collected as garbage it is forgotten.
#[napi]
pub struct NativePromptCache {
    cache: HeldPromptCache,
}

impl NativePromptCache {
    /// The JavaScript side of `cache`.
    pub fn new(cache: HeldPromptCache) -> Self {
        Self { cache }
    }
}

#[napi]
impl NativePromptCache {
    /// The number by which a request names it.
    #[napi]
    pub fn id(&self) -> f64 {
        self.cache.id().number()
    }

    /// How much it holds.
    #[napi(ts_return_type = "Promise<NativePromptCacheSize>")]
    pub fn size<'env>(&self, env: &'env Env) -> Result<Object<'env>> {
        let (promise, callback) = promise(env, |size: PromptCacheSize| NativePromptCacheSize {
            tokens: size.tokens as f64,
            bytes: size.bytes as f64,
        })?;
        self.cache.size(callback);
        Ok(promise)
    }

    /// Writes it to a file.
    #[napi(ts_return_type = "Promise<void>")]
    pub fn save<'env>(&self, env: &'env Env, path: String) -> Result<Object<'env>> {
        let (promise, callback) = promise(env, |()| ())?;
        self.cache.save(PathBuf::from(path), callback);
        Ok(promise)
    }

    /// Forgets it now.
    #[napi]
    pub fn dispose(&self) {
        self.cache.forget();
    }
}
