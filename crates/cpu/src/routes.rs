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

/// Routes of one kind through one matrix: its outputs are cut into tasks.
struct Run {
    slab: usize,
    routes: Range<usize>,
    kind: bool,
    /// Outputs of a task.
    step: usize,
    /// The number of its first task.
    first: usize,
}

/// The order in which routes are taken, and the tasks. Of these there are thousands for every
/// token, so that they are not kept but computed as they are asked for.
pub struct Plan {
    /// Numbers of routes, sorted by matrix and kind.
    pub order: Vec<usize>,
    runs: Vec<Run>,
    /// Outputs of each matrix.
    rows: usize,
    tasks: usize,
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
    /// For matrices of `rows` rows; `step` says how many outputs a task has for so many routes of a
    /// kind through one matrix.
    pub fn new(
        routes: &[Route],
        kind: impl Fn(&Route) -> bool,
        rows: usize,
        step: impl Fn(usize, bool) -> usize,
    ) -> Self {
        let key = |&i: &usize| (routes[i].slab, kind(&routes[i]));
        let mut order: Vec<_> = (0..routes.len()).collect();
        order.sort_by_key(key);
        let (mut runs, mut start, mut tasks) = (Vec::new(), 0, 0);
        for run in order.chunk_by(|a, b| key(a) == key(b)) {
            let (slab, kind) = key(&run[0]);
            let step = step(run.len(), kind);
            runs.push(Run { slab, routes: start..start + run.len(), kind, step, first: tasks });
            tasks += rows.div_ceil(step);
            start += run.len();
        }
        Self { order, runs, rows, tasks }
    }

    /// The number of tasks: every output of every route is in one.
    pub fn tasks(&self) -> usize {
        self.tasks
    }

    /// Task `i`.
    pub fn task(&self, i: usize) -> Task {
        let run = &self.runs[self.runs.partition_point(|run| run.first <= i) - 1];
        let from = (i - run.first) * run.step;
        let outputs = from..(from + run.step).min(self.rows);
        Task { slab: run.slab, routes: run.routes.clone(), outputs, kind: run.kind }
    }

    /// Whether so few rows go through each matrix that the memory is the limit.
    pub fn few(&self) -> bool {
        self.runs.iter().all(|run| run.routes.len() < TILED)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_output_of_every_route_is_in_one_task() {
        let slabs = [3, 0, 3, 1, 3, 0, 3, 3];
        let routes: Vec<_> = slabs.iter().enumerate().map(|(x, &slab)| Route { x, slab }).collect();
        for rows in [1, 7, 8, 20] {
            // The last route through matrix 3 is of another kind.
            let step = |count, kind| if kind { 3 * count } else { 5 };
            let plan = Plan::new(&routes, |route| route.x != 7, rows, step);
            assert!(plan.few());
            let mut seen = vec![0; routes.len() * rows];
            for i in 0..plan.tasks() {
                let Task { slab, routes: own, outputs, kind } = plan.task(i);
                assert!(!own.is_empty() && !outputs.is_empty());
                assert!(outputs.len() <= step(own.len(), kind));
                for &route in &plan.order[own] {
                    assert_eq!((routes[route].slab, routes[route].x != 7), (slab, kind));
                    outputs.clone().for_each(|output| seen[route * rows + output] += 1);
                }
            }
            assert!(seen.iter().all(|&count| count == 1), "{seen:?}");
        }
        let many = Plan::new(&Route::straight(TILED), |_| true, 4, |_, _| 1);
        assert!(!many.few());
        assert_eq!(Plan::new(&[], |_| true, 4, |_, _| 1).tasks(), 0);
    }
}
