//! Products of a few rows with a matrix on an NVIDIA card, and what can be done on the way: what is
//! added to the rows and their norm before, a gated activation after; and the same with the
//! matrices of the experts that were chosen for each row.

use std::sync::Arc;

use super::router::Choice;
use crate::error::Result;
use crate::fused::activation::Activation;
use crate::fused::norm::AddRmsNorm;
use crate::fused::router::RouterParams;
use crate::mlx::gpu::{Block, Card, Kernel, Number, Source};
use crate::mlx::quantized::{Mode, QuantizedTensor};
use crate::mlx::{Array, Dtype};

/// Columns of the operand that a block makes of x, at most.
const MOST_COLUMNS: usize = 16;

/// Rows that are few, and for codes of up to six bits: beyond, products of numbers are faster,
/// unpacking included.
const FEW_ROWS: [usize; 2] = [16, 32];

/// Rows that experts are multiplied with one by one.
const MOST_ROWS_OF_EXPERTS: usize = 16;

/// Experts of a row.
const MOST_ACTIVE: i32 = 32;

/// A matrix that the kernels multiply with, `[outputs, inputs]`, or one for each of many experts.
#[derive(Debug, Clone, Copy)]
pub enum Operand<'a> {
    /// Numbers.
    Dense(&'a Array),
    /// Codes and scales.
    Quantized(&'a QuantizedTensor),
}

impl<'a> Operand<'a> {
    /// The numbers or codes.
    fn stored(self) -> &'a Array {
        match self {
            Self::Dense(weight) => weight,
            Self::Quantized(tensor) => &tensor.weight,
        }
    }

    /// All arrays, the numbers or codes first.
    fn arrays(self) -> Vec<&'a Array> {
        match self {
            Self::Dense(weight) => vec![weight],
            Self::Quantized(tensor) => tensor.arrays().collect(),
        }
    }
}

/// What of a product decides about its kernel, as few_rows.cu calls it.
#[derive(Debug, Clone, Copy)]
struct Product {
    x: i32,
    format: i32,
    bits: usize,
    group: usize,
    entry_bytes: usize,
    norm: i32,
    norm_weight: bool,
    gated: i32,
    experts: ExpertAxis,
    /// Experts of a row, or 1.
    active: usize,
    rows: usize,
    /// Of a matrix.
    inputs: usize,
    /// Of all matrices of a row.
    outputs: usize,
}

/// What the matrices of a row's experts have in common, as few_rows.cu numbers it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ExpertAxis {
    /// There is one matrix.
    None = 0,
    /// Their inputs; outputs follow each other.
    Outputs = 1,
    /// Their outputs, which are added up; inputs follow each other.
    Inputs = 2,
}

/// How a kernel divides the work.
#[derive(Debug, Clone, Copy)]
struct Shape {
    tiles: usize,
    warps: usize,
    stages: usize,
    blocks: usize,
    stream_x: bool,
}

impl Product {
    /// `None` for what the kernels do not do.
    fn of(x: &Array, matrix: Operand) -> Option<Self> {
        let stored = matrix.stored();
        let inputs = x.dim(-1) as usize;
        let product = Self::with(x, matrix, x.size() / inputs.max(1), inputs, stored.dim(0))?;
        let few = FEW_ROWS[usize::from(product.bits <= 6)];
        (stored.ndim() == 2 && product.rows <= few).then_some(product)
    }

    /// A product of rows of the type of `x` with matrices of this many inputs, and outputs in all.
    fn with(x: &Array, matrix: Operand, rows: usize, inputs: usize, outputs: i32) -> Option<Self> {
        let kind = match x.dtype() {
            Dtype::Bfloat16 => 0,
            Dtype::Float16 => 1,
            Dtype::Float32 => 2,
            _ => return None,
        };
        let (format, bits, group, entry_bytes) = match matrix {
            Operand::Dense(weight) if weight.dtype() == x.dtype() && kind != 2 => (0, 16, 128, 0),
            Operand::Dense(_) => return None,
            Operand::Quantized(tensor) => {
                let (bits, group) =
                    (tensor.params.bits as usize, tensor.params.group_size as usize);
                let (format, entry_bytes) = match tensor.params.mode {
                    Mode::Affine if tensor.scales.dtype() == x.dtype() => (1, x.item_size()),
                    Mode::Affine => return None,
                    Mode::Mxfp4 => (2, 1),
                    Mode::Mxfp8 => (3, 1),
                    Mode::Nvfp4 => (4, 1),
                };
                (format, bits, group, entry_bytes)
            }
        };
        let product = Self {
            x: kind,
            format,
            bits,
            group,
            entry_bytes,
            norm: 0,
            norm_weight: false,
            gated: 0,
            experts: ExpertAxis::None,
            active: 1,
            rows,
            inputs,
            outputs: outputs as usize,
        };
        // Rows of codes and of scales are copied in whole pieces.
        let stored = matrix.stored().dim(-1) as usize * if format == 0 { 1 } else { 32 };
        let fits = rows > 0
            && stored == inputs * if format == 0 { 1 } else { bits }
            && (inputs * bits / 8).is_multiple_of(16)
            && (format == 0 || inputs.is_multiple_of(group) && product.scale_bytes() >= 4);
        fits.then_some(product)
    }

    /// The same with a matrix for each of `active` experts of a row.
    fn of_experts(self, experts: ExpertAxis, active: usize) -> Self {
        Self { experts, active, ..self }
    }

    /// Columns of the operand that make a row.
    fn parts(&self) -> usize {
        if self.x == 2 { 3 } else { 1 }
    }

    /// Columns of the operand.
    fn columns(&self) -> usize {
        // A block works for one row only where each has matrices of its own.
        let rows = if self.experts == ExpertAxis::None { self.rows } else { 1 };
        (rows * self.parts()).next_power_of_two().min(MOST_COLUMNS)
    }

    /// Parts of the rows that blocks work for, each with all weights.
    fn groups(&self) -> usize {
        match self.experts {
            ExpertAxis::None => self.rows.div_ceil(self.columns() / self.parts()),
            ExpertAxis::Outputs | ExpertAxis::Inputs => self.rows,
        }
    }

    /// Bytes of scales that are copied at once: as many as divide those of a row and of a chunk.
    fn scale_bytes(&self) -> usize {
        let parts =
            [self.inputs / self.group * self.entry_bytes, 256 / self.group * self.entry_bytes];
        let largest = parts[0].trailing_zeros().min(parts[1].trailing_zeros()).min(4);
        1 << largest
    }

    fn shared_memory(&self, shape: Shape) -> usize {
        let columns = self.columns();
        let chunk = if self.format == 0 { 128 } else { 256 };
        let unit = if self.format == 0 { 32 } else { self.group.min(64) };
        let rows = 16 * shape.tiles;
        let row_bytes = chunk * self.bits / 8;
        let stride = if row_bytes.is_multiple_of(128) { row_bytes } else { row_bytes + 16 };
        let arrays = match self.format {
            0 => 0,
            1 => 2,
            _ => 1,
        };
        let scales = if self.format == 0 { 0 } else { chunk / self.group * self.entry_bytes };
        let streamed = if shape.stream_x { columns * chunk * 2 } else { 0 };
        let stage = rows * stride + arrays * rows * scales + streamed;
        let matrices = if self.experts == ExpertAxis::Inputs { self.active } else { 1 };
        let padded = self.inputs.div_ceil(chunk) * chunk * matrices;
        let sums = if self.format == 1 { padded / unit * columns * 4 } else { 0 };
        let operand = if shape.stream_x { 0 } else { padded * columns * 2 + sums };
        let turns = if columns < 8 { 2 } else { 1 };
        operand + turns * shape.warps * rows * columns * 4 + shape.warps * shape.stages * stage
    }

    /// The best shape that fits on the card, as benches/cuda found it.
    fn shape(&self, card: &Card) -> Option<Shape> {
        // What is normed must lie there as a whole, and so must the parts of 32-bit numbers.
        let alone = self.norm == 0 && self.experts == ExpertAxis::None;
        let can_stream = alone && self.x != 2 && self.format != 4;
        let hidden = self.outputs / self.active;
        let whole = |shape: &Shape| match self.experts {
            // A tile has gates and ups of one expert.
            ExpertAxis::Outputs => hidden.is_multiple_of(8 * shape.tiles),
            ExpertAxis::None | ExpertAxis::Inputs => true,
        };
        self.shapes()
            .into_iter()
            .filter(|shape| (can_stream || !shape.stream_x) && whole(shape))
            .find(|&shape| self.shared_memory(shape) <= self.room(shape, card))
    }

    /// The shapes to be tried, the best first.
    fn shapes(&self) -> Vec<Shape> {
        let columns = self.columns();
        let (long, wide) = (self.inputs >= 8 * 1024, self.outputs >= 16 * 1024);
        let whole =
            |tiles, warps, stages, blocks| Shape { tiles, warps, stages, blocks, stream_x: false };
        let streamed = |tiles, stages| Shape { tiles, warps: 8, stages, blocks: 1, stream_x: true };
        let best = match (self.format == 0, self.bits > 6, columns) {
            _ if self.experts == ExpertAxis::Outputs => whole(2, 4, 2, 4),
            _ if self.experts == ExpertAxis::Inputs && self.rows == 1 => whole(1, 8, 3, 2),
            _ if self.experts == ExpertAxis::Inputs => whole(2, 8, 2, 2),
            (true, _, 1) => whole(1, 8, 4, 1),
            (true, _, 16) => streamed(2, 2),
            (true, ..) => streamed(1, 4),
            (_, true, 1) => whole(1, 8, 2, 2),
            (_, true, 2..=4) if !wide => whole(1, 8, 3, 1),
            (.., 8 | 16) if long => streamed(2, 2),
            (_, true, _) => whole(1, 16, 2, 1),
            (.., 1) if self.outputs >= 64 * 1024 => whole(2, 8, 2, 2),
            (.., 1) if wide => whole(2, 8, 3, 1),
            (.., 1 | 2 | 4) if long => whole(2, 8, 2, 1),
            (.., 1) if self.outputs <= 4 * 1024 => whole(1, 4, 3, 2),
            (.., 1 | 2 | 4) if !wide => whole(1, 8, 3, 1),
            (.., 1 | 2 | 4) => whole(2, 8, 3, 1),
            (.., 8) if wide => whole(2, 16, 2, 1),
            _ => whole(1, 16, 2, 1),
        };
        let others = [
            whole(1, 16, 2, 1),
            whole(1, 8, 3, 1),
            whole(1, 8, 2, 1),
            streamed(2, 3),
            streamed(2, 2),
            streamed(1, 2),
            whole(1, 4, 2, 1),
        ];
        [best].into_iter().chain(others).collect()
    }

    /// Bytes of dynamic shared memory that a block may have: all that its processor has for it, so
    /// that launches of one kernel agree.
    fn room(&self, shape: Shape, card: &Card) -> usize {
        let fixed = if self.norm > 0 || self.experts != ExpertAxis::None { 1024 } else { 0 };
        card.shared_memory(shape.blocks).saturating_sub(fixed)
    }

    fn kernel(&self, shape: Shape, card: &Card, choice: Option<&Choice>) -> Result<Arc<Kernel>> {
        let columns = self.columns();
        let known = [("ROUTED", 0), ("ACTIVE", self.active as i32)];
        let of_experts = match choice {
            Some(choice) => choice.settings().to_vec(),
            None => known.to_vec(),
        };
        let source = Source {
            text: concat!(include_str!("choose.cuh"), include_str!("few_rows.cu")),
            name: c"nodemlx_few_rows",
            settings: [
                ("X", self.x),
                ("FORMAT", self.format),
                ("BITS", self.bits as i32),
                ("GROUP", self.group as i32),
                ("COLS", columns as i32),
                ("TILES", shape.tiles as i32),
                ("WARPS", shape.warps as i32),
                ("STAGES", shape.stages as i32),
                ("BLOCKS", shape.blocks as i32),
                ("SCALE_BYTES", if self.format == 0 { 4 } else { self.scale_bytes() as i32 }),
                ("STREAM_X", i32::from(shape.stream_x)),
                ("NORM", self.norm),
                ("NORM_WEIGHT", i32::from(self.norm_weight)),
                ("GATED", self.gated),
                ("EXPERTS", self.experts as i32),
            ]
            .into_iter()
            .chain(of_experts)
            .collect(),
        };
        let block = Block { threads: 32 * shape.warps, shared_memory: self.room(shape, card) };
        Kernel::of(&source, block)
    }

    /// Adds the kernel to the graph, if it fits on the card.
    fn run(
        &self,
        card: &Card,
        x: &Array,
        inputs: &[&Array],
        eps: Option<f32>,
        choice: Option<&Choice>,
    ) -> Result<Option<Vec<Array>>> {
        let Some(shape) = self.shape(card) else { return Ok(None) };
        let kernel = self.kernel(shape, card, choice)?;
        // With experts, gates and ups are matrices of their own.
        let halves = self.gated != 0 && self.experts == ExpertAxis::None;
        let width = if halves { self.outputs / 2 } else { self.outputs };
        let outputs_of_tile = if self.gated == 0 { 16 } else { 8 } * shape.tiles;
        let with_last = |last: usize| {
            let mut shape = x.shape().to_vec();
            if let Some(dim) = shape.last_mut() {
                *dim = last as i32;
            }
            shape
        };
        let (product, chosen) = (with_last(width), with_last(self.active));
        let mut outputs = vec![(&product[..], x.dtype())];
        if self.norm == 2 {
            outputs.push((x.shape(), x.dtype()));
        }
        if choice.is_some() {
            outputs.push((&chosen[..], Dtype::Uint32));
        }
        let whole = [self.outputs, self.inputs, self.rows].map(|n| Number::Whole(n as i32));
        let reals = eps.map(Number::Real).into_iter().chain(choice.map(Choice::scale));
        let numbers: Vec<_> = whole.into_iter().chain(reals).collect();
        let tiles = width.div_ceil(outputs_of_tile);
        let room = card.processors() * shape.blocks;
        let blocks = self.groups() * tiles.min((room / self.groups()).max(1));
        kernel.run(blocks, inputs, &outputs, &numbers).map(Some)
    }
}

/// The activation of a gated product, as few_rows.cu calls it.
fn gated(activation: Option<Activation>) -> Option<i32> {
    match activation {
        None => Some(0),
        Some(Activation::Silu) => Some(1),
        Some(Activation::Gelu) => Some(2),
        Some(Activation::GeluTanh) => Some(3),
        Some(Activation::Relu) => Some(4),
        Some(Activation::ReluSquared) => None,
    }
}

/// x · wᵀ, or with an activation act(x · gateᵀ) · (x · upᵀ) for a matrix that holds the gate's
/// outputs and then as many of up.
pub fn matmul(
    card: Card,
    x: &Array,
    matrix: Operand,
    activation: Option<Activation>,
) -> Result<Option<Array>> {
    let (Some(product), Some(gated)) = (Product::of(x, matrix), gated(activation)) else {
        return Ok(None);
    };
    let product = Product { gated, ..product };
    let inputs: Vec<_> = [x].into_iter().chain(matrix.arrays()).collect();
    Ok(product.run(&card, x, &inputs, None, None)?.map(|mut arrays| arrays.swap_remove(0)))
}

/// x + delta, and [`matmul`] of its norm.
pub fn norm_matmul(
    card: Card,
    rows: &AddRmsNorm,
    matrix: Operand,
    activation: Option<Activation>,
) -> Result<Option<(Array, Array)>> {
    let AddRmsNorm { x, delta, weight, eps } = *rows;
    let (Some(product), Some(gated)) = (Product::of(x, matrix), gated(activation)) else {
        return Ok(None);
    };
    if weight.is_some_and(|weight| weight.dtype() != x.dtype()) {
        return Ok(None);
    }
    let product = Product {
        gated,
        norm: if delta.is_some() { 2 } else { 1 },
        norm_weight: weight.is_some(),
        ..product
    };
    let inputs: Vec<_> =
        [x].into_iter().chain(delta).chain(weight).chain(matrix.arrays()).collect();
    let Some(mut arrays) = product.run(&card, x, &inputs, Some(eps), None)? else {
        return Ok(None);
    };
    let sum = if delta.is_some() { arrays.swap_remove(1) } else { x.clone() };
    Ok(Some((sum, arrays.swap_remove(0))))
}

/// The two products of gated experts: to hidden features, those of a row's experts one after the
/// other, and back, added up.
struct Moe<'a> {
    gate_up: Product,
    down: Product,
    /// Gate, up and down.
    matrices: [&'a QuantizedTensor; 3],
}

impl<'a> Moe<'a> {
    /// `None` for experts that the kernels do not have.
    fn of(
        card: &Card,
        x: &Array,
        active: i32,
        matrices: [&'a QuantizedTensor; 3],
        activation: Activation,
    ) -> Option<Self> {
        let [gate, up, down] = matrices;
        let dims = x.dim(-1);
        let (rows, hidden) = (x.size() / dims.max(1) as usize, gate.weight.dim(-2));
        let fits = (1..=MOST_ACTIVE).contains(&active)
            && rows <= MOST_ROWS_OF_EXPERTS
            && gate.params == up.params
            && matrices.iter().all(|matrix| matrix.weight.ndim() == 3);
        let product = |matrix: &QuantizedTensor, inputs: i32, outputs, axis| {
            let matrix = Operand::Quantized(matrix);
            let product = Product::with(x, matrix, rows, inputs as usize, outputs)?;
            Some(product.of_experts(axis, active as usize))
        };
        let gate_up = product(gate, dims, active.checked_mul(hidden)?, ExpertAxis::Outputs)?;
        let gate_up = Product { gated: gated(Some(activation))?, ..gate_up };
        let down = product(down, hidden, dims, ExpertAxis::Inputs)?;
        let fits = fits && gate_up.shape(card).is_some() && down.shape(card).is_some();
        fits.then_some(Self { gate_up, down, matrices })
    }

    /// Arguments of the first product behind `first`.
    fn inputs<'b>(&self, first: &[&'b Array]) -> Vec<&'b Array>
    where
        'a: 'b,
    {
        let [gate, up, _] = self.matrices;
        first.iter().copied().chain(gate.arrays()).chain(up.arrays()).collect()
    }

    /// The outputs, added up, of hidden features `[…, active · hidden]`, which are weighed.
    fn down(&self, card: &Card, hidden: &Array, chosen: &Array) -> Result<Option<Array>> {
        let [.., down] = self.matrices;
        let inputs: Vec<_> = [hidden, chosen].into_iter().chain(down.arrays()).collect();
        let arrays = self.down.run(card, hidden, &inputs, None, None)?;
        Ok(arrays.map(|mut arrays| arrays.swap_remove(0)))
    }
}

/// The sum of the chosen experts' outputs times their weights: `x` is `[…, dims]`, the choice and
/// the weights `[…, active]`; `matrices` are gate, up and down.
pub fn moe_mlp(
    card: Card,
    x: &Array,
    chosen: &Array,
    weights: &Array,
    matrices: [&QuantizedTensor; 3],
    activation: Activation,
) -> Result<Option<Array>> {
    let fits = chosen.dtype() == Dtype::Uint32 && weights.dtype() == Dtype::Float32;
    let (true, Some(moe)) = (fits, Moe::of(&card, x, chosen.dim(-1), matrices, activation)) else {
        return Ok(None);
    };
    let inputs = moe.inputs(&[x, chosen, weights]);
    let Some(mut hidden) = moe.gate_up.run(&card, x, &inputs, None, None)? else {
        return Ok(None);
    };
    moe.down(&card, &hidden.swap_remove(0), chosen)
}

/// x + delta, and [`moe_mlp`] of its norm, from which `router` chooses.
pub fn norm_moe_mlp(
    card: Card,
    rows: &AddRmsNorm,
    router: Operand,
    params: &RouterParams,
    matrices: [&QuantizedTensor; 3],
    activation: Activation,
) -> Result<Option<(Array, Array)>> {
    let AddRmsNorm { x, weight, eps, .. } = *rows;
    let Some(choice) = Choice::of(params) else { return Ok(None) };
    let Some(moe) = Moe::of(&card, x, choice.active(), matrices, activation) else {
        return Ok(None);
    };
    let Some((sum, logits)) = norm_matmul(card, rows, router, None)? else { return Ok(None) };
    let gate_up = Product { norm: 1, norm_weight: weight.is_some(), ..moe.gate_up };
    let first: Vec<_> =
        [&sum].into_iter().chain(weight).chain([&logits]).chain(choice.correction()).collect();
    let inputs = moe.inputs(&first);
    let Some(mut arrays) = gate_up.run(&card, &sum, &inputs, Some(eps), Some(&choice))? else {
        return Ok(None);
    };
    let chosen = arrays.swap_remove(1);
    let output = moe.down(&card, &arrays.swap_remove(0), &chosen)?;
    Ok(output.map(|output| (sum, output)))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::mlx::quantized::QuantizationParams;
    use crate::mlx::{DeviceKind, enter, ops};

    fn zeros(shape: &[i32], dtype: Dtype) -> Array {
        ops::zeros(shape, dtype).unwrap()
    }

    fn quantized(
        outputs: i32,
        inputs: i32,
        params: QuantizationParams,
        dtype: Dtype,
    ) -> QuantizedTensor {
        let of_scales = if params.mode == Mode::Affine { dtype } else { Dtype::Uint8 };
        let scales = zeros(&[outputs, inputs / params.group_size], of_scales);
        QuantizedTensor {
            weight: zeros(&[outputs, inputs * params.bits / 32], Dtype::Uint32),
            biases: (params.mode == Mode::Affine).then(|| scales.clone()),
            scales,
            params,
            dtype,
        }
    }

    fn every_format() -> Vec<QuantizationParams> {
        let affine = [2, 3, 4, 5, 6, 8].into_iter().flat_map(|bits| {
            [32, 64, 128].map(|group_size| QuantizationParams {
                mode: Mode::Affine,
                group_size,
                bits,
            })
        });
        let others = [Mode::Mxfp4, Mode::Mxfp8, Mode::Nvfp4].map(|mode| {
            let (group_size, bits) = mode.defaults();
            QuantizationParams { mode, group_size, bits }
        });
        affine.chain(others).collect()
    }

    #[test]
    fn few_rows_of_every_format_find_a_shape_that_fits() {
        enter(DeviceKind::Cpu).unwrap();
        let card = Card::h100();
        for params in every_format() {
            for dtype in [Dtype::Bfloat16, Dtype::Float16, Dtype::Float32] {
                let matrix = quantized(6144, 4096, params, dtype);
                let most = if params.bits > 6 { 16 } else { 32 };
                for rows in (1..=16).chain([most - 1, most]) {
                    let x = zeros(&[1, rows, 4096], dtype);
                    let product = Product::of(&x, Operand::Quantized(&matrix)).unwrap();
                    for norm in [0, 2] {
                        let product = Product { norm, ..product };
                        let Some(shape) = product.shape(&card) else {
                            // 16 columns of all inputs, and chunks of 8 bits beside them.
                            assert!(rows > 2, "{params:?} {dtype:?} {rows}");
                            continue;
                        };
                        assert!(product.shared_memory(shape) <= product.room(shape, &card));
                        assert!(shape.blocks * product.room(shape, &card) <= 228 * 1024);
                    }
                }
            }
        }
    }

    #[test]
    fn what_the_kernels_do_not_take_is_left_to_mlx() {
        enter(DeviceKind::Cpu).unwrap();
        let params = QuantizationParams { mode: Mode::Affine, group_size: 64, bits: 4 };
        let matrix = quantized(64, 512, params, Dtype::Bfloat16);
        let takes = |shape: &[i32], dtype| {
            Product::of(&zeros(shape, dtype), Operand::Quantized(&matrix)).is_some()
        };
        assert!(takes(&[4, 4, 512], Dtype::Bfloat16));
        // Many rows, none, scales of another type, and other inputs.
        assert!(!takes(&[33, 512], Dtype::Bfloat16));
        assert!(!takes(&[0, 512], Dtype::Bfloat16));
        assert!(!takes(&[1, 512], Dtype::Float16));
        assert!(!takes(&[1, 256], Dtype::Bfloat16));
        let x = zeros(&[1, 512], Dtype::Float32);
        let dense = zeros(&[64, 512], Dtype::Float32);
        assert!(Product::of(&x, Operand::Dense(&dense)).is_none());
        // Rows of codes that are no whole number of 16 bytes, and one scale in a row.
        let odd = QuantizationParams { bits: 3, ..params };
        let x = zeros(&[1, 64], Dtype::Bfloat16);
        for params in [odd, params] {
            let matrix = quantized(8, 64, params, Dtype::Bfloat16);
            assert!(Product::of(&x, Operand::Quantized(&matrix)).is_none());
        }
    }
}
