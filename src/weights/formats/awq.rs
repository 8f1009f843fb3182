//! AWQ (Lin et al. 2023), as AutoAWQ packs it for its kernels GEMM and GEMV: `qweight`, `qzeros` and
//! `scales`; with 8 bits as vLLM reads it.

use serde_json::Value;

use super::affine::{Affine, Codes, Table, Zeros, group_size};
use super::layer::Layer;
use super::made::Converted;
use super::numbers::{fill_rows, transposed};
use super::source::Source;
use super::{Refusal, unsupported};
use crate::error::Result;

/// Which of a word's outputs each code is, from the lowest bits on (GEMM).
const ORDER_OF_4_BITS: &[usize] = &[0, 2, 4, 6, 1, 3, 5, 7];
const ORDER_OF_8_BITS: &[usize] = &[0, 2, 1, 3];

/// The format of a checkpoint.
#[derive(Debug, Clone, Copy)]
pub(super) struct Awq {
    bits: usize,
    packing: Packing,
}

/// How the words of AWQ lie.
#[derive(Debug, Clone, Copy)]
enum Packing {
    /// `qweight` `[inputs, outputs / codes of a word]`.
    Gemm,
    /// `qweight` `[outputs, inputs / codes of a word]`, and scales and zeros of some groups more
    /// than there are.
    Gemv {
        /// Inputs that share a scale; `None` for all.
        group: Option<usize>,
    },
}

impl Awq {
    /// # Errors
    /// What is not supported.
    pub(super) fn of(config: &Value) -> Result<Self, Refusal> {
        let bits = match config["bits"].as_i64() {
            None | Some(4) => 4,
            Some(8) => 8,
            Some(bits) => return Err(unsupported(format!("{bits} bits"))),
        };
        let packing = match config["version"].as_str().unwrap_or("gemm").to_lowercase().as_str() {
            // Others that compute with the same words.
            "gemm" | "exllama" | "ipex" => Packing::Gemm,
            "gemv" => {
                let group = config["group_size"].as_i64().and_then(|it| usize::try_from(it).ok());
                Packing::Gemv { group: group.filter(|&group| group > 0) }
            }
            other => return Err(unsupported(format!("the packing \"{other}\""))),
        };
        Ok(Self { bits, packing })
    }

    pub(super) fn convert(self, layer: &Layer) -> Result<Converted> {
        let weight = layer.source("qweight", "scales")?;
        let scales = layer.source("scales", "qweight")?;
        let zeros = layer.source("qzeros", "qweight")?;
        weight.words()?;
        zeros.words()?;
        match self.packing {
            Packing::Gemm => gemm(layer, self.bits, weight, scales, zeros),
            Packing::Gemv { group } => gemv(layer, self.bits, group, weight, scales, zeros),
        }
    }
}

fn gemm(
    layer: &Layer,
    bits: usize,
    weight: Source,
    scales: Source,
    zeros: Source,
) -> Result<Converted> {
    let per_word = 32 / bits;
    let [inputs, words] = weight.matrix()?;
    let outputs = words * per_word;
    let [groups, _] = scales.matrix()?;
    scales.expect([groups, outputs])?;
    zeros.expect([groups, words])?;
    let group = group_size(&scales, inputs, groups)?;
    let width = inputs.div_ceil(per_word);
    let codes = Codes::made(weight, move |source| {
        let packed = source.words()?;
        let mut codes = vec![0; outputs * width];
        // The outputs that share words are made at once.
        fill_rows(&mut codes, per_word * width, |word, codes| {
            for (input, place) in (word..packed.len()).step_by(words).enumerate() {
                let (at, shift) = (input / per_word, bits * (input % per_word));
                for (output, code) in outputs_of(packed[place], bits) {
                    codes[output * width + at] |= code << shift;
                }
            }
        });
        Ok(codes)
    });
    let scales = Table::new(scales, move |source| {
        let scales = source.floats()?;
        Ok(transposed([groups, outputs], |i| scales[i]))
    });
    let zeros = Table::new(zeros, move |source| {
        let packed = source.words()?;
        let mut zeros = vec![0.0; outputs * groups];
        fill_rows(&mut zeros, per_word * groups, |word, zeros| {
            for group in 0..groups {
                for (output, zero) in outputs_of(packed[group * words + word], bits) {
                    zeros[output * groups + group] = zero as f32;
                }
            }
        });
        Ok(zeros)
    });
    let zeros = Zeros::Each(zeros);
    Ok(Affine { outputs, inputs, bits, group, codes, scales, zeros, groups: None }.convert(layer))
}

/// The outputs of a word, and their codes.
fn outputs_of(word: [u8; 4], bits: usize) -> impl Iterator<Item = (usize, u32)> {
    let word = u32::from_le_bytes(word);
    let order = if bits == 4 { ORDER_OF_4_BITS } else { ORDER_OF_8_BITS };
    let code = move |i: usize| word >> (bits * i) & ((1 << bits) - 1);
    order.iter().enumerate().map(move |(i, &output)| (output, code(i)))
}

fn gemv(
    layer: &Layer,
    bits: usize,
    group: Option<usize>,
    weight: Source,
    scales: Source,
    zeros: Source,
) -> Result<Converted> {
    let per_word = 32 / bits;
    let [outputs, words] = weight.matrix()?;
    let inputs = words * per_word;
    let group = group.unwrap_or(inputs);
    let groups = inputs.div_ceil(group);
    let [_, zero_words] = zeros.matrix()?;
    zeros.expect([outputs, zero_words.max(groups.div_ceil(per_word))])?;
    let stored = zero_words * per_word;
    scales.expect([outputs, stored])?;
    let codes = Codes::stored(weight);
    let scales = Table::new(scales, move |source| {
        let scales = source.floats()?;
        Ok(scales.chunks_exact(stored).flat_map(|row| &row[..groups]).copied().collect())
    });
    let zeros = Zeros::Each(Table::new(zeros, move |source| {
        let zero = |row: &[[u8; 4]], group: usize| {
            let packed = u32::from_le_bytes(row[group / per_word]);
            (packed >> (bits * (group % per_word)) & ((1 << bits) - 1)) as f32
        };
        let rows = source.words()?.chunks_exact(zero_words);
        Ok(rows.flat_map(|row| (0..groups).map(move |group| zero(row, group))).collect())
    }));
    Ok(Affine { outputs, inputs, bits, group, codes, scales, zeros, groups: None }.convert(layer))
}
