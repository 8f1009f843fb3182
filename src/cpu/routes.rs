//! Which rows of activations go through which matrix, and the tasks that follow.

use std::ops::Range;

/// One row of a gathered product: which row of activations, by which matrix.
#[derive(Clone, Copy, Debug)]
pub struct Route {
    /// The row of activations.
    pub x: usize,
    /// The matrix.
    pub slab: usize,
}

impl Route {
    /// The routes of a product of `rows` rows with a single matrix.
    pub fn straight(rows: usize) -> Vec<Self> {
        (0..rows).map(|x| Self { x, slab: 0 }).collect()
    }
}

/// A piece of a product: some outputs of some rows that go through one matrix.
pub struct Task {
    /// The matrix.
    pub slab: usize,
    /// Which of the sorted routes.
    pub routes: Range<usize>,
    /// Which outputs.
    pub outputs: Range<usize>,
    /// What the routes have in common besides the matrix.
    pub kind: bool,
}

/// The order in which routes are taken, and the tasks.
pub struct Plan {
    /// Numbers of routes, sorted by matrix and kind.
    pub order: Vec<usize>,
    /// The pieces: every output of every route is in one.
    pub tasks: Vec<Task>,
}

/// Products of at least so many rows are computed in tiles of repacked weights; below, row by row.
pub const TILED: usize = 6;

/// Bytes of weights that a task of a product with few rows reads: some microseconds' worth.
const TASK_BYTES: usize = 64 * 1024;

/// Outputs of a task of a product with few rows, for weights with rows of `row_bytes`.
pub fn few(row_bytes: usize) -> usize {
    (TASK_BYTES / row_bytes).clamp(1, 256)
}

impl Plan {
    /// For matrices of `rows` rows; `step` says how many outputs a task has for so many routes of a kind through one matrix.
    pub fn new(
        routes: &[Route],
        kind: impl Fn(&Route) -> bool,
        rows: usize,
        step: impl Fn(usize, bool) -> usize,
    ) -> Self {
        let key = |&i: &usize| (routes[i].slab, kind(&routes[i]));
        let mut order: Vec<_> = (0..routes.len()).collect();
        order.sort_by_key(key);
        let mut tasks = Vec::new();
        let mut start = 0;
        for run in order.chunk_by(|a, b| key(a) == key(b)) {
            let (slab, kind) = key(&run[0]);
            let step = step(run.len(), kind);
            for from in (0..rows).step_by(step) {
                let outputs = from..(from + step).min(rows);
                tasks.push(Task { slab, routes: start..start + run.len(), outputs, kind });
            }
            start += run.len();
        }
        Self { order, tasks }
    }

    /// Whether so few rows go through each matrix that the memory is the limit.
    pub fn few(&self) -> bool {
        self.tasks.iter().all(|task| task.routes.len() < TILED)
    }
}
