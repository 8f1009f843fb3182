//! The CPU's column: kernels of [`crate::cpu`] as nodes of MLX's graph. Activations are `f32`.

pub mod activation;
pub mod attention;
pub mod experts;
pub mod gathered;
pub mod norm;
pub mod products;
pub mod recurrence;
pub mod sampling;
#[cfg(test)]
mod tests;

use std::ffi::CStr;

use half::{bf16, f16};

use crate::cpu::pool::with_threads;
use crate::cpu::{self, ExecOptions, Floats};
use crate::error::{Error, Result};
use crate::mlx::primitive::{self, Input, Kernel, Output};
use crate::mlx::{Array, Dtype, is_float};

impl From<cpu::Error> for Error {
    fn from(cpu::Error { argument, message }: cpu::Error) -> Self {
        Self::argument(argument, message)
    }
}

/// What the kernels of a device run with.
#[derive(Clone, Copy, Debug)]
pub struct NodeOptions {
    /// The instruction set, and the precision of products.
    pub exec: ExecOptions,
    /// How many threads may work on a kernel.
    pub threads: usize,
}

/// The work of a node.
trait CpuKernel: Send + Sync + 'static {
    /// How it is called in error messages and in the printed graph.
    const NAME: &'static CStr;

    /// Computes the outputs from the inputs.
    fn run(&self, inputs: &[Input], outputs: &mut [Output], exec: ExecOptions) -> Result<()>;
}

/// A kernel and what it runs with: the node keeps the settings of the device that it was built for,
/// whichever thread evaluates the graph.
struct Node<K> {
    kernel: K,
    options: NodeOptions,
}

impl<K: CpuKernel> Kernel for Node<K> {
    const NAME: &'static CStr = K::NAME;

    fn run(&self, inputs: &[Input], outputs: &mut [Output]) -> Result<()> {
        let NodeOptions { exec, threads } = self.options;
        with_threads(threads, || self.kernel.run(inputs, outputs, exec))
    }
}

impl NodeOptions {
    fn node<K: CpuKernel>(self, kernel: K) -> Node<K> {
        Node { kernel, options: self }
    }

    /// A node with outputs of these shapes, `f32`.
    fn build(
        self,
        kernel: impl CpuKernel,
        inputs: &[&Array],
        shapes: &[&[i32]],
    ) -> Result<Vec<Array>> {
        let outputs: Vec<_> = shapes.iter().map(|shape| (*shape, Dtype::Float32)).collect();
        primitive::custom(self.node(kernel), inputs, &outputs)
    }

    /// A node with one output, `f32`.
    fn build_one(self, kernel: impl CpuKernel, inputs: &[&Array], shape: &[i32]) -> Result<Array> {
        primitive::custom_one(self.node(kernel), inputs, shape, Dtype::Float32)
    }

    /// A node with a fixed number of outputs.
    fn build_each<const N: usize>(
        self,
        kernel: impl CpuKernel,
        inputs: &[&Array],
        outputs: [(&[i32], Dtype); N],
    ) -> Result<[Array; N]> {
        primitive::custom_each(self.node(kernel), inputs, outputs)
    }
}

/// The shape of `x` with another last axis.
fn with_last(x: &Array, last: i32) -> Vec<i32> {
    let mut shape = x.shape().to_vec();
    if let Some(dim) = shape.last_mut() {
        *dim = last;
    }
    shape
}

/// The error of a kernel that was given another number of outputs than it has.
fn wrong_outputs(outputs: &[Output]) -> Error {
    Error::Mlx(format!("{} outputs", outputs.len()))
}

/// Whether an array has one of the types of [`Floats`].
fn readable(array: &Array) -> bool {
    is_float(array.dtype()) && array.dtype() != Dtype::Float64
}

/// The memory of an input of any float type, from its first to its last element.
fn float_span<'a>(input: &Input<'a>) -> Result<Floats<'a>> {
    match input.dtype() {
        Dtype::Float32 => input.span().map(Floats::F32),
        Dtype::Float16 => input.span::<f16>().map(Floats::F16),
        Dtype::Bfloat16 => input.span::<bf16>().map(Floats::Bf16),
        other => Err(Error::Mlx(format!("{other:?} instead of floating-point numbers"))),
    }
}

/// The elements of an input of any float type.
fn floats<'a>(input: &Input<'a>) -> Result<Floats<'a>> {
    if !input.contiguous() {
        return Err(Error::Mlx("a contiguous array was expected".to_owned()));
    }
    float_span(input)
}
