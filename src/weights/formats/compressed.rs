//! compressed-tensors, the format of LLM Compressor and vLLM: `weight_packed` or `weight`, with
//! `weight_scale` and, as the scheme has them, `weight_zero_point`, `weight_global_scale` and
//! `weight_g_idx`. The tensors of a layer say which scheme it has.

use serde_json::Value;

use super::affine::{
    Affine, Codes, Table, Zeros, code, group_size, scattered_groups, signed_bytes,
};
use super::floats::{float4, float8, mxfp8, only_number};
use super::layer::Layer;
use super::made::Converted;
use super::source::Source;
use super::{Refusal, block_of, unsupported};
use crate::error::Result;

/// The ways of storing that are read.
const FORMATS: [&str; 9] = [
    "dense",
    "float-quantized",
    "int-quantized",
    "mixed-precision",
    "mxfp4-pack-quantized",
    "mxfp8-quantized",
    "naive-quantized",
    "nvfp4-pack-quantized",
    "pack-quantized",
];

/// What a configuration says of compressed-tensors.
#[derive(Debug, Clone, Copy)]
pub(super) struct Compressed {
    /// Rows and columns of blocks, where a scheme has them.
    block: Option<[usize; 2]>,
}

impl Compressed {
    /// # Errors
    /// What is not supported.
    pub(super) fn of(config: &Value) -> Result<Self, Refusal> {
        let groups = config["config_groups"].as_object().into_iter().flatten();
        let groups: Vec<_> = groups.map(|(_, group)| group).collect();
        let formats = groups.iter().map(|group| &group["format"]).chain([&config["format"]]);
        for format in formats.filter_map(Value::as_str) {
            if !FORMATS.contains(&format) {
                return Err(unsupported(format!("the storage \"{format}\"")));
            }
        }
        let sparsity = config["sparsity_config"]["format"].as_str();
        if let Some(format) = sparsity.filter(|format| *format != "dense") {
            return Err(unsupported(format!("the sparse storage \"{format}\"")));
        }
        if config["transform_config"]["config_groups"].as_object().is_some_and(|it| !it.is_empty())
        {
            return Err(unsupported("transforms of activations (\"transform_config\")"));
        }
        let mut block = None;
        for group in groups {
            let field = "block_structure";
            block = block.or(block_of(field, &group["weights"][field])?);
        }
        Ok(Self { block })
    }

    pub(super) fn convert(self, layer: &Layer) -> Result<Converted> {
        use safetensors::Dtype::{F8_E8M0, I8, U8};
        if let Some(packed) = layer.optional("weight_packed") {
            let scale = layer.source("weight_scale", "weight_packed")?;
            if packed.stored() != U8 {
                return integers(layer, packed, scale);
            }
            let factor = match layer.optional("weight_global_scale") {
                Some(global) => {
                    let factor = only_number(&global)?.recip();
                    Some((global, factor))
                }
                None => None,
            };
            return float4(layer, &packed, &scale, factor);
        }
        let weight = layer.source("weight", "weight_scale")?;
        let scale = layer.source("weight_scale", "weight")?;
        match (weight.stored(), scale.stored()) {
            (I8, _) => bytes(layer, weight, scale),
            (_, U8 | F8_E8M0) => mxfp8(&weight, &scale),
            _ => float8(layer, &weight, &scale, self.block),
        }
    }
}

/// Whole numbers packed into words, with half of their range added.
fn integers(layer: &Layer, packed: Source, scale: Source) -> Result<Converted> {
    let [outputs, words] = packed.matrix()?;
    packed.words()?;
    let shape = layer.source("weight_shape", "weight_packed")?;
    let inputs = match *shape.integers()? {
        [rows, inputs] if rows == outputs as i64 && (1..=1 << 24).contains(&inputs) => {
            inputs as usize
        }
        _ => return Err(shape.error(format!("does not fit {outputs} rows of packed numbers"))),
    };
    // As many bits as fill the words.
    let bits = words * 32 / inputs;
    if !(2..=8).contains(&bits) || (inputs * bits).div_ceil(32) != words {
        let message = format!("holds {words} words in a row, which are no {inputs} whole numbers");
        return Err(packed.error(message));
    }
    let (scales, [groups, group]) = scales_of(scale, outputs, inputs)?;
    let zeros = match layer.optional("weight_zero_point") {
        None => Zeros::middle(bits),
        Some(zeros) => Zeros::Each(packed_zeros(zeros, [outputs, groups], bits)?),
    };
    let scattered = match layer.optional("weight_g_idx") {
        Some(indices) => scattered_groups(&indices, inputs, groups, group)?,
        None => None,
    };
    let codes = Codes::stored(packed);
    Ok(Affine { outputs, inputs, bits, group, codes, scales, zeros, groups: scattered }
        .convert(layer))
}

/// Zeros that are packed along the outputs.
fn packed_zeros(zeros: Source, [outputs, groups]: [usize; 2], bits: usize) -> Result<Table> {
    let words = (outputs * bits).div_ceil(32);
    zeros.expect([words, groups])?;
    zeros.words()?;
    let read = move |source: &Source| {
        let packed = source.words()?;
        let column = |group: usize| -> Vec<u32> {
            (0..words).map(|word| u32::from_le_bytes(packed[word * groups + group])).collect()
        };
        let columns: Vec<_> = (0..groups).map(column).collect();
        let zero = |place: usize| code(&columns[place % groups], bits, place / groups) as f32;
        Ok((0..outputs * groups).map(zero).collect())
    };
    Ok(Table::new(zeros, read))
}

/// Whole numbers of a byte each, from −128 on.
fn bytes(layer: &Layer, weight: Source, scale: Source) -> Result<Converted> {
    let [outputs, inputs] = weight.matrix()?;
    let (scales, [groups, group]) = scales_of(scale, outputs, inputs)?;
    let zeros = match layer.optional("weight_zero_point") {
        None => Zeros::middle(8),
        Some(zeros) => Zeros::Each(signed_zeros(zeros, [outputs, groups])?),
    };
    let codes = signed_bytes(weight, inputs)?;
    Ok(Affine { outputs, inputs, bits: 8, group, codes, scales, zeros, groups: None }
        .convert(layer))
}

/// Zeros of a byte each, from −128 on.
fn signed_zeros(zeros: Source, [outputs, groups]: [usize; 2]) -> Result<Table> {
    let count = zeros.dims().iter().product::<usize>();
    if zeros.stored() != safetensors::Dtype::I8 || (count != 1 && count != outputs * groups) {
        let message = format!("does not hold int8 for {outputs} outputs and {groups} groups");
        return Err(zeros.error(message));
    }
    let read = move |source: &Source| {
        let zero = |&byte: &u8| f32::from(byte ^ 0x80);
        let bytes = source.bytes().iter().cycle().take(outputs * groups);
        Ok(bytes.map(zero).collect())
    };
    Ok(Table::new(zeros, read))
}

/// Scales of each output and group, of each output, or of all; how many groups there are, and of
/// what size.
fn scales_of(scale: Source, outputs: usize, inputs: usize) -> Result<(Table, [usize; 2])> {
    let dims = scale.dims();
    let groups = match *dims {
        [] | [1] | [1, 1] => 1,
        [rows] if rows == outputs => 1,
        [rows, groups] if rows == outputs && groups > 0 => groups,
        _ => return Err(scale.error(format!("has shape {dims:?}, expected {outputs} rows"))),
    };
    let group = group_size(&scale, inputs, groups)?;
    scale.floats()?;
    let read = move |source: &Source| {
        let scales = source.floats()?;
        Ok(if scales.len() == 1 { vec![scales[0]; outputs] } else { scales })
    };
    Ok((Table::new(scale, read), [groups, group]))
}
