//! Every kernel against the operation of MLX that it stands in for.

use super::super::fast::{Choice, Scoring};
use super::super::fast::{
    Frequencies, Mask, NewPositions, NormedSum, Preparation, Rotation, Scores,
};
use super::super::quantized::{Format, Mode, Packed, dequantize};
use super::super::{DeviceKind, enter, from_f32, from_u32, ops, to_f32_vec};
use super::products::GATED_ROWS;
use super::*;

/// Numbers between -1 and 1 that look random.
fn numbers(shape: &[i32], seed: u32) -> Array {
    let count = shape.iter().product::<i32>() as u32;
    let value = |i: u32| {
        let bits =
            (i + seed).wrapping_mul(2_654_435_761).rotate_left(13).wrapping_mul(2_246_822_519);
        (bits >> 8) as f32 / (1 << 23) as f32 - 1.0
    };
    from_f32(&(0..count).map(value).collect::<Vec<_>>(), shape)
}

#[track_caller]
fn assert_close(ours: &Array, theirs: &Array, bound: f32) {
    assert_eq!(ours.shape(), theirs.shape());
    let (ours, theirs) = (to_f32_vec(ours).unwrap(), to_f32_vec(theirs).unwrap());
    let worst = ours.iter().zip(&theirs).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(worst <= bound, "{worst} > {bound}");
    assert!(theirs.iter().any(|x| x.abs() > 0.01), "there is nothing to compare");
}

fn words(shape: &[i32], seed: u32) -> Array {
    let count = shape.iter().product::<i32>() as u32;
    let word = |i: u32| (i + seed).wrapping_mul(2_654_435_761).rotate_left(16) ^ 0x9e37_79b9;
    from_u32(&(0..count).map(word).collect::<Vec<_>>(), shape)
}

/// A packed matrix with random codes, `[front…, outputs, inputs]`.
fn packed(mode: Mode, bits: i32, group_size: i32, front: &[i32], inputs: i32) -> Packed {
    let with = |last: i32| [front, &[last]].concat();
    let groups = with(inputs / group_size);
    let (scales, biases) = if mode == Mode::Affine {
        let scales = ops::multiply(&numbers(&groups, 5), &super::super::scalar(0.05)).unwrap();
        let brain = |x: &Array| ops::astype(x, Dtype::Bfloat16).unwrap();
        (brain(&scales), Some(brain(&numbers(&groups, 6))))
    } else {
        // Around 1: e8m0 and e4m3 differ in where that is.
        let middle = if mode == Mode::Nvfp4 { 0x38 } else { 126 };
        let bytes = ops::astype(&numbers(&groups, 5), Dtype::Int32).unwrap();
        let bytes = ops::add(&bytes, &Array::from_int(middle)).unwrap();
        (ops::astype(&bytes, Dtype::Uint8).unwrap(), None)
    };
    let mut weight = words(&with(inputs * bits / 32), 7);
    if mode == Mode::Mxfp8 {
        // Without the sign's neighbour no code is NaN.
        let mask = Array::from_slice(&[0xbfbf_bfbf_u32], &[1]);
        weight =
            ops::subtract(&weight, &ops::subtract(&weight, &and(&weight, &mask)).unwrap()).unwrap();
    }
    let format = Format { mode, group_size, bits };
    Packed { weight, scales, biases, format, dtype: Dtype::Float32 }
}

/// The matrix in `f32`: MLX unpacks in the type of the scales.
fn unpacked(w: &Packed) -> Array {
    let single = |x: &Array| ops::astype(x, Dtype::Float32).unwrap();
    let scales = if w.biases.is_some() { single(&w.scales) } else { w.scales.clone() };
    let biases = w.biases.as_ref().map(single);
    dequantize(&Packed { scales, biases, ..w.clone() }).unwrap()
}

/// Bit by bit, through the host.
fn and(a: &Array, mask: &Array) -> Array {
    let mask = super::super::to_u32_vec(mask).unwrap()[0];
    let values: Vec<_> = super::super::to_u32_vec(a).unwrap().iter().map(|x| x & mask).collect();
    from_u32(&values, a.shape())
}

const FORMATS: [(Mode, i32, i32); 9] = [
    (Mode::Affine, 2, 32),
    (Mode::Affine, 3, 64),
    (Mode::Affine, 4, 64),
    (Mode::Affine, 5, 128),
    (Mode::Affine, 6, 32),
    (Mode::Affine, 8, 64),
    (Mode::Mxfp4, 4, 32),
    (Mode::Mxfp8, 8, 32),
    (Mode::Nvfp4, 4, 16),
];

#[test]
fn quantized_products_are_those_with_the_unpacked_matrix() {
    enter(DeviceKind::Cpu).unwrap();
    for (mode, bits, group) in FORMATS {
        let w = packed(mode, bits, group, &[37], 256);
        let turned = ops::transpose(&unpacked(&w), &[1, 0]).unwrap();
        // One row; some; the last rows of each batch, which do not lie together.
        let long = numbers(&[2, 9, 256], 1);
        for x in [numbers(&[256], 1), long.clone(), ops::slice_axis(&long, 1, 8, 9).unwrap()] {
            let theirs = ops::matmul(&x, &turned).unwrap();
            let size = to_f32_vec(&theirs).unwrap().iter().fold(0.0_f32, |a, x| a.max(x.abs()));
            for (precision, bound) in [(Precision::Exact, 1e-5), (Precision::Fast, 1e-4)] {
                set_precision(precision);
                assert_close(&quantized_matmuls(&x, &[&w]).unwrap()[0], &theirs, bound * size);
            }
        }
    }
}

#[test]
fn products_at_once_are_those_of_each() {
    enter(DeviceKind::Cpu).unwrap();
    let four = |outputs| packed(Mode::Affine, 4, 64, &[outputs], 256);
    let (wide, narrow) = (four(90), four(37));
    let other = packed(Mode::Affine, 8, 64, &[20], 256);
    for precision in [Precision::Exact, Precision::Fast] {
        set_precision(precision);
        for x in [numbers(&[1, 1, 256], 1), numbers(&[2, 3, 256], 1), numbers(&[1, 40, 256], 1)] {
            let single = |w| quantized_matmuls(&x, &[w]).unwrap().remove(0);
            for matrices in [vec![&wide, &narrow], vec![&narrow, &other, &wide]] {
                let all = quantized_matmuls(&x, &matrices).unwrap();
                assert_eq!(all.len(), matrices.len());
                for (product, w) in all.iter().zip(matrices) {
                    assert_close(product, &single(w), 0.0);
                }
            }
            let gated = |up| gated_products(&x, [&wide, up], Activation::Silu).unwrap();
            if x.size() > GATED_ROWS * 256 {
                assert!(gated(&wide).is_none());
                continue;
            }
            assert!(gated(&narrow).is_none() && gated(&other).is_none());
            let theirs = gate(Activation::Silu, &single(&wide), &single(&wide)).unwrap();
            assert_close(&gated(&wide).unwrap(), &theirs, 0.0);
        }
    }
}

#[test]
fn products_of_a_norm_are_those_of_what_is_normed_before() {
    enter(DeviceKind::Cpu).unwrap();
    set_precision(Precision::Fast);
    let four = |outputs| packed(Mode::Affine, 4, 64, &[outputs], 256);
    let (wide, narrow) = (four(128), four(37));
    let other = packed(Mode::Affine, 8, 64, &[128], 256);
    // Of another format than the others.
    let down = packed(Mode::Mxfp4, 4, 32, &[256], 128);
    let weights = numbers(&[256], 3);
    for shape in [[1, 1, 256], [2, 3, 256], [1, 40, 256]] {
        let (x, added) = (numbers(&shape, 1), numbers(&shape, 2));
        for (delta, weight) in [
            (None, None),
            (None, Some(&weights)),
            (Some(&added), None),
            (Some(&added), Some(&weights)),
        ] {
            let rows = NormedSum { x: &x, delta, weight, eps: 1e-3 };
            let [sum, normed] = rows.compute().unwrap();
            let (ours, products) = normed_matmuls(&rows, &[&wide, &narrow]).unwrap().unwrap();
            assert_close(&ours, &sum, 0.0);
            for (product, w) in products.iter().zip([&wide, &narrow]) {
                assert_close(product, &quantized_matmuls(&normed, &[w]).unwrap()[0], 0.0);
            }
            assert!(normed_matmuls(&rows, &[&wide, &other]).unwrap().is_none());
            let mlp = |gate_up, down| normed_mlp(&rows, gate_up, down, Activation::Silu).unwrap();
            assert!(mlp([&wide, &narrow], &down).is_none());
            assert!(mlp([&wide, &other], &down).is_none());
            assert!(mlp([&narrow, &narrow], &down).is_none());
            if x.size() > GATED_ROWS * 256 {
                assert!(mlp([&wide, &wide], &down).is_none());
                continue;
            }
            let (ours, y) = mlp([&wide, &wide], &down).unwrap();
            let hidden = gated_products(&normed, [&wide, &wide], Activation::Silu).unwrap();
            let theirs = quantized_matmuls(&hidden.unwrap(), &[&down]).unwrap().remove(0);
            assert_close(&ours, &sum, 0.0);
            assert_close(&y, &theirs, 0.0);
        }
    }
}

#[test]
fn gathered_products_take_the_matrices_that_are_named() {
    enter(DeviceKind::Cpu).unwrap();
    set_precision(Precision::Exact);
    let experts = from_u32(&[3, 0, 2, 2, 1, 3, 0, 1, 2, 3, 1, 0], &[2, 3, 2]);
    // As the slice of a wider choice, whose rows are apart.
    let wide = ops::concatenate(&[&experts, &experts], 2).unwrap();
    let experts = ops::slice_axis(&wide, 2, 0, 2).unwrap();
    let each = numbers(&[2, 3, 2, 1, 128], 1);
    let shared = numbers(&[2, 3, 1, 1, 128], 2);
    for (mode, bits, group) in FORMATS {
        let w = packed(mode, bits, group, &[4, 19], 128);
        let dense = unpacked(&w);
        let turned = ops::swap_axes(&dense, -1, -2).unwrap();
        let chosen = ops::take(&turned, &experts, 0).unwrap();
        for x in [&each, &shared] {
            let theirs = ops::matmul(x, &chosen).unwrap();
            let size = to_f32_vec(&theirs).unwrap().iter().fold(0.0_f32, |a, x| a.max(x.abs()));
            assert_close(&gather_quantized_matmul(x, &w, &experts).unwrap(), &theirs, 1e-5 * size);
            assert_close(&gather_matmul(x, &turned, &experts).unwrap(), &theirs, 1e-5 * size);
        }
    }
}

#[test]
fn a_choice_that_does_not_exist_is_an_error() {
    enter(DeviceKind::Cpu).unwrap();
    let w = packed(Mode::Affine, 4, 64, &[4, 8], 64);
    let y = gather_quantized_matmul(&numbers(&[1, 1, 64], 1), &w, &from_u32(&[4], &[1])).unwrap();
    assert!(super::super::eval(&[&y]).is_err());
}

#[test]
fn rows_are_those_of_the_unpacked_matrix() {
    enter(DeviceKind::Cpu).unwrap();
    let chosen = from_u32(&[3, 0, 3, 6, 1, 2], &[2, 3]);
    for (mode, bits, group) in [(Mode::Affine, 6, 32), (Mode::Mxfp4, 4, 32), (Mode::Nvfp4, 4, 16)] {
        let w = packed(mode, bits, group, &[7], 64);
        let expected = ops::take(&unpacked(&w), &chosen, 0).unwrap();
        assert_close(&quantized_rows(&w, &chosen).unwrap(), &expected, 1e-6);
    }
    let w = packed(Mode::Affine, 4, 64, &[7], 64);
    let beyond = quantized_rows(&w, &from_u32(&[7], &[1])).unwrap();
    assert!(to_f32_vec(&beyond).is_err());
}

#[test]
fn dense_products_are_those_of_mlx() {
    enter(DeviceKind::Cpu).unwrap();
    let w = numbers(&[33, 70], 1);
    let turned = ops::transpose(&w, &[1, 0]).unwrap();
    for rows in [1, 5, 20] {
        let x = numbers(&[rows, 70], 2);
        assert_close(&linear(&x, &w).unwrap(), &ops::matmul(&x, &turned).unwrap(), 2e-5);
    }
}

#[test]
fn the_norm_is_what_its_definition_says() {
    enter(DeviceKind::Cpu).unwrap();
    let (x, w) = (numbers(&[2, 5, 24], 1), numbers(&[24], 2));
    // The heads of positions, which MLX's transposition leaves where they are.
    let x = ops::transpose(&x, &[1, 0, 2]).unwrap();
    for weight in [None, Some(&w)] {
        let weights = weight.map(|w| to_f32_vec(w).unwrap());
        let values = to_f32_vec(&x).unwrap();
        let expected: Vec<_> = (values.chunks(24))
            .flat_map(|row| {
                let mean = row.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>() / 24.0;
                let factor = 1.0 / (mean + 1e-3).sqrt();
                let weights = weights.clone().unwrap_or(vec![1.0; 24]);
                let normed = move |(x, w): (&f32, f32)| (f64::from(*x) * factor) as f32 * w;
                row.iter().zip(weights).map(normed).collect::<Vec<_>>()
            })
            .collect();
        let theirs = from_f32(&expected, x.shape());
        assert_close(&rms_norm(&x, weight, 1e-3).unwrap(), &theirs, 1e-5);
        let (part, rest) = (numbers(&[5, 2, 24], 7), numbers(&[1], 8));
        let rest = ops::subtract(&ops::multiply(&x, &rest).unwrap(), &part).unwrap();
        let [sum, normed] = add_rms_norm(&part, &rest, weight, 1e-3).unwrap();
        assert_close(&sum, &ops::add(&part, &rest).unwrap(), 0.0);
        assert_close(&normed, &rms_norm(&sum, weight, 1e-3).unwrap(), 0.0);
    }
}

#[test]
fn rotations_are_those_of_mlx() {
    enter(DeviceKind::Cpu).unwrap();
    let x = ops::transpose(&numbers(&[2, 5, 3, 16], 1), &[0, 2, 1, 3]).unwrap();
    // MLX's own takes half precision here; f32 would come to our kernel.
    let double = ops::astype(&x, Dtype::Float64).unwrap();
    let wavelengths = from_f32(&[1.0, 2.5, 9.0, 40.0, 100.0, 1000.0], &[6]);
    for traditional in [false, true] {
        for frequencies in [Frequencies::Base(500.0), Frequencies::Wavelengths(wavelengths.clone())]
        {
            for gain in [1.0, 1.25] {
                let frequencies = frequencies.clone();
                let (dims, scale, offset) = (12, 0.5, 300);
                let rotation = Rotation { dims, traditional, frequencies, scale, gain, offset };
                let ours = rope(&x, &rotation).unwrap();
                let theirs = super::super::fast::rope(&double, &rotation).unwrap();
                assert_close(&ours, &ops::astype(&theirs, Dtype::Float32).unwrap(), 2e-5);
            }
        }
    }
}

#[test]
fn attention_is_what_its_definition_says() {
    enter(DeviceKind::Cpu).unwrap();
    let (batch, heads, kv_heads, length, seen, dim) = (2, 6, 2, 5, 21, 24);
    let q = ops::transpose(&numbers(&[batch, length, heads, dim], 1), &[0, 2, 1, 3]).unwrap();
    // The first part of a buffer that has room for more.
    let cached = |seed| {
        let all = numbers(&[batch, kv_heads, 32, dim], seed);
        ops::slice_axis(&all, 2, 0, seen).unwrap()
    };
    let (k, v) = (cached(2), cached(3));
    let bits: Vec<_> = (0..length * seen).map(|i| f32::from(i % 7 != 3)).collect();
    let bits = ops::astype(&from_f32(&bits, &[length, seen]), Dtype::Bool).unwrap();
    let causal: Vec<_> =
        (0..length * seen).map(|i| f32::from(i % seen <= i / seen + seen - length)).collect();
    let causal = ops::astype(&from_f32(&causal, &[length, seen]), Dtype::Bool).unwrap();
    let added = numbers(&[batch, 1, length, seen], 9);
    for (mask, seen_mask) in [
        (Mask::None, None),
        (Mask::Causal, Some(&causal)),
        (Mask::Array(bits.clone()), Some(&bits)),
        (Mask::Array(added.clone()), None),
    ] {
        let groups = |x: &Array, count| {
            let x = ops::expand_dims(x, 2).unwrap();
            let shape = [batch, kv_heads, count, x.dim(3), dim];
            ops::reshape(&ops::broadcast_to(&x, &shape).unwrap(), &[batch, heads, x.dim(3), dim])
                .unwrap()
        };
        let (all_k, all_v) = (groups(&k, heads / kv_heads), groups(&v, heads / kv_heads));
        let scores = ops::matmul(&q, &ops::swap_axes(&all_k, -1, -2).unwrap()).unwrap();
        let mut scores = ops::multiply(&scores, &super::super::scalar(0.7)).unwrap();
        if let Some(mask) = seen_mask {
            let nothing = super::super::scalar(f32::NEG_INFINITY);
            scores = ops::select(mask, &scores, &nothing).unwrap();
        } else if let Mask::Array(added) = &mask {
            scores = ops::add(&scores, added).unwrap();
        }
        let theirs = ops::matmul(&ops::softmax(&scores, -1, true).unwrap(), &all_v).unwrap();
        let scores = Scores { scale: 0.7, cap: None, sinks: None };
        assert_close(&attention(&q, &k, &v, &scores, &mask).unwrap(), &theirs, 1e-5);
    }
}

#[test]
fn new_positions_are_written_into_the_cache_and_attended_to() {
    enter(DeviceKind::Cpu).unwrap();
    let (batch, heads, kv_heads, capacity, start, dim) = (2, 6, 2, 32, 9, 24);
    let (weight, sinks) = (numbers(&[dim], 4), numbers(&[heads], 5));
    let wavelengths = from_f32(&[1.0, 2.5, 9.0, 40.0, 100.0, 1000.0], &[6]);
    let rope = |offset| Rotation {
        dims: 12,
        traditional: false,
        frequencies: Frequencies::Wavelengths(wavelengths.clone()),
        scale: 1.0,
        gain: 1.1,
        offset,
    };
    let float = |x: &Array| ops::astype(x, Dtype::Float32).unwrap();
    for (length, dtype, norm, rotated) in [
        (1, Dtype::Float16, Some((Some(&weight), 1e-5)), true),
        (5, Dtype::Float32, Some((None, 1e-5)), true),
        (3, Dtype::Bfloat16, None, true),
        (5, Dtype::Float16, None, false),
    ] {
        // Parts of one projection: strided.
        let all = numbers(&[batch, length, (heads + 2 * kv_heads) * dim], 1);
        let at = |from: i32, count: i32| {
            ops::slice_axis(&all, 2, from * dim, (from + count) * dim).unwrap()
        };
        let [queries, keys, values] =
            [at(0, heads), at(heads, kv_heads), at(heads + kv_heads, kv_heads)];
        let buffer = |seed| {
            let all = numbers(&[batch, kv_heads, capacity, dim], seed);
            ops::astype(&all, dtype).unwrap()
        };
        let [old_keys, old_values] = [buffer(2), buffer(3)];
        let preparation = || Preparation { norm, rope: rotated.then(|| rope(start)) };
        let new = NewPositions {
            queries: &queries,
            keys: &keys,
            values: &values,
            prepare_queries: preparation(),
            prepare_keys: preparation(),
            output: None,
        };
        let scores = Scores { scale: 0.3, cap: Some(4.0), sinks: Some(&sinks) };
        assert!(takes_positions(&new, &Mask::Causal));
        let buffers = [old_keys.clone(), old_values.clone()];
        let (ours, [ours_k, ours_v]) =
            cached_attention(&new, buffers, start, &scores, &Mask::Causal).unwrap();
        // The same, one step after the other.
        let prepared = |x: &Array, heads, prepare| {
            let by_head = ops::reshape(x, &[batch, length, heads, dim]).unwrap();
            let mut x = ops::transpose(&by_head, &[0, 2, 1, 3]).unwrap();
            if prepare && let Some((weight, eps)) = norm {
                x = rms_norm(&x, weight, eps).unwrap();
            }
            if prepare && rotated {
                x = super::rope(&x, &rope(start)).unwrap();
            }
            x
        };
        let put = |buffer: &Array, x: &Array| {
            let x = ops::astype(x, dtype).unwrap();
            ops::slice_update_axis(buffer, &x, 2, start).unwrap()
        };
        let k = put(&old_keys, &prepared(&keys, kv_heads, true));
        let v = put(&old_values, &prepared(&values, kv_heads, false));
        let seen = |x: &Array| ops::slice_axis(x, 2, 0, start + length).unwrap();
        let q = prepared(&queries, heads, true);
        let theirs = attention(&q, &seen(&k), &seen(&v), &scores, &Mask::Causal).unwrap();
        let theirs = ops::transpose(&theirs, &[0, 2, 1, 3]).unwrap();
        let theirs = ops::reshape(&theirs, &[batch, length, heads * dim]).unwrap();
        assert_close(&float(&ours_k), &float(&k), 0.0);
        assert_close(&float(&ours_v), &float(&v), 0.0);
        assert_close(&ours, &theirs, 1e-6);
        let w = packed(Mode::Nvfp4, 4, 16, &[20], heads * dim);
        let (new, buffers) = (NewPositions { output: Some(&w), ..new }, [old_keys, old_values]);
        let (mixed, [keys, _]) =
            cached_attention(&new, buffers, start, &scores, &Mask::Causal).unwrap();
        assert_close(&mixed, &quantized_matmuls(&ours, &[&w]).unwrap()[0], 0.0);
        assert_close(&float(&keys), &float(&k), 0.0);
    }
}

#[test]
fn positions_that_do_not_fit_the_cache_are_refused() {
    enter(DeviceKind::Cpu).unwrap();
    let [queries, keys] = [[1, 2, 24], [1, 2, 8]].map(|shape| numbers(&shape, 1));
    let scores = Scores { scale: 1.0, cap: None, sinks: None };
    let buffer = || numbers(&[1, 2, 16, 4], 2);
    let run = |values: &Array, buffers, start| {
        let new = NewPositions {
            queries: &queries,
            keys: &keys,
            values,
            prepare_queries: Preparation::default(),
            prepare_keys: Preparation::default(),
            output: None,
        };
        cached_attention(&new, buffers, start, &scores, &Mask::Causal).map(|_| ())
    };
    run(&keys, [buffer(), buffer()], 14).unwrap();
    for (values, buffers, start) in [
        (keys.clone(), [buffer(), buffer()], 15),
        (keys.clone(), [buffer(), numbers(&[1, 1, 16, 8], 2)], 0),
        (keys.clone(), [numbers(&[2, 2, 16, 4], 2), buffer()], 0),
        (numbers(&[1, 1, 8], 1), [buffer(), buffer()], 0),
        (numbers(&[1, 2, 12], 1), [buffer(), buffer()], 0),
    ] {
        let error = run(&values, buffers, start).unwrap_err().to_string();
        assert!(error.contains("do not fit a cache"), "{error}");
    }
}

#[test]
fn experts_are_added_up_as_step_by_step() {
    enter(DeviceKind::Cpu).unwrap();
    set_precision(Precision::Exact);
    let (experts, dims, hidden) = (5, 64, 32);
    let matrix = |outputs, inputs| packed(Mode::Affine, 4, 32, &[experts, outputs], inputs);
    let (gate, up, down) = (matrix(hidden, dims), matrix(hidden, dims), matrix(dims, hidden));
    let x = numbers(&[1, 3, dims], 11);
    let weights = numbers(&[1, 3, 2], 12);
    // Part of an order of all, as a partition leaves it.
    let order = from_u32(&[4, 0, 1, 3, 2, 2, 1, 0, 4, 3, 0, 3, 4, 1, 2], &[1, 3, experts]);
    let chosen = ops::slice_axis(&order, 2, 0, 2).unwrap();
    let ours =
        weighted_experts(&x, [&chosen, &weights], [&gate, &up, &down], Activation::Silu).unwrap();
    let rows = ops::reshape(&x, &[1, 3, 1, 1, dims]).unwrap();
    let product = |x: &Array, w: &Packed| gather_quantized_matmul(x, w, &chosen).unwrap();
    let inner =
        super::gate(Activation::Silu, &product(&rows, &gate), &product(&rows, &up)).unwrap();
    let outputs = ops::squeeze(&product(&inner, &down), -2).unwrap();
    let weighted = ops::multiply(&outputs, &ops::expand_dims(&weights, -1).unwrap()).unwrap();
    let sum = ops::squeeze(&ops::sum(&weighted, 2).unwrap(), 2).unwrap();
    assert_close(&ours, &sum, 1e-4);
}

#[test]
fn experts_are_chosen_as_by_mlx() {
    enter(DeviceKind::Cpu).unwrap();
    let logits = numbers(&[2, 7, 16], 13);
    let choice = Choice { active: 4, scoring: Scoring::Softmax, normalize: true, scale: 1.0 };
    let [chosen, weights] = choose_experts(&logits, None, choice).unwrap();
    assert_eq!((chosen.shape(), chosen.dtype()), (&[2, 7, 4][..], Dtype::Uint32));
    let all = ops::softmax(&logits, -1, true).unwrap();
    let order = ops::argsort(&ops::negative(&all).unwrap(), -1).unwrap();
    let best = ops::slice_axis(&order, 2, 0, 4).unwrap();
    let float = |x: &Array| ops::astype(x, Dtype::Float32).unwrap();
    assert_close(&float(&chosen), &float(&best), 0.0);
    let taken = ops::take_along(&all, &best, -1).unwrap();
    let theirs = ops::divide(&taken, &ops::sum(&taken, -1).unwrap()).unwrap();
    assert_close(&weights, &theirs, 1e-6);
}

#[test]
fn what_is_not_f32_is_left_to_mlx() {
    enter(DeviceKind::Cpu).unwrap();
    let x = numbers(&[4], 1);
    assert!(take(&x));
    assert!(!take(&ops::astype(&x, Dtype::Bfloat16).unwrap()));
}

#[test]
fn a_causal_convolution_is_that_of_mlx() {
    enter(DeviceKind::Cpu).unwrap();
    let (kernel, channels) = (4, 20);
    for length in [1, 9] {
        let x = numbers(&[2, kernel - 1 + length, channels], 1);
        let (weight, bias) = (numbers(&[kernel, channels], 2), numbers(&[channels], 3));
        let wide = |a: &Array| ops::astype(a, Dtype::Float64).unwrap();
        let theirs = |silu| {
            super::super::fast::causal_conv(&wide(&x), &wide(&weight), Some(&wide(&bias)), silu)
        };
        for silu in [false, true] {
            let ours = causal_conv(&x, &weight, Some(&bias), silu).unwrap();
            assert_close(&ours, &theirs(silu).unwrap(), 1e-5);
        }
    }
}
