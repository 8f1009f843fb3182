//! Every format, odd sizes and every instruction set against a plain reference in f64.

use half::{bf16, f16};

use super::*;
use crate::Floats;
use crate::testing::{Random, assert_close, execs};

/// A random matrix in a quantized format, and the same in f64.
struct Matrix {
    format: Format,
    packed: Vec<u8>,
    scales: Vec<f32>,
    scale_bytes: Vec<u8>,
    biases: Vec<f32>,
    slabs: usize,
    rows: usize,
    cols: usize,
    values: Vec<f64>,
}

const E2M1: [f64; 8] = [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0];

fn e4m3_value(code: u8) -> f64 {
    let sign = if code & 0x80 == 0 { 1.0 } else { -1.0 };
    let (exponent, mantissa) = (i32::from(code >> 3 & 15), f64::from(code & 7));
    sign * if exponent == 0 {
        mantissa * 2f64.powi(-9)
    } else {
        (8.0 + mantissa) * 2f64.powi(exponent - 10)
    }
}

impl Matrix {
    fn new(random: &mut Random, format: Format, slabs: usize, rows: usize, cols: usize) -> Self {
        let (bits, group) = (format.bits(), format.group());
        let (n, groups) = (slabs * rows * cols, slabs * rows * cols / group);
        let mut packed = random.bytes(n * bits / 8);
        if format == Format::Mxfp8 {
            // 0x7f and 0xff are NaN.
            packed.iter_mut().for_each(|b| *b = if *b & 0x7f == 0x7f { 1 } else { *b });
        }
        // bfloat16 numbers, so that the scales are the same in all types.
        let bf = |x: f32| bf16::from_f32(x).to_f32();
        let most = ((1 << bits) - 1) as f32;
        let scales: Vec<_> =
            (0..groups).map(|_| bf((0.5 + random.normal().abs()) / most)).collect();
        let biases: Vec<_> = scales.iter().map(|s| bf(-s * most / 2.0)).collect();
        let scale_bytes: Vec<_> = (0..groups)
            .map(|_| match format {
                Format::Nvfp4 => 0x28 + random.below(32) as u8,
                _ => 120 + random.below(8) as u8,
            })
            .collect();
        let mut matrix =
            Self { format, packed, scales, scale_bytes, biases, slabs, rows, cols, values: vec![] };
        matrix.decode();
        matrix
    }

    /// Computes the values anew.
    fn decode(&mut self) {
        let Self { format, packed, scales, scale_bytes, biases, .. } = &*self;
        let (bits, group, n) = (format.bits(), format.group(), self.slabs * self.rows * self.cols);
        self.values = (0..n)
            .map(|i| {
                let bit = i * bits;
                let window = u16::from(packed[bit / 8])
                    | u16::from(*packed.get(bit / 8 + 1).unwrap_or(&0)) << 8;
                let code = window >> (bit % 8) & ((1 << bits) - 1);
                let g = i / group;
                let power = |b: u8| 2f64.powi(i32::from(b) - 127);
                let half = E2M1[usize::from(code & 7)] * if code & 8 == 0 { 1.0 } else { -1.0 };
                match format {
                    Format::Affine { .. } => {
                        f64::from(code) * f64::from(scales[g]) + f64::from(biases[g])
                    }
                    Format::Mxfp4 => half * power(scale_bytes[g]),
                    Format::Nvfp4 => half * e4m3_value(scale_bytes[g]),
                    Format::Mxfp8 => e4m3_value(code as u8) * power(scale_bytes[g]),
                }
            })
            .collect();
    }

    fn weights<'a>(&'a self, scales: Floats<'a>, biases: Floats<'a>) -> Weights<'a> {
        let (scales, biases) = match self.format {
            Format::Affine { .. } => (Scales::Floats(scales), Some(biases)),
            Format::Nvfp4 => (Scales::E4m3(&self.scale_bytes), None),
            _ => (Scales::E8m0(&self.scale_bytes), None),
        };
        let Self { format, slabs, rows, cols, .. } = *self;
        Weights { format, packed: &self.packed, scales, biases, slabs, rows, cols }
    }

    fn with_f32(&self) -> Weights<'_> {
        self.weights(Floats::F32(&self.scales), Floats::F32(&self.biases))
    }

    fn product(&self, x: &[f32], routes: &[Route]) -> Vec<f64> {
        let mut y = Vec::new();
        for route in routes {
            let x = &x[route.x * self.cols..(route.x + 1) * self.cols];
            for row in 0..self.rows {
                let at = (route.slab * self.rows + row) * self.cols;
                let w = &self.values[at..at + self.cols];
                y.push(w.iter().zip(x).map(|(w, x)| w * f64::from(*x)).sum());
            }
        }
        y
    }

    /// The size of a sum of `cols` products of a weight and a number of deviation 1.
    fn size(&self) -> f64 {
        let square: f64 = self.values.iter().map(|v| v * v).sum();
        (square / self.values.len() as f64 * self.cols as f64).sqrt()
    }
}

fn formats() -> Vec<Format> {
    let mut formats = vec![Format::Mxfp4, Format::Nvfp4, Format::Mxfp8];
    for bits in [2, 3, 4, 5, 6, 8] {
        formats.extend([32, 64, 128].map(|group| Format::Affine { bits, group }));
    }
    formats
}

/// Asserts that a product is as precise as it should be: in f32 up to rounding; with integers, of
/// which the step is about 2.7 / 32512 for numbers of deviation 1 in groups of 64, to a relative
/// error of 2.4e-5, and ten times that for the greatest error where a group has an exceptional
/// activation. With bytes the step is 256 times as large.
#[track_caller]
fn check(y: &[f32], expected: &[f64], size: f64, exec: ExecOptions, what: &dyn std::fmt::Debug) {
    let bound = match exec.precision {
        Precision::Exact => 1e-5,
        Precision::Fast => 3e-4,
        Precision::Fastest => 256.0 * 3e-4,
    };
    assert_close(y, expected, size, bound, what);
}

#[test]
fn products_match_the_reference() {
    let mut random = Random::new(1);
    for format in formats() {
        for cols in [1, 3, 17, 66].map(|groups| groups * format.group()) {
            let rows = 1 + random.below(35);
            let matrix = Matrix::new(&mut random, format, 1, rows, cols);
            for m in [1, 3, 5, 6, 13] {
                let x = random.normals(m * cols);
                let routes: Vec<_> = (0..m).map(|x| Route { x, slab: 0 }).collect();
                let expected = matrix.product(&x, &routes);
                for exec in execs() {
                    let mut y = vec![f32::NAN; m * rows];
                    matmul(&matrix.with_f32(), &x, &mut y, exec).unwrap();
                    let what = (format, rows, cols, m, exec);
                    check(&y, &expected, matrix.size(), exec, &what);
                }
            }
        }
    }
}

#[test]
fn integer_products_equal_those_of_the_rounded_activations() {
    // Activations that are whole numbers with greatest 32512 in every group are integers already:
    // nothing is rounded.
    let mut random = Random::new(2);
    for format in formats() {
        let cols = 5 * format.group();
        let matrix = Matrix::new(&mut random, format, 1, 19, cols);
        for m in [1, 4, 7, 12] {
            let whole = |random: &mut Random| {
                256.0 * (random.below(253) as f32 - 126.0) + random.below(255) as f32 - 127.0
            };
            let mut x: Vec<_> = (0..m * cols).map(|_| whole(&mut random)).collect();
            x.iter_mut().step_by(16).for_each(|x| *x = 32_512.0);
            let routes: Vec<_> = (0..m).map(|x| Route { x, slab: 0 }).collect();
            let expected = matrix.product(&x, &routes);
            // Bytes have a test of their own.
            for exec in execs().into_iter().filter(|it| it.precision != Precision::Fastest) {
                let mut y = vec![f32::NAN; m * 19];
                matmul(&matrix.with_f32(), &x, &mut y, exec).unwrap();
                assert_close(&y, &expected, 18_771.0 * matrix.size(), 1e-5, &(format, m, exec));
            }
        }
    }
}

#[test]
fn products_of_bytes_equal_those_of_the_rounded_activations() {
    // The greatest codes with the greatest bytes are what 16 bits must hold the sums of.
    let mut random = Random::new(9);
    for format in formats() {
        let cols = 5 * format.group();
        let mut matrix = Matrix::new(&mut random, format, 1, 19, cols);
        for (m, extreme) in [(9, false), (13, true), (21, false), (40, true)] {
            let mut x: Vec<_> = (0..m * cols).map(|_| random.below(255) as f32 - 127.0).collect();
            x.iter_mut().step_by(16).for_each(|x| *x = 127.0);
            if extreme {
                x.iter_mut().for_each(|x| *x = 127.0);
                // e2m1's 6, e4m3's 448 and the greatest codes of every other format.
                let greatest = match format {
                    Format::Mxfp4 | Format::Nvfp4 => 0x77,
                    Format::Mxfp8 => 0x7e,
                    Format::Affine { .. } => 0xff,
                };
                matrix.packed.fill(greatest);
                matrix.decode();
            }
            let expected = matrix.product(&x, &Route::straight(m));
            for exec in execs().into_iter().filter(|it| it.precision == Precision::Fastest) {
                let mut y = vec![f32::NAN; m * 19];
                matmul(&matrix.with_f32(), &x, &mut y, exec).unwrap();
                assert_close(&y, &expected, 127.0 * matrix.size(), 1e-5, &(format, m, exec));
            }
        }
    }
}

#[test]
fn the_type_of_the_scales_does_not_matter() {
    let mut random = Random::new(3);
    for group in [32, 64, 128] {
        let cols = 19 * group;
        let matrix = Matrix::new(&mut random, Format::Affine { bits: 4, group }, 1, 7, cols);
        let half = |v: &[f32]| v.iter().map(|x| f16::from_f32(*x)).collect::<Vec<_>>();
        let brain = |v: &[f32]| v.iter().map(|x| bf16::from_f32(*x)).collect::<Vec<_>>();
        let x = random.normals(9 * cols);
        let routes: Vec<_> = (0..9).map(|x| Route { x, slab: 0 }).collect();
        let expected = matrix.product(&x, &routes);
        let (s16, b16) = (half(&matrix.scales), half(&matrix.biases));
        let (sb, bb) = (brain(&matrix.scales), brain(&matrix.biases));
        for weights in [
            matrix.weights(Floats::F16(&s16), Floats::F16(&b16)),
            matrix.weights(Floats::Bf16(&sb), Floats::Bf16(&bb)),
        ] {
            for exec in execs() {
                for m in [1, 9] {
                    let mut y = vec![f32::NAN; m * 7];
                    matmul(&weights, &x[..m * cols], &mut y, exec).unwrap();
                    check(&y, &expected[..m * 7], matrix.size(), exec, &(group, m, exec));
                }
            }
        }
    }
}

#[test]
fn gathered_products_go_where_the_routes_lead() {
    let mut random = Random::new(4);
    for format in [Format::Affine { bits: 4, group: 64 }, Format::Mxfp4, Format::Mxfp8] {
        let cols = 2 * format.group();
        let matrix = Matrix::new(&mut random, format, 5, 37, cols);
        let x = random.normals(30 * cols);
        for count in [1, 8, 60] {
            let routes: Vec<_> =
                (0..count).map(|_| Route { x: random.below(30), slab: random.below(4) }).collect();
            let expected = matrix.product(&x, &routes);
            for exec in execs() {
                let mut y = vec![f32::NAN; count * 37];
                gather_matmul(&matrix.with_f32(), &x, &routes, &mut y, exec).unwrap();
                let what = (format, count, exec);
                check(&y, &expected, matrix.size(), exec, &what);
            }
        }
    }
}

#[test]
fn a_few_rows_match_the_reference() {
    let mut random = Random::new(7);
    for format in [
        Format::Affine { bits: 4, group: 32 },
        Format::Affine { bits: 4, group: 64 },
        Format::Affine { bits: 4, group: 128 },
        Format::Mxfp4,
    ] {
        // One group, an odd number, more units than scales are taken at a time, and rows that are
        // pages apart.
        for (cols, most) in [(1, 21), (5, 21), (131, 3)]
            .map(|(groups, most)| (groups * format.group(), most))
            .into_iter()
            .chain([(8192, 3)])
        {
            for rows in [1, 7, 15, 16, 17, 33, 67] {
                let matrix = Matrix::new(&mut random, format, 1, rows, cols);
                let x = random.normals(most * cols);
                let expected = matrix.product(&x, &Route::straight(most));
                for m in (1..=9).chain([12, 17, 20, 21]).filter(|m| *m <= most) {
                    for exec in execs() {
                        let mut y = vec![f32::NAN; m * rows];
                        matmul(&matrix.with_f32(), &x[..m * cols], &mut y, exec).unwrap();
                        let what = (format, rows, cols, m, exec);
                        check(&y, &expected[..m * rows], matrix.size(), exec, &what);
                    }
                }
            }
        }
    }
}

#[test]
fn rows_of_a_product_do_not_depend_on_their_number() {
    let mut random = Random::new(13);
    for format in [
        Format::Affine { bits: 4, group: 32 },
        Format::Affine { bits: 4, group: 64 },
        Format::Affine { bits: 4, group: 128 },
        Format::Mxfp4,
    ] {
        // The last one has more units than scales are taken at a time.
        for (rows, cols) in [(67, 1024), (33, 19 * format.group()), (40, 8192 + 3 * format.group())]
        {
            let matrix = Matrix::new(&mut random, format, 1, rows, cols);
            let x = random.normals(70 * cols);
            for exec in execs().into_iter().filter(|it| it.precision != Precision::Exact) {
                let product = |m: usize| {
                    let mut y = vec![f32::NAN; m * rows];
                    matmul(&matrix.with_f32(), &x[..m * cols], &mut y, exec).unwrap();
                    y
                };
                // Where integers are no faster, many rows are computed in f32.
                let most = exec.isa.run(panels::Rows).end.min(71) - 1;
                let all = product(most);
                let counts = [2, 3, 5, 6, 7, 8, 11, 13, 14, 15, 16, 17, 24, 31, 48, 64, 69];
                for m in counts.into_iter().filter(|m| *m <= most) {
                    // A few rows are no bytes.
                    if exec.precision == Precision::Fast || m >= panels::BYTES {
                        let what = (format, rows, cols, m, exec);
                        assert!(product(m) == all[..m * rows], "{what:?}");
                    }
                }
            }
        }
    }
}

#[test]
fn many_rows_match_the_reference() {
    let mut random = Random::new(14);
    for format in [Format::Affine { bits: 4, group: 64 }, Format::Mxfp4] {
        let (rows, cols) = (45, 9 * format.group());
        let matrix = Matrix::new(&mut random, format, 1, rows, cols);
        let x = random.normals(67 * cols);
        let expected = matrix.product(&x, &Route::straight(67));
        for m in [24, 41, 63, 64, 67] {
            for exec in execs() {
                let mut y = vec![f32::NAN; m * rows];
                matmul(&matrix.with_f32(), &x[..m * cols], &mut y, exec).unwrap();
                check(&y, &expected[..m * rows], matrix.size(), exec, &(format, m, exec));
            }
        }
    }
}

/// What is lost is in proportion to the terms, however little is left of their sum.
#[test]
fn sums_that_cancel_are_as_precise_as_their_terms() {
    let mut random = Random::new(15);
    for (format, byte) in [(Format::Affine { bits: 4, group: 64 }, 0), (Format::Mxfp4, 143)] {
        let (rows, cols) = (1, 42 * format.group());
        let mut matrix = Matrix::new(&mut random, format, 1, rows, cols);
        matrix.scale_bytes.fill(byte);
        matrix.decode();
        // Less the part along the weights, so that nothing is left but what f32 rounds.
        let square: f64 = matrix.values.iter().map(|w| w * w).sum();
        let mut x = random.normals(70 * cols);
        for x in x.chunks_exact_mut(cols) {
            let dot: f64 = matrix.values.iter().zip(&*x).map(|(w, x)| w * f64::from(*x)).sum();
            let along = matrix.values.iter().map(|w| w * dot / square);
            x.iter_mut().zip(along).for_each(|(x, along)| *x -= along as f32);
        }
        let expected = matrix.product(&x, &Route::straight(70));
        assert!(expected.iter().all(|y| y.abs() < 1e-5 * matrix.size()));
        for m in [1, 6, 9, 25, 70] {
            for exec in execs() {
                let mut y = vec![f32::NAN; m];
                matmul(&matrix.with_f32(), &x[..m * cols], &mut y, exec).unwrap();
                check(&y, &expected[..m], matrix.size(), exec, &(format, m, exec));
            }
        }
    }
}

#[test]
fn single_rows_are_their_values() {
    let mut random = Random::new(12);
    for format in formats() {
        let (rows, cols) = (40, 3 * format.group());
        let matrix = Matrix::new(&mut random, format, 1, rows, cols);
        let chosen: Vec<u32> = (0..37).map(|i| i * 7 % rows as u32).chain([39, 39]).collect();
        let mut y = vec![f32::NAN; chosen.len() * cols];
        super::rows(&matrix.with_f32(), &chosen, &mut y).unwrap();
        for (&row, y) in chosen.iter().zip(y.chunks_exact(cols)) {
            for (y, value) in y.iter().zip(&matrix.values[row as usize * cols..]) {
                let error = (f64::from(*y) - value).abs();
                assert!(error <= 1e-6 * (1.0 + value.abs()), "{y}, {value}, {format:?}");
            }
        }
        let mut one = vec![0.0; cols];
        for wrong in [&[40][..], &[0, 1], &[]] {
            let error = super::rows(&matrix.with_f32(), wrong, &mut one).unwrap_err();
            assert!(!error.message.is_empty());
        }
    }
}

#[test]
fn a_few_rows_of_several_matrices_match_the_reference() {
    let mut random = Random::new(8);
    for format in [Format::Affine { bits: 4, group: 64 }, Format::Mxfp4] {
        let cols = 3 * format.group();
        for rows in [1, 17, 70] {
            let matrix = Matrix::new(&mut random, format, 4, rows, cols);
            let mut x = random.normals(10 * cols);
            // Rows of two kinds through one matrix.
            x[2 * cols + 1] = f32::INFINITY;
            let routes: Vec<_> =
                (0..25).map(|i| Route { x: i % 10, slab: i * i % 7 / 2 }).collect();
            let expected = matrix.product(&x, &routes);
            for exec in execs() {
                let mut y = vec![f32::NAN; routes.len() * rows];
                gather_matmul(&matrix.with_f32(), &x, &routes, &mut y, exec).unwrap();
                for (i, route) in routes.iter().enumerate() {
                    let part = i * rows..(i + 1) * rows;
                    if route.x == 2 {
                        assert!(y[part].iter().all(|y| !y.is_finite()), "{exec:?}");
                    } else {
                        let what = (format, rows, i, exec);
                        check(&y[part.clone()], &expected[part], matrix.size(), exec, &what);
                    }
                }
            }
        }
    }
    let small = Matrix::new(&mut random, Format::Affine { bits: 4, group: 64 }, 1, 3, 192);
    let large = Matrix::new(&mut random, Format::Affine { bits: 4, group: 64 }, 1, 40, 192);
    let x = random.normals(12 * 192);
    for m in [1, 2, 4, 5, 6, 12] {
        for exec in execs() {
            let (mut y, mut z) = (vec![f32::NAN; m * 3], vec![f32::NAN; m * 40]);
            let weights = [small.with_f32(), large.with_f32()];
            matmul_each(&weights, &x[..m * 192], &mut [&mut y, &mut z], exec).unwrap();
            for (matrix, y) in [(&small, &y), (&large, &z)] {
                let expected = matrix.product(&x[..m * 192], &Route::straight(m));
                check(y, &expected, matrix.size(), exec, &(m, exec));
            }
        }
    }
}

#[test]
fn nan_and_infinity_spoil_their_own_rows_only() {
    let mut random = Random::new(5);
    let matrix = Matrix::new(&mut random, Format::Affine { bits: 4, group: 64 }, 1, 6, 192);
    for m in [3, 8] {
        let mut x = random.normals(m * 192);
        x[5] = f32::NAN;
        x[192 + 70] = f32::INFINITY;
        let routes: Vec<_> = (0..m).map(|x| Route { x, slab: 0 }).collect();
        let expected = matrix.product(&x, &routes);
        for exec in execs() {
            let mut y = vec![0.0; m * 6];
            matmul(&matrix.with_f32(), &x, &mut y, exec).unwrap();
            assert!(y[..6].iter().all(|y| y.is_nan()), "{exec:?}");
            assert!(y[6..12].iter().all(|y| !y.is_finite()), "{exec:?}");
            check(&y[12..], &expected[12..], matrix.size(), exec, &(m, exec));
        }
    }
}

#[test]
fn wrong_sizes_are_refused() {
    let mut random = Random::new(6);
    let matrix = Matrix::new(&mut random, Format::Affine { bits: 4, group: 64 }, 2, 6, 128);
    let good = matrix.with_f32();
    let x = vec![0.0; 128];
    let route = Route { x: 0, slab: 1 };
    let mut y = vec![0.0; 6];
    let exec = ExecOptions::default();
    gather_matmul(&good, &x, &[route], &mut y, exec).unwrap();
    let bad = |weights: Weights, x: &[f32], route: Route, y: usize| {
        let outcome = gather_matmul(&weights, x, &[route], &mut vec![0.0; y], exec);
        assert!(outcome.is_err());
    };
    bad(Weights { packed: &matrix.packed[1..], ..good }, &x, route, 6);
    bad(Weights { scales: Scales::Floats(Floats::F32(&matrix.scales[1..])), ..good }, &x, route, 6);
    bad(Weights { biases: None, ..good }, &x, route, 6);
    bad(Weights { biases: Some(Floats::F32(&[])), ..good }, &x, route, 6);
    bad(Weights { format: Format::Mxfp4, ..good }, &x, route, 6);
    bad(Weights { format: Format::Affine { bits: 7, group: 64 }, ..good }, &x, route, 6);
    bad(Weights { format: Format::Affine { bits: 4, group: 16 }, ..good }, &x, route, 6);
    bad(Weights { cols: 100, ..good }, &x, route, 6);
    bad(Weights { cols: 0, ..good }, &x, route, 6);
    bad(Weights { slabs: usize::MAX, ..good }, &x, route, 6);
    bad(good, &x[1..], route, 6);
    bad(good, &x, Route { x: 1, slab: 0 }, 6);
    bad(good, &x, Route { x: 0, slab: 2 }, 6);
    bad(good, &x, route, 7);
    assert!(matmul(&good, &x, &mut y, exec).is_err());
}
