//! Mixtures of experts.

use std::ffi::CStr;

use super::super::primitive::{Input, Kernel, Output, custom_each, custom_one};
use super::super::quantized::Packed;
use super::super::{Array, Dtype};
use super::exec;
use super::products::{PackedShape, with_last};
use crate::cpu::Exec;
use crate::cpu::activation::Activation;
use crate::cpu::experts::{Choice, Experts};
use crate::error::{Error, Result};

struct Choose(Choice);

impl Kernel for Choose {
    const NAME: &'static CStr = c"ChooseExperts";

    fn run(&self, inputs: &[Input], outputs: &mut [Output]) -> Result<()> {
        let experts = inputs[0].shape().last().map_or(0, |&dim| dim as usize);
        let correction = inputs.get(1).map(Input::values).transpose()?;
        let [chosen, weights] = outputs else {
            return Err(Error::Mlx(format!("{} outputs", outputs.len())));
        };
        let logits = inputs[0].values()?;
        self.0.make(&logits, experts, correction.as_deref(), chosen.slice()?, weights.slice()?)
    }
}

/// The experts chosen by logits `[…, experts]`, and their weights, `[…, active]` each.
pub(in crate::mlx) fn choose_experts(
    logits: &Array,
    correction: Option<&Array>,
    choice: Choice,
) -> Result<[Array; 2]> {
    let shape = with_last(logits, choice.active as i32);
    let inputs: Vec<_> = [logits].into_iter().chain(correction).collect();
    custom_each(Choose(choice), &inputs, [(&shape, Dtype::Uint32), (&shape, Dtype::Float32)])
}

/// Inputs are x, the choice and its weights, then codes, scales and perhaps biases of gate, up and down.
struct WeightedExperts {
    shapes: [PackedShape; 3],
    /// Arrays of each matrix.
    arrays: [usize; 3],
    activation: Activation,
    exec: Exec,
}

impl Kernel for WeightedExperts {
    const NAME: &'static CStr = c"WeightedExperts";

    fn run(&self, inputs: &[Input], outputs: &mut [Output]) -> Result<()> {
        let (tokens, matrices) = inputs.split_at(3);
        let (gate, rest) = matrices.split_at(self.arrays[0]);
        let (up, down) = rest.split_at(self.arrays[1]);
        let experts = Experts {
            gate: self.shapes[0].weights(gate)?,
            up: self.shapes[1].weights(up)?,
            down: self.shapes[2].weights(down)?,
            activation: self.activation,
        };
        let (x, weights) = (tokens[0].values()?, tokens[2].values()?);
        let chosen = tokens[1].elements::<u32>()?;
        experts.run(&x, &chosen, &weights, outputs[0].slice()?, self.exec)
    }
}

/// The outputs of the `chosen` experts for `x`, `[…, dims]`, added up with their weights, `[…, active]`.
pub(in crate::mlx) fn weighted_experts(
    x: &Array,
    [chosen, weights]: [&Array; 2],
    matrices: [&Packed; 3],
    activation: Activation,
) -> Result<Array> {
    let mut inputs = vec![x, chosen, weights];
    inputs.extend(matrices.into_iter().flat_map(Packed::arrays));
    let arrays = matrices.map(|w| w.arrays().count());
    let kernel =
        WeightedExperts { shapes: matrices.map(PackedShape::of), arrays, activation, exec: exec() };
    let shape = with_last(x, matrices[2].weight.dim(-2));
    custom_one(kernel, &inputs, &shape, Dtype::Float32)
}
