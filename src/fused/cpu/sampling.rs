//! From logits to a token.

use std::ffi::CStr;
use std::sync::Arc;

use super::{CpuKernel, NodeOptions, wrong_outputs};
use crate::cpu::sampling::{Logits, Penalties, SamplingOptions, largest};
use crate::cpu::{ExecOptions, Isa};
use crate::error::Result;
use crate::fused::sampling::RowDraw;
use crate::mlx::primitive::{Element, Input, Output};
use crate::mlx::{Array, Dtype, random};

/// Writes the only element of an output.
fn put<T: Element>(output: &mut Output, value: T) -> Result<()> {
    output.slice()?.fill(value);
    Ok(())
}

struct LargestLogit;

impl CpuKernel for LargestLogit {
    const NAME: &'static CStr = c"LargestLogit";

    fn run(&self, inputs: &[Input], outputs: &mut [Output], exec: ExecOptions) -> Result<()> {
        let (values, largest_ones) = (inputs[0].values()?, outputs[0].slice()?);
        let vocabulary = (values.len() / largest_ones.len().max(1)).max(1);
        for (most, logits) in largest_ones.iter_mut().zip(values.chunks_exact(vocabulary)) {
            *most = largest(logits, exec.isa);
        }
        Ok(())
    }
}

/// The largest of logits `[…, vocabulary]`, or NaN where any of them is: `[…]`.
pub fn largest_logit(options: NodeOptions, logits: &Array) -> Result<Array> {
    let shape = logits.shape();
    options.build_one(LargestLogit, &[logits], &shape[..shape.len().saturating_sub(1)])
}

struct DrawTokens(Vec<Drawing>);

/// How the token of a row is drawn.
struct Drawing {
    options: SamplingOptions,
    xtc: bool,
    uniform: f64,
}

impl Drawing {
    fn of(row: &RowDraw) -> Self {
        let RowDraw { sampling, draw } = *row;
        let [uniform, chance] =
            draw.numbers().map(|number| random::host_uniform(draw.seed, number));
        let xtc = chance < f64::from(sampling.options.xtc_probability);
        Self { options: sampling.options.clone(), xtc, uniform }
    }

    fn token(&self, logits: &[f32], isa: Isa) -> u32 {
        let logits = Logits::new(logits, isa);
        if self.options.temperature == 0.0 {
            return logits.most_likely();
        }
        let kept = logits.kept(&self.options, self.xtc);
        let temperature = logits.temperature(kept.as_deref(), &self.options);
        logits.draw(kept.as_deref(), temperature, self.uniform)
    }
}

impl CpuKernel for DrawTokens {
    const NAME: &'static CStr = c"DrawTokens";

    fn run(&self, inputs: &[Input], outputs: &mut [Output], exec: ExecOptions) -> Result<()> {
        let values = inputs[0].values()?;
        let [tokens, most] = outputs else {
            return Err(wrong_outputs(outputs));
        };
        let (tokens, most) = (tokens.slice()?, most.slice()?);
        let vocabulary = (values.len() / self.0.len().max(1)).max(1);
        let rows = values.chunks_exact(vocabulary).zip(&self.0);
        for ((logits, drawing), (token, most)) in rows.zip(tokens.iter_mut().zip(most)) {
            *token = drawing.token(logits, exec.isa);
            *most = largest(logits, exec.isa);
        }
        Ok(())
    }
}

/// A token drawn from each row of logits, `[rows, vocabulary]`, and [`largest_logit`], `[rows]`
/// each.
pub fn draw(node: NodeOptions, logits: &Array, rows: &[RowDraw]) -> Result<[Array; 2]> {
    let kernel = DrawTokens(rows.iter().map(Drawing::of).collect());
    let count = [rows.len() as i32];
    node.build_each(kernel, &[logits], [(&count, Dtype::Uint32), (&count, Dtype::Float32)])
}

struct Penalize(Arc<Penalties>);

impl CpuKernel for Penalize {
    const NAME: &'static CStr = c"Penalize";

    fn run(&self, inputs: &[Input], outputs: &mut [Output], _: ExecOptions) -> Result<()> {
        let logits = outputs[0].slice()?;
        logits.copy_from_slice(&inputs[0].values()?);
        let recent = inputs.get(1).map(Input::elements::<u32>).transpose()?;
        self.0.apply(logits, recent.as_deref().unwrap_or_default());
        Ok(())
    }
}

/// Logits `[1, vocabulary]` with penalties for the `recent` tokens.
pub fn penalize(
    options: NodeOptions,
    logits: &Array,
    recent: Option<&Array>,
    penalties: &Arc<Penalties>,
) -> Result<Array> {
    let inputs: Vec<_> = [logits].into_iter().chain(recent).collect();
    options.build_one(Penalize(Arc::clone(penalties)), &inputs, logits.shape())
}

struct LogProbabilities;

impl CpuKernel for LogProbabilities {
    const NAME: &'static CStr = c"LogProbabilities";

    fn run(&self, inputs: &[Input], outputs: &mut [Output], exec: ExecOptions) -> Result<()> {
        let values = inputs[0].values()?;
        let token = inputs[1].elements::<u32>()?;
        let [chosen, ids, best] = outputs else {
            return Err(wrong_outputs(outputs));
        };
        let logits = Logits::new(&values, exec.isa);
        let norm = logits.log_sum_exp();
        let of = |&token: &u32| values.get(token as usize).map_or(f32::NAN, |logit| logit - norm);
        put(chosen, token.first().map_or(f32::NAN, of))?;
        let (ids, best) = (ids.slice::<u32>()?, best.slice::<f32>()?);
        // There are fewer where logits are no numbers, which the sequence is told of.
        let likeliest = logits.best(ids.len());
        ids.fill(0);
        ids[..likeliest.len()].copy_from_slice(&likeliest);
        for (best, id) in best.iter_mut().zip(ids) {
            *best = of(id);
        }
        Ok(())
    }
}

/// The log-probability of `token` `[1]` by logits `[1, vocabulary]`, `[1]`, and the `count` most
/// likely tokens with theirs, `[count]` each.
pub fn log_probabilities(
    options: NodeOptions,
    logits: &Array,
    token: &Array,
    count: i32,
) -> Result<[Array; 3]> {
    let outputs =
        [(&[1][..], Dtype::Float32), (&[count], Dtype::Uint32), (&[count], Dtype::Float32)];
    options.build_each(LogProbabilities, &[logits, token], outputs)
}

#[cfg(test)]
mod tests {
    use super::super::tests::options;
    use super::*;
    use crate::fused::sampling::{Draw, Sampling};
    use crate::mlx::{DeviceKind, enter, from_f32, from_u32, ops, to_f32_vec, to_u32_vec};

    /// Logits with a largest one in a different place of each row.
    fn rows() -> Array {
        let logits = (0..3 * 200).map(|i| (i as f32 * 0.37).sin() * 3.0);
        from_f32(&logits.collect::<Vec<_>>(), &[3, 1, 200])
    }

    #[test]
    fn the_most_likely_tokens_are_those_of_mlx() {
        enter(DeviceKind::Cpu).unwrap();
        // Rows that do not follow one another, too.
        let greedy = Sampling::new(SamplingOptions { temperature: 0.0, ..Default::default() });
        let row = RowDraw { sampling: &greedy, draw: Draw { seed: 0, index: 0 } };
        for logits in [rows(), ops::slice_axis(&rows(), 2, 17, 140).unwrap()] {
            let logits = ops::squeeze(&logits, 1).unwrap();
            let [ours, _] = draw(options(), &logits, &[row; 3]).unwrap();
            let theirs = ops::argmax(&logits, -1).unwrap();
            assert_eq!(ours.shape(), theirs.shape());
            assert_eq!(to_u32_vec(&ours).unwrap(), to_u32_vec(&theirs).unwrap());
        }
    }

    #[test]
    fn logits_that_are_no_numbers_show() {
        enter(DeviceKind::Cpu).unwrap();
        let value = |logits: &[f32]| {
            let logits = from_f32(logits, &[1, logits.len() as i32]);
            to_f32_vec(&largest_logit(options(), &logits).unwrap()).unwrap()[0]
        };
        let (nan, infinity) = (f32::NAN, f32::INFINITY);
        for length in [1, 5, 64, 1000] {
            for at in [0, length / 2, length - 1] {
                for (odd, usual) in [(nan, 1.0), (infinity, 1.0), (2.0, 1.0), (0.5, -infinity)] {
                    let mut logits = vec![usual; length];
                    logits[at] = odd;
                    let found = value(&logits);
                    assert!(found == odd || found.is_nan() && odd.is_nan(), "{odd}: {found}");
                }
            }
            assert_eq!(value(&vec![-infinity; length]), -infinity);
        }
    }

    #[test]
    fn log_probabilities_are_normalized() {
        enter(DeviceKind::Cpu).unwrap();
        let logits = ops::reshape(&ops::slice_axis(&rows(), 0, 1, 2).unwrap(), &[1, 200]).unwrap();
        let norm = ops::logsumexp(&logits, -1).unwrap();
        let expected = to_f32_vec(&ops::subtract(&logits, &norm).unwrap()).unwrap();
        let [chosen, ids, best] =
            log_probabilities(options(), &logits, &from_u32(&[5], &[1]), 3).unwrap();
        let (ids, best) = (to_u32_vec(&ids).unwrap(), to_f32_vec(&best).unwrap());
        let close = |a: f32, b: f32| (a - b).abs() < 1e-5;
        assert!(close(to_f32_vec(&chosen).unwrap()[0], expected[5]));
        let mut sorted = expected.clone();
        sorted.sort_by(|a, b| b.total_cmp(a));
        for (i, (&id, &logprob)) in ids.iter().zip(&best).enumerate() {
            assert!(close(logprob, expected[id as usize]) && close(logprob, sorted[i]));
        }
        let [chosen, ids, _] =
            log_probabilities(options(), &logits, &from_u32(&[900], &[1]), 0).unwrap();
        assert!(to_f32_vec(&chosen).unwrap()[0].is_nan() && ids.size() == 0);
    }
}
