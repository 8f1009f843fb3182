//! Rotary position embedding (Su et al. 2021).

use std::cell::RefCell;
use std::sync::Arc;

use crate::error::{Error, Result};

/// The angles of a rotation.
#[derive(Clone, Copy, Debug)]
pub enum Angles<'a> {
    /// The periods base^(2i/dims).
    Base(f32),
    /// Explicit periods, `[dims / 2]`.
    Freqs(&'a [f32]),
}

impl Angles<'_> {
    fn numbers(&self) -> &[f32] {
        match self {
            Self::Base(base) => std::slice::from_ref(base),
            Self::Freqs(freqs) => freqs,
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
    pub attention_factor: f32,
    /// The position of the first vector.
    pub offset: i32,
}

impl Rope<'_> {
    /// The rotations of `length` positions of vectors of `dim` features: those of the layer before,
    /// where they are the same.
    pub(super) fn cos_sin_table(&self, length: usize, dim: usize) -> Result<Arc<CosSinTable>> {
        let fail = |message: &str| Err(Error::argument("rope", message.to_owned()));
        if self.dims > dim || !self.dims.is_multiple_of(2) {
            return fail("the rotated features are odd, or more than there are");
        }
        if matches!(self.angles, Angles::Freqs(w) if w.len() != self.dims / 2) {
            return fail("there must be a frequency for each pair of features");
        }
        RECENT.with_borrow_mut(|recent| {
            if let Some(known) = recent.iter().find(|table| table.is_of(self, length)) {
                return Ok(Arc::clone(known));
            }
            let table = Arc::new(self.compute_table(length));
            // The oldest go first.
            recent.truncate(MAX_RECENT - 1);
            recent.insert(0, Arc::clone(&table));
            Ok(table)
        })
    }

    fn compute_table(&self, length: usize) -> CosSinTable {
        let half = self.dims / 2;
        // In f32 as in MLX: at positions in the thousands, the rounding of the product is visible.
        let frequencies: Vec<f32> = match self.angles {
            Angles::Base(base) => {
                (0..half).map(|i| (-(i as f32) * (base.ln() / half as f32)).exp()).collect()
            }
            Angles::Freqs(freqs) => freqs.iter().map(|w| 1.0 / w).collect(),
        };
        let (mut sines, mut cosines) = (Vec::new(), Vec::new());
        sines.reserve_exact(length * half);
        cosines.reserve_exact(length * half);
        for i in 0..length {
            let position = (self.offset as f32 + i as f32) * self.scale;
            for frequency in &frequencies {
                let (sin, cos) = (position * frequency).sin_cos();
                sines.push(sin * self.attention_factor);
                cosines.push(cos * self.attention_factor);
            }
        }
        let explicit = matches!(self.angles, Angles::Freqs(_));
        let angles = self.angles.numbers().to_vec();
        let Self { traditional, scale, attention_factor, offset, .. } = *self;
        CosSinTable {
            sines,
            cosines,
            half,
            length,
            traditional,
            scale,
            attention_factor,
            offset,
            explicit,
            angles,
        }
    }
}

/// How many rotations are remembered: models have up to two kinds of layers.
const MAX_RECENT: usize = 2;

thread_local! {
    /// What the layers before have computed for the same positions, the latest first.
    static RECENT: RefCell<Vec<Arc<CosSinTable>>> = const { RefCell::new(Vec::new()) };
}

/// The rotations of some positions, and what they were computed from.
pub(super) struct CosSinTable {
    /// `[length, half]`.
    sines: Vec<f32>,
    /// `[length, half]`.
    cosines: Vec<f32>,
    half: usize,
    length: usize,
    traditional: bool,
    scale: f32,
    attention_factor: f32,
    offset: i32,
    /// Whether `angles` are explicit.
    explicit: bool,
    angles: Vec<f32>,
}

impl CosSinTable {
    /// Whether they are those of `length` positions of `rope`.
    fn is_of(&self, rope: &Rope, length: usize) -> bool {
        let own = (self.half, self.length, self.traditional, self.offset, self.explicit);
        let explicit = matches!(rope.angles, Angles::Freqs(_));
        own == (rope.dims / 2, length, rope.traditional, rope.offset, explicit)
            && (self.scale, self.attention_factor) == (rope.scale, rope.attention_factor)
            && self.angles == rope.angles.numbers()
    }

    /// Rotates a vector by position `i`.
    #[inline(always)]
    pub(super) fn rotate(&self, i: usize, x: &mut [f32]) {
        let row = i * self.half..(i + 1) * self.half;
        let (sines, cosines) = (&self.sines[row.clone()], &self.cosines[row]);
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
    use super::super::heads::Heads;
    use super::super::simd::Isa;
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
                (6, Angles::Freqs(&wavelengths)),
                (0, Angles::Base(1.0)),
            ] {
                let rope = Rope {
                    dims,
                    traditional,
                    angles,
                    scale: 0.5,
                    attention_factor: 1.5,
                    offset: 7,
                };
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
                            Angles::Freqs(w) => f64::from(w[i]),
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
            attention_factor: 1.0,
            offset: 0,
        };
        rope.apply(&good, &mut [0.0; 8], Isa::best()).unwrap();
        let bad = |rope: Rope, x: Heads, y: usize| {
            assert!(rope.apply(&x, &mut vec![0.0; y], Isa::best()).is_err());
        };
        bad(rope, good, 7);
        bad(Rope { dims: 3, ..rope }, good, 8);
        bad(Rope { dims: 6, ..rope }, good, 8);
        bad(Rope { angles: Angles::Freqs(&[1.0]), ..rope }, good, 8);
        bad(rope, Heads { strides: [8, 8, 5], ..good }, 8);
    }
}
