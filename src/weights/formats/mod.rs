//! Checkpoints that other programs have quantized: what their tensors are, as MLX's formats.
//!
//! A checkpoint is [translated](super::Checkpoint::translate) before anybody takes from it: in
//! place of the tensors of a layer as its program names them there are then `weight`, `scales` and
//! `biases`, which are made when they are taken. Architectures know nothing of it. What a layer is
//! can be seen by its tensors; the configuration says how they are to be read.

mod affine;
mod awq;
mod bitnet;
mod bitsandbytes;
mod compressed;
mod floats;
mod fp8;
mod gptq;
mod layer;
mod made;
mod modelopt;
mod numbers;
mod source;
mod translation;

use serde_json::Value;

use crate::error::Result;
use awq::Awq;
use bitnet::BitNet;
use compressed::Compressed;
use fp8::Fp8;
use gptq::Gptq;
use layer::Layer;
pub(super) use made::{Converted, Made};
use modelopt::ModelOpt;
pub use numbers::e8m0;
pub(super) use source::Source;

/// Of a layer whose inputs are sorted by their groups: the place of each among those of the model.
pub(super) const INPUT_ORDER: &str = "input_order";
/// What the outputs of a layer are multiplied by.
pub(super) const OUTPUT_FACTORS: &str = "output_factors";

/// Names of numbers that programs with quantized activations or caches read, and nobody here:
/// activations keep their precision.
const OF_ACTIVATIONS: [&str; 12] = [
    "activation_scale",
    "input_global_scale",
    "input_scale",
    "input_scale_ub",
    "input_zero_point",
    "k_scale",
    "kv_scale",
    "output_scale",
    "output_zero_point",
    "prob_output_scale",
    "q_scale",
    "v_scale",
];

/// Why a configuration of another program is refused.
#[derive(Debug)]
pub enum Refusal {
    /// What it says is not supported, as the end of a sentence.
    Unsupported(String),
    /// It cannot be so.
    Invalid(String),
}

/// The format of another program, and what its configuration says of it.
#[derive(Debug, Clone, Copy)]
pub struct Foreign(Format);

#[derive(Debug, Clone, Copy)]
enum Format {
    Awq(Awq),
    BitNet(BitNet),
    BitsAndBytes,
    Compressed(Compressed),
    Fp8(Fp8),
    Gptq(Gptq),
    ModelOpt(ModelOpt),
}

impl Foreign {
    /// Reads a `quantization_config`.
    ///
    /// # Errors
    /// Why it is refused.
    pub fn of(config: &Value) -> Result<Self, Refusal> {
        let Some(method) = config["quant_method"].as_str() else {
            let what = "a method that \"quant_method\" does not name";
            return Err(Refusal::Unsupported(what.to_owned()));
        };
        let format = match method {
            "awq" => Awq::of(config).map(Format::Awq),
            "bitnet" => BitNet::of(config).map(Format::BitNet),
            "bitsandbytes" => Ok(Format::BitsAndBytes),
            "compressed-tensors" => Compressed::of(config).map(Format::Compressed),
            "fp8" | "fbgemm_fp8" | "mxfp8" => Fp8::of(config).map(Format::Fp8),
            "gptq" => Gptq::of(config).map(Format::Gptq),
            "modelopt" | "modelopt_fp4" => ModelOpt::of(config).map(Format::ModelOpt),
            _ => return Err(Refusal::Unsupported(format!("the method \"{method}\""))),
        };
        format.map(Self).map_err(|refusal| match refusal {
            Refusal::Unsupported(what) => {
                Refusal::Unsupported(format!("{what} of the method \"{method}\""))
            }
            invalid @ Refusal::Invalid(_) => invalid,
        })
    }

    /// Rows and columns of blocks of float8 that share a scale, if that is the format.
    pub fn float8_block(self) -> Option<[usize; 2]> {
        match self.0 {
            Format::Fp8(fp8) => fp8.block(),
            _ => None,
        }
    }

    fn name(self) -> &'static str {
        match self.0 {
            Format::Awq(_) => "AWQ",
            Format::BitNet(_) => "BitNet",
            Format::BitsAndBytes => "bitsandbytes",
            Format::Compressed(_) => "compressed-tensors",
            Format::Fp8(_) => "fp8",
            Format::Gptq(_) => "GPTQ",
            Format::ModelOpt(_) => "Model Optimizer",
        }
    }

    /// The ends of the names of a layer's tensors. A layer with one of those before `weight` is
    /// quantized.
    fn endings(self) -> &'static [&'static str] {
        match self.0 {
            Format::Awq(_) => &["qweight", "qzeros", "scales"],
            Format::Gptq(_) => &["qweight", "qzeros", "scales", "g_idx"],
            Format::BitNet(_) => &["weight_scale", "weight"],
            Format::Fp8(_) => &["weight_scale_inv", "weight_scale", "scale", "weight"],
            Format::ModelOpt(_) => &["weight_scale", "weight_scale_2", "weight"],
            Format::BitsAndBytes => &[
                "SCB",
                "weight.absmax",
                "weight.quant_map",
                "weight.quant_state.bitsandbytes__fp4",
                "weight.quant_state.bitsandbytes__nf4",
                "weight",
                "weight.nested_absmax",
                "weight.nested_quant_map",
                "weight_format",
            ],
            Format::Compressed(_) => &[
                "weight_packed",
                "weight_scale",
                "weight",
                "weight_g_idx",
                "weight_global_scale",
                "weight_shape",
                "weight_zero_point",
            ],
        }
    }

    fn convert(self, layer: &Layer) -> Result<Converted> {
        match self.0 {
            Format::Awq(awq) => awq.convert(layer),
            Format::BitNet(bitnet) => bitnet.convert(layer),
            Format::BitsAndBytes => bitsandbytes::convert(layer),
            Format::Compressed(compressed) => compressed.convert(layer),
            Format::Fp8(fp8) => fp8.convert(layer),
            Format::Gptq(gptq) => gptq.convert(layer),
            Format::ModelOpt(modelopt) => modelopt.convert(layer),
        }
    }
}

fn unsupported(what: impl Into<String>) -> Refusal {
    Refusal::Unsupported(what.into())
}

/// Rows and columns of blocks that share a scale; `None` for null.
fn block_of(field: &str, value: &Value) -> Result<Option<[usize; 2]>, Refusal> {
    if value.is_null() {
        return Ok(None);
    }
    match serde_json::from_value::<[usize; 2]>(value.clone()) {
        Ok(block) if block.iter().all(|size| (1..=1 << 14).contains(size)) => Ok(Some(block)),
        _ => Err(Refusal::Invalid(format!("\"{field}\" is {value}, expected rows and columns"))),
    }
}
