//! GPTQ (Frantar et al. 2023), as AutoGPTQ and GPTQModel pack it: `qweight`, `qzeros`, `scales` and
//! `g_idx`.

use serde_json::Value;

use super::affine::{Affine, Codes, Table, Zeros, code, group_size, scattered_groups};
use super::layer::Layer;
use super::made::Converted;
use super::numbers::{fill_rows, transposed};
use super::source::Source;
use super::{Refusal, unsupported};
use crate::error::Result;

/// What a configuration says of GPTQ.
#[derive(Debug, Clone, Copy)]
pub(super) struct Gptq {
    /// Whether zeros are stored less one, as the first version of the format has them.
    zeros_less_one: bool,
}

impl Gptq {
    /// # Errors
    /// What is not supported.
    pub(super) fn of(config: &Value) -> Result<Self, Refusal> {
        let format = config["checkpoint_format"].as_str().unwrap_or("gptq");
        if config["is_marlin_format"] == true {
            return Err(unsupported("the packing \"marlin\""));
        }
        if let Some(packed) = config["pack_dtype"].as_str().filter(|packed| *packed != "int32") {
            return Err(unsupported(format!("codes packed into \"{packed}\"")));
        }
        match format {
            "gptq" => Ok(Self { zeros_less_one: true }),
            "gptq_v2" => Ok(Self { zeros_less_one: false }),
            _ => Err(unsupported(format!("the packing \"{format}\""))),
        }
    }

    pub(super) fn convert(self, layer: &Layer) -> Result<Converted> {
        let weight = layer.source("qweight", "scales")?;
        let scales = layer.source("scales", "qweight")?;
        let zeros = layer.source("qzeros", "qweight")?;
        let [words, outputs] = weight.matrix()?;
        let [groups, _] = scales.matrix()?;
        scales.expect([groups, outputs])?;
        let [_, zero_words] = zeros.matrix()?;
        // Single layers may have other bits than the configuration says.
        let bits = zero_words * 32 / outputs;
        zeros.expect([groups, (outputs * bits).div_ceil(32)])?;
        if !(2..=8).contains(&bits) || !(words * 32).is_multiple_of(bits) {
            return Err(weight.error(format!("does not hold codes of {bits} bits")));
        }
        let inputs = words * 32 / bits;
        let group = group_size(&scales, inputs, groups)?;
        let scattered = match layer.optional("g_idx") {
            Some(indices) => scattered_groups(&indices, inputs, groups, group)?,
            None => None,
        };
        weight.words()?;
        let less_one = u32::from(self.zeros_less_one);
        let zeros = if all_are(zeros.words()?, bits, (1 << (bits - 1)) - less_one) {
            Zeros::middle(bits)
        } else {
            Zeros::Each(Table::new(zeros, move |source| {
                read_zeros(source, [groups, outputs], bits, less_one)
            }))
        };
        // Consecutive inputs share a word.
        let codes = Codes::made(weight, move |source| {
            let packed = source.words()?;
            Ok(transposed([words, outputs], |i| u32::from_le_bytes(packed[i])))
        });
        let scales = Table::new(scales, move |source| {
            let scales = source.floats()?;
            Ok(transposed([groups, outputs], |i| scales[i]))
        });
        Ok(Affine { outputs, inputs, bits, group, codes, scales, zeros, groups: scattered }
            .convert(layer))
    }
}

fn read_zeros(
    source: &Source,
    [groups, outputs]: [usize; 2],
    bits: usize,
    less_one: u32,
) -> Result<Vec<f32>> {
    let words: Vec<_> = source.words()?.iter().map(|&word| u32::from_le_bytes(word)).collect();
    let width = words.len() / groups;
    let mut zeros = vec![0.0; groups * outputs];
    fill_rows(&mut zeros, groups, |output, zeros| {
        for (group, zero) in zeros.iter_mut().enumerate() {
            // The greatest code plus one is zero again.
            let whole = code(&words[group * width..][..width], bits, output) + less_one;
            *zero = (whole & ((1 << bits) - 1)) as f32;
        }
    });
    Ok(zeros)
}

/// Whether all codes of some words, of so many bits, are this one.
fn all_are(words: &[[u8; 4]], bits: usize, expected: u32) -> bool {
    32 % bits == 0 && {
        let word = (0..32 / bits).fold(0, |word, i| word | expected << (bits * i));
        words.iter().all(|&it| u32::from_le_bytes(it) == word)
    }
}
