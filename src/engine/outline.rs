//! The outline of a model, made on an engine's thread: MLX's streams belong to those.

use std::path::PathBuf;

use super::exit;
use super::pool::ENGINES;
use super::status::Callback;
use crate::cache::CacheLimits;
use crate::fused::{Device, Precision};
use crate::mlx::{self, DeviceKind};
use crate::models::ModelOutline;
use crate::weights::TensorOutline;

/// Whose outline is wanted.
#[derive(Debug, Clone)]
pub struct OutlineRequest {
    /// A folder with the model's configuration.
    pub path: PathBuf,
    /// What is known of its tensors.
    pub tensors: Vec<TensorOutline>,
    /// Where it shall run.
    pub device: DeviceKind,
    /// How much its caches may take.
    pub limits: CacheLimits,
}

/// Makes an outline; `callback` is called once with it.
pub fn outline(request: OutlineRequest, callback: Callback<ModelOutline>) {
    ENGINES.call(callback, move || {
        let _turn = exit::begin_turn();
        mlx::enter(request.device)?;
        exit::guard();
        let device = match request.device {
            DeviceKind::Gpu => Device::gpu(),
            DeviceKind::Cpu => Device::cpu(None, Precision::Fast),
        };
        ModelOutline::new(&request.path, request.tensors, device, request.limits)
    });
}
