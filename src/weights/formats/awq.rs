//! AWQ (Lin et al. 2023), as AutoAWQ packs it for its kernels GEMM and GEMV: `qweight`, `qzeros` and
//! `scales`.

use serde_json::Value;

use super::affine::{Affine, Codes, Table, Zeros, group_size};
use super::layer::Layer;
use super::made::Converted;
use super::numbers::{fill_rows, transposed};
use super::source::Source;
use super::{Refusal, unsupported};
use crate::error::Result;

const BITS: usize = 4;
const CODES_OF_A_WORD: usize = 8;

/// Which of a word's eight outputs each four bits are, from the lowest on (GEMM).
const ORDER: [usize; CODES_OF_A_WORD] = [0, 2, 4, 6, 1, 3, 5, 7];

/// How the words of AWQ lie.
#[derive(Debug, Clone, Copy)]
pub(super) enum Awq {
    /// `qweight` `[inputs, outputs / 8]`.
    Gemm,
    /// `qweight` `[outputs, inputs / 8]`, and scales and zeros of some groups more than there are.
    Gemv {
        /// Inputs that share a scale; `None` for all.
        group: Option<usize>,
    },
}

impl Awq {
    /// # Errors
    /// What is not supported.
    pub(super) fn of(config: &Value) -> Result<Self, Refusal> {
        if let Some(bits) = config["bits"].as_i64().filter(|&bits| bits != BITS as i64) {
            return Err(unsupported(format!("{bits} bits")));
        }
        match config["version"].as_str().unwrap_or("gemm").to_lowercase().as_str() {
            // Others that compute with the same words.
            "gemm" | "exllama" | "ipex" => Ok(Self::Gemm),
            "gemv" => {
                let group = config["group_size"].as_i64().and_then(|it| usize::try_from(it).ok());
                Ok(Self::Gemv { group: group.filter(|&group| group > 0) })
            }
            other => Err(unsupported(format!("the packing \"{other}\""))),
        }
    }

    pub(super) fn convert(self, layer: &Layer) -> Result<Converted> {
        let weight = layer.source("qweight", "scales")?;
        let scales = layer.source("scales", "qweight")?;
        let zeros = layer.source("qzeros", "qweight")?;
        weight.words()?;
        zeros.words()?;
        match self {
            Self::Gemm => gemm(layer, weight, scales, zeros),
            Self::Gemv { group } => gemv(layer, group, weight, scales, zeros),
        }
    }
}

fn gemm(layer: &Layer, weight: Source, scales: Source, zeros: Source) -> Result<Converted> {
    let [inputs, words] = weight.matrix()?;
    let outputs = words * CODES_OF_A_WORD;
    let [groups, _] = scales.matrix()?;
    scales.expect([groups, outputs])?;
    zeros.expect([groups, words])?;
    let group = group_size(&scales, inputs, groups)?;
    let width = inputs.div_ceil(CODES_OF_A_WORD);
    let codes = Codes::made(weight, move |source| {
        let packed = source.words()?;
        let mut codes = vec![0; outputs * width];
        // The outputs that share words are made at once.
        fill_rows(&mut codes, CODES_OF_A_WORD * width, |word, codes| {
            for (input, place) in (word..packed.len()).step_by(words).enumerate() {
                let (at, shift) = (input / CODES_OF_A_WORD, BITS * (input % CODES_OF_A_WORD));
                for (output, code) in outputs_of(packed[place]) {
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
        fill_rows(&mut zeros, CODES_OF_A_WORD * groups, |word, zeros| {
            for group in 0..groups {
                for (output, zero) in outputs_of(packed[group * words + word]) {
                    zeros[output * groups + group] = zero as f32;
                }
            }
        });
        Ok(zeros)
    });
    let zeros = Zeros::Each(zeros);
    Ok(Affine { outputs, inputs, bits: BITS, group, codes, scales, zeros, groups: None }
        .convert(layer))
}

/// The outputs of a word, and their codes.
fn outputs_of(word: [u8; 4]) -> impl Iterator<Item = (usize, u32)> {
    let word = u32::from_le_bytes(word);
    ORDER.into_iter().enumerate().map(move |(i, output)| (output, word >> (BITS * i) & 15))
}

fn gemv(
    layer: &Layer,
    group: Option<usize>,
    weight: Source,
    scales: Source,
    zeros: Source,
) -> Result<Converted> {
    let [outputs, words] = weight.matrix()?;
    let inputs = words * CODES_OF_A_WORD;
    let group = group.unwrap_or(inputs);
    let groups = inputs.div_ceil(group);
    let [_, zero_words] = zeros.matrix()?;
    zeros.expect([outputs, zero_words.max(groups.div_ceil(CODES_OF_A_WORD))])?;
    let stored = zero_words * CODES_OF_A_WORD;
    scales.expect([outputs, stored])?;
    let codes = Codes::stored(weight);
    let scales = Table::new(scales, move |source| {
        let scales = source.floats()?;
        Ok(scales.chunks_exact(stored).flat_map(|row| &row[..groups]).copied().collect())
    });
    let zeros = Zeros::Each(Table::new(zeros, move |source| {
        let zero = |row: &[[u8; 4]], group: usize| {
            let packed = u32::from_le_bytes(row[group / CODES_OF_A_WORD]);
            (packed >> (BITS * (group % CODES_OF_A_WORD)) & 15) as f32
        };
        let rows = source.words()?.chunks_exact(zero_words);
        Ok(rows.flat_map(|row| (0..groups).map(move |group| zero(row, group))).collect())
    }));
    Ok(Affine { outputs, inputs, bits: BITS, group, codes, scales, zeros, groups: None }
        .convert(layer))
}
