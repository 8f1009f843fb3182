//! Rotary position embedding (Su et al. 2021).

use std::cell::RefCell;
use std::sync::Arc;

use super::floats::FloatsMut;
use super::prepare::Preparation;
use super::simd::Isa;
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
    /// Whether the strides stay within the memory.
    pub(super) fn fits(&self) -> bool {
        let [batch, heads, length, dim] = self.shape;
        self.shape.contains(&0)
            || self.at(batch - 1, heads - 1, length - 1) + dim <= self.values.len()
    }

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

impl Angles<'_> {
    fn numbers(&self) -> &[f32] {
        match self {
            Self::Base(base) => std::slice::from_ref(base),
            Self::Wavelengths(wavelengths) => wavelengths,
        }
    }
}

/// Which features are rotated, and how.
#[derive(Clone, Copy, Debug)]
pub struct Rope<'a> {
    /// Features that are rotated, the first ones; the others stay as they are.
    pub dims: usize,
    /// Whether neighbouring features are rotated, not the two halves.
    pub traditional: bool,
    /// The angles.
    pub angles: Angles<'a>,
    /// Multiplies positions.
    pub scale: f32,
    /// Multiplies the rotated features.
    pub gain: f32,
    /// The position of the first vector.
    pub offset: i32,
}

impl Rope<'_> {
    /// Rotates `x` into `y`, which is contiguous.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` when the sizes do not fit.
    pub fn apply(&self, x: &Heads, y: &mut [f32], isa: Isa) -> Result<()> {
        let length = x.shape[2];
        let preparation = Preparation { norm: None, rope: Some(*self) };
        preparation.write(x, FloatsMut::F32(y), length, 0, isa)
    }

    /// The rotations of `length` positions of vectors of `dim` features: those of the layer before, where they are the same.
    pub(super) fn turns(&self, length: usize, dim: usize) -> Result<Arc<Turns>> {
        let fail = |message: &str| Err(Error::argument("rope", message.to_owned()));
        if self.dims > dim || !self.dims.is_multiple_of(2) {
            return fail("the rotated features are odd, or more than there are");
        }
        if matches!(self.angles, Angles::Wavelengths(w) if w.len() != self.dims / 2) {
            return fail("there must be a wavelength for each pair of features");
        }
        RECENT.with_borrow_mut(|recent| {
            if let Some(known) = recent.iter().find(|turns| turns.are(self, length)) {
                return Ok(Arc::clone(known));
            }
            let turns = Arc::new(self.compute_turns(length));
            // The oldest go first.
            recent.truncate(MOST_RECENT - 1);
            recent.insert(0, Arc::clone(&turns));
            Ok(turns)
        })
    }

    fn compute_turns(&self, length: usize) -> Turns {
        let half = self.dims / 2;
        // In f32 as in MLX: at positions in the thousands, the rounding of the product is visible.
        let frequencies: Vec<f32> = match self.angles {
            Angles::Base(base) => {
                (0..half).map(|i| (-(i as f32) * (base.ln() / half as f32)).exp()).collect()
            }
            Angles::Wavelengths(wavelengths) => wavelengths.iter().map(|w| 1.0 / w).collect(),
        };
        let (mut sines, mut cosines) = (Vec::new(), Vec::new());
        sines.reserve_exact(length * half);
        cosines.reserve_exact(length * half);
        for i in 0..length {
            let position = (self.offset as f32 + i as f32) * self.scale;
            for frequency in &frequencies {
                let (sin, cos) = (position * frequency).sin_cos();
                sines.push(sin * self.gain);
                cosines.push(cos * self.gain);
            }
        }
        let explicit = matches!(self.angles, Angles::Wavelengths(_));
        let angles = self.angles.numbers().to_vec();
        let Self { traditional, scale, gain, offset, .. } = *self;
        Turns { sines, cosines, half, length, traditional, scale, gain, offset, explicit, angles }
    }
}

/// How many rotations are remembered: models have up to two kinds of layers.
const MOST_RECENT: usize = 2;

thread_local! {
    /// What the layers before have computed for the same positions, the latest first.
    static RECENT: RefCell<Vec<Arc<Turns>>> = const { RefCell::new(Vec::new()) };
}

/// The rotations of some positions, and what they were computed from.
pub(super) struct Turns {
    /// `[length, half]`.
    sines: Vec<f32>,
    /// `[length, half]`.
    cosines: Vec<f32>,
    half: usize,
    length: usize,
    traditional: bool,
    scale: f32,
    gain: f32,
    offset: i32,
    /// Whether `angles` are wavelengths.
    explicit: bool,
    angles: Vec<f32>,
}

impl Turns {
    /// Whether they are those of `length` positions of `rope`.
    fn are(&self, rope: &Rope, length: usize) -> bool {
        let own = (self.half, self.length, self.traditional, self.offset, self.explicit);
        let explicit = matches!(rope.angles, Angles::Wavelengths(_));
        own == (rope.dims / 2, length, rope.traditional, rope.offset, explicit)
            && (self.scale, self.gain) == (rope.scale, rope.gain)
            && self.angles == rope.angles.numbers()
    }

    /// Rotates a vector by position `i`.
    #[inline(always)]
    pub(super) fn rotate(&self, i: usize, x: &mut [f32]) {
        let turns = i * self.half..(i + 1) * self.half;
        let (sines, cosines) = (&self.sines[turns.clone()], &self.cosines[turns]);
        let x = &mut x[..2 * self.half];
        if self.traditional {
            for ((pair, sin), cos) in x.chunks_exact_mut(2).zip(sines).zip(cosines) {
                (pair[0], pair[1]) = (pair[0] * cos - pair[1] * sin, pair[0] * sin + pair[1] * cos);
            }
        } else {
            let (a, b) = x.split_at_mut(self.half);
            for (((a, b), sin), cos) in a.iter_mut().zip(b).zip(sines).zip(cosines) {
                (*a, *b) = (*a * cos - *b * sin, *a * sin + *b * cos);
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
                let rope = Rope { dims, traditional, angles, scale: 0.5, gain: 1.5, offset: 7 };
                let mut y = vec![f32::NAN; values.len()];
                rope.apply(&x, &mut y, Isa::best()).unwrap();
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
                        rotated[first] = 1.5 * (v[first] * cos - v[second] * sin);
                        rotated[second] = 1.5 * (v[first] * sin + v[second] * cos);
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
        let rope = Rope {
            dims: 4,
            traditional: false,
            angles: Angles::Base(1e4),
            scale: 1.0,
            gain: 1.0,
            offset: 0,
        };
        rope.apply(&good, &mut [0.0; 8], Isa::best()).unwrap();
        let bad = |rope: Rope, x: Heads, y: usize| {
            assert_eq!(
                rope.apply(&x, &mut vec![0.0; y], Isa::best()).unwrap_err().code(),
                "INVALID_ARGUMENT"
            );
        };
        bad(rope, good, 7);
        bad(Rope { dims: 3, ..rope }, good, 8);
        bad(Rope { dims: 6, ..rope }, good, 8);
        bad(Rope { angles: Angles::Wavelengths(&[1.0]), ..rope }, good, 8);
        bad(rope, Heads { strides: [8, 8, 5], ..good }, 8);
    }
}
