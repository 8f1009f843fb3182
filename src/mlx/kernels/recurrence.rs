//! What recurrent layers are made of.

use std::ffi::CStr;

use super::super::primitive::{Input, Kernel, Output, custom_each, custom_one};
use super::super::{Array, Dtype};
use crate::cpu::Isa;
use crate::cpu::conv::CausalConv;
use crate::cpu::recurrence::Recurrence;
use crate::error::{Error, Result};

struct MatrixRecurrence;

impl Kernel for MatrixRecurrence {
    const NAME: &'static CStr = c"Recurrence";

    fn run(&self, inputs: &[Input], outputs: &mut [Output]) -> Result<()> {
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
            return Err(Error::Mlx(format!("{} outputs", outputs.len())));
        };
        recurrence.run(&arrays[4], y.slice()?, state.slice()?, Isa::best())
    }
}

/// What [`Recurrence`] computes: y, of the shape of `values`, and the last state.
pub(in crate::mlx) fn recurrence(
    [queries, keys, values, log_decay]: [&Array; 4],
    rates: Option<&Array>,
    state: &Array,
) -> Result<(Array, Array)> {
    let inputs: Vec<_> =
        [queries, keys, values, log_decay, state].into_iter().chain(rates).collect();
    let shapes = [(values.shape(), Dtype::Float32), (state.shape(), Dtype::Float32)];
    custom_each(MatrixRecurrence, &inputs, shapes).map(|[y, state]| (y, state))
}

struct Convolution {
    silu: bool,
}

impl Kernel for Convolution {
    const NAME: &'static CStr = c"CausalConvolution";

    fn run(&self, inputs: &[Input], outputs: &mut [Output]) -> Result<()> {
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
        conv.run(outputs[0].slice()?, Isa::best())
    }
}

/// What [`CausalConv`] computes from `x`, `[batch, kernel − 1 + length, channels]`:
/// `[batch, length, channels]`.
pub(in crate::mlx) fn causal_conv(
    x: &Array,
    weight: &Array,
    bias: Option<&Array>,
    silu: bool,
) -> Result<Array> {
    let inputs: Vec<_> = [x, weight].into_iter().chain(bias).collect();
    let shape = [x.dim(0), x.dim(1) - weight.dim(0) + 1, x.dim(2)];
    custom_one(Convolution { silu }, &inputs, &shape, Dtype::Float32)
}
