//! Tencent's models.

mod hunyuan;
mod hunyuan_v1_dense;
mod hunyuan_v1_moe;
mod hy_v3;

use super::Architecture;

pub(super) const ARCHITECTURES: &[Architecture] =
    architectures![hunyuan, hunyuan_v1_dense, hunyuan_v1_moe, hy_v3];
