//! Small floats, and rows of numbers that are written by several threads.

use std::num::NonZero;

use half::{bf16, f16};

use crate::error::{Error, Result};
use crate::mlx::Dtype;

/// Elements for which another thread is worth while.
const ELEMENTS_OF_A_THREAD: usize = 1 << 16;
const MOST_THREADS: usize = 8;

/// The values of float4 e2m1 by their codes.
pub(super) const E2M1: [f32; 16] =
    [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, -0.0, -0.5, -1.0, -1.5, -2.0, -3.0, -4.0, -6.0];

/// The value of a float8 with four bits of exponent and three of mantissa, and without infinities.
pub(super) fn e4m3(code: u8) -> f32 {
    let magnitude = code & 0x7f;
    if magnitude == 0x7f {
        return f32::NAN;
    }
    // The exponent's bias is 7 in place of 127.
    let value = f32::from_bits(u32::from(magnitude) << 20) * f32::from_bits((127 + 120) << 23);
    if code & 0x80 == 0 { value } else { -value }
}

/// The values of all codes of [`e4m3`].
pub(super) fn e4m3_values() -> [f32; 256] {
    std::array::from_fn(|code| e4m3(code as u8))
}

/// The power of two that a biased exponent stands for.
pub fn e8m0(code: u8) -> f32 {
    match code {
        // 2⁻¹²⁷, which is subnormal.
        0 => f32::from_bits(1 << 22),
        255 => f32::NAN,
        _ => f32::from_bits(u32::from(code) << 23),
    }
}

/// A number as the code of a power of two (e8m0) and what that is to be multiplied by; the factor
/// is 1 if the number is a power of two.
pub(super) fn split_power(number: f32) -> (u8, f32) {
    let bits = number.to_bits();
    match (bits >> 23) as u8 {
        // Not for zero, subnormal numbers, infinity and what is no number.
        0 | 255 => (127, number),
        exponent => (exponent, f32::from_bits(bits & 0x807f_ffff | 127 << 23)),
    }
}

/// Writes rows of `width` elements: `fill` gets a row's number and its elements, fewer for the last
/// one if they are no whole number of rows.
pub(super) fn fill_rows<T: Send>(
    rows: &mut [T],
    width: usize,
    fill: impl Fn(usize, &mut [T]) + Sync,
) {
    let width = width.max(1);
    let count = rows.len().div_ceil(width);
    let threads = std::thread::available_parallelism().map_or(1, NonZero::get);
    let threads = threads.min(MOST_THREADS).min(rows.len() / ELEMENTS_OF_A_THREAD).max(1);
    let each = count.div_ceil(threads).max(1);
    let fill = &fill;
    let work = move |part: usize, rows: &mut [T]| {
        rows.chunks_mut(width).enumerate().for_each(|(i, row)| fill(part * each + i, row));
    };
    if threads == 1 {
        return work(0, rows);
    }
    std::thread::scope(|scope| {
        for (part, rows) in rows.chunks_mut(each * width).enumerate() {
            scope.spawn(move || work(part, rows));
        }
    });
}

/// The columns of a matrix, one after another; `element` gives an element by its place.
pub(super) fn transposed<T: Clone + Default + Send>(
    [rows, columns]: [usize; 2],
    element: impl Fn(usize) -> T + Sync,
) -> Vec<T> {
    // So many columns at a time that each line of memory is read once.
    const COLUMNS: usize = 16;
    let mut transposed = vec![T::default(); rows * columns];
    fill_rows(&mut transposed, rows * COLUMNS, |part, to| {
        let (first, count) = (part * COLUMNS, to.len() / rows);
        for row in 0..rows {
            for column in 0..count {
                to[column * rows + row] = element(row * columns + first + column);
            }
        }
    });
    transposed
}

/// The bytes of a matrix of type `dtype`, whose rows of `width` numbers `fill` computes.
///
/// # Errors
/// [`Error::Mlx`] for a type that matrices do not have.
pub(super) fn rows_as_bytes(
    rows: usize,
    width: usize,
    dtype: Dtype,
    fill: impl Fn(usize, &mut [f32]) + Sync,
) -> Result<Vec<u8>> {
    fn cast<const N: usize>(
        (rows, width): (usize, usize),
        fill: impl Fn(usize, &mut [f32]) + Sync,
        bytes_of: impl Fn(f32) -> [u8; N] + Sync,
    ) -> Vec<u8> {
        let mut bytes = vec![[0; N]; rows * width];
        fill_rows(&mut bytes, width, |row, to| {
            let mut numbers = vec![0.0; width];
            fill(row, &mut numbers);
            for (to, number) in to.iter_mut().zip(numbers) {
                *to = bytes_of(number);
            }
        });
        bytes.into_flattened()
    }
    match dtype {
        Dtype::Float32 => Ok(cast((rows, width), fill, f32::to_le_bytes)),
        Dtype::Float16 => Ok(cast((rows, width), fill, |it| f16::from_f32(it).to_le_bytes())),
        Dtype::Bfloat16 => Ok(cast((rows, width), fill, |it| bf16::from_f32(it).to_le_bytes())),
        other => Err(Error::Mlx(format!("a matrix of {other:?}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_floats_have_the_values_of_their_definitions() {
        for (code, value) in
            [(0x00, 0.0), (0x01, 2f32.powi(-9)), (0x08, 2f32.powi(-6)), (0x38, 1.0), (0x7e, 448.0)]
        {
            assert_eq!((e4m3(code), e4m3(code | 0x80)), (value, -value));
        }
        assert!(e4m3(0x7f).is_nan() && e4m3(0xff).is_nan() && e8m0(255).is_nan());
        assert_eq!((e8m0(0), e8m0(127), e8m0(130)), (2f32.powi(-127), 1.0, 8.0));
    }

    #[test]
    fn a_number_is_its_power_of_two_times_its_factor() {
        for number in [1.0, 0.5, 3.0, -0.7, 1e-30, 448.0, 0.0, 1e-40] {
            let (power, factor) = split_power(number);
            assert_eq!(e8m0(power) * factor, number);
        }
        assert_eq!(split_power(0.25), (125, 1.0));
    }

    #[test]
    fn a_transposed_matrix_has_the_columns_as_rows() {
        for [rows, columns] in [[3, 5], [1, 40], [300, 257]] {
            let transposed = transposed([rows, columns], |place| place);
            for (i, &place) in transposed.iter().enumerate() {
                assert_eq!(place, i % rows * columns + i / rows);
            }
        }
    }

    #[test]
    fn rows_are_written_by_their_numbers_however_many_threads_there_are() {
        for (rows, width) in [(3, 5), (700, 301), (1, 1 << 18), (0, 7)] {
            let mut numbers = vec![0; rows * width];
            fill_rows(&mut numbers, width, |row, to| {
                to.iter_mut().enumerate().for_each(|(i, to)| *to = row * width + i);
            });
            assert!(numbers.iter().enumerate().all(|(i, &number)| i == number));
        }
    }
}
