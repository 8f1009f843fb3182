//! One tensor or quantized matrix of a conversion: what it reads, computes and writes.

use super::report::LayerReport;
use super::shards::{Output, Shards};
use crate::error::Result;
use crate::mlx::quantized::{self, Mode, QuantizationParams, QuantizedTensor};
use crate::mlx::{self, Array, Dtype, ops};

/// Numbers that are computed at once.
const BLOCK: usize = 8 << 20;

/// What is to be done for one module or tensor.
pub(super) enum Job {
    /// A tensor as it is, or cast by its graph.
    Copy {
        name: String,
        array: Array,
        /// The numbers that it stands for.
        parameters: u64,
    },
    /// Numbers that become codes.
    Quantize { path: String, array: Array, params: QuantizationParams },
    /// Codes that become numbers, times a factor of each expert, where there are some.
    Dequantize { path: String, tensor: QuantizedTensor, factors: Option<Array> },
}

fn rows(array: &Array) -> i32 {
    let shape = array.shape();
    shape[..shape.len().saturating_sub(1)].iter().product()
}

fn last(array: &Array) -> i32 {
    array.shape().last().copied().unwrap_or(1)
}

/// `[…, last]` as `[rows, last]`.
fn flat(array: &Array) -> Result<Array> {
    ops::reshape(array, &[rows(array), last(array)])
}

fn with_last(shape: &[i32], last: i32) -> Vec<i32> {
    [&shape[..shape.len() - 1], &[last]].concat()
}

impl Job {
    /// The tensors that it will write.
    pub(super) fn outputs(&self) -> Vec<Output> {
        match self {
            Self::Copy { name, array, .. } => vec![Output {
                name: name.clone(),
                dtype: array.dtype(),
                shape: array.shape().to_vec(),
            }],
            Self::Quantize { path, array, params } => {
                let (shape, inputs) = (array.shape(), last(array));
                let output = |leaf: &str, dtype, last| Output {
                    name: format!("{path}.{leaf}"),
                    dtype,
                    shape: with_last(shape, last),
                };
                let words = output("weight", Dtype::Uint32, inputs * params.bits / 32);
                let groups = inputs / params.group_size;
                match params.mode {
                    Mode::Affine => vec![
                        words,
                        output("scales", array.dtype(), groups),
                        output("biases", array.dtype(), groups),
                    ],
                    _ => vec![words, output("scales", Dtype::Uint8, groups)],
                }
            }
            Self::Dequantize { path, tensor, .. } => {
                let inputs = last(&tensor.scales) * tensor.params.group_size;
                vec![Output {
                    name: format!("{path}.weight"),
                    dtype: tensor.dtype,
                    shape: with_last(tensor.weight.shape(), inputs),
                }]
            }
        }
    }

    /// The numbers that its tensors stand for.
    pub(super) fn parameters(&self) -> u64 {
        match self {
            Self::Copy { parameters, .. } => *parameters,
            Self::Quantize { array, .. } => array.size() as u64,
            Self::Dequantize { tensor, .. } => {
                tensor.scales.size() as u64 * u64::from(tensor.params.group_size.unsigned_abs())
            }
        }
    }

    /// Computes and writes its tensors, block by block. `written` hears of the bytes.
    pub(super) fn run(
        self,
        shards: &mut Shards,
        written: &mut dyn FnMut(u64) -> Result<()>,
    ) -> Result<Option<LayerReport>> {
        let mut put = |name: &str, array: &Array| {
            let bytes = mlx::to_bytes(array)?;
            shards.write(name, &bytes)?;
            written(bytes.len() as u64)
        };
        match self {
            Self::Copy { name, array, .. } => {
                mlx::eval(&[&array])?;
                for block in blocks(&array)? {
                    put(&name, &block?)?;
                }
                Ok(None)
            }
            Self::Quantize { path, array, params } => {
                mlx::eval(&[&array])?;
                let mut error = Error::default();
                let names = ["weight", "scales", "biases"].map(|leaf| format!("{path}.{leaf}"));
                for block in blocks(&array)? {
                    let block = block?;
                    let tensor = quantized::quantize(&block, params)?;
                    for (name, part) in names.iter().zip(tensor.arrays()) {
                        put(name, part)?;
                    }
                    error.add(&block, &tensor)?;
                }
                let (error, parameters) = (error.relative(), array.size() as u64);
                Ok(Some(LayerReport { path, params, parameters, error }))
            }
            Self::Dequantize { path, tensor, factors } => {
                let name = format!("{path}.weight");
                let (weight, scales) = (flat(&tensor.weight)?, flat(&tensor.scales)?);
                let biases = tensor.biases.as_ref().map(flat).transpose()?;
                let inputs = last(&tensor.scales) * tensor.params.group_size;
                let factors = match &factors {
                    Some(factors) => Some(factor_of_rows(factors, rows(&tensor.weight))?),
                    None => None,
                };
                for (start, end) in spans(rows(&tensor.weight), inputs) {
                    let part = |array: &Array| ops::slice_axis(array, 0, start, end);
                    let numbers = quantized::dequantize(&QuantizedTensor {
                        weight: part(&weight)?,
                        scales: part(&scales)?,
                        biases: biases.as_ref().map(part).transpose()?,
                        ..tensor
                    })?;
                    let numbers = match &factors {
                        Some(factors) => {
                            let product = ops::multiply(&numbers, &part(factors)?)?;
                            ops::astype(&product, tensor.dtype)?
                        }
                        None => numbers,
                    };
                    put(&name, &numbers)?;
                }
                Ok(None)
            }
        }
    }
}

/// A factor for each expert as one for each of their rows, `[rows, 1]`.
fn factor_of_rows(factors: &Array, rows: i32) -> Result<Array> {
    let experts = factors.dim(0);
    let each = ops::broadcast_to(
        &ops::reshape(factors, &[experts, 1])?,
        &[experts, rows / experts.max(1)],
    )?;
    ops::reshape(&each, &[rows, 1])
}

/// Rows that are computed at once.
fn spans(rows: i32, columns: i32) -> impl Iterator<Item = (i32, i32)> {
    let columns = columns.unsigned_abs().max(1) as usize;
    let step = (BLOCK / columns).clamp(1, 1 << 30) as i32;
    (0..rows).step_by(step as usize).map(move |start| (start, rows.min(start.saturating_add(step))))
}

/// The rows of an array in blocks; of one without elements, the array itself.
fn blocks(array: &Array) -> Result<Box<dyn Iterator<Item = Result<Array>> + '_>> {
    if array.size() == 0 {
        return Ok(Box::new(std::iter::once(Ok(array.clone()))));
    }
    if array.ndim() <= 1 {
        let flat = ops::reshape(array, &[1, -1])?;
        return Ok(Box::new(std::iter::once(Ok(flat))));
    }
    let (rows, columns) = (rows(array), last(array));
    let flat = flat(array)?;
    let block = move |(start, end)| ops::slice_axis(&flat, 0, start, end);
    Ok(Box::new(spans(rows, columns).map(block)))
}

/// Sums of squares over blocks.
#[derive(Default)]
struct Error {
    difference: f64,
    whole: f64,
}

impl Error {
    fn add(&mut self, numbers: &Array, tensor: &QuantizedTensor) -> Result<()> {
        let numbers = ops::astype(numbers, Dtype::Float32)?;
        let codes = ops::astype(&quantized::dequantize(tensor)?, Dtype::Float32)?;
        let squares = |array: &Array| -> Result<f64> {
            let rows = ops::sum(&ops::square(array)?, -1)?;
            Ok(mlx::to_f32_vec(&rows)?.into_iter().map(f64::from).sum::<f64>())
        };
        self.difference += squares(&ops::subtract(&numbers, &codes)?)?;
        self.whole += squares(&numbers)?;
        Ok(())
    }

    fn relative(&self) -> f64 {
        if self.whole == 0.0 { 0.0 } else { (self.difference / self.whole).sqrt() }
    }
}
