//! Working memory that a thread keeps between kernels, so that none of them pays for fresh pages.

use std::cell::RefCell;

/// A cache line: loads from scratch memory never cross one.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Line([f32; 16]);

/// Lines that are kept at most; what needs more takes long enough for fresh pages not to matter.
const KEPT: usize = (4 << 20) / size_of::<Line>();

thread_local! {
    static FREE: RefCell<Vec<Vec<Line>>> = const { RefCell::new(Vec::new()) };
}

/// Memory on loan from the thread; it goes back when dropped.
pub struct Scratch {
    lines: Vec<Line>,
    len: usize,
}

impl Scratch {
    /// `len` floats with whatever was there before; aligned to a cache line.
    pub fn new(len: usize) -> Self {
        let mut lines = FREE.with_borrow_mut(Vec::pop).unwrap_or_default();
        if lines.len() < len.div_ceil(16) {
            lines.resize(len.div_ceil(16), Line([0.0; 16]));
        }
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
            if free.len() < 4 && lines.len() <= KEPT {
                free.push(lines);
            }
        });
    }
}
