//! Matrices of whole numbers q with scales and zeros, (q − zero) · scale, as MLX's affine format
//! scale · q + bias has them: bias = −zero · scale.

use std::sync::Arc;

use super::layer::Layer;
use super::made::{Converted, Made};
use super::numbers::fill_rows;
use super::source::Source;
use crate::error::Result;
use crate::mlx::quantized::{Mode, QuantizationParams};
use crate::mlx::{Array, Dtype, from_bytes};

/// The group sizes of MLX; the fewest scales come first.
const GROUPS: [usize; 3] = [128, 64, 32];

/// What is read of a source when it is needed.
type Read<T> = Arc<dyn Fn(&Source) -> Result<Vec<T>> + Send + Sync>;

/// Numbers of each output and group, `[outputs, groups]`.
#[derive(Clone)]
pub(super) struct Table {
    source: Source,
    dtype: Dtype,
    read: Read<f32>,
}

impl Table {
    /// Numbers of the type that the source has.
    pub(super) fn new(
        source: Source,
        read: impl Fn(&Source) -> Result<Vec<f32>> + Send + Sync + 'static,
    ) -> Self {
        let dtype = source.float_type();
        Self { source, dtype, read: Arc::new(read) }
    }

    /// The same, where the source's type would lose something.
    pub(super) fn in_32_bits(self) -> Self {
        Self { dtype: Dtype::Float32, ..self }
    }

    fn numbers(&self) -> Result<Vec<f32>> {
        (self.read)(&self.source)
    }
}

/// The codes of all outputs, one output after another: each is a stream of bits, the first code's
/// lowest bit first, that fills whole words.
#[derive(Clone)]
pub(super) struct Codes {
    source: Source,
    read: Option<Read<u32>>,
}

impl Codes {
    /// Those that the file holds so.
    pub(super) fn stored(source: Source) -> Self {
        Self { source, read: None }
    }

    /// Those that are made of what the file holds.
    pub(super) fn made(
        source: Source,
        read: impl Fn(&Source) -> Result<Vec<u32>> + Send + Sync + 'static,
    ) -> Self {
        Self { source, read: Some(Arc::new(read)) }
    }

    fn words(&self) -> Result<Vec<u32>> {
        match &self.read {
            Some(read) => read(&self.source),
            None => Ok(self
                .source
                .bytes()
                .as_chunks()
                .0
                .iter()
                .map(|&it| u32::from_le_bytes(it))
                .collect()),
        }
    }
}

/// The code that stands for zero.
#[derive(Clone)]
pub(super) enum Zeros {
    /// Of all groups this one, a power of two.
    All(u32),
    /// Of each group its own.
    Each(Table),
}

impl Zeros {
    /// The middle of the codes.
    pub(super) fn middle(bits: usize) -> Self {
        Self::All(1 << (bits - 1))
    }

    /// What gives a group's zero.
    fn read(&self) -> Result<Box<dyn Fn(usize) -> f32 + Send + Sync>> {
        match self {
            Self::All(zero) => {
                let zero = *zero as f32;
                Ok(Box::new(move |_| zero))
            }
            Self::Each(table) => {
                let zeros = table.numbers()?;
                Ok(Box::new(move |place| zeros[place]))
            }
        }
    }
}

/// A matrix of another program.
pub(super) struct Affine {
    pub(super) outputs: usize,
    pub(super) inputs: usize,
    pub(super) bits: usize,
    /// Inputs that share a scale; the last group may be smaller.
    pub(super) group: usize,
    pub(super) codes: Codes,
    pub(super) scales: Table,
    pub(super) zeros: Zeros,
    /// The group of each input, where groups are not inputs that follow each other.
    pub(super) groups: Option<Vec<usize>>,
}

impl Affine {
    /// The matrix as MLX can hold it. Where groups are scattered over the inputs, the inputs are
    /// sorted by them.
    ///
    /// A bias of a zero that is a power of two is exact in the scale's type; others have more bits,
    /// so scales and biases have 32 there.
    pub(super) fn convert(self, layer: &Layer) -> Converted {
        let Self { outputs, inputs, bits, group, .. } = self;
        let packed = GROUPS
            .into_iter()
            .find(|size| group.is_multiple_of(*size) && inputs.is_multiple_of(*size));
        let order = match &self.groups {
            None => Some(None),
            Some(groups) => sorted(groups, group).map(Some),
        };
        let (Some(size), Some(order), 2..=6 | 8) = (packed, order, bits) else {
            return self.dense(layer);
        };
        let params =
            QuantizationParams { mode: Mode::Affine, group_size: size as i32, bits: bits as i32 };
        let words = inputs * bits / 32;
        let weight = match (&order, &self.codes.read) {
            (None, None) => Made::renamed(&self.codes.source, &[outputs, words], Dtype::Uint32),
            _ => {
                let (codes, order) = (self.codes.clone(), order.clone());
                let make = move |shape: &[i32]| {
                    let words = codes.words()?;
                    match &order {
                        None => words_array(&words, shape),
                        Some(order) => words_array(&permuted(&words, bits, order), shape),
                    }
                };
                Made::new(&self.codes.source, &[outputs, words], Dtype::Uint32, make)
            }
        };
        let dtype = match self.zeros {
            Zeros::All(_) => self.scales.dtype,
            Zeros::Each(_) => Dtype::Float32,
        };
        let shape = [outputs, inputs / size];
        let groups = inputs.div_ceil(group);
        // Several groups of MLX to one of theirs.
        let spread = move |numbers: &dyn Fn(usize) -> f32, shape: &[i32]| {
            let place =
                |i: usize| i / (inputs / size) * groups + i % (inputs / size) * size / group;
            let numbers = (0..outputs * (inputs / size)).map(|i| numbers(place(i)));
            floats_array(numbers, shape, dtype)
        };
        let scales = self.scales.clone();
        let made_scales = Made::new(&self.scales.source, &shape, dtype, move |shape| {
            let scales = scales.numbers()?;
            spread(&|i| scales[i], shape)
        });
        let (scales, zeros) = (self.scales.clone(), self.zeros.clone());
        let source = match &zeros {
            Zeros::All(_) => scales.source.clone(),
            Zeros::Each(zeros) => zeros.source.clone(),
        };
        let biases = Made::new(&source, &shape, dtype, move |shape| {
            let (scales, zero) = (scales.numbers()?, zeros.read()?);
            spread(&|i| -zero(i) * scales[i], shape)
        });
        let mut tensors = vec![("weight", weight), ("scales", made_scales), ("biases", biases)];
        if let Some(order) = order {
            let made = Made::new(&self.codes.source, &[inputs], Dtype::Uint32, move |shape| {
                words_array(&order, shape)
            });
            tensors.push((super::INPUT_ORDER, made));
        }
        Converted { params: Some(params), tensors }
    }

    /// The matrix as numbers.
    fn dense(self, layer: &Layer) -> Converted {
        let Self { outputs, inputs, bits, group, codes, scales, zeros, groups: scattered } = self;
        let recorded = match scales.dtype {
            Dtype::Float32 => Dtype::Bfloat16,
            dtype => dtype,
        };
        let source = codes.source.clone();
        Converted::dense(layer.plan, &source, [outputs, inputs], recorded, move || {
            let (words, scales, zero) = (codes.words()?, scales.numbers()?, zeros.read()?);
            let (groups, width) = (scales.len() / outputs, words.len() / outputs);
            let scattered = scattered.clone();
            Ok(Box::new(move |row, numbers| {
                let words = &words[row * width..][..width];
                for (i, number) in numbers.iter_mut().enumerate() {
                    let at = row * groups + scattered.as_ref().map_or(i / group, |it| it[i]);
                    *number = (code(words, bits, i) as f32 - zero(at)) * scales[at];
                }
            }))
        })
    }
}

/// How many inputs share a scale where there are so many groups of them.
///
/// # Errors
/// [`crate::error::Error::Weights`] for a number of groups that no size of them gives.
pub(super) fn group_size(scales: &Source, inputs: usize, groups: usize) -> Result<usize> {
    let size = inputs.div_ceil(groups);
    if inputs.div_ceil(size) == groups {
        Ok(size)
    } else {
        Err(scales.error(format!("has {groups} groups, which {inputs} inputs are not cut into")))
    }
}

/// The group of each input by a tensor `g_idx`; `None` where they follow each other.
pub(super) fn scattered_groups(
    indices: &Source,
    inputs: usize,
    groups: usize,
    group: usize,
) -> Result<Option<Vec<usize>>> {
    let numbers = indices.integers()?;
    if numbers.len() != inputs {
        let message = format!("has {} elements, expected {inputs}", numbers.len());
        return Err(indices.error(message));
    }
    // What was never set.
    if numbers.iter().all(|&number| number == -1) {
        return Ok(None);
    }
    if numbers.iter().any(|&number| !(0..groups as i64).contains(&number)) {
        return Err(indices.error(format!("names groups that are not among the {groups}")));
    }
    let numbers: Vec<_> = numbers.into_iter().map(|number| number as usize).collect();
    let follow = numbers.iter().enumerate().all(|(i, &number)| number == i / group);
    Ok((!follow).then_some(numbers))
}

/// Codes of a byte each, from −128 on.
pub(super) fn signed_bytes(weight: Source, inputs: usize) -> Result<Codes> {
    if weight.stored() != safetensors::Dtype::I8 {
        return Err(weight.wrong_type("int8"));
    }
    let read = move |source: &Source| {
        let word = |bytes: &[u8]| {
            let bytes = bytes.iter().rev();
            bytes.fold(0, |word, &byte| word << 8 | u32::from(byte ^ 0x80))
        };
        let rows = source.bytes().chunks_exact(inputs);
        Ok(rows.flat_map(|row| row.chunks(4).map(word)).collect())
    };
    Ok(Codes::made(weight, read))
}

/// The inputs by their groups, if these are of one size.
fn sorted(groups: &[usize], size: usize) -> Option<Vec<u32>> {
    let mut order: Vec<u32> = (0..groups.len() as u32).collect();
    order.sort_by_key(|&input| groups[input as usize]);
    let fits = order.iter().enumerate().all(|(i, &input)| groups[input as usize] == i / size);
    fits.then_some(order)
}

/// A code of a stream of bits.
pub(super) fn code(words: &[u32], bits: usize, index: usize) -> u32 {
    let (word, shift) = (index * bits / 32, index * bits % 32);
    let low = words[word] >> shift;
    let high = if shift + bits > 32 { words[word + 1] << (32 - shift) } else { 0 };
    (low | high) & ((1 << bits) - 1)
}

/// Writes a code into a stream of bits that are zero.
pub(super) fn put_code(words: &mut [u32], bits: usize, index: usize, code: u32) {
    let (word, shift) = (index * bits / 32, index * bits % 32);
    words[word] |= code << shift;
    if shift + bits > 32 {
        words[word + 1] |= code >> (32 - shift);
    }
}

/// The codes of each output in another order.
fn permuted(words: &[u32], bits: usize, order: &[u32]) -> Vec<u32> {
    let width = order.len() * bits / 32;
    let mut sorted = vec![0; words.len()];
    fill_rows(&mut sorted, width, |row, to| {
        let from = &words[row * width..][..width];
        for (i, &input) in order.iter().enumerate() {
            put_code(to, bits, i, code(from, bits, input as usize));
        }
    });
    sorted
}

pub(super) fn words_array(words: &[u32], shape: &[i32]) -> Result<Array> {
    let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    from_bytes(&bytes, shape, Dtype::Uint32)
}

fn floats_array(numbers: impl Iterator<Item = f32>, shape: &[i32], dtype: Dtype) -> Result<Array> {
    let bytes: Vec<u8> = match dtype {
        Dtype::Float16 => numbers.flat_map(|it| half::f16::from_f32(it).to_le_bytes()).collect(),
        Dtype::Bfloat16 => numbers.flat_map(|it| half::bf16::from_f32(it).to_le_bytes()).collect(),
        _ => numbers.flat_map(f32::to_le_bytes).collect(),
    };
    from_bytes(&bytes, shape, dtype)
}
