//! Root-mean-square norms.

use std::ffi::CStr;

use super::{CpuKernel, NodeOptions, floats, wrong_outputs};
use crate::cpu::{ExecOptions, Isa, norm};
use crate::error::Result;
use crate::mlx::primitive::{Input, Output};
use crate::mlx::{Array, Dtype};

struct RmsNorm {
    eps: f32,
}

impl CpuKernel for RmsNorm {
    const NAME: &'static CStr = c"RmsNorm";

    fn run(&self, inputs: &[Input], outputs: &mut [Output], exec: ExecOptions) -> Result<()> {
        norm_rows(&inputs[0], inputs.get(1), self.eps, outputs[0].slice()?, exec.isa)
    }
}

/// The norm of each row of an input.
pub(super) fn norm_rows(
    x: &Input,
    weight: Option<&Input>,
    eps: f32,
    normed: &mut [f32],
    isa: Isa,
) -> Result<()> {
    let dims = x.shape().last().map_or(0, |&dim| dim as usize);
    let weight = weight.map(floats).transpose()?;
    Ok(norm::rms_norm(&x.values()?, None, weight, dims, eps, normed, isa)?)
}

/// Root-mean-square norm over the last axis.
pub fn rms_norm(
    options: NodeOptions,
    x: &Array,
    weight: Option<&Array>,
    eps: f32,
) -> Result<Array> {
    let inputs: Vec<_> = [x].into_iter().chain(weight).collect();
    options.build_one(RmsNorm { eps }, &inputs, x.shape())
}

struct AddRmsNorm {
    eps: f32,
}

impl CpuKernel for AddRmsNorm {
    const NAME: &'static CStr = c"AddRmsNorm";

    fn run(&self, inputs: &[Input], outputs: &mut [Output], exec: ExecOptions) -> Result<()> {
        let [sum, normed] = outputs else {
            return Err(wrong_outputs(outputs));
        };
        let weight = inputs.get(2);
        let rows = [&inputs[0], &inputs[1]];
        add_and_norm(rows, weight, self.eps, [sum.slice()?, normed.slice()?], exec.isa)
    }
}

/// The sum of two inputs, and the norm of each of its rows.
pub(super) fn add_and_norm(
    [x, delta]: [&Input; 2],
    weight: Option<&Input>,
    eps: f32,
    [sum, normed]: [&mut [f32]; 2],
    isa: Isa,
) -> Result<()> {
    let dims = x.shape().last().map_or(0, |&dim| dim as usize);
    let weight = weight.map(floats).transpose()?;
    sum.copy_from_slice(&x.values()?);
    Ok(norm::rms_norm(&delta.values()?, Some(sum), weight, dims, eps, normed, isa)?)
}

/// x + delta, and its root-mean-square norm over the last axis.
pub fn add_rms_norm(
    options: NodeOptions,
    x: &Array,
    delta: &Array,
    weight: Option<&Array>,
    eps: f32,
) -> Result<[Array; 2]> {
    let inputs: Vec<_> = [x, delta].into_iter().chain(weight).collect();
    options.build_each(AddRmsNorm { eps }, &inputs, [(x.shape(), Dtype::Float32); 2])
}
