//! Threads that wait for a kernel fetch what it is going to read into their caches: the memory does
//! not rest between kernels. What that will be is known from the token before, which read the same
//! matrices in the same order.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::lock;
use crate::simd::{Isa, Kernel, Simd, prefetch_all};

/// Bytes that a thread fetches at most: what the memory gives it between two kernels, and about a
/// second-level cache. What that one is too small for waits in the next one.
const MAX_BYTES: usize = 1024 * 1024;

/// Bytes after which a thread looks whether there is work.
const STEP: usize = 1024;

/// What a row of a matrix consists of: codes, scales, biases.
const STREAMS: usize = 3;

/// Matrices that one kernel reads at most.
const MATRICES: usize = 3;

/// Where a matrix lies. Nothing is ever read there, so that it may be gone.
#[derive(Clone, Copy, Debug, Default)]
pub struct Matrix {
    rows: usize,
    /// The start of each stream, and its bytes in each row.
    streams: [(usize, usize); STREAMS],
}

impl Matrix {
    /// A matrix whose streams start at these places and have so many bytes in each row.
    pub fn new(rows: usize, streams: [(*const u8, usize); STREAMS]) -> Self {
        let mut matrix = Self { rows, ..Self::default() };
        for (to, (start, bytes)) in matrix.streams.iter_mut().zip(streams) {
            *to = (start.addr(), bytes);
        }
        matrix
    }
}

/// What one kernel reads, one matrix after the other.
#[derive(Clone, Copy, Debug, Default)]
pub struct Matrices([Matrix; MATRICES]);

impl Matrices {
    /// These, as far as there are not too many.
    pub fn new(matrices: impl Iterator<Item = Matrix>) -> Self {
        let mut all = Self::default();
        for (to, matrix) in all.0.iter_mut().zip(matrices) {
            *to = matrix;
        }
        all
    }

    /// Where the first one starts.
    pub fn start(&self) -> usize {
        self.0[0].streams[0].0
    }

    fn rows(&self) -> usize {
        self.0.iter().map(|matrix| matrix.rows).sum()
    }

    /// The places of one row among those of all; `None` behind the last one.
    fn row(&self, mut row: usize) -> Option<[(usize, usize); STREAMS]> {
        for Matrix { rows, streams } in self.0 {
            if row < rows {
                return Some(streams.map(|(start, bytes)| (start + row * bytes, bytes)));
            }
            row -= rows;
        }
        None
    }
}

/// The order in which the kernels of a thread read matrices.
#[derive(Default)]
struct Order {
    /// The start of the last ones.
    last: usize,
    /// What was read after the matrices with this start.
    next: HashMap<usize, Matrices>,
}

/// Matrices whose successors are remembered.
const REMEMBERED: usize = 4096;

thread_local! {
    static ORDER: RefCell<Order> = RefCell::default();
}

/// Notes that this thread is about to read `now`; gives what it read afterwards the last time.
pub fn after(now: Matrices) -> Option<Matrices> {
    ORDER.with_borrow_mut(|order| {
        if order.next.len() >= REMEMBERED {
            order.next.clear();
        }
        order.next.insert(order.last, now);
        order.last = now.start();
        order.next.get(&order.last).copied()
    })
}

/// What is to be fetched.
#[derive(Default)]
pub struct Prefetcher {
    next: Mutex<Matrices>,
    /// Counts announcements.
    count: AtomicUsize,
}

/// How far a thread has come.
#[derive(Default)]
pub struct Prefetched {
    /// Of this announcement.
    count: usize,
    rows: usize,
    bytes: usize,
}

impl Prefetcher {
    /// Replaces what is to be fetched.
    pub fn announce(&self, next: Matrices) {
        *lock(&self.next) = next;
        self.count.fetch_add(1, Ordering::Release);
    }

    /// Goes on fetching the part of thread `own` of `threads`, until there is `work`.
    pub fn fetch(
        &self,
        fetched: &mut Prefetched,
        own: usize,
        threads: usize,
        work: impl Fn() -> bool,
    ) {
        let count = self.count.load(Ordering::Acquire);
        if fetched.count != count {
            *fetched = Prefetched { count, ..Prefetched::default() };
        }
        if fetched.bytes >= MAX_BYTES {
            return;
        }
        let next = *lock(&self.next);
        let first = next.rows() * own / threads;
        let last = next.rows() * (own + 1) / threads;
        let mut since = 0;
        while fetched.bytes < MAX_BYTES && first + fetched.rows < last {
            let Some(streams) = next.row(first + fetched.rows) else { break };
            for (start, bytes) in streams {
                Isa::best().run(Fetch { start, bytes });
                fetched.bytes += bytes;
                since += bytes;
            }
            fetched.rows += 1;
            if since >= STEP {
                if work() {
                    return;
                }
                since = 0;
            }
        }
        fetched.bytes = MAX_BYTES;
    }
}

/// Asks for each line of a stretch of memory.
struct Fetch {
    start: usize,
    bytes: usize,
}

impl Kernel for Fetch {
    type Output = ();
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        // SAFETY: the machine has the instructions.
        unsafe { prefetch_all::<S>(std::ptr::without_provenance(self.start), self.bytes) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matrix(start: usize, rows: usize) -> Matrix {
        let streams = [(start, 10), (start + 1000, 2), (0, 0)];
        Matrix::new(
            rows,
            streams.map(|(start, bytes)| (std::ptr::without_provenance(start), bytes)),
        )
    }

    #[test]
    fn rows_go_on_in_the_next_matrix() {
        let all = Matrices::new([matrix(5000, 2), matrix(9000, 3)].into_iter());
        assert_eq!((all.start(), all.rows()), (5000, 5));
        assert_eq!(all.row(1), Some([(5010, 10), (6002, 2), (0, 0)]));
        assert_eq!(all.row(2), Some([(9000, 10), (10_000, 2), (0, 0)]));
        assert_eq!(all.row(5), None);
    }

    #[test]
    fn the_order_is_learned_from_the_last_time() {
        let read = |start| {
            let next = after(Matrices::new([matrix(start, 1)].into_iter()));
            next.map(|next| next.start())
        };
        assert_eq!([100, 200, 300].map(read), [None; 3]);
        assert_eq!([100, 200, 300].map(read), [Some(200), Some(300), Some(100)]);
        // It follows changes.
        assert_eq!([100, 300, 200].map(read), [Some(200), Some(100), Some(300)]);
        assert_eq!([100, 300, 200].map(read), [Some(300), Some(200), Some(100)]);
        for start in 1000..1000 + REMEMBERED {
            read(start);
        }
        assert!(ORDER.with_borrow(|order| order.next.len()) <= REMEMBERED);
    }

    #[test]
    fn fetching_stops_for_work_and_goes_on_afterwards() {
        let ahead = Prefetcher::default();
        let mut fetched = Prefetched::default();
        // Nobody can read there.
        let far = Matrix::new(1 << 20, [(std::ptr::without_provenance(64), 1024); STREAMS]);
        ahead.announce(Matrices::new([far].into_iter()));
        ahead.fetch(&mut fetched, 1, 2, || true);
        assert_eq!((fetched.rows, fetched.bytes), (1, 3 * 1024));
        ahead.fetch(&mut fetched, 1, 2, || false);
        assert_eq!(fetched.rows, MAX_BYTES.div_ceil(3 * 1024));
        let rows = fetched.rows;
        ahead.fetch(&mut fetched, 1, 2, || false);
        assert_eq!(fetched.rows, rows);
        ahead.announce(Matrices::new([matrix(64, 3)].into_iter()));
        ahead.fetch(&mut fetched, 1, 2, || false);
        assert_eq!((fetched.rows, fetched.bytes), (2, MAX_BYTES));
    }
}
