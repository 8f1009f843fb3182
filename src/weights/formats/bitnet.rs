//! BitNet b1.58 (Ma et al. 2024): weights of −1, 0 and 1 times one number, as transformers packs
//! them.

use serde_json::Value;

use super::affine::{Affine, Codes, Table, Zeros, put_code};
use super::floats::only_number;
use super::layer::Layer;
use super::made::Converted;
use super::numbers::fill_rows;
use super::source::Source;
use super::{Refusal, unsupported};
use crate::error::Result;

const BITS: usize = 2;
/// Rows that share a row of bytes: the first quarter of all in the lowest bits.
const ROWS_OF_A_BYTE: usize = 4;

/// What a configuration says of BitNet.
#[derive(Debug, Clone, Copy)]
pub(super) struct BitNet {
    /// Whether outputs are multiplied by `weight_scale`, and not divided.
    multiplied: bool,
}

impl BitNet {
    /// # Errors
    /// What is not supported.
    pub(super) fn of(config: &Value) -> Result<Self, Refusal> {
        if config["quantization_mode"] == "online" {
            return Err(unsupported("weights that are rounded as the model runs (\"online\")"));
        }
        if config["use_rms_norm"] == true {
            return Err(unsupported("norms within its linear layers (\"use_rms_norm\")"));
        }
        match config["linear_class"].as_str().unwrap_or("bitlinear") {
            "bitlinear" => Ok(Self { multiplied: false }),
            "autobitlinear" => Ok(Self { multiplied: true }),
            other => Err(unsupported(format!("layers of the class \"{other}\""))),
        }
    }

    pub(super) fn convert(self, layer: &Layer) -> Result<Converted> {
        let weight = layer.source("weight", "weight_scale")?;
        let scale = layer.source("weight_scale", "weight")?;
        let [rows, inputs] = weight.matrix()?;
        if weight.stored() != safetensors::Dtype::U8 {
            return Err(weight.wrong_type("bytes"));
        }
        only_number(&scale)?;
        let outputs = rows * ROWS_OF_A_BYTE;
        let width = (inputs * BITS).div_ceil(32);
        let codes = move |source: &Source| {
            let bytes = source.bytes();
            let mut words = vec![0; outputs * width];
            fill_rows(&mut words, width, |output, words| {
                let bytes = &bytes[output % rows * inputs..][..inputs];
                let shift = BITS * (output / rows);
                for (input, &byte) in bytes.iter().enumerate() {
                    put_code(words, BITS, input, u32::from(byte >> shift & 3));
                }
            });
            Ok(words)
        };
        let read_scale = move |source: &Source| -> Result<_> {
            let scale = only_number(source)?;
            Ok(vec![if self.multiplied { scale } else { scale.recip() }; outputs])
        };
        Ok(Affine {
            outputs,
            inputs,
            bits: BITS,
            group: inputs,
            codes: Codes::made(weight, codes),
            // The reciprocal of a number of 16 bits has more.
            scales: Table::new(scale, read_scale).in_32_bits(),
            // 0, 1 and 2 stand for −1, 0 and 1.
            zeros: Zeros::All(1),
            groups: None,
        }
        .convert(layer))
    }
}
