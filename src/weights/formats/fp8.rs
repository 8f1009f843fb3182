//! Matrices of float8 with a scale for each block, as DeepSeek V3 is published and transformers
//! saves them (`weight_scale_inv`, in spite of its name a factor), and with a scale for a matrix or
//! for each of its rows, as of FBGEMM and vLLM (`weight_scale`); of DeepSeek's own names (`scale`).

use serde_json::Value;

use super::floats::{float4, float8, mxfp8};
use super::layer::Layer;
use super::made::Converted;
use super::{Refusal, block_of, unsupported};
use crate::error::Result;

/// What a configuration says of float8.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fp8 {
    block: Option<[usize; 2]>,
    /// Whether each 32 of a row share a power of two, which is stored as one (MiniMax M3).
    is_mx: bool,
}

impl Fp8 {
    /// # Errors
    /// What is not supported.
    pub(super) fn of(config: &Value) -> Result<Self, Refusal> {
        if let Some(format) = config["fmt"].as_str().filter(|format| *format != "e4m3") {
            return Err(unsupported(format!("8-bit floats of {format}")));
        }
        let field = "weight_block_size";
        let is_mx = config["quant_method"] == "mxfp8";
        Ok(Self { block: block_of(field, &config[field])?, is_mx })
    }

    /// Rows and columns of blocks, where matrices are scaled by blocks.
    pub(super) fn block(self) -> Option<[usize; 2]> {
        self.block
    }

    pub(super) fn convert(self, layer: &Layer) -> Result<Converted> {
        let scale = layer
            .optional("weight_scale_inv")
            .or_else(|| layer.optional("weight_scale"))
            .or_else(|| layer.optional("scale"));
        let scale = scale.map_or_else(|| layer.source("weight_scale_inv", "weight"), Ok)?;
        let weight = layer.source("weight", "weight_scale_inv")?;
        if self.is_mx {
            return mxfp8(&weight, &scale);
        }
        match weight.stored() {
            // Of experts: two to a byte.
            safetensors::Dtype::I8 | safetensors::Dtype::U8 => float4(layer, &weight, &scale, None),
            _ => float8(layer, &weight, &scale, self.block),
        }
    }
}
