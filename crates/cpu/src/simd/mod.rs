//! What the kernels need of a vector unit, and the choice of one at run time.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "aarch64")]
mod neon;
mod portable;

use std::sync::OnceLock;

use crate::error::{Error, Result};

/// Codes of a quantized matrix that are unpacked at a time.
pub const BLOCK: usize = 64;

/// Bytes of a cache line.
pub const LINE: usize = 64;

/// Lines at multiples of so many bytes have the same place in the first-level cache, and push each
/// other out if they are many.
pub const PAGE: usize = 4096;

/// [`Simd::prefetch`] of each line of `bytes` from `start`.
#[inline(always)]
pub unsafe fn prefetch_all<S: Simd>(start: *const u8, bytes: usize) {
    for byte in (0..bytes).step_by(LINE) {
        // SAFETY: the machine has the instructions; any address may be asked for.
        unsafe { S::prefetch(start.wrapping_add(byte)) };
    }
}

/// An instruction set for which the kernels are compiled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Isa {
    /// Plain Rust, which the compiler vectorizes as it can.
    Portable,
    /// AVX2 with FMA and F16C.
    #[cfg(target_arch = "x86_64")]
    Avx2,
    /// AVX2 and the 8-bit dot product of AVX-VNNI.
    #[cfg(target_arch = "x86_64")]
    AvxVnni,
    /// AVX-512 F, BW, DQ, VL, VBMI and VNNI.
    #[cfg(target_arch = "x86_64")]
    Avx512,
    /// NEON.
    #[cfg(target_arch = "aarch64")]
    Neon,
    /// NEON and the 8-bit dot product.
    #[cfg(target_arch = "aarch64")]
    NeonDot,
}

impl Isa {
    /// Those that this machine can run, the best one last.
    pub fn available() -> Vec<Self> {
        let mut found = vec![Self::Portable];
        #[cfg(target_arch = "x86_64")]
        {
            use std::is_x86_feature_detected as has;
            if has!("avx2") && has!("fma") && has!("f16c") {
                found.push(Self::Avx2);
                if has!("avxvnni") {
                    found.push(Self::AvxVnni);
                }
                if has!("avx512f")
                    && has!("avx512bw")
                    && has!("avx512dq")
                    && has!("avx512vl")
                    && has!("avx512vbmi")
                    && has!("avx512vnni")
                {
                    found.push(Self::Avx512);
                }
            }
        }
        #[cfg(target_arch = "aarch64")]
        {
            found.push(Self::Neon);
            if std::arch::is_aarch64_feature_detected!("dotprod") {
                found.push(Self::NeonDot);
            }
        }
        found
    }

    /// The machine's best, or the one that [`Isa::wanted`] names.
    pub fn best() -> Self {
        static BEST: OnceLock<Isa> = OnceLock::new();
        *BEST.get_or_init(|| {
            let wanted = Self::wanted().ok().flatten();
            wanted.or_else(|| Self::available().pop()).unwrap_or(Self::Portable)
        })
    }

    /// What the environment's `NODEMLX_SIMD` names: a lesser one, to measure it on a machine that
    /// has better ones.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` when the machine has none of that name.
    pub fn wanted() -> Result<Option<Self>> {
        match std::env::var("NODEMLX_SIMD") {
            Ok(name) if !name.is_empty() => Self::named(&name).map(Some),
            _ => Ok(None),
        }
    }

    /// One of the machine's by its name.
    fn named(name: &str) -> Result<Self> {
        let available = Self::available();
        available.iter().copied().find(|isa| isa.name() == name).ok_or_else(|| {
            let names: Vec<_> = available.iter().map(|isa| isa.name()).collect();
            let message = format!("there is no {name:?} here, but {}", names.join(", "));
            Error::argument("NODEMLX_SIMD", message)
        })
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Portable => "portable",
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => "avx2",
            #[cfg(target_arch = "x86_64")]
            Self::AvxVnni => "avxvnni",
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => "avx512",
            #[cfg(target_arch = "aarch64")]
            Self::Neon => "neon",
            #[cfg(target_arch = "aarch64")]
            Self::NeonDot => "neondot",
        }
    }

    /// Runs `kernel` with this instruction set.
    ///
    /// # Panics
    /// When the machine does not have it.
    #[inline]
    pub fn run<K: Kernel>(self, kernel: K) -> K::Output {
        // The best one is there; any other was asked for by a test or a benchmark.
        assert!(self == Self::best() || Self::available().contains(&self), "no {self:?} here");
        // SAFETY: the machine has the instructions (checked above).
        unsafe {
            match self {
                Self::Portable => portable::Portable::enter(kernel),
                #[cfg(target_arch = "x86_64")]
                Self::Avx2 => avx2::Avx2::<false>::enter(kernel),
                #[cfg(target_arch = "x86_64")]
                Self::AvxVnni => avx2::Avx2::<true>::enter(kernel),
                #[cfg(target_arch = "x86_64")]
                Self::Avx512 => avx512::Avx512::enter(kernel),
                #[cfg(target_arch = "aarch64")]
                Self::Neon => neon::Neon::<false>::enter(kernel),
                #[cfg(target_arch = "aarch64")]
                Self::NeonDot => neon::Neon::<true>::enter(kernel),
            }
        }
    }
}

/// A piece of work that is compiled once for each instruction set.
pub trait Kernel {
    /// What it gives back.
    type Output;
    /// Does the work. Everything down to the vector operations must be `#[inline(always)]`, because
    /// only [`Simd::enter`] is compiled with the instructions switched on. Closures for
    /// `array::map` and `array::from_fn` are not: loops take their place.
    ///
    /// # Safety The machine has the instructions of `S`; further conditions are the kernel's own,
    /// and whoever constructs it sees to them.
    unsafe fn run<S: Simd>(self) -> Self::Output;
}

/// A vector unit.
///
/// # Safety Every function requires that the machine has the instructions. Functions that take a
/// pointer read or write, without any requirement of alignment, as many elements as their
/// description says.
#[allow(clippy::missing_safety_doc, reason = "one condition for all, stated above")]
pub trait Simd: 'static {
    /// [`Simd::LANES`] × f32.
    type F: Copy;
    /// [`Simd::LANES`] × i32; also four times as many bytes.
    type I: Copy;
    /// [`BLOCK`] bytes, each a code.
    type Q: Copy;
    /// 16 scales: a register, or where they lie.
    type Scales: Copy;

    /// Lanes of `F`; a divisor of 16.
    const LANES: usize;
    /// Vector registers.
    const REGISTERS: usize;
    /// What is subtracted from codes of 8 bits so that the unit's dot product can take them: 128 or
    /// 0.
    const OFFSET8: i32;
    /// Whether [`Simd::dot4`] is one instruction.
    const FAST_DOT: bool;
    /// Whether sums of a few products are best kept in 16 bits ([`Simd::add_pairs`]).
    const PAIRS: bool = false;
    /// Whether [`Simd::dot2`] takes no longer than the same by two kinds of bytes.
    const WORDS: bool = false;

    /// Calls the kernel with the unit's instructions switched on. Never inlined: a kernel that
    /// calls another one shares its code.
    unsafe fn enter<K: Kernel>(kernel: K) -> K::Output;

    /// Asks for the cache line at `at` in the second-level cache: the first one's few outstanding
    /// lines do not cover the memory's latency. It need not be memory of ours, or memory at all.
    unsafe fn prefetch(at: *const u8);

    unsafe fn splat(value: f32) -> Self::F;
    unsafe fn load(from: *const f32) -> Self::F;
    unsafe fn store(to: *mut f32, value: Self::F);
    /// bfloat16 → f32.
    unsafe fn load_bf16(from: *const u16) -> Self::F;
    /// IEEE half precision → f32.
    unsafe fn load_f16(from: *const u16) -> Self::F;
    unsafe fn add(a: Self::F, b: Self::F) -> Self::F;
    unsafe fn sub(a: Self::F, b: Self::F) -> Self::F;
    unsafe fn mul(a: Self::F, b: Self::F) -> Self::F;
    unsafe fn div(a: Self::F, b: Self::F) -> Self::F;
    /// `a * b + c`, rounded once.
    unsafe fn fma(a: Self::F, b: Self::F, c: Self::F) -> Self::F;
    /// The greater one; `b` where one is NaN (so a NaN in `b` gets through).
    unsafe fn max(a: Self::F, b: Self::F) -> Self::F;
    /// The lesser one; `b` where one is NaN.
    unsafe fn min(a: Self::F, b: Self::F) -> Self::F;
    unsafe fn abs(a: Self::F) -> Self::F;
    unsafe fn sqrt(a: Self::F) -> Self::F;
    /// To the nearest integer, ties to even.
    unsafe fn round(a: Self::F) -> Self::F;
    /// 2ⁿ for whole n in −126..=127.
    unsafe fn exp2i(n: Self::F) -> Self::F;
    /// `if a > b { yes } else { no }`, lane by lane.
    unsafe fn select_gt(a: Self::F, b: Self::F, yes: Self::F, no: Self::F) -> Self::F;
    unsafe fn sum(a: Self::F) -> f32;
    /// The sum of each.
    #[inline(always)]
    unsafe fn sums(a: [Self::F; 4]) -> [f32; 4] {
        // SAFETY: the machine has the instructions.
        unsafe { [Self::sum(a[0]), Self::sum(a[1]), Self::sum(a[2]), Self::sum(a[3])] }
    }
    /// The greatest lane; NaNs may be passed over.
    unsafe fn max_lane(a: Self::F) -> f32;
    /// Turns whole numbers in −127..=127 into bytes and stores [`Simd::LANES`] of them.
    unsafe fn store_i8(to: *mut i8, value: Self::F);

    unsafe fn zero_i() -> Self::I;
    unsafe fn load_i(from: *const u8) -> Self::I;
    unsafe fn store_i(to: *mut u8, value: Self::I);
    unsafe fn splat_i(value: i32) -> Self::I;
    unsafe fn to_f32(value: Self::I) -> Self::F;
    unsafe fn add_i(a: Self::I, b: Self::I) -> Self::I;
    /// `256 * value`.
    unsafe fn times_256(value: Self::I) -> Self::I;
    /// Adds to every lane the product of its four codes with its four signed bytes of `x`. `WIDE`
    /// says that codes have 8 bits.
    unsafe fn dot4<const WIDE: bool>(acc: Self::I, codes: Self::I, x: Self::I) -> Self::I;
    /// Adds to every 16 bits the products of two codes below 128 with two signed bytes of `x`,
    /// where [`Simd::PAIRS`]; elsewhere as [`Simd::dot4`].
    #[inline(always)]
    unsafe fn add_pairs(sums: Self::I, codes: Self::I, x: Self::I) -> Self::I {
        // SAFETY: the machine has the instructions.
        unsafe { Self::dot4::<false>(sums, codes, x) }
    }
    /// Adds sums of [`Simd::add_pairs`] to `acc`.
    #[inline(always)]
    unsafe fn add_sums(acc: Self::I, sums: Self::I) -> Self::I {
        // SAFETY: the machine has the instructions.
        unsafe { Self::add_i(acc, sums) }
    }
    /// Adds to every lane the product of its two codes, 16 bits each, with its two signed numbers of
    /// `x`.
    unsafe fn dot2(acc: Self::I, codes: Self::I, x: Self::I) -> Self::I;
    /// Of every byte the lower four bits, and the upper ones.
    unsafe fn nibbles(bytes: Self::I) -> [Self::I; 2];
    /// The bytes at even places, and those at odd ones, as words of 16 bits.
    unsafe fn widen(bytes: Self::I) -> [Self::I; 2];
    /// [`Simd::lookup`], in lanes.
    unsafe fn lookup_i(codes: Self::I, table: &[u8; 16]) -> Self::I;
    /// Four 32-bit elements of each of [`Simd::LANES`] rows, `stride` bytes apart: each element of
    /// all rows in a vector.
    unsafe fn columns(from: *const u8, stride: usize) -> [Self::I; 4];

    /// Unpacks [`BLOCK`] codes of `BITS` bits from `8 * BITS` bytes (a little-endian stream of
    /// bits). 8-bit codes come less [`Simd::OFFSET8`] (two's complement).
    unsafe fn unpack<const BITS: usize>(from: *const u8) -> Self::Q;
    /// Replaces every byte below 16 by that of the table.
    unsafe fn lookup(codes: Self::Q, table: &[u8; 16]) -> Self::Q;
    /// Stores [`BLOCK`] bytes.
    unsafe fn store_q(to: *mut u8, codes: Self::Q);
    /// Adds the dot product of [`BLOCK`] codes with as many numbers `256 * high + low`, each of the
    /// `GROUPS` (1, 2 or 4) equal parts multiplied by its scale. The lanes of the result are
    /// partial sums.
    unsafe fn dot_block<const GROUPS: usize, const WIDE: bool>(
        acc: Self::F,
        codes: Self::Q,
        high: *const i8,
        low: *const i8,
        scales: *const f32,
    ) -> Self::F;
    /// Unpacks twice [`BLOCK`] codes of 4 bits, those at even places and those at odd ones: cheaper
    /// than in their order.
    unsafe fn split(from: *const u8) -> [Self::Q; 2];
    /// Takes hold of 16 scales.
    unsafe fn scales(from: *const f32) -> Self::Scales;
    /// [`Simd::dot_block`] of both blocks that [`Simd::split`] gives, with the scales from
    /// `GROUPS * chunk`; `x` points to four times [`BLOCK`] bytes: the high ones for even places,
    /// those for odd ones, and the low ones likewise.
    unsafe fn dot_split<const GROUPS: usize>(
        acc: Self::F,
        blocks: [Self::Q; 2],
        x: *const i8,
        scales: Self::Scales,
        chunk: usize,
    ) -> Self::F;
    /// Reads [`Simd::LANES`] codes, each a byte as [`Simd::store_q`] stores it.
    unsafe fn load_codes<const WIDE: bool>(from: *const u8) -> Self::F;
    /// As [`Simd::dot_block`], with f32.
    unsafe fn dot_block_f32<const GROUPS: usize, const WIDE: bool>(
        acc: Self::F,
        codes: Self::Q,
        x: *const f32,
        scales: *const f32,
    ) -> Self::F;

    /// Transposes a square of [`Simd::LANES`] 32-bit elements; `from` has rows `stride` bytes
    /// apart, `to` rows `to_stride` bytes apart.
    unsafe fn transpose(from: *const u8, stride: usize, to: *mut u8, to_stride: usize);
}

/// [`Simd::dot_split`] as two [`Simd::dot_block`]s, where scales stay in memory.
#[inline(always)]
unsafe fn dot_blocks<S: Simd, const GROUPS: usize>(
    acc: S::F,
    [even, odd]: [S::Q; 2],
    x: *const i8,
    scales: *const f32,
    chunk: usize,
) -> S::F {
    // SAFETY: as for the function that this is.
    unsafe {
        let (low, scales) = (x.add(2 * BLOCK), scales.add(GROUPS * chunk));
        let acc = S::dot_block::<GROUPS, false>(acc, even, x, low, scales);
        S::dot_block::<GROUPS, false>(acc, odd, x.add(BLOCK), low.add(BLOCK), scales)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn instruction_sets_have_names() {
        for isa in Isa::available() {
            assert_eq!(Isa::named(isa.name()).unwrap(), isa);
        }
        let error = Isa::named("mmx").unwrap_err();
        assert!(error.message.contains("\"mmx\" here, but portable"), "{error:?}");
    }
}
