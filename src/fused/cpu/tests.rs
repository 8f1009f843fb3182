//! Every kernel against the composition or the operation of MLX that it stands in for.

use super::super::attention::{
    AttentionParams, AttentionRow, Qkv, Scores, attention, scaled_dot_product_attention_plain,
};
use super::super::conv::{ConvWeights, causal_conv_plain};
use super::super::device::Backend;
use super::super::experts::{
    ExpertLinear, ExpertMatrix, ExpertsWeights, Hidden, expert_outputs, moe_mlp,
};
use super::super::kv::{KvBuffers, KvCache, KvPlaces, KvTensor};
use super::super::linear::{LinearWeights, Matrix};
use super::super::norm::{AddNorm, AddRmsNorm, NormParams, add_norm, rms_norm_plain};
use super::super::rope::{RopeFreqs, RopeParams, rope_plain};
use super::super::router::{RouterParams, Routing, route_top_k_plain};
use super::super::{Device, Precision};
use super::gathered::{gather_matmul, gather_quantized_matmul};
use super::products::{
    GATED_ROWS, alike, follows, gated_at_once, gated_matmuls, matmul, norm_matmuls, norm_mlp,
    quantized_matmul, quantized_matmuls, quantized_rows,
};
use super::*;
use crate::cpu::Isa;
use crate::cpu::activation::Activation;
use crate::cpu::experts::{Scoring, TopK};
use crate::mlx::fast::Mask;
use crate::mlx::primitive::Failure;
use crate::mlx::quantized::{Mode, QuantizationParams, QuantizedTensor, dequantize};
use crate::mlx::{
    DeviceKind, enter, eval, from_f32, from_u32, ops, scalar, to_f32_vec, to_u32_vec,
};

/// What nodes are built with.
pub(super) fn options() -> NodeOptions {
    with(Precision::Fast)
}

fn with(precision: Precision) -> NodeOptions {
    let exec = ExecOptions { isa: Isa::best(), precision };
    NodeOptions { exec, threads: Device::default().threads }
}

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
fn packed(mode: Mode, bits: i32, group_size: i32, front: &[i32], inputs: i32) -> QuantizedTensor {
    let with = |last: i32| [front, &[last]].concat();
    let groups = with(inputs / group_size);
    let (scales, biases) = if mode == Mode::Affine {
        let scales = ops::multiply(&numbers(&groups, 5), &scalar(0.05)).unwrap();
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
    let params = QuantizationParams { mode, group_size, bits };
    QuantizedTensor { weight, scales, biases, params, dtype: Dtype::Float32 }
}

/// The matrix in `f32`: MLX unpacks in the type of the scales.
fn unpacked(w: &QuantizedTensor) -> Array {
    let single = |x: &Array| ops::astype(x, Dtype::Float32).unwrap();
    let scales = if w.biases.is_some() { single(&w.scales) } else { w.scales.clone() };
    let biases = w.biases.as_ref().map(single);
    dequantize(&QuantizedTensor { scales, biases, ..w.clone() }).unwrap()
}

/// Bit by bit, through the host.
fn and(a: &Array, mask: &Array) -> Array {
    let mask = to_u32_vec(mask).unwrap()[0];
    let values: Vec<_> = to_u32_vec(a).unwrap().iter().map(|x| x & mask).collect();
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
                let ours = quantized_matmul(with(precision), &x, &w).unwrap();
                assert_close(&ours, &theirs, bound * size);
            }
        }
    }
}

#[test]
fn a_node_keeps_the_settings_that_it_was_built_with() {
    enter(DeviceKind::Cpu).unwrap();
    let w = packed(Mode::Affine, 4, 64, &[37], 256);
    let x = numbers(&[1, 256], 1);
    let build = |precision| quantized_matmul(with(precision), &x, &w).unwrap();
    let alone = [Precision::Exact, Precision::Fast].map(|it| to_f32_vec(&build(it)).unwrap());
    assert_ne!(alone[0], alone[1]);
    // All are built before any is evaluated.
    let mixed = [Precision::Exact, Precision::Fast, Precision::Exact].map(build);
    eval(&mixed.each_ref()).unwrap();
    let mixed = mixed.map(|y| to_f32_vec(&y).unwrap());
    assert_eq!([&mixed[0], &mixed[1], &mixed[2]], [&alone[0], &alone[1], &alone[0]]);
}

#[test]
fn products_at_once_are_those_of_each() {
    enter(DeviceKind::Cpu).unwrap();
    let four = |outputs| packed(Mode::Affine, 4, 64, &[outputs], 256);
    let (wide, narrow) = (four(90), four(37));
    let other = packed(Mode::Affine, 8, 64, &[20], 256);
    for options in [Precision::Exact, Precision::Fast].map(with) {
        for x in [numbers(&[1, 1, 256], 1), numbers(&[2, 3, 256], 1), numbers(&[1, 40, 256], 1)] {
            let single = |w| quantized_matmul(options, &x, w).unwrap();
            for matrices in [vec![&wide, &narrow], vec![&narrow, &other, &wide]] {
                let all = quantized_matmuls(options, &x, &matrices).unwrap();
                assert_eq!(all.len(), matrices.len());
                for (product, w) in all.iter().zip(matrices) {
                    assert_close(product, &single(w), 0.0);
                }
            }
            assert_eq!(gated_at_once(&x, [&wide, &wide]), x.size() <= GATED_ROWS * 256);
            assert!(!gated_at_once(&x, [&wide, &narrow]) && !gated_at_once(&x, [&wide, &other]));
            let ours = gated_matmuls(options, &x, [&wide, &wide], Activation::Silu).unwrap();
            let (gate, up) = (single(&wide), single(&wide));
            let theirs = activation::gated(options, Activation::Silu, &gate, &up).unwrap();
            assert_close(&ours, &theirs, 0.0);
        }
    }
}

#[test]
fn products_of_a_norm_are_those_of_what_is_normed_before() {
    enter(DeviceKind::Cpu).unwrap();
    let (device, options) = (Device::default(), options());
    let four = |outputs| packed(Mode::Affine, 4, 64, &[outputs], 256);
    let (wide, narrow) = (four(128), four(37));
    let other = packed(Mode::Affine, 8, 64, &[128], 256);
    // Of another format than the others.
    let down = packed(Mode::Mxfp4, 4, 32, &[256], 128);
    assert!(alike(&[&wide, &narrow]) && !alike(&[&wide, &other]));
    assert!(follows(&down, &wide) && !follows(&down, &narrow));
    let weights = numbers(&[256], 3);
    for shape in [[1, 1, 256], [2, 3, 256], [1, 40, 256]] {
        let (x, added) = (numbers(&shape, 1), numbers(&shape, 2));
        for (delta, weight) in [
            (None, None),
            (None, Some(&weights)),
            (Some(&added), None),
            (Some(&added), Some(&weights)),
        ] {
            let norm = NormParams::Rms { weight: weight.cloned(), eps: 1e-3 };
            let [sum, normed] = add_norm(device, &AddNorm { x: &x, delta, norm: &norm }).unwrap();
            let rows = AddRmsNorm { x: &x, delta, weight, eps: 1e-3 };
            let (ours, products) = norm_matmuls(options, &rows, &[&wide, &narrow]).unwrap();
            assert_close(&ours, &sum, 0.0);
            for (product, w) in products.iter().zip([&wide, &narrow]) {
                assert_close(product, &quantized_matmul(options, &normed, w).unwrap(), 0.0);
            }
            let (gate_up, silu) = ([&wide, &wide], Activation::Silu);
            let (ours, y) = norm_mlp(options, &rows, gate_up, &down, silu).unwrap();
            let hidden = gated_matmuls(options, &normed, gate_up, silu).unwrap();
            let theirs = quantized_matmul(options, &hidden, &down).unwrap();
            assert_close(&ours, &sum, 0.0);
            assert_close(&y, &theirs, 0.0);
        }
    }
}

#[test]
fn gathered_products_take_the_matrices_that_are_named() {
    enter(DeviceKind::Cpu).unwrap();
    let options = with(Precision::Exact);
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
            let ours = gather_quantized_matmul(options, x, &w, &experts).unwrap();
            assert_close(&ours, &theirs, 1e-5 * size);
            let ours = gather_matmul(options, x, &turned, &experts).unwrap();
            assert_close(&ours, &theirs, 1e-5 * size);
        }
    }
}

#[test]
fn a_choice_that_does_not_exist_is_an_error() {
    enter(DeviceKind::Cpu).unwrap();
    let w = packed(Mode::Affine, 4, 64, &[4, 8], 64);
    let (x, chosen) = (numbers(&[1, 1, 64], 1), from_u32(&[4], &[1]));
    let failure = Failure::default();
    let y = failure.scope(|| gather_quantized_matmul(options(), &x, &w, &chosen)).unwrap();
    eval(&[&y]).unwrap();
    assert!(failure.check().is_err());
}

#[test]
fn rows_are_those_of_the_unpacked_matrix() {
    enter(DeviceKind::Cpu).unwrap();
    let chosen = from_u32(&[3, 0, 3, 6, 1, 2], &[2, 3]);
    for (mode, bits, group) in [(Mode::Affine, 6, 32), (Mode::Mxfp4, 4, 32), (Mode::Nvfp4, 4, 16)] {
        let w = packed(mode, bits, group, &[7], 64);
        let expected = ops::take(&unpacked(&w), &chosen, 0).unwrap();
        assert_close(&quantized_rows(options(), &w, &chosen).unwrap(), &expected, 1e-6);
    }
    let w = packed(Mode::Affine, 4, 64, &[7], 64);
    let failure = Failure::default();
    let beyond = failure.scope(|| quantized_rows(options(), &w, &from_u32(&[7], &[1]))).unwrap();
    eval(&[&beyond]).unwrap();
    assert!(failure.check().is_err());
}

#[test]
fn dense_products_are_those_of_mlx() {
    enter(DeviceKind::Cpu).unwrap();
    let w = numbers(&[33, 70], 1);
    let turned = ops::transpose(&w, &[1, 0]).unwrap();
    for rows in [1, 5, 20] {
        let x = numbers(&[rows, 70], 2);
        assert_close(&matmul(options(), &x, &w).unwrap(), &ops::matmul(&x, &turned).unwrap(), 2e-5);
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
        assert_close(&norm::rms_norm(options(), &x, weight, 1e-3).unwrap(), &theirs, 1e-5);
        assert_close(&rms_norm_plain(&x, weight, 1e-3).unwrap(), &theirs, 1e-5);
        let (part, rest) = (numbers(&[5, 2, 24], 7), numbers(&[1], 8));
        let rest = ops::subtract(&ops::multiply(&x, &rest).unwrap(), &part).unwrap();
        let [sum, normed] = norm::add_rms_norm(options(), &part, &rest, weight, 1e-3).unwrap();
        assert_close(&sum, &ops::add(&part, &rest).unwrap(), 0.0);
        assert_close(&normed, &norm::rms_norm(options(), &sum, weight, 1e-3).unwrap(), 0.0);
    }
}

#[test]
fn rotations_are_those_of_mlx() {
    enter(DeviceKind::Cpu).unwrap();
    let x = ops::transpose(&numbers(&[2, 5, 3, 16], 1), &[0, 2, 1, 3]).unwrap();
    // MLX's own takes other types here; f32 would come to our kernel.
    let double = ops::astype(&x, Dtype::Float64).unwrap();
    let periods = from_f32(&[1.0, 2.5, 9.0, 40.0, 100.0, 1000.0], &[6]);
    for traditional in [false, true] {
        for freqs in [RopeFreqs::Base(500.0), RopeFreqs::Explicit(periods.clone())] {
            for attention_factor in [1.0, 1.25] {
                let freqs = freqs.clone();
                let (dims, scale, offset) = (12, 0.5, 300);
                let params =
                    RopeParams { dims, traditional, freqs, scale, attention_factor, offset };
                let theirs = super::super::rope::rope(Device::default(), &double, &params).unwrap();
                let theirs = ops::astype(&theirs, Dtype::Float32).unwrap();
                let ours = super::attention::rope(options(), &x, &params).unwrap();
                assert_close(&ours, &theirs, 2e-5);
                assert_close(&rope_plain(&x, &params).unwrap(), &theirs, 5e-5);
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
        let mut scores = ops::multiply(&scores, &scalar(0.7)).unwrap();
        if let Some(mask) = seen_mask {
            let nothing = scalar(f32::NEG_INFINITY);
            scores = ops::select(mask, &scores, &nothing).unwrap();
        } else if let Mask::Array(added) = &mask {
            scores = ops::add(&scores, added).unwrap();
        }
        let theirs = ops::matmul(&ops::softmax(&scores, -1, true).unwrap(), &all_v).unwrap();
        let scores = Scores::scaled(0.7);
        let ours =
            super::attention::scaled_dot_product_attention(options(), &q, &k, &v, &mask, &scores);
        assert_close(&ours.unwrap(), &theirs, 1e-5);
        let [k, v] = [&k, &v].map(|x| KvTensor::Plain(x.clone()));
        let plain = scaled_dot_product_attention_plain(&q, &k, &v, &mask, &scores).unwrap();
        assert_close(&plain, &theirs, 1e-5);
    }
}

/// Two buffers with room, as a cache of every position has them.
struct Buffers {
    buffers: KvBuffers,
    offset: i32,
    contiguous: bool,
}

impl KvCache for Buffers {
    fn offset(&self) -> i32 {
        self.offset
    }

    fn update_and_fetch(&mut self, keys: &Array, values: &Array) -> Result<(KvTensor, KvTensor)> {
        let end = self.offset + keys.dim(2);
        for (buffer, new) in self.buffers.iter_mut().zip([keys, values]) {
            *buffer = ops::slice_update_axis(buffer, new, 2, self.offset)?;
        }
        self.offset = end;
        let seen = |buffer| ops::slice_axis(buffer, 2, 0, end).map(KvTensor::Plain);
        Ok((seen(&self.buffers[0])?, seen(&self.buffers[1])?))
    }

    fn is_contiguous(&self) -> bool {
        self.contiguous
    }

    fn with_room(&self, _: [i32; 4], _: Dtype) -> Result<KvBuffers> {
        Ok(self.buffers.clone())
    }

    fn put(&mut self, buffers: KvBuffers, length: i32) {
        self.buffers = buffers;
        self.offset += length;
    }

    fn own_places(&self, _: [i32; 4], _: Dtype) -> Result<Option<KvPlaces>> {
        Ok(None)
    }

    fn held(&self) -> Result<Option<KvBuffers>> {
        Ok(Some(self.buffers.clone()))
    }

    fn capacity_with(&self, _: i32) -> i32 {
        self.buffers[0].dim(2)
    }

    fn written(&mut self, _: &Array, length: i32) {
        self.offset += length;
    }
}

#[test]
fn new_positions_are_written_into_the_cache_and_attended_to() {
    enter(DeviceKind::Cpu).unwrap();
    let (batch, heads, kv_heads, capacity, start, dim) = (2, 6, 2, 32, 9, 24);
    let (weight, sinks) = (numbers(&[dim], 4), numbers(&[heads], 5));
    let freqs = from_f32(&[1.0, 2.5, 9.0, 40.0, 100.0, 1000.0], &[6]);
    let rope = RopeParams {
        dims: 12,
        traditional: false,
        freqs: RopeFreqs::Explicit(freqs),
        scale: 1.0,
        attention_factor: 1.1,
        offset: start,
    };
    let float = |x: &Array| ops::astype(x, Dtype::Float32).unwrap();
    let quantized = packed(Mode::Nvfp4, 4, 16, &[20], heads * dim);
    let dense = numbers(&[20, heads * dim], 8);
    for (length, dtype, norm, rotated) in [
        (1, Dtype::Float16, Some(Some(&weight)), true),
        (5, Dtype::Float32, Some(None), true),
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
        let gate = numbers(&[batch, length, heads * dim], 7);
        let buffer = |seed| {
            let all = numbers(&[batch, kv_heads, capacity, dim], seed);
            ops::astype(&all, dtype).unwrap()
        };
        let norms = norm.map(|weight: Option<&Array>| {
            [0, 1].map(|_| NormParams::Rms { weight: weight.cloned(), eps: 1e-5 })
        });
        for (matrix, gate) in [
            (Matrix::Quantized(quantized.clone()), None),
            (Matrix::Quantized(quantized.clone()), Some(&gate)),
            (Matrix::dense(dense.clone()).unwrap(), None),
        ] {
            let params = AttentionParams {
                heads,
                kv_heads,
                head_dim: dim,
                v_head_dim: dim,
                qk_norm: norms.clone(),
                interleaved_groups: false,
                rotate_first: false,
                v_norm: None,
                kv_steps: None,
                scale: 0.3,
                soft_cap: Some(4.0),
                sinks: Some(sinks.clone()),
                kv_dtype: Some(dtype),
                output_head_norm: None,
                output_norm: None,
                output: LinearWeights::new(matrix, None),
            };
            let (queries, keys, values) = (&queries, &keys, &values);
            let turn = || rotated.then(|| rope.clone());
            let cache = |contiguous| {
                let buffers = [buffer(2), buffer(3)];
                Buffers { buffers, offset: start, contiguous }
            };
            let device = Device::cpu(None, Precision::Exact);
            let attend = |device, cache: &mut Buffers| {
                let (mask, length) = (Mask::Causal, queries.dim(1));
                let supported = cache.contiguous;
                let row = AttentionRow { length, rope: turn(), query_scale: None, mask, cache };
                let (new, rows) = (Qkv { queries, keys, values, gate }, vec![row]);
                assert_eq!(super::attention::supports(&new, &rows, &params), supported);
                attention(device, &new, rows, &params).unwrap()
            };
            let (mut ours, mut steps, mut plain) = (cache(true), cache(false), cache(true));
            let attended = attend(device, &mut ours);
            let expected = attend(device, &mut steps);
            let composed = attend(device.plain(), &mut plain);
            let largest =
                to_f32_vec(&expected).unwrap().iter().fold(0.0_f32, |a, x| a.max(x.abs()));
            assert_close(&attended, &expected, 1e-5 * largest);
            assert_close(&composed, &expected, 2e-3 * largest);
            for (ours, steps) in ours.buffers.iter().zip(&steps.buffers) {
                assert_close(&float(ours), &float(steps), 0.0);
            }
        }
    }
}

#[test]
fn rows_of_a_step_attend_each_to_their_own_cache() {
    enter(DeviceKind::Cpu).unwrap();
    let (heads, kv_heads, capacity, dim) = (6, 2, 700, 24);
    let weight = numbers(&[dim], 4);
    let norm = || NormParams::Rms { weight: Some(weight.clone()), eps: 1e-5 };
    let window =
        ops::greater_equal(&ops::arange(0, 31, Dtype::Int32).unwrap(), &Array::from_int(20));
    let window = Mask::Array(ops::reshape(&window.unwrap(), &[1, 31]).unwrap());
    // How many positions are new, and how many there were; the first is so long that its keys are
    // split between tasks.
    let rows = [
        (1, 650, Mask::None),
        (1, 0, Mask::None),
        (5, 9, Mask::Causal),
        (1, 30, window),
        (1, 650, Mask::None),
    ];
    let total: i32 = rows.iter().map(|row| row.0).sum();
    let all = numbers(&[1, total, (heads + 2 * kv_heads) * dim], 1);
    let part = |x: &Array, from: i32, count: i32| {
        ops::slice_axis(x, 2, from * dim, (from + count) * dim).unwrap()
    };
    let cache = |row: i32, offset| {
        let buffer = |seed| {
            let numbers = numbers(&[1, kv_heads, capacity, dim], seed);
            ops::astype(&numbers, Dtype::Float16).unwrap()
        };
        let buffers = [buffer(10 + 2 * row as u32), buffer(11 + 2 * row as u32)];
        Buffers { buffers, offset, contiguous: true }
    };
    for (matrix, plain_too) in [
        (Matrix::Quantized(packed(Mode::Nvfp4, 4, 16, &[90], heads * dim)), false),
        (Matrix::dense(numbers(&[90, heads * dim], 8)).unwrap(), true),
    ] {
        let params = AttentionParams {
            heads,
            kv_heads,
            head_dim: dim,
            v_head_dim: dim,
            qk_norm: Some([norm(), norm()]),
            interleaved_groups: false,
            rotate_first: false,
            v_norm: None,
            kv_steps: None,
            scale: 0.3,
            soft_cap: None,
            sinks: Some(numbers(&[heads], 5)),
            kv_dtype: Some(Dtype::Float16),
            output_head_norm: None,
            output_norm: None,
            output: LinearWeights::new(matrix, None),
        };
        let attend = |device, from: usize, to: usize, caches: &mut [Buffers]| {
            let start: i32 = rows[..from].iter().map(|row| row.0).sum();
            let end: i32 = rows[..to].iter().map(|row| row.0).sum();
            let own = ops::slice_axis(&all, 1, start, end).unwrap();
            let queries = part(&own, 0, heads);
            let [keys, values] = [part(&own, heads, 2), part(&own, heads + 2, 2)];
            let rows = rows[from..to].iter().zip(caches).map(|((length, offset, mask), cache)| {
                let freqs = RopeFreqs::Base(100.0 + *offset as f32);
                let rope = RopeParams {
                    dims: 12,
                    traditional: false,
                    freqs,
                    scale: 1.0,
                    attention_factor: 1.0,
                    offset: *offset,
                };
                let (rope, mask) = (Some(rope), mask.clone());
                AttentionRow { length: *length, rope, query_scale: None, mask, cache }
            });
            let new = Qkv { queries: &queries, keys: &keys, values: &values, gate: None };
            attention(device, &new, rows.collect(), &params).unwrap()
        };
        let caches = || -> Vec<_> {
            rows.iter()
                .enumerate()
                .map(|(row, (_, offset, _))| cache(row as i32, *offset))
                .collect()
        };
        let device = Device::cpu(None, Precision::Exact);
        let (mut together, mut apart, mut composed) = (caches(), caches(), caches());
        let attended = attend(device, 0, rows.len(), &mut together);
        let each: Vec<_> =
            (0..rows.len()).map(|i| attend(device, i, i + 1, &mut apart[i..=i])).collect();
        let each = ops::concatenate(&each.iter().collect::<Vec<_>>(), 1).unwrap();
        assert_close(&attended, &each, 1e-5);
        for (together, apart) in together.iter().zip(&apart) {
            assert_eq!(together.offset, apart.offset);
            for (together, apart) in together.buffers.iter().zip(&apart.buffers) {
                let float = |x: &Array| ops::astype(x, Dtype::Float32).unwrap();
                assert_close(&float(together), &float(apart), 0.0);
            }
        }
        if plain_too {
            let composed = attend(device.plain(), 0, rows.len(), &mut composed);
            assert_close(&attended, &composed, 5e-3);
        }
    }
}

#[test]
fn positions_that_do_not_fit_the_cache_are_refused() {
    enter(DeviceKind::Cpu).unwrap();
    let [queries, keys] = [[1, 2, 24], [1, 2, 8]].map(|shape| numbers(&shape, 1));
    let buffer = || numbers(&[1, 2, 16, 4], 2);
    let matrix = Matrix::dense(numbers(&[8, 24], 3)).unwrap();
    let params = AttentionParams {
        heads: 6,
        kv_heads: 2,
        head_dim: 4,
        v_head_dim: 4,
        qk_norm: None,
        interleaved_groups: false,
        rotate_first: false,
        v_norm: None,
        kv_steps: None,
        scale: 1.0,
        soft_cap: None,
        sinks: None,
        kv_dtype: None,
        output_head_norm: None,
        output_norm: None,
        output: LinearWeights::new(matrix, None),
    };
    let run = |values: &Array, buffers, offset| {
        let (queries, keys) = (&queries, &keys);
        let new = Qkv { queries, keys, values, gate: None };
        let cache = &mut Buffers { buffers, offset, contiguous: true };
        let (rope, query_scale, mask) = (None, None, Mask::Causal);
        let row = AttentionRow { length: 2, rope, query_scale, mask, cache };
        attention(Device::default(), &new, vec![row], &params).map(|_| ())
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
    let (experts, dims, hidden) = (5, 64, 32);
    let linear = |outputs, inputs| {
        let tensor = packed(Mode::Affine, 4, 32, &[experts, outputs], inputs);
        ExpertLinear::new(ExpertMatrix::Quantized(tensor, None), None)
    };
    let gate_up = [linear(hidden, dims), linear(hidden, dims)];
    let weights = ExpertsWeights {
        hidden: Hidden::Gated(gate_up, super::super::activation::Activation::Silu),
        down: linear(dims, hidden),
    };
    let x = numbers(&[1, 3, dims], 11);
    let scores = numbers(&[1, 3, 2], 12);
    // Part of an order of all, as a partition leaves it.
    let order = from_u32(&[4, 0, 1, 3, 2, 2, 1, 0, 4, 3, 0, 3, 4, 1, 2], &[1, 3, experts]);
    let chosen = ops::slice_axis(&order, 2, 0, 2).unwrap();
    let device = Device::cpu(None, Precision::Exact);
    let [ours, theirs] = [device, device.plain()]
        .map(|device| moe_mlp(device, &x, &chosen, &scores, &weights).unwrap());
    let largest = to_f32_vec(&theirs).unwrap().iter().fold(0.0_f32, |a, x| a.max(x.abs()));
    assert_close(&ours, &theirs, 5e-5 * largest);
    let outputs = [device, device.plain()]
        .map(|device| expert_outputs(device, &x, &chosen, &weights).unwrap());
    assert_close(&outputs[0], &outputs[1], 5e-5 * largest);
}

#[test]
fn experts_are_chosen_as_composed() {
    enter(DeviceKind::Cpu).unwrap();
    let logits = numbers(&[2, 7, 16], 13);
    let routing = Routing::softmax(true);
    let params = RouterParams {
        experts: 16,
        active: 4,
        routing,
        correction: None,
        logit_scale: 1.0,
        logit_cap: None,
    };
    let top_k = TopK { active: 4, scoring: Scoring::Softmax, normalize: true, scale: 1.0 };
    assert_eq!(experts::top_k(&params), Some(top_k));
    let [chosen, weights] = experts::route_top_k(options(), &logits, None, top_k).unwrap();
    assert_eq!((chosen.shape(), chosen.dtype()), (&[2, 7, 4][..], Dtype::Uint32));
    // The composition gives them in no order.
    let sorted = |[chosen, weights]: [Array; 2]| {
        let order = ops::argsort(&ops::negative(&weights).unwrap(), -1).unwrap();
        [chosen, weights].map(|array| ops::take_along(&array, &order, -1).unwrap())
    };
    let [best, theirs] = sorted(route_top_k_plain(&logits, &params).unwrap());
    assert_eq!(to_u32_vec(&chosen).unwrap(), to_u32_vec(&best).unwrap());
    assert_close(&weights, &theirs, 1e-6);
}

#[test]
fn what_is_not_f32_is_left_to_mlx() {
    enter(DeviceKind::Cpu).unwrap();
    let x = numbers(&[4], 1);
    let device = Device::default();
    assert!(matches!(device.backend(&x), Backend::Cpu(_)));
    let half = ops::astype(&x, Dtype::Bfloat16).unwrap();
    assert!(matches!(device.backend(&half), Backend::Mlx));
    assert!(matches!(device.plain().backend(&x), Backend::Plain));
}

#[test]
fn a_causal_convolution_is_as_composed() {
    enter(DeviceKind::Cpu).unwrap();
    let (kernel, channels) = (4, 20);
    for length in [1, 9] {
        let x = numbers(&[2, kernel - 1 + length, channels], 1);
        let (weight, bias) = (numbers(&[kernel, channels], 2), numbers(&[channels], 3));
        for silu in [false, true] {
            let weights = ConvWeights { weight: weight.clone(), bias: Some(bias.clone()), silu };
            let ours = recurrence::causal_conv(options(), &x, &weights).unwrap();
            assert_close(&ours, &causal_conv_plain(&x, &weights).unwrap(), 1e-5);
        }
    }
}
