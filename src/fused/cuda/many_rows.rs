//! Products of up to 64 rows with a quantized matrix on Hopper: many_rows.cu.

use std::sync::Arc;

use super::product::{ExpertAxis, Operand, Product};
use crate::error::Result;
use crate::mlx::Array;
use crate::mlx::gpu::{Block, Card, Kernel, Number, Source};

/// Rows from which on each weight should be unpacked once for all of them.
const LEAST_ROWS: usize = 5;

/// Operands of 8 rows that there are kernels for.
const OPERANDS: [usize; 6] = [1, 2, 3, 4, 6, 8];

/// Outputs of a warp group, and its threads.
const GROUP_OUTPUTS: usize = 64;
const GROUP_THREADS: usize = 128;

/// A product, and how its kernel divides the work.
#[derive(Debug, Clone, Copy)]
pub(super) struct ManyRows {
    product: Product,
    operands: usize,
    shape: Shape,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Shape {
    /// Warp groups of a block.
    groups: usize,
    /// Chunks in shared memory.
    stages: usize,
    /// Blocks of a multiprocessor.
    blocks: usize,
    /// Blocks that share the inputs of a tile.
    split: usize,
}

impl ManyRows {
    /// `None` for what the kernel does not do.
    pub(super) fn of(card: &Card, product: &Product) -> Option<Self> {
        let fits = card.is_hopper()
            && product.x != 2
            && product.format != 0
            && product.experts == ExpertAxis::None
            && product.rows >= LEAST_ROWS;
        let operands = OPERANDS.into_iter().find(|&operands| 8 * operands >= product.rows)?;
        let shape = Shape { groups: 1, stages: 2, blocks: 1, split: 1 };
        let product = Self { product: *product, operands, shape };
        fits.then(|| product.best(card)).flatten()
    }

    /// Outputs of a block, of which half are gates if it is gated.
    fn outputs(&self) -> usize {
        GROUP_OUTPUTS * self.shape.groups
    }

    fn blocks(&self) -> usize {
        self.product.outputs.div_ceil(self.outputs()) * self.shape.split
    }

    fn shared_memory(&self) -> usize {
        let (rows, columns) = (self.outputs(), 8 * self.operands);
        let of_weights = rows * (self.product.row_stride() + self.product.row_scales());
        let stage = of_weights.next_multiple_of(128) + columns * self.product.chunk() * 2;
        (self.shape.stages * stage).max(columns * (rows + 4) * 4)
    }

    /// The shape with the most warp groups at work, as benches/cuda found it.
    fn best(self, card: &Card) -> Option<Self> {
        // Groups of a block, and blocks of a multiprocessor. Of few rows, blocks that wait for each
        // other's beginning and end are better small and many.
        let order: &[(usize, usize)] = match self.operands {
            1 => &[(1, 4), (2, 2)],
            2 => &[(2, 2), (1, 4)],
            _ => &[(4, 1), (3, 1), (2, 1), (1, 1), (2, 2), (1, 2)],
        };
        let stages = if (3..=4).contains(&self.operands) { 3 } else { 2 };
        let mut best: Option<(Self, f64)> = None;
        for split in [1, 2, 4, 8] {
            for &(groups, blocks) in order {
                let shapes =
                    (2..=stages).rev().map(|stages| Shape { groups, stages, blocks, split });
                let fitting = shapes
                    .map(|shape| Self { shape, ..self })
                    .find(|it| it.shared_memory() <= card.shared_memory(blocks));
                let Some(it) =
                    fitting.filter(|_| self.product.inputs >= self.product.chunk() * split)
                else {
                    continue;
                };
                // Clusters of many large blocks do not fill up all multiprocessors.
                let parts = if split >= 4 && blocks < 4 { 9 } else { 10 };
                let processors = card.processors() * parts / 10;
                let waves = it.blocks().div_ceil(processors * blocks);
                let busy = (it.blocks() * groups) as f64 / waves as f64;
                // To share a tile must be worth the wait for each other.
                let better = |(other, most): (Self, f64)| {
                    busy > most * if split > other.shape.split { 1.2 } else { 1.02 }
                };
                if best.is_none_or(better) {
                    best = Some((it, busy));
                }
            }
        }
        best.map(|(it, _)| it)
    }

    fn kernel(&self) -> Result<Arc<Kernel>> {
        let Product { x, format, bits, group, gated, .. } = self.product;
        let Shape { groups, stages, blocks, split } = self.shape;
        let source = Source {
            text: concat!(
                include_str!("activation.cuh"),
                include_str!("product.cuh"),
                include_str!("many_rows.cu")
            ),
            name: c"nodemlx_many_rows",
            settings: vec![
                ("X", x),
                ("FORMAT", format),
                ("BITS", bits as i32),
                ("GROUP", group as i32),
                ("GATED", gated),
                ("OPERANDS", self.operands as i32),
                ("TILES", 1),
                ("WARP_GROUPS", groups as i32),
                ("STAGES", stages as i32),
                ("BLOCKS", blocks as i32),
                ("SPLIT", split as i32),
                ("SCALE_BYTES", self.product.scale_bytes() as i32),
            ],
        };
        let block = Block { threads: GROUP_THREADS * groups, shared_memory: self.shared_memory() };
        Kernel::of(&source, block)
    }

    /// x · wᵀ, or what is gated of it.
    pub(super) fn run(&self, x: &Array, matrix: Operand) -> Result<Array> {
        let Product { gated, outputs, inputs, rows, .. } = self.product;
        let width = if gated == 0 { outputs } else { outputs / 2 };
        let mut shape = x.shape().to_vec();
        if let Some(dim) = shape.last_mut() {
            *dim = width as i32;
        }
        let arrays: Vec<_> = [x].into_iter().chain(matrix.arrays()).collect();
        let numbers = [outputs, inputs, rows].map(|n| Number::Whole(n as i32));
        let results = [(&shape[..], x.dtype())];
        let mut results = self.kernel()?.run(self.blocks(), &arrays, &results, &numbers)?;
        Ok(results.swap_remove(0))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn product(rows: usize, inputs: usize, outputs: usize) -> Product {
        Product {
            x: 0,
            format: 1,
            bits: 4,
            group: 64,
            entry_bytes: 2,
            norm: 0,
            norm_weight: false,
            gated: 0,
            experts: ExpertAxis::None,
            active: 1,
            rows,
            inputs,
            outputs,
        }
    }

    #[test]
    fn shapes_are_those_that_were_measured_to_be_the_best() {
        let shape = |rows, inputs, outputs| {
            let many = ManyRows::of(&Card::h100(), &product(rows, inputs, outputs)).unwrap();
            let Shape { groups, stages, blocks, split } = many.shape;
            (groups, stages, blocks, split)
        };
        assert_eq!(shape(32, 4096, 4096), (3, 3, 1, 4));
        assert_eq!(shape(32, 4096, 6144), (4, 3, 1, 4));
        assert_eq!(shape(32, 4096, 28672), (4, 3, 1, 1));
        assert_eq!(shape(32, 14336, 4096), (3, 3, 1, 4));
        assert_eq!(shape(64, 4096, 28672), (4, 2, 1, 1));
        for (rows, of_qkv, of_gate_up) in
            [(16, (2, 2, 2, 4), (2, 2, 2, 1)), (8, (1, 2, 4, 4), (1, 2, 4, 1))]
        {
            assert_eq!(shape(rows, 4096, 4096), (1, 2, 4, 8));
            assert_eq!(shape(rows, 4096, 6144), of_qkv);
            assert_eq!(shape(rows, 4096, 28672), of_gate_up);
            assert_eq!(shape(rows, 14336, 4096), (1, 2, 4, 8));
        }
    }

    #[test]
    fn every_format_finds_a_shape_that_fits() {
        let card = Card::h100();
        let affine = [2, 3, 4, 5, 6, 8].map(|bits| (1, bits, 2));
        let others = [(2, 4, 1), (3, 8, 1), (4, 4, 1)];
        for (format, bits, entry_bytes) in affine.into_iter().chain(others) {
            for group in if format == 1 { &[32, 64, 128][..] } else { &[32] } {
                for rows in LEAST_ROWS..=64 {
                    for (inputs, outputs) in [(512, 8), (4096, 6144), (14336, 4096)] {
                        let product = Product {
                            format,
                            bits,
                            entry_bytes,
                            group: *group,
                            ..product(rows, inputs, outputs)
                        };
                        let many = ManyRows::of(&card, &product).unwrap();
                        assert!(many.shared_memory() <= card.shared_memory(many.shape.blocks));
                        assert!(inputs >= product.chunk() * many.shape.split);
                    }
                }
            }
        }
    }

    #[test]
    fn few_rows_more_than_64_and_other_numbers_are_left_to_others() {
        let card = Card::h100();
        let takes = |product: Product| ManyRows::of(&card, &product).is_some();
        let good = product(32, 4096, 4096);
        assert!(takes(good));
        assert!(!takes(Product { rows: 4, ..good }));
        assert!(!takes(Product { rows: 65, ..good }));
        assert!(!takes(Product { x: 2, ..good }));
        assert!(!takes(Product { format: 0, bits: 16, ..good }));
        assert!(!takes(Product { experts: ExpertAxis::Inputs, ..good }));
    }
}
