//! AVX-512 with VBMI and VNNI (Ice Lake, Zen 4 and later).
#![allow(
    unsafe_op_in_unsafe_fn,
    reason = "every operation has the trait's one condition: the machine has the instructions"
)]

use std::arch::x86_64::*;

use super::{Kernel, Simd};

/// The unit.
pub struct Avx512;

/// For `vpermb`: byte `8 * i + j` of the result is byte `BITS * i + j` of the packed block, so that
/// each quadword begins with its 8 codes.
const fn spread(bits: usize) -> [u8; 64] {
    let mut table = [0; 64];
    let mut i = 0;
    while i < 64 {
        table[i] = ((i / 8) * bits + i % 8) as u8 & 63;
        i += 1;
    }
    table
}

/// For `vpmultishiftqb`: code `j` of a quadword begins at bit `bits * j`.
const fn shifts(bits: usize) -> [u8; 64] {
    let mut table = [0; 64];
    let mut i = 0;
    while i < 64 {
        table[i] = ((i % 8) * bits) as u8;
        i += 1;
    }
    table
}

struct Tables<const BITS: usize>;

impl<const BITS: usize> Tables<BITS> {
    const SPREAD: [u8; 64] = spread(BITS);
    const SHIFTS: [u8; 64] = shifts(BITS);
}

/// Which of `GROUPS` scales each lane has.
#[inline(always)]
unsafe fn lanes<const GROUPS: usize>() -> __m512i {
    match GROUPS {
        2 => _mm512_setr_epi32(0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1),
        _ => _mm512_setr_epi32(0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3),
    }
}

#[inline(always)]
unsafe fn scales_of<const GROUPS: usize>(scales: *const f32) -> __m512 {
    match GROUPS {
        1 => _mm512_set1_ps(*scales),
        2 => _mm512_insertf32x8::<1>(_mm512_set1_ps(*scales), _mm256_set1_ps(*scales.add(1))),
        _ => _mm512_permutexvar_ps(lanes::<4>(), _mm512_castps128_ps512(_mm_loadu_ps(scales))),
    }
}

#[inline(always)]
unsafe fn floats(codes: __m128i) -> __m512 {
    _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(codes))
}

#[inline(always)]
unsafe fn quarters(codes: __m512i) -> [__m512; 4] {
    [
        floats(_mm512_castsi512_si128(codes)),
        floats(_mm512_extracti32x4_epi32::<1>(codes)),
        floats(_mm512_extracti32x4_epi32::<2>(codes)),
        floats(_mm512_extracti32x4_epi32::<3>(codes)),
    ]
}

impl Simd for Avx512 {
    type F = __m512;
    type I = __m512i;
    type Q = __m512i;
    type Scales = __m512;

    const LANES: usize = 16;
    const REGISTERS: usize = 32;
    const OFFSET8: i32 = 0;
    const FAST_DOT: bool = true;

    #[inline(never)]
    #[target_feature(
        enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx512vnni,avx2,fma,f16c,bmi2"
    )]
    unsafe fn enter<K: Kernel>(kernel: K) -> K::Output {
        kernel.run::<Self>()
    }

    #[inline(always)]
    unsafe fn prefetch(at: *const u8) {
        _mm_prefetch::<_MM_HINT_T1>(at.cast());
    }

    #[inline(always)]
    unsafe fn splat(value: f32) -> __m512 {
        _mm512_set1_ps(value)
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> __m512 {
        _mm512_loadu_ps(from)
    }
    #[inline(always)]
    unsafe fn store(to: *mut f32, value: __m512) {
        _mm512_storeu_ps(to, value);
    }
    #[inline(always)]
    unsafe fn load_bf16(from: *const u16) -> __m512 {
        let words = _mm512_cvtepu16_epi32(_mm256_loadu_si256(from.cast()));
        _mm512_castsi512_ps(_mm512_slli_epi32::<16>(words))
    }
    #[inline(always)]
    unsafe fn load_f16(from: *const u16) -> __m512 {
        _mm512_cvtph_ps(_mm256_loadu_si256(from.cast()))
    }
    #[inline(always)]
    unsafe fn add(a: __m512, b: __m512) -> __m512 {
        _mm512_add_ps(a, b)
    }
    #[inline(always)]
    unsafe fn sub(a: __m512, b: __m512) -> __m512 {
        _mm512_sub_ps(a, b)
    }
    #[inline(always)]
    unsafe fn mul(a: __m512, b: __m512) -> __m512 {
        _mm512_mul_ps(a, b)
    }
    #[inline(always)]
    unsafe fn div(a: __m512, b: __m512) -> __m512 {
        _mm512_div_ps(a, b)
    }
    #[inline(always)]
    unsafe fn fma(a: __m512, b: __m512, c: __m512) -> __m512 {
        _mm512_fmadd_ps(a, b, c)
    }
    #[inline(always)]
    unsafe fn max(a: __m512, b: __m512) -> __m512 {
        _mm512_max_ps(a, b)
    }
    #[inline(always)]
    unsafe fn min(a: __m512, b: __m512) -> __m512 {
        _mm512_min_ps(a, b)
    }
    #[inline(always)]
    unsafe fn abs(a: __m512) -> __m512 {
        _mm512_abs_ps(a)
    }
    #[inline(always)]
    unsafe fn sqrt(a: __m512) -> __m512 {
        _mm512_sqrt_ps(a)
    }
    #[inline(always)]
    unsafe fn round(a: __m512) -> __m512 {
        _mm512_roundscale_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(a)
    }
    #[inline(always)]
    unsafe fn exp2i(n: __m512) -> __m512 {
        let biased = _mm512_add_epi32(_mm512_cvtps_epi32(n), _mm512_set1_epi32(127));
        _mm512_castsi512_ps(_mm512_slli_epi32::<23>(biased))
    }
    #[inline(always)]
    unsafe fn select_gt(a: __m512, b: __m512, yes: __m512, no: __m512) -> __m512 {
        _mm512_mask_blend_ps(_mm512_cmp_ps_mask::<_CMP_GT_OQ>(a, b), no, yes)
    }
    #[inline(always)]
    unsafe fn sum(a: __m512) -> f32 {
        _mm512_reduce_add_ps(a)
    }
    #[inline(always)]
    unsafe fn sums([a, b, c, d]: [__m512; 4]) -> [f32; 4] {
        // Sums of pairs, then of fours: every quarter holds a part of each.
        let ab = _mm512_add_ps(_mm512_unpacklo_ps(a, b), _mm512_unpackhi_ps(a, b));
        let cd = _mm512_add_ps(_mm512_unpacklo_ps(c, d), _mm512_unpackhi_ps(c, d));
        let low = _mm512_shuffle_ps::<0x44>(ab, cd);
        let quarters = _mm512_add_ps(low, _mm512_shuffle_ps::<0xee>(ab, cd));
        let halves =
            _mm256_add_ps(_mm512_castps512_ps256(quarters), _mm512_extractf32x8_ps::<1>(quarters));
        let all = _mm_add_ps(_mm256_castps256_ps128(halves), _mm256_extractf128_ps::<1>(halves));
        let mut sums = [0.0; 4];
        _mm_storeu_ps(sums.as_mut_ptr(), all);
        sums
    }
    #[inline(always)]
    unsafe fn max_lane(a: __m512) -> f32 {
        _mm512_reduce_max_ps(a)
    }
    #[inline(always)]
    unsafe fn store_i8(to: *mut i8, value: __m512) {
        _mm_storeu_si128(to.cast(), _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(value)));
    }

    #[inline(always)]
    unsafe fn zero_i() -> __m512i {
        _mm512_setzero_si512()
    }
    #[inline(always)]
    unsafe fn load_i(from: *const u8) -> __m512i {
        _mm512_loadu_si512(from.cast())
    }
    #[inline(always)]
    unsafe fn store_i(to: *mut u8, value: __m512i) {
        _mm512_storeu_si512(to.cast(), value);
    }
    #[inline(always)]
    unsafe fn splat_i(value: i32) -> __m512i {
        _mm512_set1_epi32(value)
    }
    #[inline(always)]
    unsafe fn to_f32(value: __m512i) -> __m512 {
        _mm512_cvtepi32_ps(value)
    }
    #[inline(always)]
    unsafe fn add_i(a: __m512i, b: __m512i) -> __m512i {
        _mm512_add_epi32(a, b)
    }
    #[inline(always)]
    unsafe fn times_256(value: __m512i) -> __m512i {
        _mm512_slli_epi32::<8>(value)
    }
    #[inline(always)]
    unsafe fn dot4<const WIDE: bool>(acc: __m512i, codes: __m512i, x: __m512i) -> __m512i {
        _mm512_dpbusd_epi32(acc, codes, x)
    }
    #[inline(always)]
    unsafe fn dot2(acc: __m512i, codes: __m512i, x: __m512i) -> __m512i {
        _mm512_dpwssd_epi32(acc, codes, x)
    }
    #[inline(always)]
    unsafe fn nibbles(bytes: __m512i) -> [__m512i; 2] {
        let mask = _mm512_set1_epi8(0x0f);
        let upper = _mm512_and_si512(_mm512_srli_epi16::<4>(bytes), mask);
        [_mm512_and_si512(bytes, mask), upper]
    }
    #[inline(always)]
    unsafe fn widen(bytes: __m512i) -> [__m512i; 2] {
        [_mm512_and_si512(bytes, _mm512_set1_epi16(0xff)), _mm512_srli_epi16::<8>(bytes)]
    }
    #[inline(always)]
    unsafe fn lookup_i(codes: __m512i, table: &[u8; 16]) -> __m512i {
        Self::lookup(codes, table)
    }
    #[inline(always)]
    unsafe fn columns(from: *const u8, stride: usize) -> [__m512i; 4] {
        // Of four rows that are four apart, each a lane of 128 bits.
        let rows = |first: usize| {
            let row = |i: usize| _mm_loadu_si128(from.add((first + 4 * i) * stride).cast());
            let rows = _mm512_castsi128_si512(row(0));
            let rows = _mm512_inserti32x4::<1>(rows, row(1));
            let rows = _mm512_inserti32x4::<2>(rows, row(2));
            _mm512_inserti32x4::<3>(rows, row(3))
        };
        let [a, b, c, d] = [rows(0), rows(1), rows(2), rows(3)];
        let (ab, cd) = (_mm512_unpacklo_epi32(a, b), _mm512_unpacklo_epi32(c, d));
        let (ab2, cd2) = (_mm512_unpackhi_epi32(a, b), _mm512_unpackhi_epi32(c, d));
        [
            _mm512_unpacklo_epi64(ab, cd),
            _mm512_unpackhi_epi64(ab, cd),
            _mm512_unpacklo_epi64(ab2, cd2),
            _mm512_unpackhi_epi64(ab2, cd2),
        ]
    }

    #[inline(always)]
    unsafe fn unpack<const BITS: usize>(from: *const u8) -> __m512i {
        if BITS == 8 {
            return _mm512_loadu_si512(from.cast());
        }
        if BITS == 4 {
            let words = _mm512_cvtepu8_epi16(_mm256_loadu_si256(from.cast()));
            // (w | w << 4) & 0x0f0f
            return _mm512_ternarylogic_epi32::<0xe0>(
                _mm512_set1_epi16(0x0f0f),
                words,
                _mm512_slli_epi16::<4>(words),
            );
        }
        let bytes = _mm512_maskz_loadu_epi8((1 << (8 * BITS)) - 1, from.cast());
        let spread = _mm512_loadu_si512(Tables::<BITS>::SPREAD.as_ptr().cast());
        let shifts = _mm512_loadu_si512(Tables::<BITS>::SHIFTS.as_ptr().cast());
        let codes = _mm512_multishift_epi64_epi8(shifts, _mm512_permutexvar_epi8(spread, bytes));
        _mm512_and_si512(codes, _mm512_set1_epi8((1 << BITS) - 1))
    }
    #[inline(always)]
    unsafe fn lookup(codes: __m512i, table: &[u8; 16]) -> __m512i {
        let table = _mm512_broadcast_i32x4(_mm_loadu_si128(table.as_ptr().cast()));
        _mm512_shuffle_epi8(table, codes)
    }
    #[inline(always)]
    unsafe fn store_q(to: *mut u8, codes: __m512i) {
        _mm512_storeu_si512(to.cast(), codes);
    }
    #[inline(always)]
    unsafe fn dot_block<const GROUPS: usize, const WIDE: bool>(
        acc: __m512,
        codes: __m512i,
        high: *const i8,
        low: *const i8,
        scales: *const f32,
    ) -> __m512 {
        let (high, low) = (_mm512_loadu_si512(high.cast()), _mm512_loadu_si512(low.cast()));
        let dots = _mm512_dpbusd_epi32(_mm512_setzero_si512(), codes, high);
        let dots = _mm512_dpbusd_epi32(_mm512_slli_epi32::<8>(dots), codes, low);
        _mm512_fmadd_ps(_mm512_cvtepi32_ps(dots), scales_of::<GROUPS>(scales), acc)
    }
    #[inline(always)]
    unsafe fn split(from: *const u8) -> [__m512i; 2] {
        let bytes = _mm512_loadu_si512(from.cast());
        let mask = _mm512_set1_epi8(0x0f);
        let odd = _mm512_and_si512(_mm512_srli_epi16::<4>(bytes), mask);
        [_mm512_and_si512(bytes, mask), odd]
    }
    #[inline(always)]
    unsafe fn scales(from: *const f32) -> __m512 {
        _mm512_loadu_ps(from)
    }
    #[inline(always)]
    unsafe fn dot_split<const GROUPS: usize>(
        acc: __m512,
        [even, odd]: [__m512i; 2],
        x: *const i8,
        scales: __m512,
        chunk: usize,
    ) -> __m512 {
        let x = |quarter: usize| _mm512_loadu_si512(x.add(64 * quarter).cast());
        let dots = _mm512_dpbusd_epi32(_mm512_setzero_si512(), even, x(0));
        let dots = _mm512_slli_epi32::<8>(_mm512_dpbusd_epi32(dots, odd, x(1)));
        let dots = _mm512_dpbusd_epi32(_mm512_dpbusd_epi32(dots, even, x(2)), odd, x(3));
        // Permuted out of a register: broadcasts would be more loads, and there is one each cycle.
        let first = _mm512_set1_epi32((GROUPS * chunk) as i32);
        let scales = _mm512_permutexvar_ps(_mm512_add_epi32(first, lanes::<GROUPS>()), scales);
        _mm512_fmadd_ps(_mm512_cvtepi32_ps(dots), scales, acc)
    }
    #[inline(always)]
    unsafe fn load_codes<const WIDE: bool>(from: *const u8) -> __m512 {
        floats(_mm_loadu_si128(from.cast()))
    }
    #[inline(always)]
    unsafe fn dot_block_f32<const GROUPS: usize, const WIDE: bool>(
        acc: __m512,
        codes: __m512i,
        x: *const f32,
        scales: *const f32,
    ) -> __m512 {
        let [a, b, c, d] = quarters(codes);
        let a = _mm512_mul_ps(a, _mm512_loadu_ps(x));
        let c = _mm512_mul_ps(c, _mm512_loadu_ps(x.add(32)));
        let (b_x, d_x) = (_mm512_loadu_ps(x.add(16)), _mm512_loadu_ps(x.add(48)));
        let scale = |i| _mm512_set1_ps(*scales.add(i));
        match GROUPS {
            1 => {
                let dots = _mm512_add_ps(_mm512_fmadd_ps(b, b_x, a), _mm512_fmadd_ps(d, d_x, c));
                _mm512_fmadd_ps(dots, scale(0), acc)
            }
            2 => {
                let acc = _mm512_fmadd_ps(_mm512_fmadd_ps(b, b_x, a), scale(0), acc);
                _mm512_fmadd_ps(_mm512_fmadd_ps(d, d_x, c), scale(1), acc)
            }
            _ => {
                let acc = _mm512_fmadd_ps(a, scale(0), acc);
                let acc = _mm512_fmadd_ps(_mm512_mul_ps(b, b_x), scale(1), acc);
                let acc = _mm512_fmadd_ps(c, scale(2), acc);
                _mm512_fmadd_ps(_mm512_mul_ps(d, d_x), scale(3), acc)
            }
        }
    }

    #[inline(always)]
    unsafe fn transpose(from: *const u8, stride: usize, to: *mut u8, to_stride: usize) {
        let mut a = [_mm512_setzero_si512(); 16];
        let mut b = a;
        for (i, row) in a.iter_mut().enumerate() {
            *row = _mm512_loadu_si512(from.add(i * stride).cast());
        }
        // Elements, then pairs, then lanes of 128 bits.
        for i in 0..8 {
            b[2 * i] = _mm512_unpacklo_epi32(a[2 * i], a[2 * i + 1]);
            b[2 * i + 1] = _mm512_unpackhi_epi32(a[2 * i], a[2 * i + 1]);
        }
        for i in 0..4 {
            for j in 0..2 {
                let (low, high) = (b[4 * i + j], b[4 * i + 2 + j]);
                a[4 * i + 2 * j] = _mm512_unpacklo_epi64(low, high);
                a[4 * i + 2 * j + 1] = _mm512_unpackhi_epi64(low, high);
            }
        }
        // Now a[4 i + c] holds in its lane l the rows 4 i .. 4 i + 4 of column 4 l + c.
        for c in 0..4 {
            let low = _mm512_shuffle_i32x4::<0x44>(a[c], a[4 + c]);
            let high = _mm512_shuffle_i32x4::<0xee>(a[c], a[4 + c]);
            let low2 = _mm512_shuffle_i32x4::<0x44>(a[8 + c], a[12 + c]);
            let high2 = _mm512_shuffle_i32x4::<0xee>(a[8 + c], a[12 + c]);
            let columns = [
                _mm512_shuffle_i32x4::<0x88>(low, low2),
                _mm512_shuffle_i32x4::<0xdd>(low, low2),
                _mm512_shuffle_i32x4::<0x88>(high, high2),
                _mm512_shuffle_i32x4::<0xdd>(high, high2),
            ];
            for (l, column) in columns.into_iter().enumerate() {
                _mm512_storeu_si512(to.add((4 * l + c) * to_stride).cast(), column);
            }
        }
    }
}
