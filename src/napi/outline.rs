//! What is known of a model before its weights are there.

use std::collections::BTreeMap;

use napi::Env;
use napi::bindgen_prelude::Object;
use napi_derive::napi;
use serde::Deserialize;
use serde_json::Value;

use super::error::{Result, throw};
use super::load::absolute;
use super::promise::promise;
use super::prompt_cache::NativeCacheLimits;
use crate::cache::CacheSize;
use crate::engine::{self, OutlineRequest};
use crate::error::{Error, Result as EngineResult};
use crate::mlx::DeviceKind;
use crate::models::ModelOutline;
use crate::weights::TensorOutline;

/// What is known of a model.
#[napi]
pub struct NativeOutline {
    caches: Vec<CacheSize>,
    context_length: Option<f64>,
}

#[napi]
impl NativeOutline {
    /// Positions the model is made for.
    #[napi(getter)]
    pub fn context_length(&self) -> Option<f64> {
        self.context_length
    }

    /// The bytes of one more token, as long as no window is full.
    #[napi(getter)]
    pub fn cache_bytes_per_token(&self) -> f64 {
        self.caches.iter().map(|cache| cache.per_position as f64).sum()
    }

    /// The bytes that the caches of a sequence take for so many tokens.
    #[napi]
    pub fn cache_bytes(&self, tokens: f64) -> f64 {
        self.caches.iter().map(|cache| cache.bytes(tokens as i32) as f64).sum()
    }
}

impl From<ModelOutline> for NativeOutline {
    fn from(ModelOutline { context_length, caches }: ModelOutline) -> Self {
        Self { caches, context_length: context_length.map(|it| it as f64) }
    }
}

/// A tensor in the header of a safetensors file.
#[derive(Deserialize)]
struct Tensor {
    dtype: safetensors::Dtype,
    shape: Vec<i32>,
}

/// The outline of the model in a folder, of which no more than `config.json` needs to be there.
/// `headers` are those of its safetensors files, as far as they are known.
#[napi(ts_return_type = "Promise<NativeOutline>")]
pub fn outline_model<'env>(
    env: &'env Env,
    folder: String,
    headers: Vec<String>,
    #[napi(ts_arg_type = "'gpu' | 'cpu'")] device: String,
    limits: NativeCacheLimits,
) -> Result<Object<'env>> {
    let translated = (|| -> EngineResult<_> {
        let tensors =
            headers.iter().map(|header| tensors_of(header)).collect::<EngineResult<Vec<_>>>()?;
        let device = if device == "gpu" { DeviceKind::Gpu } else { DeviceKind::Cpu };
        let limits = limits.translate()?;
        Ok(OutlineRequest { path: absolute(&folder), tensors: tensors.concat(), device, limits })
    })();
    let request = translated.map_err(|error| throw(env, &error))?;
    let (outline, callback) = promise(env, NativeOutline::from)?;
    engine::outline(request, callback);
    Ok(outline)
}

/// The tensors of a header. Those of types that nothing is loaded from are left out.
fn tensors_of(header: &str) -> EngineResult<Vec<TensorOutline>> {
    let entries: BTreeMap<String, Value> = serde_json::from_str(header)
        .map_err(|error| Error::argument("headers", format!("no header: {error}")))?;
    let tensor = |(name, value)| {
        let Tensor { dtype, shape } = serde_json::from_value(value).ok()?;
        Some(TensorOutline { name, shape, stored: dtype })
    };
    Ok(entries.into_iter().filter_map(tensor).collect())
}
