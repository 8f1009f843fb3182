//! Every kind of mask, type and layout against a plain reference in f64.

use half::{bf16, f16};

use super::*;
use crate::floats::FloatsMut;
use crate::pool::{Pool, with_threads};
use crate::prepare::QkNormRope;
use crate::testing::{Random, assert_close};

/// The definition.
fn reference(a: &Attention) -> Vec<f64> {
    let [batch, heads, length, dim] = a.queries.shape;
    let (keys, value_dim) = (a.keys.shape[2], a.values.shape[3]);
    let mut y = vec![0.0; batch * length * heads * value_dim];
    for b in 0..batch {
        for h in 0..heads {
            let kv = h / a.group();
            for i in 0..length {
                let q = a.queries.vector(b, h, i);
                let mut scores: Vec<f64> = (0..keys)
                    .map(|j| {
                        let at = a.keys.at(b, kv, j);
                        let dot: f64 = (0..dim)
                            .map(|k| f64::from(q[k]) * f64::from(a.keys.values.get(at + k)))
                            .sum();
                        let score = dot * f64::from(a.scale);
                        let score = a
                            .cap
                            .map_or(score, |cap| f64::from(cap) * (score / f64::from(cap)).tanh());
                        let seen = match a.mask {
                            Mask::None => true,
                            Mask::Causal { window } => {
                                let position = keys - length + i;
                                j <= position && window.is_none_or(|w| j + w > position)
                            }
                            Mask::Bytes { values, strides: s } => {
                                values[b * s[0] + h * s[1] + i * s[2] + j * s[3]] != 0
                            }
                            Mask::Added { values, strides: s } => {
                                let at = b * s[0] + h * s[1] + i * s[2] + j * s[3];
                                return score + f64::from(values.get(at));
                            }
                        };
                        if seen { score } else { f64::NEG_INFINITY }
                    })
                    .collect();
                scores.extend(a.sinks.map(|sinks| f64::from(sinks[h])));
                let most = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                if most == f64::NEG_INFINITY {
                    continue;
                }
                let sum: f64 = scores.iter().map(|s| (s - most).exp()).sum();
                for j in 0..keys {
                    let weight = (scores[j] - most).exp() / sum;
                    let at = a.values.at(b, kv, j);
                    for k in 0..value_dim {
                        y[((b * length + i) * heads + h) * value_dim + k] +=
                            weight * f64::from(a.values.values.get(at + k));
                    }
                }
            }
        }
    }
    y
}

/// Queries as projections give them, `[batch, length, heads, dim]`, and a cache with room to grow.
struct Case {
    q: Vec<f32>,
    k: Vec<f32>,
    v: Vec<f32>,
    batch: usize,
    heads: usize,
    kv_heads: usize,
    length: usize,
    keys: usize,
    capacity: usize,
    dim: usize,
    value_dim: usize,
}

impl Case {
    fn new(random: &mut Random, sizes: [usize; 7]) -> Self {
        let [batch, heads, kv_heads, length, keys, dim, value_dim] = sizes;
        let capacity = keys + 5;
        Self {
            q: random.normals(batch * heads * length * dim),
            k: random.normals(batch * kv_heads * capacity * dim),
            v: random.normals(batch * kv_heads * capacity * value_dim),
            batch,
            heads,
            kv_heads,
            length,
            keys,
            capacity,
            dim,
            value_dim,
        }
    }

    fn cached<'a>(&self, values: Floats<'a>, dim: usize) -> Cached<'a> {
        let shape = [self.batch, self.kv_heads, self.keys, dim];
        Cached {
            values,
            shape,
            strides: [self.kv_heads * self.capacity * dim, self.capacity * dim, dim],
        }
    }

    fn attention<'a>(&'a self, k: Floats<'a>, v: Floats<'a>) -> Attention<'a> {
        let Self { batch, heads, length, dim, .. } = *self;
        Attention {
            queries: Heads {
                values: &self.q,
                shape: [batch, heads, length, dim],
                strides: [length * heads * dim, dim, heads * dim],
            },
            keys: self.cached(k, dim),
            values: self.cached(v, self.value_dim),
            scale: 1.0 / (dim as f32).sqrt(),
            cap: None,
            mask: Mask::None,
            sinks: None,
        }
    }

    fn in_f32(&self) -> Attention<'_> {
        self.attention(Floats::F32(&self.k), Floats::F32(&self.v))
    }
}

#[track_caller]
fn check(a: &Attention, what: &dyn std::fmt::Debug) {
    let expected = reference(a);
    for isa in Isa::available() {
        let mut y = vec![f32::NAN; expected.len()];
        a.run(&mut y, isa).unwrap();
        assert_close(&y, &expected, 1.0, 1e-5, &(what, isa));
    }
}

#[test]
fn attention_matches_the_reference_with_every_mask() {
    let mut random = Random::new(51);
    for sizes in [
        [1, 4, 1, 1, 1, 64, 64],
        [1, 4, 1, 1, 700, 64, 64],
        [2, 6, 2, 1, 1100, 80, 96],
        [1, 3, 3, 5, 5, 7, 3],
        [1, 3, 3, 20, 25, 7, 3],
        [1, 2, 1, 15, 90, 144, 40],
        [2, 4, 2, 33, 40, 32, 32],
        [1, 2, 1, 70, 200, 128, 64],
        [1, 10, 1, 3, 600, 16, 16],
    ] {
        let case = Case::new(&mut random, sizes);
        let a = case.in_f32();
        check(&a, &sizes);
        check(&Attention { cap: Some(1.5), ..a }, &(sizes, "cap"));
        let sinks = random.normals(case.heads);
        check(&Attention { sinks: Some(&sinks), ..a }, &(sizes, "sinks"));
        for window in [None, Some(1), Some(17), Some(300)] {
            let mask = Mask::Causal { window };
            check(&Attention { mask, ..a }, &(sizes, "causal", window));
            check(&Attention { mask, sinks: Some(&sinks), ..a }, &(sizes, "both", window));
        }
        // The same for all heads, with a query that sees nothing.
        let size = case.batch * case.length * case.keys;
        let strides = [case.length * case.keys, 0, case.keys, 1];
        let mut bytes: Vec<_> = (0..size).map(|_| (random.below(3) > 0) as u8).collect();
        bytes[..case.keys].fill(0);
        let mask = Mask::Bytes { values: &bytes, strides };
        check(&Attention { mask, ..a }, &(sizes, "bytes"));
        check(&Attention { mask, sinks: Some(&sinks), ..a }, &(sizes, "bytes and sinks"));
        let mut added = random.normals(size);
        added.iter_mut().step_by(3).for_each(|x| *x = f32::NEG_INFINITY);
        let mask = Mask::Added { values: Floats::F32(&added), strides };
        check(&Attention { mask, ..a }, &(sizes, "added"));
    }
}

#[test]
fn the_cache_may_hold_any_float_type() {
    let mut random = Random::new(52);
    for sizes in [[1, 8, 2, 1, 300, 64, 64], [1, 4, 4, 40, 50, 72, 72]] {
        let case = Case::new(&mut random, sizes);
        let half = |v: &[f32]| v.iter().map(|x| f16::from_f32(*x)).collect::<Vec<_>>();
        let brain = |v: &[f32]| v.iter().map(|x| bf16::from_f32(*x)).collect::<Vec<_>>();
        let (k, v) = (half(&case.k), half(&case.v));
        check(&case.attention(Floats::F16(&k), Floats::F16(&v)), &(sizes, "f16"));
        let (k, v) = (brain(&case.k), brain(&case.v));
        let a = case.attention(Floats::Bf16(&k), Floats::Bf16(&v));
        check(&Attention { mask: Mask::Causal { window: None }, ..a }, &(sizes, "bf16"));
    }
}

#[test]
fn nan_passes_through() {
    let mut random = Random::new(53);
    let mut case = Case::new(&mut random, [1, 2, 1, 1, 80, 16, 16]);
    case.k[5 * 16] = f32::NAN;
    for isa in Isa::available() {
        let mut y = vec![0.0; 32];
        case.in_f32().run(&mut y, isa).unwrap();
        assert!(y.iter().all(|y| y.is_nan()), "{isa:?}: {y:?}");
    }
}

#[test]
fn wrong_sizes_are_refused() {
    let mut random = Random::new(54);
    let case = Case::new(&mut random, [1, 4, 2, 3, 8, 16, 16]);
    let good = case.in_f32();
    let size = 3 * 4 * 16;
    good.run(&mut vec![0.0; size], Isa::best()).unwrap();
    let bad = |a: Attention, y: usize| {
        let outcome = a.run(&mut vec![0.0; y], Isa::best());
        assert!(outcome.is_err());
    };
    bad(good, size - 1);
    bad(Attention { sinks: Some(&[0.0]), ..good }, size);
    bad(Attention { mask: Mask::Bytes { values: &[1; 23], strides: [0, 0, 8, 1] }, ..good }, size);
    let mut a = good;
    a.keys.shape[1] = 3;
    a.values.shape[1] = 3;
    bad(a, size);
    let mut a = good;
    a.keys.strides[1] = 1000;
    bad(a, size);
    let mut a = good;
    a.queries.strides[2] = 1000;
    bad(a, size);
    let mut a = good;
    a.values.shape[2] = 7;
    bad(a, size);
    let mut a = good;
    (a.queries.shape[3], a.keys.shape[3]) = (0, 0);
    bad(a, size);
    let mut a = good;
    (a.keys.shape[2], a.values.shape[2]) = (2, 2);
    bad(Attention { mask: Mask::Causal { window: None }, ..a }, size);
}

#[test]
fn how_many_threads_there_are_changes_no_bit() {
    let mut random = Random::new(55);
    for sizes in [[1, 8, 2, 1, 3000, 64, 64], [1, 4, 1, 7, 900, 32, 32]] {
        let case = Case::new(&mut random, sizes);
        let run = |threads| {
            let mut y = vec![0.0; sizes[3] * sizes[1] * sizes[6]];
            with_threads(threads, || case.in_f32().run(&mut y, Isa::best())).unwrap();
            y.into_iter().map(f32::to_bits).collect::<Vec<_>>()
        };
        let alone = run(1);
        assert_eq!(run(3), alone);
        // As where a model with more threads is loaded.
        Pool::global().grow(24);
        assert_eq!((run(1), run(24)), (alone.clone(), alone));
    }
}

#[test]
fn several_at_once_are_each_by_itself_to_the_bit() {
    let mut random = Random::new(56);
    let sizes = [[1, 8, 2, 1, 3000, 64, 64], [1, 8, 2, 7, 90, 64, 64], [1, 8, 2, 1, 1, 64, 64]];
    let cases = sizes.map(|sizes| Case::new(&mut random, sizes));
    for isa in Isa::available() {
        let attentions = cases.each_ref().map(Case::in_f32);
        let mut apart = Vec::new();
        for attention in &attentions {
            let mut y = vec![0.0; attention.outputs()];
            attention.run(&mut y, isa).unwrap();
            apart.extend(y);
        }
        let mut together = vec![0.0; apart.len()];
        run_each(&attentions, &mut together, isa).unwrap();
        assert_eq!(together, apart, "{isa:?}");
        assert!(run_each(&attentions, &mut together[1..], isa).is_err());
        assert!(run_each(&attentions, &mut [0.0; 5], isa).is_err());
    }
}

#[test]
fn sequences_with_queries_that_have_no_keys_are_refused() {
    let new = [0.5; 16];
    let heads = |length| Heads { values: &new, shape: [1, 1, length, 4], strides: [16, 4, 4] };
    let run = |keys, capacity| {
        let (mut k, mut v) = ([0.0; 16], [0.0; 16]);
        let row = CachedRow {
            queries: heads(2),
            keys: heads(keys),
            values: heads(2),
            buffers: [FloatsMut::F32(&mut k), FloatsMut::F32(&mut v)],
            capacity,
            start: 2,
            prepare: [QkNormRope::default(); 2],
            mask: Mask::Causal { window: None },
        };
        let scores = Scores { scale: 1.0, cap: None, sinks: None };
        attend(vec![row], scores, &mut [0.0; 8], Isa::best())
    };
    run(2, 4).unwrap();
    for (keys, capacity) in [(1, 4), (3, 4), (2, 3)] {
        assert!(run(keys, capacity).is_err(), "{keys} {capacity}");
    }
}
