//! gpt-oss (OpenAI 2025): attention with sinks, every second layer within a window, and experts
//! with biases and a clipped activation. Of the published layout, in which the experts' gate and up
//! projections lie row by row beside each other, too.

use crate::error::Result;
use crate::mlx::quantized::{Mode, QuantizationParams, QuantizedTensor};
use crate::mlx::{Array, Dtype, eval, ops};
use crate::models::config::{ConfigFile, RopeDefaults};
use crate::models::{Architecture, LanguageModel};
use crate::nn::{
    Activation, Combine, ExpertLinear, ExpertMatrix, Experts, Moe, MoeConfig, Router, Routing,
    clipped_swiglu,
};
use crate::weights::{Float8, Weights};

pub(super) const ARCHITECTURE: Architecture = Architecture::new(&["gpt_oss"], build);

fn build(file: &ConfigFile, w: &Weights) -> Result<Box<dyn LanguageModel>> {
    let mut decoder = file.decoder(&RopeDefaults::base(150_000.0))?;
    decoder.attention.qkv_bias = true;
    decoder.attention.output_bias = true;
    decoder.attention.sinks = Some("sinks");
    decoder.tied = Some(false);
    let combine = Combine { function: clipped_swiglu, numbers: [7.0, 1.702] };
    file.expect_number("swiglu_limit", combine.numbers[0])?;
    file.expect_number("swiglu_alpha", combine.numbers[1])?;
    for (layer, window) in decoder.layers.iter_mut().zip(file.windows(128, 2)?) {
        layer.span = window.into();
    }
    let experts = file.size_or("num_local_experts", 128)?;
    let config = MoeConfig {
        dims: decoder.attention.dims,
        hidden: file.size("intermediate_size")?,
        experts,
        active: file.active_experts(experts, Some(4))?,
        activation: Activation::Silu,
        routing: Routing::TopThenSoftmax,
    };
    Ok(Box::new(decoder.build(w, |_, w| {
        let mlp = w.at("mlp");
        let experts = mlp.at("experts");
        let projections = projections(&experts, config)?;
        let names = ["gate_proj", "up_proj", "down_proj"];
        let projections = Experts::adaptable(&experts, names, config, projections);
        let experts = Experts::combined(projections, combine);
        Ok(Box::new(Moe::of(Router::new(&mlp.at("router"), config, true)?, experts)))
    })?))
}

fn mxfp4() -> QuantizationParams {
    let (group_size, bits) = Mode::Mxfp4.defaults();
    QuantizationParams { mode: Mode::Mxfp4, group_size, bits }
}

/// The gate, up and down projections of all experts, whichever way the checkpoint holds them.
fn projections(w: &Weights, config: MoeConfig) -> Result<[ExpertLinear; 3]> {
    let MoeConfig { dims, hidden, experts, .. } = config;
    if w.has("gate_proj.weight") {
        let linear = |name: &str, inputs: i32, outputs: i32| -> Result<_> {
            let w = w.at(name);
            let matrix = ExpertMatrix::new(&w, |_| w.clone(), inputs, outputs, experts)?;
            Ok(ExpertLinear::new(matrix, Some(w.take("bias", &[experts, outputs])?)))
        };
        return Ok([
            linear("gate_proj", dims, hidden)?,
            linear("up_proj", dims, hidden)?,
            linear("down_proj", hidden, dims)?,
        ]);
    }
    let packed = w.has("gate_up_proj_blocks");
    let (gate_up, down) = if packed {
        (
            blocks(w, "gate_up_proj", dims, &[experts, 2 * hidden])?,
            blocks(w, "down_proj", hidden, &[experts, dims])?,
        )
    } else {
        // Without packing the published matrices are transposed: inputs before outputs.
        let transposed = |name: &str, inputs: i32, outputs: i32| -> Result<_> {
            let matrix = ops::swap_axes(&w.take(name, &[experts, inputs, outputs])?, -1, -2)?;
            Ok(Parts { weight: matrix, scales: None })
        };
        (transposed("gate_up_proj", dims, 2 * hidden)?, transposed("down_proj", hidden, dims)?)
    };
    let gate_up_bias = w.take("gate_up_proj_bias", &[experts, 2 * hidden])?;
    let dtype = gate_up_bias.dtype();
    let half = |start: i32| {
        let bias = ops::every_second(&gate_up_bias, 1, start)?;
        ExpertLinearParts { parts: gate_up.every_second(start)?, bias }.build(dtype)
    };
    let bias = w.take("down_proj_bias", &[experts, dims])?;
    Ok([half(0)?, half(1)?, ExpertLinearParts { parts: down, bias }.build(dtype)?])
}

/// A matrix for each expert: mxfp4 words and scales, or numbers.
struct Parts {
    weight: Array,
    scales: Option<Array>,
}

impl Parts {
    /// The even (0) or odd (1) rows.
    fn every_second(&self, start: i32) -> Result<Self> {
        let scales = self.scales.as_ref();
        Ok(Self {
            weight: ops::every_second(&self.weight, 1, start)?,
            scales: scales.map(|scales| ops::every_second(scales, 1, start)).transpose()?,
        })
    }
}

struct ExpertLinearParts {
    parts: Parts,
    bias: Array,
}

impl ExpertLinearParts {
    fn build(self, dtype: Dtype) -> Result<ExpertLinear> {
        let Self { parts: Parts { weight, scales }, bias } = self;
        // Computed at once, so that the published tensors need not stay in memory, and with their
        // rows side by side, as the products want them.
        let weight = ops::contiguous(&weight)?;
        let matrix = match scales {
            Some(scales) => {
                let scales = ops::contiguous(&scales)?;
                eval(&[&weight, &scales, &bias])?;
                let params = mxfp4();
                let tensor = QuantizedTensor { weight, scales, biases: None, params, dtype };
                ExpertMatrix::Quantized(tensor, None)
            }
            None => {
                eval(&[&weight, &bias])?;
                ExpertMatrix::dense(&weight)?
            }
        };
        Ok(ExpertLinear::new(matrix, Some(bias)))
    }
}

/// The published blocks `[…, inputs / 32, 16]` as the words that MLX reads, and their scales.
fn blocks(w: &Weights, name: &str, inputs: i32, outputs: &[i32]) -> Result<Parts> {
    let groups = inputs / 32;
    let bytes =
        w.take_bytes(&format!("{name}_blocks"), &[outputs, &[groups, 16]].concat(), None)?;
    let words = ops::view(&bytes, Dtype::Uint32)?;
    let weight = ops::reshape(&words, &[outputs, &[groups * 4]].concat())?;
    let shape = [outputs, &[groups]].concat();
    let scales = w.take_bytes(&format!("{name}_scales"), &shape, Some(Float8::E8m0))?;
    let parameters = outputs.iter().chain([&inputs]).map(|&dim| i64::from(dim)).product();
    w.count(parameters);
    w.count_format(Some(mxfp4()), parameters);
    Ok(Parts { weight, scales: Some(scales) })
}
