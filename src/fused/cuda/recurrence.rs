//! What a recurrent layer does between its projections, on an NVIDIA card: the recurrence for one
//! new position, and the convolution before it.

use crate::error::Result;
use crate::fused::conv::ConvWeights;
use crate::fused::gated_delta::{GatedDeltaInputs, GatedDeltaParams};
use crate::fused::selective_scan::SelectiveScanParams;
use crate::mlx::gpu::{Block, Kernel, Number, Source};
use crate::mlx::{Array, Dtype};

const THREADS: usize = 512;
const THREADS_OF_CONV: usize = 256;
const MOST_KEY_DIM: i32 = 256;

/// The number of a type of activations, as the kernels have it; `None` if they do not.
fn kind(dtype: Dtype) -> Option<i32> {
    match dtype {
        Dtype::Bfloat16 => Some(0),
        Dtype::Float16 => Some(1),
        _ => None,
    }
}

/// Whether these are a position of one sequence, all of the type of the first.
fn one_position(arrays: &[&Array]) -> bool {
    let dtype = arrays.first().map(|first| first.dtype());
    arrays.iter().all(|x| x.dim(0) == 1 && x.dim(1) == 1 && Some(x.dtype()) == dtype)
}

/// The two outputs of a kernel.
fn pair(mut arrays: Vec<Array>) -> Option<(Array, Array)> {
    let second = arrays.pop()?;
    Some((arrays.pop()?, second))
}

/// See [`crate::fused::conv::causal_conv`].
pub fn causal_conv(
    x: &Array,
    before: &Array,
    weights: &ConvWeights,
) -> Result<Option<(Array, Array)>> {
    let ConvWeights { weight, bias, silu } = weights;
    let alike = bias.iter().chain([weight]).all(|it| it.dtype() == x.dtype());
    let (kernel, length, channels) = (weight.dim(0), x.dim(1), x.dim(2));
    let (Some(x_kind), true, 1, 2..) = (kind(x.dtype()), alike, x.dim(0), kernel) else {
        return Ok(None);
    };
    let source = Source {
        text: concat!(include_str!("numbers.cuh"), include_str!("causal_conv.cu")),
        name: c"nodemlx_causal_conv",
        settings: vec![
            ("X", x_kind),
            ("KERNEL", kernel),
            ("BIAS", i32::from(bias.is_some())),
            ("SILU", i32::from(*silu)),
        ],
    };
    let conv = Kernel::of(&source, Block { threads: THREADS_OF_CONV, shared_memory: 0 })?;
    let inputs: Vec<_> = [before, x, weight].into_iter().chain(bias).collect();
    let outputs = [(x.shape(), x.dtype()), (before.shape(), x.dtype())];
    let blocks = (length as usize * channels as usize).div_ceil(THREADS_OF_CONV);
    let numbers = [length, channels].map(Number::Whole);
    Ok(pair(conv.run(blocks, &inputs, &outputs, &numbers)?))
}

/// Sizes of a recurrence, as the kernel has them.
struct Heads {
    rule: i32,
    rows: i32,
    key_dim: i32,
    key_heads: i32,
    value_heads: i32,
}

impl Heads {
    /// y, `[1, 1, value_heads · rows]`, and the state after, of a position with these arguments.
    fn step(
        self,
        dtype: Dtype,
        inputs: &[&Array],
        state: &Array,
        numbers: [f32; 2],
    ) -> Result<Option<(Array, Array)>> {
        let Self { rule, rows, key_dim, key_heads, value_heads } = self;
        let (Some(x), true, 0) = (kind(dtype), key_dim <= MOST_KEY_DIM, key_dim % 32) else {
            return Ok(None);
        };
        let source = Source {
            text: concat!(include_str!("numbers.cuh"), include_str!("recurrence_step.cu")),
            name: c"nodemlx_recurrence_step",
            settings: vec![
                ("X", x),
                ("RULE", rule),
                ("ROWS", rows),
                ("KEY_DIM", key_dim),
                ("KEY_HEADS", key_heads),
                ("VALUE_HEADS", value_heads),
            ],
        };
        let kernel = Kernel::of(&source, Block { threads: THREADS, shared_memory: 0 })?;
        let shape = [1, 1, value_heads * rows];
        let outputs = [(&shape[..], dtype), (state.shape(), Dtype::Float32)];
        let numbers = numbers.map(Number::Real);
        Ok(pair(kernel.run(value_heads as usize, inputs, &outputs, &numbers)?))
    }
}

/// See [`crate::fused::gated_delta::gated_delta`].
pub fn gated_delta(
    inputs: &GatedDeltaInputs,
    before: &Array,
    params: &GatedDeltaParams,
) -> Result<Option<(Array, Array)>> {
    let GatedDeltaInputs { mixed, rate, decay, gate } = *inputs;
    let alike = params.norm.dtype() == mixed.dtype();
    if !alike || !one_position(&[mixed, rate, decay, gate]) {
        return Ok(None);
    }
    let GatedDeltaParams { step_bias, a, norm, .. } = params;
    let heads = Heads {
        rule: 0,
        rows: params.value_dim,
        key_dim: params.key_dim,
        key_heads: params.key_heads,
        value_heads: params.value_heads,
    };
    let query_scale = (params.key_dim as f32).sqrt().recip();
    let inputs = [mixed, decay, rate, gate, norm, step_bias, a, before];
    heads.step(mixed.dtype(), &inputs, before, [query_scale, params.eps])
}

/// See [`crate::fused::selective_scan::selective_scan`].
pub fn selective_scan(
    mixed: &Array,
    raw_steps: &Array,
    before: &Array,
    params: &SelectiveScanParams,
) -> Result<Option<(Array, Array)>> {
    if !one_position(&[mixed, raw_steps]) {
        return Ok(None);
    }
    let SelectiveScanParams { step_bias, a, d, step_limit: (least, largest), .. } = params;
    let heads = Heads {
        rule: 1,
        rows: params.head_dim,
        key_dim: params.state,
        key_heads: params.groups,
        value_heads: params.heads,
    };
    let inputs = [mixed, raw_steps, d, step_bias, a, before];
    heads.step(mixed.dtype(), &inputs, before, [*least, *largest])
}
