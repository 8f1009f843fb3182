//! Rotary position embedding (Su et al. 2021).

use super::pool::{Shared, parallel_for};
use crate::error::{Error, Result};

/// A tensor `[batch, heads, length, head_dim]` with any strides but that of the features, which is 1.
#[derive(Clone, Copy, Debug)]
pub struct Heads<'a> {
    /// From the first to the last element, at least.
    pub values: &'a [f32],
    /// Lengths of the axes.
    pub shape: [usize; 4],
    /// Distances of neighbours along the first three axes, in elements.
    pub strides: [usize; 3],
}

impl<'a> Heads<'a> {
    /// Where the vector `[batch, head, position]` begins.
    pub(super) fn at(&self, batch: usize, head: usize, position: usize) -> usize {
        batch * self.strides[0] + head * self.strides[1] + position * self.strides[2]
    }

    pub(super) fn vector(&self, batch: usize, head: usize, position: usize) -> &'a [f32] {
        &self.values[self.at(batch, head, position)..][..self.shape[3]]
    }
}

/// The angles of a rotation.
#[derive(Clone, Copy, Debug)]
pub enum Angles<'a> {
    /// Wavelengths base^(2i/dims).
    Base(f32),
    /// Explicit wavelengths, `[dims / 2]`.
    Wavelengths(&'a [f32]),
}

/// Which features are rotated, and how.
#[derive(Clone, Copy, Debug)]
pub struct Rope<'a> {
    /// Features that are rotated, the first ones; the others are copied.
    pub dims: usize,
    /// Whether neighbouring features are rotated, not the two halves.
    pub traditional: bool,
    /// The angles.
    pub angles: Angles<'a>,
    /// Multiplies positions.
    pub scale: f32,
    /// The position of the first vector.
    pub offset: i32,
}

impl Rope<'_> {
    /// Rotates `x` into `y`, which is contiguous.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` when the sizes do not fit.
    pub fn apply(&self, x: &Heads, y: &mut [f32]) -> Result<()> {
        let [batch, heads, length, dim] = x.shape;
        let half = self.dims / 2;
        let fail = |message: &str| Err(Error::argument("rope", message.to_owned()));
        if y.len() != x.shape.iter().product::<usize>() {
            return fail("the output has another size");
        }
        if self.dims > dim || !self.dims.is_multiple_of(2) {
            return fail("the rotated features are odd, or more than there are");
        }
        if matches!(self.angles, Angles::Wavelengths(w) if w.len() != half) {
            return fail("there must be a wavelength for each pair of features");
        }
        if y.is_empty() {
            return Ok(());
        }
        if x.at(batch - 1, heads - 1, length - 1) + dim > x.values.len() {
            return fail("the strides lead outside of the memory");
        }
        // In f32 as in MLX: at positions in the thousands, the rounding of the product is visible.
        let frequencies: Vec<f32> = match self.angles {
            Angles::Base(base) => {
                (0..half).map(|i| (-(i as f32) * (base.ln() / half as f32)).exp()).collect()
            }
            Angles::Wavelengths(wavelengths) => wavelengths.iter().map(|w| 1.0 / w).collect(),
        };
        let mut turns = Vec::with_capacity(length * half);
        for i in 0..length {
            let position = (self.offset as f32 + i as f32) * self.scale;
            turns.extend(frequencies.iter().map(|f| (position * f).sin_cos()));
        }
        let y = Shared::new(y);
        parallel_for(batch * heads, |i| {
            for position in 0..length {
                // SAFETY: every vector is written once.
                let to = unsafe { y.slice((i * length + position) * dim, dim) };
                let from = x.vector(i / heads, i % heads, position);
                self.rotate(from, &turns[position * half..][..half], to);
            }
        });
        Ok(())
    }

    fn rotate(&self, from: &[f32], turns: &[(f32, f32)], to: &mut [f32]) {
        let (from, from_rest) = from.split_at(self.dims);
        let (to, to_rest) = to.split_at_mut(self.dims);
        to_rest.copy_from_slice(from_rest);
        if self.traditional {
            for ((from, to), (sin, cos)) in
                from.chunks_exact(2).zip(to.chunks_exact_mut(2)).zip(turns)
            {
                to[0] = from[0] * cos - from[1] * sin;
                to[1] = from[0] * sin + from[1] * cos;
            }
        } else {
            let (a, b) = from.split_at(turns.len());
            let (to_a, to_b) = to.split_at_mut(turns.len());
            for (i, (sin, cos)) in turns.iter().enumerate() {
                to_a[i] = a[i] * cos - b[i] * sin;
                to_b[i] = a[i] * sin + b[i] * cos;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Random, assert_close};
    use super::*;

    #[test]
    fn pairs_are_rotated_by_their_position() {
        let mut random = Random::new(41);
        let (batch, heads, length, dim) = (2, 3, 4, 10);
        // Lies as [batch, length, heads, dim], as projections do.
        let values = random.normals(batch * length * heads * dim);
        let shape = [batch, heads, length, dim];
        let strides = [length * heads * dim, dim, heads * dim];
        let x = Heads { values: &values, shape, strides };
        let wavelengths = [1.0, 3.0, 7.5];
        for traditional in [false, true] {
            for (dims, angles) in [
                (10, Angles::Base(10_000.0)),
                (6, Angles::Wavelengths(&wavelengths)),
                (0, Angles::Base(1.0)),
            ] {
                let rope = Rope { dims, traditional, angles, scale: 0.5, offset: 7 };
                let mut y = vec![f32::NAN; values.len()];
                rope.apply(&x, &mut y).unwrap();
                let mut expected = Vec::new();
                for (b, h, p) in (0..batch * heads * length)
                    .map(|i| (i / (heads * length), i / length % heads, i % length))
                {
                    let v: Vec<_> = x.vector(b, h, p).iter().map(|v| f64::from(*v)).collect();
                    let mut rotated = v.clone();
                    for i in 0..dims / 2 {
                        let wavelength = match angles {
                            Angles::Base(base) => {
                                f64::from(base).powf(2.0 * i as f64 / dims as f64)
                            }
                            Angles::Wavelengths(w) => f64::from(w[i]),
                        };
                        let (sin, cos) = ((7 + p) as f64 * 0.5 / wavelength).sin_cos();
                        let (first, second) =
                            if traditional { (2 * i, 2 * i + 1) } else { (i, i + dims / 2) };
                        rotated[first] = v[first] * cos - v[second] * sin;
                        rotated[second] = v[first] * sin + v[second] * cos;
                    }
                    expected.extend(rotated);
                }
                assert_close(&y, &expected, 1.0, 3e-6, &(traditional, dims));
            }
        }
    }

    #[test]
    fn wrong_sizes_are_refused() {
        let good = Heads { values: &[0.0; 8], shape: [1, 1, 2, 4], strides: [8, 8, 4] };
        let rope =
            Rope { dims: 4, traditional: false, angles: Angles::Base(1e4), scale: 1.0, offset: 0 };
        rope.apply(&good, &mut [0.0; 8]).unwrap();
        let bad = |rope: Rope, x: Heads, y: usize| {
            assert_eq!(rope.apply(&x, &mut vec![0.0; y]).unwrap_err().code(), "INVALID_ARGUMENT");
        };
        bad(rope, good, 7);
        bad(Rope { dims: 3, ..rope }, good, 8);
        bad(Rope { dims: 6, ..rope }, good, 8);
        bad(Rope { angles: Angles::Wavelengths(&[1.0]), ..rope }, good, 8);
        bad(rope, Heads { strides: [8, 8, 5], ..good }, 8);
    }
}
