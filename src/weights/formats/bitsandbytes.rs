//! bitsandbytes: 4 bits with a table of values (NF4, Dettmers et al. 2023, and FP4) and 8 bits with
//! a scale for each row (LLM.int8).

use serde::Deserialize;

use super::affine::{Affine, Table, Zeros, signed_bytes};
use super::layer::Layer;
use super::made::Converted;
use super::source::Source;
use crate::error::Result;
use crate::mlx::Dtype;

/// The ends of names that hold what is no tensor of a 4-bit matrix: a JSON text.
const STATES: [&str; 2] =
    ["weight.quant_state.bitsandbytes__nf4", "weight.quant_state.bitsandbytes__fp4"];

#[derive(Deserialize)]
struct State {
    blocksize: usize,
    dtype: String,
    shape: Vec<usize>,
    nested_blocksize: Option<usize>,
    nested_offset: Option<f32>,
}

pub(super) fn convert(layer: &Layer) -> Result<Converted> {
    match layer.optional("SCB") {
        Some(scales) => bytes(layer, scales),
        None => four_bits(layer),
    }
}

/// Whole numbers from −127 to 127, of which 127 stands for a row's greatest value.
fn bytes(layer: &Layer, scales: Source) -> Result<Converted> {
    let weight = layer.source("weight", "SCB")?;
    let [outputs, inputs] = weight.matrix()?;
    if *scales.dims() != [outputs] {
        return Err(scales.error(format!("has shape {:?}, expected [{outputs}]", scales.dims())));
    }
    if let Some(format) = layer.optional("weight_format")
        && format.bytes().iter().any(|&byte| byte != 0)
    {
        return Err(format.error("names a layout for a GPU, and only rows are supported"));
    }
    scales.floats()?;
    let codes = signed_bytes(weight, inputs)?;
    let scales = Table::new(scales, |source| {
        Ok(source.floats()?.into_iter().map(|scale| scale / 127.0).collect())
    });
    let group = inputs;
    Ok(Affine {
        outputs,
        inputs,
        bits: 8,
        group,
        codes,
        scales,
        zeros: Zeros::middle(8),
        groups: None,
    }
    .convert(layer))
}

/// A code's value times what its block is multiplied by. MLX's formats have no tables of values.
fn four_bits(layer: &Layer) -> Result<Converted> {
    let weight = layer.source("weight", "weight.absmax")?;
    let absmax = layer.source("weight.absmax", "weight")?;
    let table = layer.source("weight.quant_map", "weight")?;
    let state = match STATES.iter().find_map(|name| layer.optional(name)) {
        Some(state) => state,
        None => layer.source(STATES[0], "weight")?,
    };
    let text = state;
    let state: State = serde_json::from_slice(text.bytes())
        .map_err(|error| text.error(format!("cannot be read: {error}")))?;
    let &[outputs, inputs] = state.shape.as_slice() else {
        let message = format!("names the shape {:?}, expected a matrix", state.shape);
        return Err(text.error(message));
    };
    let blocksize = state.blocksize;
    let elements = outputs.checked_mul(inputs).filter(|&count| count > 0 && blocksize > 0);
    let bytes = weight.bytes().len();
    let Some(elements) = elements.filter(|count| count.div_ceil(2) == bytes) else {
        let message = format!("has {bytes} bytes, which are no {outputs} × {inputs} of 4 bits");
        return Err(weight.error(message));
    };
    let values = table.floats()?;
    if values.len() != 16 {
        return Err(table.error(format!("has {} values, expected 16", values.len())));
    }
    let scales = Scales::of(layer, absmax, &state, elements.div_ceil(blocksize))?;
    let recorded = match state.dtype.as_str() {
        "float16" => Dtype::Float16,
        "float32" => Dtype::Float32,
        _ => Dtype::Bfloat16,
    };
    let packed = weight.clone();
    Ok(Converted::dense(layer.plan, &weight, [outputs, inputs], recorded, move || {
        let (scales, values, packed) = (scales.numbers()?, values.clone(), packed.clone());
        Ok(Box::new(move |row, numbers| {
            let bytes = packed.bytes();
            for (i, number) in numbers.iter_mut().enumerate() {
                let place = row * inputs + i;
                // The first of two is high.
                let code = bytes[place / 2] >> (4 * (1 - place % 2)) & 15;
                *number = values[usize::from(code)] * scales[place / blocksize];
            }
        }))
    }))
}

/// What the blocks of a matrix are multiplied by, which may be quantized itself.
struct Scales {
    absmax: Source,
    nested: Option<Nested>,
}

struct Nested {
    absmax: Source,
    values: Vec<f32>,
    blocksize: usize,
    offset: f32,
}

impl Scales {
    fn of(layer: &Layer, absmax: Source, state: &State, blocks: usize) -> Result<Self> {
        let count = absmax.dims().iter().product::<usize>();
        if count != blocks {
            return Err(absmax.error(format!("has {count} elements, expected {blocks}")));
        }
        let Some(nested) = layer.optional("weight.nested_absmax") else {
            absmax.floats()?;
            return Ok(Self { absmax, nested: None });
        };
        let table = layer.source("weight.nested_quant_map", "weight.nested_absmax")?;
        let values = table.floats()?;
        let blocksize = state.nested_blocksize.filter(|&size| size > 0).unwrap_or(256);
        if values.len() != 256 {
            return Err(table.error(format!("has {} values, expected 256", values.len())));
        }
        if nested.floats()?.len() != blocks.div_ceil(blocksize) {
            return Err(nested.error(format!("does not fit {blocks} blocks")));
        }
        let offset = state.nested_offset.unwrap_or(0.0);
        Ok(Self { absmax, nested: Some(Nested { absmax: nested, values, blocksize, offset }) })
    }

    fn numbers(&self) -> Result<Vec<f32>> {
        let Some(Nested { absmax, values, blocksize, offset }) = &self.nested else {
            return self.absmax.floats();
        };
        let nested = absmax.floats()?;
        let codes = self.absmax.bytes().iter().enumerate();
        let number =
            |(i, &code): (usize, &u8)| values[usize::from(code)] * nested[i / blocksize] + offset;
        Ok(codes.map(number).collect())
    }
}
