//! Products with one of several matrices for each block of rows.

use std::ffi::CStr;

use super::products::QuantizedShape;
use super::{CpuKernel, NodeOptions, floats, readable};
use crate::cpu::{ExecOptions, Route, dense, quant};
use crate::error::{Error, Result};
use crate::mlx::primitive::{Input, Output};
use crate::mlx::quantized::QuantizedTensor;
use crate::mlx::{Array, ops};

/// The axes of two arrays broadcast against each other.
fn broadcast(a: &[i32], b: &[i32]) -> Result<Vec<i32>> {
    let len = a.len().max(b.len());
    let dim = |shape: &[i32], axis: usize| {
        (axis + shape.len()).checked_sub(len).map_or(1, |axis| shape[axis])
    };
    let axes = (0..len).map(|axis| match (dim(a, axis), dim(b, axis)) {
        (a, b) if a == b || b == 1 => Ok(a),
        (1, b) => Ok(b),
        _ => Err(Error::Mlx(format!("{a:?} and {b:?} cannot be broadcast"))),
    });
    axes.collect()
}

/// The routes of a gathered product: `x` has shape `[batch…, m, inputs]`, and its blocks of `m`
/// rows are broadcast against `experts`.
fn routes(x: &[i32], experts: &Input) -> Result<Vec<Route>> {
    let (batch, m) = (&x[..x.len() - 2], x[x.len() - 2] as usize);
    let (slabs, slab_strides) = (experts.span::<u32>()?, experts.strides());
    let shape = broadcast(batch, experts.shape())?;
    // The distance along each axis of the result, 0 where there is nothing to go along.
    let aligned = |own: &[i32], strides: &mut dyn Iterator<Item = usize>| -> Vec<usize> {
        let steps = own.iter().zip(strides).map(|(&dim, s)| if dim == 1 { 0 } else { s });
        std::iter::repeat_n(0, shape.len() - own.len()).chain(steps).collect()
    };
    let mut block = batch.iter().product::<i32>() as usize;
    let mut block_strides = batch.iter().map(|&dim| {
        block /= (dim as usize).max(1);
        block
    });
    let x_steps = aligned(batch, &mut block_strides);
    let slab_steps = aligned(experts.shape(), &mut slab_strides.iter().map(|&s| s as usize));
    let count = shape.iter().product::<i32>() as usize;
    let mut routes = Vec::with_capacity(count * m);
    for i in 0..count {
        let (mut rest, mut x, mut slab) = (i, 0, 0);
        for axis in (0..shape.len()).rev() {
            let at = rest % shape[axis] as usize;
            rest /= shape[axis] as usize;
            x += at * x_steps[axis];
            slab += at * slab_steps[axis];
        }
        let slab = slabs[slab] as usize;
        routes.extend((0..m).map(|row| Route { x: x * m + row, slab }));
    }
    Ok(routes)
}

/// The shape of a gathered product with `rows` outputs.
fn gathered(x: &Array, experts: &Array, rows: i32) -> Result<Vec<i32>> {
    let x = x.shape();
    let Some(batch) = x.len().checked_sub(2) else {
        return Err(Error::Mlx(format!("a gathered product needs two axes, not {x:?}")));
    };
    let mut shape = broadcast(&x[..batch], experts.shape())?;
    shape.extend([x[batch], rows]);
    Ok(shape)
}

struct GatherQuantizedMatmul {
    shape: QuantizedShape,
}

impl CpuKernel for GatherQuantizedMatmul {
    const NAME: &'static CStr = c"GatherQuantizedMatmul";

    fn run(&self, inputs: &[Input], outputs: &mut [Output], exec: ExecOptions) -> Result<()> {
        let weights = self.shape.weights(&inputs[2..])?;
        let routes = routes(inputs[0].shape(), &inputs[1])?;
        let x = inputs[0].values()?;
        Ok(quant::gather_matmul(&weights, &x, &routes, outputs[0].slice()?, exec)?)
    }
}

/// x · wᵀ with one of several matrices for each block of rows.
pub fn gather_quantized_matmul(
    options: NodeOptions,
    x: &Array,
    w: &QuantizedTensor,
    experts: &Array,
) -> Result<Array> {
    let shape = QuantizedShape::of(w);
    let inputs: Vec<_> = [x, experts].into_iter().chain(w.arrays()).collect();
    let output = gathered(x, experts, shape.rows as i32)?;
    options.build_one(GatherQuantizedMatmul { shape }, &inputs, &output)
}

struct GatherMatmul;

impl CpuKernel for GatherMatmul {
    const NAME: &'static CStr = c"GatherMatmul";

    fn run(&self, inputs: &[Input], outputs: &mut [Output], exec: ExecOptions) -> Result<()> {
        let weight = &inputs[2];
        let &[slabs, rows, cols] = weight.shape() else {
            return Err(Error::Mlx("three axes were expected".to_owned()));
        };
        let [slabs, rows, cols] = [slabs, rows, cols].map(|dim| dim as usize);
        let weights = dense::Weights { values: floats(weight)?, slabs, rows, cols };
        let routes = routes(inputs[0].shape(), &inputs[1])?;
        let x = inputs[0].values()?;
        Ok(dense::gather_matmul(&weights, &x, &routes, outputs[0].slice()?, exec.isa)?)
    }
}

/// Whether [`gather_matmul`] reads this weight.
pub fn reads(weight: &Array) -> bool {
    readable(weight) && weight.ndim() == 3
}

/// x · w with one of several matrices for each block of rows; `w` is `[experts, inputs, outputs]`,
/// best as the transposition of what lies in memory.
pub fn gather_matmul(options: NodeOptions, x: &Array, w: &Array, experts: &Array) -> Result<Array> {
    let shape = gathered(x, experts, w.dim(2))?;
    // Copied only where it is not that.
    let w = ops::contiguous(&ops::swap_axes(w, -1, -2)?)?;
    options.build_one(GatherMatmul, &[x, experts, &w], &shape)
}
