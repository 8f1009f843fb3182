//! Recurrences and short convolutions.

use std::ffi::CStr;

use super::super::conv::ConvWeights;
use super::{CpuKernel, NodeOptions, wrong_outputs};
use crate::cpu::ExecOptions;
use crate::cpu::conv::CausalConv;
use crate::cpu::recurrence::Recurrence;
use crate::error::{Error, Result};
use crate::mlx::primitive::{Input, Output};
use crate::mlx::{Array, Dtype};

struct MatrixRecurrence;

impl CpuKernel for MatrixRecurrence {
    const NAME: &'static CStr = c"Recurrence";

    fn run(&self, inputs: &[Input], outputs: &mut [Output], exec: ExecOptions) -> Result<()> {
        let (&[.., key_dim], &[batch, length, groups, heads, value_dim]) =
            (inputs[1].shape(), inputs[2].shape())
        else {
            return Err(Error::Mlx(format!("values of shape {:?}", inputs[2].shape())));
        };
        let arrays = inputs.iter().map(Input::values).collect::<Result<Vec<_>>>()?;
        let recurrence = Recurrence {
            queries: &arrays[0],
            keys: &arrays[1],
            values: &arrays[2],
            log_decay: &arrays[3],
            rates: arrays.get(5).map(|rates| &rates[..]),
            shape: [batch, length, groups, heads, value_dim, key_dim].map(|dim| dim as usize),
        };
        let [y, state] = outputs else {
            return Err(wrong_outputs(outputs));
        };
        Ok(recurrence.run(&arrays[4], y.slice()?, state.slice()?, exec.isa)?)
    }
}

/// What [`Recurrence`] computes: y, of the shape of `values`, and the last state.
pub fn recurrence(
    options: NodeOptions,
    [queries, keys, values, log_decay]: [&Array; 4],
    rates: Option<&Array>,
    state: &Array,
) -> Result<(Array, Array)> {
    let inputs: Vec<_> =
        [queries, keys, values, log_decay, state].into_iter().chain(rates).collect();
    let shapes = [(values.shape(), Dtype::Float32), (state.shape(), Dtype::Float32)];
    options.build_each(MatrixRecurrence, &inputs, shapes).map(|[y, state]| (y, state))
}

struct Convolution {
    silu: bool,
}

impl CpuKernel for Convolution {
    const NAME: &'static CStr = c"CausalConvolution";

    fn run(&self, inputs: &[Input], outputs: &mut [Output], exec: ExecOptions) -> Result<()> {
        let (&[batch, positions, channels], &[kernel, _]) = (inputs[0].shape(), inputs[1].shape())
        else {
            return Err(Error::Mlx(format!("inputs of shape {:?}", inputs[0].shape())));
        };
        let arrays = inputs.iter().map(Input::values).collect::<Result<Vec<_>>>()?;
        let conv = CausalConv {
            x: &arrays[0],
            weight: &arrays[1],
            bias: arrays.get(2).map(|bias| &bias[..]),
            silu: self.silu,
            shape: [batch, positions - kernel + 1, channels, kernel].map(|dim| dim as usize),
        };
        Ok(conv.run(outputs[0].slice()?, exec.isa)?)
    }
}

/// What [`CausalConv`] computes from `x`, `[batch, kernel − 1 + length, channels]`:
/// `[batch, length, channels]`.
pub fn causal_conv(options: NodeOptions, x: &Array, weights: &ConvWeights) -> Result<Array> {
    let ConvWeights { weight, bias, silu } = weights;
    let inputs: Vec<_> = [x, weight].into_iter().chain(bias).collect();
    let shape = [x.dim(0), x.dim(1) - weight.dim(0) + 1, x.dim(2)];
    options.build_one(Convolution { silu: *silu }, &inputs, &shape)
}
