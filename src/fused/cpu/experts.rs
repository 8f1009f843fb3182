//! Mixtures of experts.

use std::ffi::CStr;

use super::super::experts::ExpertsWeights;
use super::super::router::{RouterParams, Routing, Score};
use super::products::QuantizedShape;
use super::{CpuKernel, NodeOptions, activation, with_last, wrong_outputs};
use crate::cpu::ExecOptions;
use crate::cpu::activation::Activation;
use crate::cpu::experts::{Experts, Scoring, TopK};
use crate::error::Result;
use crate::mlx::primitive::{Input, Output};
use crate::mlx::quantized::QuantizedTensor;
use crate::mlx::{Array, Dtype};

/// What the kernel is told of a router; `None` for what it does not do.
pub fn top_k(params: &RouterParams) -> Option<TopK> {
    let RouterParams { active, experts, routing, .. } = *params;
    if !(1..=experts).contains(&active) || params.logit_cap.is_some() {
        return None;
    }
    let active = active as usize;
    let of = |scoring, normalize, scale| Some(TopK { active, scoring, normalize, scale });
    match routing {
        Routing::TopThenSoftmax => of(Scoring::SoftmaxOfChosen, false, 1.0),
        Routing::ScoresThenTop { score, groups: None, normalize, scale } => {
            let scoring = match score {
                Score::Softmax => Scoring::Softmax,
                Score::Sigmoid => Scoring::Sigmoid,
                Score::SqrtSoftplus => return None,
            };
            of(scoring, normalize, scale)
        }
        Routing::ScoresThenTop { groups: Some(_), .. }
        | Routing::TopThenSigmoid { .. }
        | Routing::SparseMixer(_)
        | Routing::SigmoidOfInput => None,
    }
}

struct RouteTopK(TopK);

impl CpuKernel for RouteTopK {
    const NAME: &'static CStr = c"RouteTopK";

    fn run(&self, inputs: &[Input], outputs: &mut [Output], _: ExecOptions) -> Result<()> {
        let experts = inputs[0].shape().last().map_or(0, |&dim| dim as usize);
        let correction = inputs.get(1).map(Input::values).transpose()?;
        let [chosen, weights] = outputs else {
            return Err(wrong_outputs(outputs));
        };
        let logits = inputs[0].values()?;
        let (chosen, weights) = (chosen.slice()?, weights.slice()?);
        Ok(self.0.choose(&logits, experts, correction.as_deref(), chosen, weights)?)
    }
}

/// The experts chosen by logits `[…, experts]`, and their weights, `[…, active]` each.
pub fn route_top_k(
    options: NodeOptions,
    logits: &Array,
    correction: Option<&Array>,
    top_k: TopK,
) -> Result<[Array; 2]> {
    let shape = with_last(logits, top_k.active as i32);
    let inputs: Vec<_> = [logits].into_iter().chain(correction).collect();
    let outputs = [(&shape[..], Dtype::Uint32), (&shape[..], Dtype::Float32)];
    options.build_each(RouteTopK(top_k), &inputs, outputs)
}

/// Inputs are x, the choice and its weights, then codes, scales and perhaps biases of gate, up and
/// down.
struct MoeMlpKernel {
    shapes: [QuantizedShape; 3],
    /// Arrays of each matrix.
    arrays: [usize; 3],
    activation: Activation,
}

impl CpuKernel for MoeMlpKernel {
    const NAME: &'static CStr = c"MoeMlp";

    fn run(&self, inputs: &[Input], outputs: &mut [Output], exec: ExecOptions) -> Result<()> {
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
        Ok(experts.run(&x, &chosen, &weights, outputs[0].slice()?, exec)?)
    }
}

/// The outputs of the chosen experts, added up with their weights, in one kernel.
pub struct MoeMlp<'a> {
    x: &'a Array,
    chosen: &'a Array,
    weights: &'a Array,
    matrices: [&'a QuantizedTensor; 3],
    activation: Activation,
}

impl<'a> MoeMlp<'a> {
    /// `None` for experts that the kernel does not have: `x` is `[…, dims]`, the choice and the
    /// weights `[…, active]`.
    pub fn of(
        x: &'a Array,
        chosen: &'a Array,
        weights: &'a Array,
        experts: &'a ExpertsWeights,
    ) -> Option<Self> {
        let (matrices, activation) = experts.for_kernels()?;
        let activation = activation::of(activation)?;
        let fits = weights.dtype() == Dtype::Float32 && chosen.dtype() == Dtype::Uint32;
        fits.then_some(Self { x, chosen, weights, matrices, activation })
    }

    /// The node.
    pub fn build(&self, options: NodeOptions) -> Result<Array> {
        let Self { x, chosen, weights, matrices, activation } = *self;
        let mut inputs = vec![x, chosen, weights];
        inputs.extend(matrices.into_iter().flat_map(QuantizedTensor::arrays));
        let arrays = matrices.map(|w| w.arrays().count());
        let shapes = matrices.map(QuantizedShape::of);
        let output = with_last(x, matrices[2].weight.dim(-2));
        options.build_one(MoeMlpKernel { shapes, arrays, activation }, &inputs, &output)
    }
}
