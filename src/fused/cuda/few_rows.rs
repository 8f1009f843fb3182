//! Products of a few rows with a matrix on an NVIDIA card: few_rows.cu.

use std::sync::Arc;

use super::product::{ExpertAxis, Product};
use super::router::Choice;
use crate::error::Result;
use crate::mlx::gpu::{Block, Card, Kernel, Number, Source};
use crate::mlx::{Array, Dtype};

/// Columns of the operand that a block makes of x, at most.
const MOST_COLUMNS: usize = 16;

/// The most rows that this kernel takes: of weights of more than six bits, and of up to six. With
/// more, it is faster to dequantize the matrix and multiply that.
const FEW_ROWS: [usize; 2] = [16, 32];

/// How a kernel divides the work.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shape {
    tiles: usize,
    warps: usize,
    stages: usize,
    pub(super) blocks: usize,
    stream_x: bool,
}

impl Product {
    /// Whether its rows are few.
    pub(super) fn has_few_rows(&self) -> bool {
        self.rows <= FEW_ROWS[usize::from(self.bits <= 6)]
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

    pub(super) fn shared_memory(&self, shape: Shape) -> usize {
        let columns = self.columns();
        let chunk = self.chunk();
        let unit = if self.format == 0 { 32 } else { self.group.min(64) };
        let rows = 16 * shape.tiles;
        let streamed = if shape.stream_x { columns * chunk * 2 } else { 0 };
        let stage = rows * (self.row_stride() + self.row_scales()) + streamed;
        let matrices = if self.experts == ExpertAxis::Inputs { self.active } else { 1 };
        let padded = self.inputs.div_ceil(chunk) * chunk * matrices;
        let sums = if self.format == 1 { padded / unit * columns * 4 } else { 0 };
        let operand = if shape.stream_x { 0 } else { padded * columns * 2 + sums };
        let turns = if columns < 8 { 2 } else { 1 };
        operand + turns * shape.warps * rows * columns * 4 + shape.warps * shape.stages * stage
    }

    /// The best shape that fits on the card, as benches/cuda found it.
    pub(super) fn shape(&self, card: &Card) -> Option<Shape> {
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
    pub(super) fn room(&self, shape: Shape, card: &Card) -> usize {
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
            text: concat!(
                include_str!("choose.cuh"),
                include_str!("activation.cuh"),
                include_str!("product.cuh"),
                include_str!("few_rows.cu")
            ),
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
    pub(super) fn run(
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
