//! NVIDIA's Model Optimizer: float8 (`weight_scale`), and float4 by groups of 16 (NVFP4), whose
//! float8 scales `weight_scale` are multiplied by one number, `weight_scale_2`. The tensors of a
//! layer say which of them it has.

use serde_json::Value;

use super::floats::{float4, float8, mxfp8, only_number};
use super::layer::Layer;
use super::made::Converted;
use super::{Refusal, unsupported};
use crate::error::Result;

/// The algorithms that are read.
const ALGORITHMS: [&str; 9] = [
    "FP8",
    "FP8_PB_WO",
    "FP8_PER_CHANNEL_PER_TOKEN",
    "MIXED_PRECISION",
    "MXFP4",
    "MXFP8",
    "NVFP4",
    "W4A16_NVFP4",
    "W4A8_NVFP4_FP8",
];

/// A configuration of Model Optimizer.
#[derive(Debug, Clone, Copy)]
pub(super) struct ModelOpt;

impl ModelOpt {
    /// # Errors
    /// What is not supported.
    pub(super) fn of(config: &Value) -> Result<Self, Refusal> {
        let algorithms = config["quantized_layers"].as_object().into_iter().flatten();
        let algorithms = algorithms.map(|(_, layer)| &layer["quant_algo"]);
        for algorithm in [&config["quant_algo"]].into_iter().chain(algorithms) {
            match algorithm.as_str() {
                Some(name) if !ALGORITHMS.contains(&name) => {
                    return Err(unsupported(format!("the algorithm \"{name}\"")));
                }
                _ => {}
            }
        }
        Ok(Self)
    }

    pub(super) fn convert(self, layer: &Layer) -> Result<Converted> {
        use safetensors::Dtype::{F8_E8M0, U8};
        let weight = layer.source("weight", "weight_scale")?;
        let scale = layer.source("weight_scale", "weight")?;
        match (weight.stored(), scale.stored()) {
            (U8, U8 | F8_E8M0) => float4(layer, &weight, &scale, None),
            (U8, _) => {
                let factor = layer.source("weight_scale_2", "weight")?;
                let number = only_number(&factor)?;
                float4(layer, &weight, &scale, Some((factor, number)))
            }
            (_, U8 | F8_E8M0) => mxfp8(&weight, &scale),
            _ => float8(layer, &weight, &scale, None),
        }
    }
}
