//! AVX2 with FMA and F16C (Haswell, Zen and later); `VNNI` says that there is AVX-VNNI too.
#![allow(
    unsafe_op_in_unsafe_fn,
    reason = "every operation has the trait's one condition: the machine has the instructions"
)]

use std::arch::x86_64::*;

use super::{BLOCK, Kernel, Simd};

/// The unit.
pub struct Avx2<const VNNI: bool>;

impl<const VNNI: bool> Avx2<VNNI> {
    /// Products of codes and signed bytes, every two of them added in 16 bits, which hold twice
    /// 127 · 127, and also 128 · 127 for the offset 8-bit codes, of which the absolute value is
    /// taken.
    #[inline(always)]
    unsafe fn pairs<const WIDE: bool>(codes: __m256i, x: __m256i) -> __m256i {
        match WIDE {
            true => _mm256_maddubs_epi16(_mm256_abs_epi8(codes), _mm256_sign_epi8(x, codes)),
            false => _mm256_maddubs_epi16(codes, x),
        }
    }

    /// Sums of four products of codes and signed bytes.
    #[inline(always)]
    unsafe fn dot<const WIDE: bool>(acc: __m256i, codes: __m256i, x: __m256i) -> __m256i {
        if VNNI {
            return _mm256_dpbusd_avx_epi32(acc, codes, x);
        }
        let pairs = Self::pairs::<WIDE>(codes, x);
        _mm256_add_epi32(acc, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)))
    }

    /// The sum of the products of `N` vectors of codes with numbers `256 * high + low`, in f32.
    /// What two vectors of codes below 64 give with bytes, 16 bits hold; where `WIDE`, `N` is 1.
    #[inline(always)]
    unsafe fn dot_wide<const WIDE: bool, const N: usize>(
        codes: [__m256i; N],
        high: [*const i8; N],
        low: [*const i8; N],
    ) -> __m256 {
        let mut high_sum = _mm256_setzero_si256();
        if VNNI {
            for n in 0..N {
                let high = _mm256_loadu_si256(high[n].cast());
                high_sum = _mm256_dpbusd_avx_epi32(high_sum, codes[n], high);
            }
            let mut sum = _mm256_slli_epi32::<8>(high_sum);
            for n in 0..N {
                let low = _mm256_loadu_si256(low[n].cast());
                sum = _mm256_dpbusd_avx_epi32(sum, codes[n], low);
            }
            return _mm256_cvtepi32_ps(sum);
        }
        let mut low_sum = _mm256_setzero_si256();
        for n in 0..N {
            let high = _mm256_loadu_si256(high[n].cast());
            let low = _mm256_loadu_si256(low[n].cast());
            high_sum = _mm256_add_epi16(high_sum, Self::pairs::<WIDE>(codes[n], high));
            low_sum = _mm256_add_epi16(low_sum, Self::pairs::<WIDE>(codes[n], low));
        }
        let high = _mm256_madd_epi16(high_sum, _mm256_set1_epi16(256));
        let low = _mm256_madd_epi16(low_sum, _mm256_set1_epi16(1));
        _mm256_cvtepi32_ps(_mm256_add_epi32(high, low))
    }

    /// Half a block of codes of 3, 5 or 6 bits. Quadwords of 8 codes are halved until every byte
    /// has one; what lies above is not cleared before.
    #[inline(always)]
    unsafe fn spread<const BITS: usize>(block: *const u8, half: usize) -> __m256i {
        let quarter = |quarter: usize| {
            let bytes = _mm_loadu_si128(block.add(Quarters::<BITS>::STARTS[quarter]).cast());
            let table = &Quarters::<BITS>::TABLES[quarter];
            _mm_shuffle_epi8(bytes, _mm_loadu_si128(table.as_ptr().cast()))
        };
        let by = |bits: usize| _mm_cvtsi32_si128(bits as i32);
        let eights = _mm256_set_m128i(quarter(2 * half + 1), quarter(2 * half));
        let upper = _mm256_sll_epi64(eights, by(32 - 4 * BITS));
        let fours = _mm256_blend_epi32::<0b1010_1010>(eights, upper);
        let upper = _mm256_sll_epi32(fours, by(16 - 2 * BITS));
        let pairs = _mm256_blend_epi16::<0b1010_1010>(fours, upper);
        let upper = _mm256_sll_epi16(pairs, by(8 - BITS));
        let code = (1 << BITS) - 1;
        _mm256_or_si256(
            _mm256_and_si256(pairs, _mm256_set1_epi16(code)),
            _mm256_and_si256(upper, _mm256_set1_epi16(code << 8)),
        )
    }

    /// Which of the scales of `GROUPS` equal parts each lane has that sums up a half of them.
    #[inline(always)]
    unsafe fn scales_of<const GROUPS: usize>(scales: *const f32, half: usize) -> __m256 {
        match GROUPS {
            1 => _mm256_set1_ps(*scales),
            2 => _mm256_set1_ps(*scales.add(half)),
            _ => {
                let scales = scales.add(2 * half);
                _mm256_set_m128(_mm_set1_ps(*scales.add(1)), _mm_set1_ps(*scales))
            }
        }
    }

    /// The 8 codes from `8 * eighth`.
    #[inline(always)]
    unsafe fn floats<const WIDE: bool>(codes: [__m256i; 2], eighth: usize) -> __m256 {
        let half = codes[eighth / 4];
        let quarter = if eighth % 4 < 2 {
            _mm256_castsi256_si128(half)
        } else {
            _mm256_extracti128_si256::<1>(half)
        };
        let bytes = if eighth.is_multiple_of(2) { quarter } else { _mm_srli_si128::<8>(quarter) };
        _mm256_cvtepi32_ps(if WIDE && !VNNI {
            _mm256_cvtepi8_epi32(bytes)
        } else {
            _mm256_cvtepu8_epi32(bytes)
        })
    }
}

/// For `vpshufb`, of each quarter of a block of codes of `BITS` bits: the bytes of 8 codes begin
/// each quadword. A quarter is read with what lies before it, where the block would end too soon.
struct Quarters<const BITS: usize>;

impl<const BITS: usize> Quarters<BITS> {
    /// The first byte of the block that is read with each quarter.
    const STARTS: [usize; 4] = {
        let mut starts = [0; 4];
        let mut quarter = 0;
        while quarter < 4 {
            let (first, last) = (2 * BITS * quarter, (8 * BITS).saturating_sub(16));
            starts[quarter] = if first < last { first } else { last };
            quarter += 1;
        }
        starts
    };

    const TABLES: [[u8; 16]; 4] = {
        let mut tables = [[0x80; 16]; 4];
        let mut i = 0;
        while i < 4 * 2 * BITS {
            let (quarter, byte) = (i / (2 * BITS), i % (2 * BITS));
            let place = 8 * (byte / BITS) + byte % BITS;
            tables[quarter][place] = (2 * BITS * quarter + byte - Self::STARTS[quarter]) as u8;
            i += 1;
        }
        tables
    };
}

#[inline(always)]
unsafe fn sum128(a: __m128) -> f32 {
    let pairs = _mm_add_ps(a, _mm_movehl_ps(a, a));
    _mm_cvtss_f32(_mm_add_ss(pairs, _mm_movehdup_ps(pairs)))
}

impl<const VNNI: bool> Simd for Avx2<VNNI> {
    type F = __m256;
    type I = __m256i;
    type Q = [__m256i; 2];
    type Scales = *const f32;

    const LANES: usize = 8;
    const REGISTERS: usize = 16;
    const OFFSET8: i32 = if VNNI { 0 } else { 128 };
    const FAST_DOT: bool = VNNI;
    const PAIRS: bool = !VNNI;
    const WORDS: bool = !VNNI;

    #[inline]
    unsafe fn enter<K: Kernel>(kernel: K) -> K::Output {
        #[inline(never)]
        #[target_feature(enable = "avx2,fma,f16c")]
        unsafe fn plain<K: Kernel>(kernel: K) -> K::Output {
            kernel.run::<Avx2<false>>()
        }
        #[inline(never)]
        #[target_feature(enable = "avx2,fma,f16c,avxvnni")]
        unsafe fn vnni<K: Kernel>(kernel: K) -> K::Output {
            kernel.run::<Avx2<true>>()
        }
        if VNNI { vnni(kernel) } else { plain(kernel) }
    }

    #[inline(always)]
    unsafe fn prefetch(at: *const u8) {
        _mm_prefetch::<_MM_HINT_T1>(at.cast());
    }

    #[inline(always)]
    unsafe fn splat(value: f32) -> __m256 {
        _mm256_set1_ps(value)
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> __m256 {
        _mm256_loadu_ps(from)
    }
    #[inline(always)]
    unsafe fn store(to: *mut f32, value: __m256) {
        _mm256_storeu_ps(to, value);
    }
    #[inline(always)]
    unsafe fn load_bf16(from: *const u16) -> __m256 {
        let words = _mm256_cvtepu16_epi32(_mm_loadu_si128(from.cast()));
        _mm256_castsi256_ps(_mm256_slli_epi32::<16>(words))
    }
    #[inline(always)]
    unsafe fn load_f16(from: *const u16) -> __m256 {
        _mm256_cvtph_ps(_mm_loadu_si128(from.cast()))
    }
    #[inline(always)]
    unsafe fn add(a: __m256, b: __m256) -> __m256 {
        _mm256_add_ps(a, b)
    }
    #[inline(always)]
    unsafe fn sub(a: __m256, b: __m256) -> __m256 {
        _mm256_sub_ps(a, b)
    }
    #[inline(always)]
    unsafe fn mul(a: __m256, b: __m256) -> __m256 {
        _mm256_mul_ps(a, b)
    }
    #[inline(always)]
    unsafe fn div(a: __m256, b: __m256) -> __m256 {
        _mm256_div_ps(a, b)
    }
    #[inline(always)]
    unsafe fn fma(a: __m256, b: __m256, c: __m256) -> __m256 {
        _mm256_fmadd_ps(a, b, c)
    }
    #[inline(always)]
    unsafe fn max(a: __m256, b: __m256) -> __m256 {
        _mm256_max_ps(a, b)
    }
    #[inline(always)]
    unsafe fn min(a: __m256, b: __m256) -> __m256 {
        _mm256_min_ps(a, b)
    }
    #[inline(always)]
    unsafe fn abs(a: __m256) -> __m256 {
        _mm256_andnot_ps(_mm256_set1_ps(-0.0), a)
    }
    #[inline(always)]
    unsafe fn sqrt(a: __m256) -> __m256 {
        _mm256_sqrt_ps(a)
    }
    #[inline(always)]
    unsafe fn round(a: __m256) -> __m256 {
        _mm256_round_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(a)
    }
    #[inline(always)]
    unsafe fn exp2i(n: __m256) -> __m256 {
        let biased = _mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127));
        _mm256_castsi256_ps(_mm256_slli_epi32::<23>(biased))
    }
    #[inline(always)]
    unsafe fn select_gt(a: __m256, b: __m256, yes: __m256, no: __m256) -> __m256 {
        _mm256_blendv_ps(no, yes, _mm256_cmp_ps::<_CMP_GT_OQ>(a, b))
    }
    #[inline(always)]
    unsafe fn sum(a: __m256) -> f32 {
        sum128(_mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps::<1>(a)))
    }
    #[inline(always)]
    unsafe fn max_lane(a: __m256) -> f32 {
        let halves = _mm_max_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps::<1>(a));
        let pairs = _mm_max_ps(halves, _mm_movehl_ps(halves, halves));
        _mm_cvtss_f32(_mm_max_ss(pairs, _mm_movehdup_ps(pairs)))
    }
    #[inline(always)]
    unsafe fn store_i8(to: *mut i8, value: __m256) {
        let words = _mm256_cvtps_epi32(value);
        let halves =
            _mm_packs_epi32(_mm256_castsi256_si128(words), _mm256_extracti128_si256::<1>(words));
        _mm_storel_epi64(to.cast(), _mm_packs_epi16(halves, halves));
    }

    #[inline(always)]
    unsafe fn zero_i() -> __m256i {
        _mm256_setzero_si256()
    }
    #[inline(always)]
    unsafe fn load_i(from: *const u8) -> __m256i {
        _mm256_loadu_si256(from.cast())
    }
    #[inline(always)]
    unsafe fn store_i(to: *mut u8, value: __m256i) {
        _mm256_storeu_si256(to.cast(), value);
    }
    #[inline(always)]
    unsafe fn splat_i(value: i32) -> __m256i {
        _mm256_set1_epi32(value)
    }
    #[inline(always)]
    unsafe fn to_f32(value: __m256i) -> __m256 {
        _mm256_cvtepi32_ps(value)
    }
    #[inline(always)]
    unsafe fn add_i(a: __m256i, b: __m256i) -> __m256i {
        _mm256_add_epi32(a, b)
    }
    #[inline(always)]
    unsafe fn times_256(value: __m256i) -> __m256i {
        _mm256_slli_epi32::<8>(value)
    }
    #[inline(always)]
    unsafe fn dot4<const WIDE: bool>(acc: __m256i, codes: __m256i, x: __m256i) -> __m256i {
        Self::dot::<WIDE>(acc, codes, x)
    }
    #[inline(always)]
    unsafe fn add_pairs(sums: __m256i, codes: __m256i, x: __m256i) -> __m256i {
        if VNNI {
            return Self::dot::<false>(sums, codes, x);
        }
        _mm256_add_epi16(sums, _mm256_maddubs_epi16(codes, x))
    }
    #[inline(always)]
    unsafe fn add_sums(acc: __m256i, sums: __m256i) -> __m256i {
        if VNNI {
            return _mm256_add_epi32(acc, sums);
        }
        _mm256_add_epi32(acc, _mm256_madd_epi16(sums, _mm256_set1_epi16(1)))
    }
    #[inline(always)]
    unsafe fn dot2(acc: __m256i, codes: __m256i, x: __m256i) -> __m256i {
        _mm256_add_epi32(acc, _mm256_madd_epi16(codes, x))
    }
    #[inline(always)]
    unsafe fn nibbles(bytes: __m256i) -> [__m256i; 2] {
        let mask = _mm256_set1_epi8(0x0f);
        let upper = _mm256_and_si256(_mm256_srli_epi16::<4>(bytes), mask);
        [_mm256_and_si256(bytes, mask), upper]
    }
    #[inline(always)]
    unsafe fn widen(bytes: __m256i) -> [__m256i; 2] {
        [_mm256_and_si256(bytes, _mm256_set1_epi16(0xff)), _mm256_srli_epi16::<8>(bytes)]
    }
    #[inline(always)]
    unsafe fn lookup_i(codes: __m256i, table: &[u8; 16]) -> __m256i {
        let table = _mm256_broadcastsi128_si256(_mm_loadu_si128(table.as_ptr().cast()));
        _mm256_shuffle_epi8(table, codes)
    }
    #[inline(always)]
    unsafe fn columns(from: *const u8, stride: usize) -> [__m256i; 4] {
        let row = |i: usize| _mm_loadu_si128(from.add(i * stride).cast());
        let [a, b, c, d] = [0, 1, 2, 3].map(|i| _mm256_set_m128i(row(4 + i), row(i)));
        let (ab, cd) = (_mm256_unpacklo_epi32(a, b), _mm256_unpacklo_epi32(c, d));
        let (ab2, cd2) = (_mm256_unpackhi_epi32(a, b), _mm256_unpackhi_epi32(c, d));
        [
            _mm256_unpacklo_epi64(ab, cd),
            _mm256_unpackhi_epi64(ab, cd),
            _mm256_unpacklo_epi64(ab2, cd2),
            _mm256_unpackhi_epi64(ab2, cd2),
        ]
    }

    #[inline(always)]
    unsafe fn unpack<const BITS: usize>(block: *const u8) -> [__m256i; 2] {
        let half = |half: usize| {
            let from = block.add(4 * BITS * half);
            match BITS {
                8 => {
                    let codes = _mm256_loadu_si256(from.cast());
                    if VNNI { codes } else { _mm256_xor_si256(codes, _mm256_set1_epi8(-128)) }
                }
                4 => {
                    let words = _mm256_cvtepu8_epi16(_mm_loadu_si128(from.cast()));
                    let codes = _mm256_or_si256(words, _mm256_slli_epi16::<4>(words));
                    _mm256_and_si256(codes, _mm256_set1_epi8(0x0f))
                }
                2 => {
                    let words = _mm256_cvtepu8_epi32(_mm_loadl_epi64(from.cast()));
                    let words = _mm256_or_si256(words, _mm256_slli_epi32::<12>(words));
                    let words = _mm256_or_si256(words, _mm256_slli_epi32::<6>(words));
                    _mm256_and_si256(words, _mm256_set1_epi8(0x03))
                }
                _ => Self::spread::<BITS>(block, half),
            }
        };
        [half(0), half(1)]
    }
    #[inline(always)]
    unsafe fn lookup(codes: [__m256i; 2], table: &[u8; 16]) -> [__m256i; 2] {
        let table = _mm256_broadcastsi128_si256(_mm_loadu_si128(table.as_ptr().cast()));
        [_mm256_shuffle_epi8(table, codes[0]), _mm256_shuffle_epi8(table, codes[1])]
    }
    #[inline(always)]
    unsafe fn store_q(to: *mut u8, codes: [__m256i; 2]) {
        _mm256_storeu_si256(to.cast(), codes[0]);
        _mm256_storeu_si256(to.add(32).cast(), codes[1]);
    }
    #[inline(always)]
    unsafe fn dot_block<const GROUPS: usize, const WIDE: bool>(
        acc: __m256,
        codes: [__m256i; 2],
        high: *const i8,
        low: *const i8,
        scales: *const f32,
    ) -> __m256 {
        if GROUPS == 1 && !WIDE {
            let dots = Self::dot_wide::<WIDE, 2>(codes, [high, high.add(32)], [low, low.add(32)]);
            return _mm256_fmadd_ps(dots, _mm256_set1_ps(*scales), acc);
        }
        let mut acc = acc;
        for half in 0..2 {
            let (high, low) = (high.add(32 * half), low.add(32 * half));
            let dots = Self::dot_wide::<WIDE, 1>([codes[half]], [high], [low]);
            acc = _mm256_fmadd_ps(dots, Self::scales_of::<GROUPS>(scales, half), acc);
        }
        acc
    }
    #[inline(always)]
    unsafe fn split(from: *const u8) -> [[__m256i; 2]; 2] {
        let [a, b] = [_mm256_loadu_si256(from.cast()), _mm256_loadu_si256(from.add(32).cast())];
        let mask = _mm256_set1_epi8(0x0f);
        let (high_a, high_b) = (_mm256_srli_epi16::<4>(a), _mm256_srli_epi16::<4>(b));
        [
            [_mm256_and_si256(a, mask), _mm256_and_si256(b, mask)],
            [_mm256_and_si256(high_a, mask), _mm256_and_si256(high_b, mask)],
        ]
    }
    #[inline(always)]
    unsafe fn scales(from: *const f32) -> *const f32 {
        from
    }
    #[inline(always)]
    unsafe fn dot_split<const GROUPS: usize>(
        acc: __m256,
        [even, odd]: [[__m256i; 2]; 2],
        x: *const i8,
        scales: *const f32,
        chunk: usize,
    ) -> __m256 {
        let (low, scales) = (x.add(2 * BLOCK), scales.add(GROUPS * chunk));
        let mut acc = acc;
        for half in 0..2 {
            // The first halves of both blocks are the first half of the columns.
            let (high, low) = (x.add(32 * half), low.add(32 * half));
            let (high, low) = ([high, high.add(BLOCK)], [low, low.add(BLOCK)]);
            let dots = Self::dot_wide::<false, 2>([even[half], odd[half]], high, low);
            acc = _mm256_fmadd_ps(dots, Self::scales_of::<GROUPS>(scales, half), acc);
        }
        acc
    }
    #[inline(always)]
    unsafe fn load_codes<const WIDE: bool>(from: *const u8) -> __m256 {
        let bytes = _mm_loadl_epi64(from.cast());
        _mm256_cvtepi32_ps(if WIDE && !VNNI {
            _mm256_cvtepi8_epi32(bytes)
        } else {
            _mm256_cvtepu8_epi32(bytes)
        })
    }
    #[inline(always)]
    unsafe fn dot_block_f32<const GROUPS: usize, const WIDE: bool>(
        acc: __m256,
        codes: [__m256i; 2],
        x: *const f32,
        scales: *const f32,
    ) -> __m256 {
        let mut acc = acc;
        let each = 8 / GROUPS;
        for group in 0..GROUPS {
            let mut dots = _mm256_setzero_ps();
            for i in group * each..(group + 1) * each {
                let x = _mm256_loadu_ps(x.add(8 * i));
                dots = _mm256_fmadd_ps(Self::floats::<WIDE>(codes, i), x, dots);
            }
            acc = _mm256_fmadd_ps(dots, _mm256_set1_ps(*scales.add(group)), acc);
        }
        acc
    }

    #[inline(always)]
    unsafe fn transpose(from: *const u8, stride: usize, to: *mut u8, to_stride: usize) {
        let mut a = [_mm256_setzero_ps(); 8];
        let mut b = a;
        for (i, row) in a.iter_mut().enumerate() {
            *row = _mm256_loadu_ps(from.add(i * stride).cast());
        }
        for i in 0..4 {
            b[2 * i] = _mm256_unpacklo_ps(a[2 * i], a[2 * i + 1]);
            b[2 * i + 1] = _mm256_unpackhi_ps(a[2 * i], a[2 * i + 1]);
        }
        for i in 0..2 {
            for j in 0..2 {
                let (low, high) = (b[4 * i + j], b[4 * i + 2 + j]);
                a[4 * i + 2 * j] = _mm256_shuffle_ps::<0x44>(low, high);
                a[4 * i + 2 * j + 1] = _mm256_shuffle_ps::<0xee>(low, high);
            }
        }
        // Now a[4 i + c] holds in its half h the rows 4 i .. 4 i + 4 of column 4 h + c.
        for c in 0..4 {
            let low = _mm256_permute2f128_ps::<0x20>(a[c], a[4 + c]);
            let high = _mm256_permute2f128_ps::<0x31>(a[c], a[4 + c]);
            _mm256_storeu_ps(to.add(c * to_stride).cast(), low);
            _mm256_storeu_ps(to.add((4 + c) * to_stride).cast(), high);
        }
    }
}
