//! Products of a few rows with a matrix on an NVIDIA card, and what can be done on the way: what is
//! added to the rows and their norm before, a gated activation after.

use std::sync::Arc;

use crate::error::Result;
use crate::fused::activation::Activation;
use crate::fused::linear::Matrix;
use crate::fused::norm::AddRmsNorm;
use crate::mlx::gpu::{Block, Card, Kernel, Number, Source};
use crate::mlx::quantized::Mode;
use crate::mlx::{Array, Dtype};

/// Rows that are few: MLX's kernels for many rows take over then.
const MOST_ROWS: usize = 16;

/// The arrays of a matrix `[outputs, inputs]`, the numbers or codes first.
fn arrays(matrix: &Matrix) -> Vec<&Array> {
    match matrix {
        Matrix::Dense { weight, .. } => vec![weight],
        Matrix::Quantized(tensor) => tensor.arrays().collect(),
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
    rows: usize,
    inputs: usize,
    outputs: usize,
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
    fn of(x: &Array, matrix: &Matrix) -> Option<Self> {
        let inputs = x.dim(-1) as usize;
        let rows = x.size() / inputs.max(1);
        let kind = match x.dtype() {
            Dtype::Bfloat16 => 0,
            Dtype::Float16 => 1,
            Dtype::Float32 => 2,
            _ => return None,
        };
        let (format, bits, group, entry_bytes) = match matrix {
            Matrix::Dense { weight, .. } if weight.dtype() == x.dtype() && kind != 2 => {
                (0, 16, 128, 0)
            }
            Matrix::Dense { .. } => return None,
            Matrix::Quantized(tensor) => {
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
            rows,
            inputs,
            outputs: arrays(matrix)[0].dim(0) as usize,
        };
        // Rows of codes and of scales are copied in whole pieces.
        let stored = arrays(matrix)[0].dim(-1) as usize * if format == 0 { 1 } else { 32 };
        let fits = (1..=MOST_ROWS).contains(&rows)
            && stored == inputs * if format == 0 { 1 } else { bits }
            && product.columns().is_some()
            && arrays(matrix)[0].ndim() == 2
            && (inputs * bits / 8).is_multiple_of(16)
            && (format == 0 || inputs.is_multiple_of(group) && product.scale_bytes() >= 4);
        fits.then_some(product)
    }

    fn columns(&self) -> Option<usize> {
        let columns = self.rows * if self.x == 2 { 3 } else { 1 };
        [1, 2, 4, 8, 16].into_iter().find(|&most| most >= columns)
    }

    /// Bytes of scales that are copied at once: as many as divide those of a row and of a chunk.
    fn scale_bytes(&self) -> usize {
        let parts =
            [self.inputs / self.group * self.entry_bytes, 256 / self.group * self.entry_bytes];
        let largest = parts[0].trailing_zeros().min(parts[1].trailing_zeros()).min(4);
        1 << largest
    }

    fn shared_memory(&self, shape: Shape) -> usize {
        let columns = self.columns().unwrap_or(MOST_ROWS);
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
        let padded = self.inputs.div_ceil(chunk) * chunk;
        let sums = if self.format == 1 { padded / unit * columns * 4 } else { 0 };
        let operand = if shape.stream_x { 0 } else { padded * columns * 2 + sums };
        let turns = if columns < 8 { 2 } else { 1 };
        operand + turns * shape.warps * rows * columns * 4 + shape.warps * shape.stages * stage
    }

    /// The best shape that fits on the card, as benches/cuda found it.
    fn shape(&self, card: &Card) -> Option<Shape> {
        // What is normed must lie there as a whole, and so must the parts of 32-bit numbers.
        let can_stream = self.norm == 0 && self.x != 2 && self.format != 4;
        self.shapes()?
            .into_iter()
            .filter(|shape| can_stream || !shape.stream_x)
            .find(|&shape| self.shared_memory(shape) <= self.room(shape, card))
    }

    /// The shapes to be tried, the best first.
    fn shapes(&self) -> Option<Vec<Shape>> {
        let columns = self.columns()?;
        let (long, wide) = (self.inputs >= 8 * 1024, self.outputs >= 16 * 1024);
        let whole =
            |tiles, warps, stages, blocks| Shape { tiles, warps, stages, blocks, stream_x: false };
        let streamed = |tiles, stages| Shape { tiles, warps: 8, stages, blocks: 1, stream_x: true };
        let best = match (self.format == 0, self.bits > 6, columns) {
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
        Some([best].into_iter().chain(others).collect())
    }

    /// Bytes of dynamic shared memory that a block may have: all that its processor has for it, so
    /// that launches of one kernel agree.
    fn room(&self, shape: Shape, card: &Card) -> usize {
        let of_norm = if self.norm > 0 { 1024 } else { 0 };
        card.shared_memory(shape.blocks).saturating_sub(of_norm)
    }

    fn kernel(&self, shape: Shape, card: &Card) -> Result<Arc<Kernel>> {
        let columns = self.columns().unwrap_or(MOST_ROWS);
        let source = Source {
            text: include_str!("few_rows.cu"),
            name: c"nodemlx_few_rows",
            settings: vec![
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
            ],
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
    ) -> Result<Option<Vec<Array>>> {
        let Some(shape) = self.shape(card) else { return Ok(None) };
        let kernel = self.kernel(shape, card)?;
        let tiles = self.outputs.div_ceil(16 * shape.tiles);
        let width = if self.gated == 0 { self.outputs } else { self.outputs / 2 };
        let mut product = x.shape().to_vec();
        if let Some(last) = product.last_mut() {
            *last = width as i32;
        }
        let outputs = [(&product[..], x.dtype()), (x.shape(), x.dtype())];
        let outputs = &outputs[..if self.norm == 2 { 2 } else { 1 }];
        let whole = [self.outputs, self.inputs, self.rows].map(|n| Number::Whole(n as i32));
        let numbers: Vec<_> = whole.into_iter().chain(eps.map(Number::Real)).collect();
        let blocks = tiles.min(card.processors() * shape.blocks);
        kernel.run(blocks, inputs, outputs, &numbers).map(Some)
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
    matrix: &Matrix,
    activation: Option<Activation>,
) -> Result<Option<Array>> {
    let (Some(product), Some(gated)) = (Product::of(x, matrix), gated(activation)) else {
        return Ok(None);
    };
    let product = Product { gated, ..product };
    let inputs: Vec<_> = [x].into_iter().chain(arrays(matrix)).collect();
    Ok(product.run(&card, x, &inputs, None)?.map(|mut arrays| arrays.swap_remove(0)))
}

/// x + delta, and [`matmul`] of its norm.
pub fn norm_matmul(
    card: Card,
    rows: &AddRmsNorm,
    matrix: &Matrix,
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
    let inputs: Vec<_> = [x].into_iter().chain(delta).chain(weight).chain(arrays(matrix)).collect();
    let Some(mut arrays) = product.run(&card, x, &inputs, Some(eps))? else { return Ok(None) };
    let sum = if delta.is_some() { arrays.swap_remove(1) } else { x.clone() };
    Ok(Some((sum, arrays.swap_remove(0))))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::mlx::quantized::{QuantizationParams, QuantizedTensor};
    use crate::mlx::{DeviceKind, enter, ops};

    fn zeros(shape: &[i32], dtype: Dtype) -> Array {
        ops::zeros(shape, dtype).unwrap()
    }

    fn quantized(outputs: i32, inputs: i32, params: QuantizationParams, dtype: Dtype) -> Matrix {
        let of_scales = if params.mode == Mode::Affine { dtype } else { Dtype::Uint8 };
        let scales = zeros(&[outputs, inputs / params.group_size], of_scales);
        Matrix::Quantized(QuantizedTensor {
            weight: zeros(&[outputs, inputs * params.bits / 32], Dtype::Uint32),
            biases: (params.mode == Mode::Affine).then(|| scales.clone()),
            scales,
            params,
            dtype,
        })
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
    fn one_to_sixteen_rows_of_every_format_find_a_shape_that_fits() {
        enter(DeviceKind::Cpu).unwrap();
        let card = Card::h100();
        for params in every_format() {
            for (dtype, most) in [(Dtype::Bfloat16, 16), (Dtype::Float16, 16), (Dtype::Float32, 5)]
            {
                let matrix = quantized(6144, 4096, params, dtype);
                for rows in 1..=most {
                    let x = zeros(&[1, rows, 4096], dtype);
                    let product = Product::of(&x, &matrix).unwrap();
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
        let takes = |shape: &[i32], dtype| Product::of(&zeros(shape, dtype), &matrix).is_some();
        assert!(takes(&[4, 4, 512], Dtype::Bfloat16));
        // Many rows, none, scales of another type, and other inputs.
        assert!(!takes(&[17, 512], Dtype::Bfloat16));
        assert!(!takes(&[0, 512], Dtype::Bfloat16));
        assert!(!takes(&[1, 512], Dtype::Float16));
        assert!(!takes(&[1, 256], Dtype::Bfloat16));
        let dense = |dtype| Matrix::dense(zeros(&[64, 512], dtype)).unwrap();
        let x = zeros(&[1, 512], Dtype::Float32);
        assert!(Product::of(&x, &dense(Dtype::Float32)).is_none());
        // Rows of codes that are no whole number of 16 bytes, and one scale in a row.
        let odd = QuantizationParams { bits: 3, ..params };
        let x = zeros(&[1, 64], Dtype::Bfloat16);
        assert!(Product::of(&x, &quantized(8, 64, odd, Dtype::Bfloat16)).is_none());
        assert!(Product::of(&x, &quantized(8, 64, params, Dtype::Bfloat16)).is_none());
    }
}
