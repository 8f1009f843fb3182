//! Hunyuan (Tencent 2025): norms over each query and key head behind the rotation, whose base grows
//! with `alpha`.

use serde_json::{Value, json};

use crate::error::Result;
use crate::models::config::{ConfigFile, RopeDefaults};
use crate::models::{Architecture, LanguageModel, mlp};
use crate::nn::{Norm, QkNorm};
use crate::weights::Weights;

pub(super) const ARCHITECTURE: Architecture = Architecture::new(&["hunyuan_v1_dense"], build);

fn build(file: &ConfigFile, w: &Weights) -> Result<Box<dyn LanguageModel>> {
    let file = &with_base(file)?;
    let mut decoder = file.decoder(&RopeDefaults::base(10_000.0))?;
    if file.flag_on("use_qk_norm")? {
        let norm = QkNorm::each_head(Norm::rms, decoder.eps).after_rotation();
        decoder.attention.qk_norm = Some(norm.named(["query_layernorm", "key_layernorm"]));
    }
    Ok(Box::new(decoder.build(w, mlp(file, decoder.attention.dims)?)?))
}

/// The rotation at base · α^(d / (d − 2)), where the configuration says α (NTK-aware scaling).
pub(super) fn with_base(file: &ConfigFile) -> Result<ConfigFile> {
    for field in ["rope_scaling", "rope_parameters"] {
        let scaling: Option<serde_json::Map<String, Value>> = file.optional(field)?;
        let Some(alpha) = scaling.as_ref().and_then(|it| it.get("alpha")?.as_f64()) else {
            continue;
        };
        let base = file.rope_theta()?.unwrap_or(10_000.0);
        let dims = f64::from(file.attention()?.head_dim);
        let base = f64::from(base) * alpha.powf(dims / (dims - 2.0));
        return Ok(file.with([("rope_theta", json!(base)), (field, Value::Null)]));
    }
    Ok(file.clone())
}
