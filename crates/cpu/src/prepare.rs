//! What becomes of the queries, keys and values of new positions before they are attended to: a
//! norm of each head, a rotation, and their place in a cache.
#![allow(unsafe_op_in_unsafe_fn, reason = "pure vector code with the conditions of `Simd`")]

use super::floats::{Element, Floats, FloatsMut};
use super::heads::Heads;
use super::norm::{norm_row, read_weights};
use super::pool::{DisjointSliceMut, parallel_for};
use super::rope::{CosSinTable, Rope};
use super::scratch::Scratch;
use super::simd::{Isa, Kernel, Simd, prefetch_all};
use crate::error::{Error, Result};

/// Elements below which a second thread costs more than it does.
const MIN_PARALLEL: usize = 8 * 1024;

/// A root-mean-square norm over the features of a head (Zhang and Sennrich 2019).
#[derive(Clone, Copy, Debug)]
pub struct HeadNorm<'a> {
    /// `[head_dim]`; none are all 1.
    pub weight: Option<Floats<'a>>,
    /// Keeps the root away from 0.
    pub eps: f32,
}

/// What is done to each vector: first the norm, then the rotation.
#[derive(Clone, Copy, Debug, Default)]
pub struct QkNormRope<'a> {
    /// The norm, if there is one.
    pub norm: Option<HeadNorm<'a>>,
    /// The rotation, if there is one.
    pub rope: Option<Rope<'a>>,
}

impl QkNormRope<'_> {
    /// Prepares the vectors of `x`, `[batch, heads, length, head_dim]`, and writes them to the
    /// positions from `start` of `to`, `[batch, heads, capacity, head_dim]`.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` when the sizes do not fit.
    pub fn write(
        &self,
        x: &Heads,
        to: FloatsMut,
        capacity: usize,
        start: usize,
        isa: Isa,
    ) -> Result<()> {
        let [batch, heads, length, dim] = x.shape;
        let fail = |message: &str| Err(Error::argument("heads", message.to_owned()));
        let size =
            [batch, heads, capacity, dim].iter().try_fold(1, |n: usize, d| n.checked_mul(*d));
        if size != Some(to.len()) || start > capacity || length > capacity - start {
            return fail("the output has another size");
        }
        if self.norm.and_then(|norm| norm.weight).is_some_and(|weight| weight.len() != dim) {
            return fail("there must be a weight for each feature");
        }
        if !x.fits() {
            return fail("the strides lead outside of the memory");
        }
        let table = self.rope.map(|rope| rope.cos_sin_table(length, dim)).transpose()?;
        if x.shape.contains(&0) {
            return Ok(());
        }
        let mut memory = Scratch::new(dim);
        let norm = self.norm.map(|norm| (read_weights(norm.weight, &mut memory, isa), norm.eps));
        let each = PreparedWrite { x, norm, table: table.as_deref(), capacity, start };
        match to {
            FloatsMut::F32(to) => each.all(to, isa),
            FloatsMut::F16(to) => each.all(to, isa),
            FloatsMut::Bf16(to) => each.all(to, isa),
        }
        Ok(())
    }
}

impl Rope<'_> {
    /// Rotates `x` into `y`, which is contiguous.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` when the sizes do not fit.
    pub fn apply(&self, x: &Heads, y: &mut [f32], isa: Isa) -> Result<()> {
        let length = x.shape[2];
        let preparation = QkNormRope { norm: None, rope: Some(*self) };
        preparation.write(x, FloatsMut::F32(y), length, 0, isa)
    }
}

/// [`QkNormRope::write`] with everything read.
#[derive(Clone, Copy)]
struct PreparedWrite<'a> {
    x: &'a Heads<'a>,
    norm: Option<(&'a [f32], f32)>,
    table: Option<&'a CosSinTable>,
    capacity: usize,
    start: usize,
}

impl PreparedWrite<'_> {
    fn all<E: Element>(self, to: &mut [E], isa: Isa) {
        let [batch, heads, length, dim] = self.x.shape;
        let to = DisjointSliceMut::new(to);
        let head = |head| isa.run(Head { each: self, to, head });
        if batch * heads * length * dim < MIN_PARALLEL {
            // Pages apart, and by now far from the caches: asked for together, they come together.
            isa.run(PrefetchDestinations { each: self, to });
            (0..batch * heads).for_each(head);
        } else {
            parallel_for(batch * heads, head);
        }
    }
}

/// Asks for the memory that will be written.
struct PrefetchDestinations<'a, E> {
    each: PreparedWrite<'a>,
    to: DisjointSliceMut<E>,
}

impl<E: Element> Kernel for PrefetchDestinations<'_, E> {
    type Output = ();
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let PreparedWrite { x, capacity, start, .. } = self.each;
        let [batch, heads, length, dim] = x.shape;
        for head in 0..batch * heads {
            let place = self.to.slice((head * capacity + start) * dim, length * dim);
            prefetch_all::<S>(place.as_ptr().cast(), size_of_val(place));
        }
    }
}

/// The positions of one head.
struct Head<'a, E> {
    each: PreparedWrite<'a>,
    to: DisjointSliceMut<E>,
    /// Among those of all sequences.
    head: usize,
}

impl<E: Element> Kernel for Head<'_, E> {
    type Output = ();
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let PreparedWrite { x, norm, table, capacity, start } = self.each;
        let [_, heads, length, dim] = x.shape;
        let mut line = Scratch::new(dim);
        let line = line.floats();
        for position in 0..length {
            line.copy_from_slice(x.vector(self.head / heads, self.head % heads, position));
            if let Some((weights, eps)) = norm {
                norm_row::<S>(line, weights, eps);
            }
            if let Some(table) = table {
                table.rotate(position, line);
            }
            // Every vector is written once.
            let to = self.to.slice((self.head * capacity + start + position) * dim, dim);
            E::store(line, to);
        }
    }
}

#[cfg(test)]
mod tests {
    use half::{bf16, f16};

    use super::super::norm::rms_norm;
    use super::super::rope::Angles;
    use super::super::testing::{Random, assert_close};
    use super::*;

    /// As projections give it: `[batch, length, heads, dim]`.
    fn heads(values: &[f32], shape: [usize; 4]) -> Heads<'_> {
        let [_, heads, length, dim] = shape;
        Heads { values, shape, strides: [length * heads * dim, dim, heads * dim] }
    }

    #[test]
    fn vectors_are_normed_then_rotated_then_put_in_their_place() {
        let mut random = Random::new(43);
        // Below and above what one thread does alone.
        for shape in [[2, 3, 1, 10], [1, 2, 5, 16], [2, 4, 40, 64]] {
            let [batch, count, length, dim] = shape;
            let values = random.normals(shape.iter().product());
            let weight = random.normals(dim);
            let x = heads(&values, shape);
            let (capacity, start) = (length + 7, 4);
            let rope = Rope {
                dims: dim / 2 / 2 * 2,
                traditional: false,
                angles: Angles::Base(100.0),
                scale: 1.0,
                attention_factor: 1.0,
                offset: 9,
            };
            for isa in Isa::available() {
                let mut normed = vec![0.0; values.len()];
                let norm = HeadNorm { weight: Some(Floats::F32(&weight)), eps: 1e-5 };
                rms_norm(&values, None, norm.weight, dim, norm.eps, &mut normed, isa).unwrap();
                let mut rotated = vec![0.0; values.len()];
                rope.apply(&heads(&normed, shape), &mut rotated, isa).unwrap();
                let expected: Vec<_> = (0..batch * count * capacity * dim)
                    .map(|i| {
                        let (head, position, k) = (i / dim / capacity, i / dim % capacity, i % dim);
                        match position.checked_sub(start) {
                            Some(at) if at < length => {
                                f64::from(rotated[(head * length + at) * dim + k])
                            }
                            // What was there stays.
                            _ => 7.0,
                        }
                    })
                    .collect();
                let preparation = QkNormRope { norm: Some(norm), rope: Some(rope) };
                let mut single = vec![7.0; expected.len()];
                let mut half = vec![f16::from_f32(7.0); expected.len()];
                let mut brain = vec![bf16::from_f32(7.0); expected.len()];
                let write = |to| preparation.write(&x, to, capacity, start, isa).unwrap();
                write(FloatsMut::F32(&mut single));
                write(FloatsMut::F16(&mut half));
                write(FloatsMut::Bf16(&mut brain));
                assert_close(&single, &expected, 1.0, 1e-6, &(shape, isa));
                let half: Vec<_> = half.iter().map(|x| x.to_f32()).collect();
                assert_close(&half, &expected, 10.0, 1e-3, &(shape, isa));
                let brain: Vec<_> = brain.iter().map(|x| x.to_f32()).collect();
                assert_close(&brain, &expected, 10.0, 1e-2, &(shape, isa));
            }
        }
    }

    #[test]
    fn wrong_sizes_are_refused() {
        let good = heads(&[0.0; 16], [1, 2, 2, 4]);
        let plain = QkNormRope::default();
        let isa = Isa::best();
        plain.write(&good, FloatsMut::F32(&mut [0.0; 24]), 3, 1, isa).unwrap();
        let bad = |preparation: QkNormRope, x: &Heads, len, capacity, start| {
            let mut to = vec![0.0; len];
            let outcome = preparation.write(x, FloatsMut::F32(&mut to), capacity, start, isa);
            assert!(outcome.is_err());
        };
        bad(plain, &good, 23, 3, 1);
        bad(plain, &good, 24, 3, 2);
        bad(plain, &good, 24, 3, usize::MAX);
        bad(plain, &good, 0, usize::MAX, 0);
        bad(plain, &Heads { strides: [16, 5, 8], ..good }, 24, 3, 1);
        let weight = Some(Floats::F32(&[1.0; 3]));
        let norm = Some(HeadNorm { weight, eps: 0.0 });
        bad(QkNormRope { norm, rope: None }, &good, 24, 3, 1);
    }
}
