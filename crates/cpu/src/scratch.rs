//! Working memory that a thread keeps between kernels, so that none of them pays for fresh pages.

use std::cell::RefCell;

/// A cache line: loads from scratch memory never cross one.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Line([f32; 16]);

/// Lines that are kept at most, of all memories together: what the products of a prompt's tokens
/// need.
const KEPT: usize = (64 << 20) / size_of::<Line>();

/// How many are kept at most: as many as kernels that call each other need.
const MAX_FREE: usize = 8;

thread_local! {
    static FREE: RefCell<Vec<Vec<Line>>> = const { RefCell::new(Vec::new()) };
}

/// The smallest memory of at least so many lines.
fn take(free: &mut Vec<Vec<Line>>, lines: usize) -> Option<Vec<Line>> {
    let fitting = free.iter().enumerate().filter(|(_, memory)| memory.len() >= lines);
    let (smallest, _) = fitting.min_by_key(|(_, memory)| memory.len())?;
    Some(free.swap_remove(smallest))
}

/// Memory on loan from the thread; it goes back when dropped.
pub struct Scratch {
    lines: Vec<Line>,
    len: usize,
}

impl Scratch {
    /// `len` floats with whatever was there before; aligned to a cache line.
    pub fn new(len: usize) -> Self {
        let count = len.div_ceil(16);
        let kept = if count == 0 { None } else { FREE.with_borrow_mut(|free| take(free, count)) };
        let mut lines = kept.unwrap_or_else(|| vec![Line([0.0; 16]); count]);
        // What was there before must not matter: tests make sure that it would be seen.
        if cfg!(test) {
            lines.fill(Line([f32::NAN; 16]));
        }
        Self { lines, len }
    }

    /// `len` bytes, the same way; see [`Scratch::bytes`].
    pub fn of_bytes(len: usize) -> Self {
        Self::new(len.div_ceil(4))
    }

    /// The floats.
    pub fn floats(&mut self) -> &mut [f32] {
        // SAFETY: a `Line` is 16 floats without padding, and there are at least `len` floats.
        unsafe { std::slice::from_raw_parts_mut(self.lines.as_mut_ptr().cast(), self.len) }
    }

    /// Where the floats are.
    pub fn as_ptr(&self) -> *const f32 {
        self.lines.as_ptr().cast()
    }

    /// The same memory as bytes.
    pub fn bytes(&mut self) -> &mut [u8] {
        let floats = self.floats();
        // SAFETY: every float is four bytes, and every byte pattern is valid for both.
        unsafe { std::slice::from_raw_parts_mut(floats.as_mut_ptr().cast(), 4 * floats.len()) }
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let lines = std::mem::take(&mut self.lines);
        // A thread that is ending has no list any more; the memory is then simply freed.
        let _ = FREE.try_with(|free| {
            let mut free = free.borrow_mut();
            let kept: usize = free.iter().map(Vec::len).sum();
            if lines.is_empty() || kept + lines.len() > KEPT {
                return;
            }
            free.push(lines);
            if free.len() > MAX_FREE {
                // The smallest is the least worth.
                drop(take(&mut free, 0));
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_on_loan_is_what_fits_best_of_what_was_given_back() {
        let at = |scratch: &Scratch| scratch.as_ptr().addr();
        let (small, large) = (Scratch::new(100), Scratch::new(10_000));
        let (small_at, large_at) = (at(&small), at(&large));
        drop((small, large));
        let again = [Scratch::new(200), Scratch::new(90)];
        assert_eq!([at(&again[0]), at(&again[1])], [large_at, small_at]);
        drop(again);
        let many: Vec<_> = (0..2 * MAX_FREE).map(|_| Scratch::new(50)).collect();
        drop(many);
        FREE.with_borrow(|free| {
            assert_eq!(free.len(), MAX_FREE);
            assert!(free.iter().any(|memory| memory.as_ptr().addr() == large_at));
        });
        let huge = Scratch::new(16 * (KEPT + 1));
        let huge_at = at(&huge);
        drop(huge);
        FREE.with_borrow(|free| assert!(free.iter().all(|it| it.as_ptr().addr() != huge_at)));
    }
}
