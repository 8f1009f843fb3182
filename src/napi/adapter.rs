//! An adapter.

use napi_derive::napi;

use crate::engine::ModelAdapter;

/// What is known of an adapter.
#[napi(object, object_from_js = false)]
pub struct NativeAdapterInfo {
    /// How it was trained.
    #[napi(ts_type = "'lora' | 'dora' | 'full'")]
    pub kind: &'static str,
    /// The largest rank of its products.
    pub rank: u32,
    /// Modules that it changes.
    pub modules: u32,
    /// Its numbers.
    pub parameters: f64,
    /// The bytes of its arrays.
    pub bytes: f64,
    /// Its folder.
    pub path: String,
}

/// An adapter. Collected as garbage it is forgotten.
#[napi]
pub struct NativeAdapter {
    adapter: ModelAdapter,
}

impl NativeAdapter {
    /// The JavaScript side of `adapter`.
    pub fn new(adapter: ModelAdapter) -> Self {
        Self { adapter }
    }
}

#[napi]
impl NativeAdapter {
    /// The number by which a request names it.
    #[napi]
    pub fn id(&self) -> f64 {
        self.adapter.id().number()
    }

    /// What is known of it.
    #[napi]
    pub fn info(&self) -> NativeAdapterInfo {
        let info = self.adapter.info();
        NativeAdapterInfo {
            kind: info.kind.name(),
            rank: info.rank.unsigned_abs(),
            modules: info.modules as u32,
            parameters: info.parameters as f64,
            bytes: info.bytes as f64,
            path: info.path.to_string_lossy().into_owned(),
        }
    }

    /// Forgets it, once no generation runs with it.
    #[napi]
    pub fn dispose(&self) {
        self.adapter.forget();
    }
}
