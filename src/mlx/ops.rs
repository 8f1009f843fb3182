//! Array operations. Shapes broadcast as in NumPy; axes may be negative. Nothing is computed before
//! [`super::eval`].

use super::call::{self, Arrays};
use super::op::op;
use super::{Array, Dtype};
use crate::error::Result;

macro_rules! unary {
    ($($(#[$doc:meta])* $name:ident = $function:ident;)*) => {
        $($(#[$doc])* pub fn $name(a: &Array) -> Result<Array> { op!($function(a.as_ptr())) })*
    };
}

macro_rules! binary {
    ($($(#[$doc:meta])* $name:ident = $function:ident;)*) => {
        $($(#[$doc])* pub fn $name(a: &Array, b: &Array) -> Result<Array> {
            op!($function(a.as_ptr(), b.as_ptr()))
        })*
    };
}

unary! {
    /// e to the power of each element.
    exp = mlx_exp;
    /// The logistic function 1 / (1 + e⁻ˣ).
    sigmoid = mlx_sigmoid;
    /// The hyperbolic tangent.
    tanh = mlx_tanh;
    /// The cosine.
    cos = mlx_cos;
    /// The sine.
    sin = mlx_sin;
    /// The error function.
    erf = mlx_erf;
    /// |x|.
    abs = mlx_abs;
    /// The natural logarithm.
    log = mlx_log;
    /// The logarithm to base 2.
    log2 = mlx_log2;
    /// The least whole numbers that are not below.
    ceil = mlx_ceil;
    /// −x.
    negative = mlx_negative;
    /// x².
    square = mlx_square;
    /// √x.
    sqrt = mlx_sqrt;
    /// The inverse of the error function.
    erfinv = mlx_erfinv;
}

binary! {
    /// a + b.
    add = mlx_add;
    /// a − b.
    subtract = mlx_subtract;
    /// a · b, element by element.
    multiply = mlx_multiply;
    /// a / b, element by element.
    divide = mlx_divide;
    /// aᵇ, element by element.
    power = mlx_power;
    /// ⌊a / b⌋, element by element.
    floor_divide = mlx_floor_divide;
    /// a − b · ⌊a / b⌋, element by element.
    remainder = mlx_remainder;
    /// The smaller of each pair.
    minimum = mlx_minimum;
    /// The larger of each pair.
    maximum = mlx_maximum;
    /// log(eᵃ + eᵇ), element by element.
    log_add_exp = mlx_logaddexp;
    /// a = b.
    equal = mlx_equal;
    /// a < b.
    less = mlx_less;
    /// a ≥ b.
    greater_equal = mlx_greater_equal;
    /// a > b.
    greater = mlx_greater;
    /// a and b.
    logical_and = mlx_logical_and;
    /// a or b.
    logical_or = mlx_logical_or;
    /// The matrix product over the last two axes.
    matmul = mlx_matmul;
}

/// a + x · w, for a bias `a`, in one operation.
pub fn addmm(a: &Array, x: &Array, w: &Array) -> Result<Array> {
    op!(mlx_addmm(a.as_ptr(), x.as_ptr(), w.as_ptr(), 1.0, 1.0))
}

/// The product with one of several stacked matrices for each row block of `x`, as `experts` says;
/// `sorted` promises that `experts` ascends.
pub fn gather_matmul(x: &Array, w: &Array, experts: &Array, sorted: bool) -> Result<Array> {
    op!(mlx_gather_mm(x.as_ptr(), w.as_ptr(), call::optional(None), experts.as_ptr(), sorted))
}

/// The array with another element type; the same array where it has that type already.
pub fn astype(a: &Array, dtype: Dtype) -> Result<Array> {
    if a.dtype() == dtype {
        return Ok(a.clone());
    }
    op!(mlx_astype(a.as_ptr(), dtype.into()))
}

/// The same bytes as another element type of a size that divides the last axis.
pub fn view(a: &Array, dtype: Dtype) -> Result<Array> {
    op!(mlx_view(a.as_ptr(), dtype.into()))
}

/// Numbers as the bytes of the nearest float8 (e4m3).
pub fn to_fp8(a: &Array) -> Result<Array> {
    op!(mlx_to_fp8(a.as_ptr()))
}

/// Bytes, each an 8-bit float (e4m3), as numbers of another type.
pub fn from_fp8(a: &Array, dtype: Dtype) -> Result<Array> {
    op!(mlx_from_fp8(a.as_ptr(), dtype.into()))
}

/// The array with its elements in row-major order.
pub fn contiguous(a: &Array) -> Result<Array> {
    op!(mlx_contiguous(a.as_ptr(), false))
}

/// The same elements in another shape; one dimension may be −1.
pub fn reshape(a: &Array, shape: &[i32]) -> Result<Array> {
    op!(mlx_reshape(a.as_ptr(), shape.as_ptr(), shape.len()))
}

/// The array with its axes in another order.
pub fn transpose(a: &Array, axes: &[i32]) -> Result<Array> {
    op!(mlx_transpose_axes(a.as_ptr(), axes.as_ptr(), axes.len()))
}

/// The array with two axes swapped.
pub fn swap_axes(a: &Array, first: i32, second: i32) -> Result<Array> {
    op!(mlx_swapaxes(a.as_ptr(), first, second))
}

/// The elements below the diagonal of the last two axes, and with `diagonal` those on it; zeros
/// elsewhere.
pub fn lower_triangle(a: &Array, diagonal: bool) -> Result<Array> {
    op!(mlx_tril(a.as_ptr(), if diagonal { 0 } else { -1 }))
}

/// The elements whose indices along two axes are the same; that index becomes the last axis.
pub fn diagonal(a: &Array, first: i32, second: i32) -> Result<Array> {
    op!(mlx_diagonal(a.as_ptr(), 0, first, second))
}

/// The array with an axis of length 1 put in at `axis`.
pub fn expand_dims(a: &Array, axis: i32) -> Result<Array> {
    op!(mlx_expand_dims(a.as_ptr(), axis))
}

/// The array without an axis of length 1.
pub fn squeeze(a: &Array, axis: i32) -> Result<Array> {
    op!(mlx_squeeze_axis(a.as_ptr(), axis))
}

/// The array with `count` zeros after its last element along `axis`.
pub fn pad_end(a: &Array, axis: i32, count: i32) -> Result<Array> {
    let zero = astype(&Array::from_f32(0.0), a.dtype())?;
    op!(mlx_pad(
        a.as_ptr(),
        [axis].as_ptr(),
        1,
        [0].as_ptr(),
        1,
        [count].as_ptr(),
        1,
        zero.as_ptr(),
        c"constant".as_ptr()
    ))
}

/// The array repeated along new or existing axes, without a copy.
pub fn broadcast_to(a: &Array, shape: &[i32]) -> Result<Array> {
    op!(mlx_broadcast_to(a.as_ptr(), shape.as_ptr(), shape.len()))
}

/// The arrays one after another along `axis`.
pub fn concatenate(arrays: &[&Array], axis: i32) -> Result<Array> {
    let arrays = Arrays::of(arrays);
    op!(mlx_concatenate_axis(arrays.handle(), axis))
}

/// The elements from `start` up to `stop` along one axis, all of the others.
pub fn slice_axis(a: &Array, axis: usize, start: i32, stop: i32) -> Result<Array> {
    let mut starts = [0; MAX_DIMS];
    let mut stops = [0; MAX_DIMS];
    let dims = a.ndim();
    stops[..dims].copy_from_slice(a.shape());
    starts[axis] = start;
    stops[axis] = stop;
    op!(mlx_slice(a.as_ptr(), starts.as_ptr(), dims, stops.as_ptr(), dims, ONES.as_ptr(), dims))
}

/// Every second element along one axis, from `start` on, with its elements in row-major order.
pub fn every_second(a: &Array, axis: usize, start: i32) -> Result<Array> {
    let dims = a.ndim();
    let (mut starts, mut strides) = ([0; MAX_DIMS], ONES);
    starts[axis] = start;
    strides[axis] = 2;
    let stops = a.shape();
    contiguous(&op!(mlx_slice(
        a.as_ptr(),
        starts.as_ptr(),
        dims,
        stops.as_ptr(),
        dims,
        strides.as_ptr(),
        dims
    ))?)
}

/// `a` with the elements from `start` on along one axis replaced by `update`; in place where nobody
/// else holds `a`.
pub fn slice_update_axis(a: &Array, update: &Array, axis: usize, start: i32) -> Result<Array> {
    let mut starts = [0; MAX_DIMS];
    let mut stops = [0; MAX_DIMS];
    let dims = a.ndim();
    stops[..dims].copy_from_slice(a.shape());
    starts[axis] = start;
    stops[axis] = start + update.shape()[axis];
    op!(mlx_slice_update(
        a.as_ptr(),
        update.as_ptr(),
        starts.as_ptr(),
        dims,
        stops.as_ptr(),
        dims,
        ONES.as_ptr(),
        dims
    ))
}

/// More dimensions than any array here has.
const MAX_DIMS: usize = 8;
const ONES: [i32; MAX_DIMS] = [1; MAX_DIMS];

/// The pieces of `a` that lie between the given positions of `axis`, negative axes counting from
/// the last.
///
/// They are slices: what MLX's own operation returns claims to extend less far into the shared
/// memory than it does, and its rotation on CUDA then writes beyond what it allocates by that.
pub fn split_at(a: &Array, positions: &[i32], axis: i32) -> Result<Vec<Array>> {
    let axis = if axis < 0 { a.ndim().wrapping_add_signed(axis as isize) } else { axis as usize };
    let ends = positions.iter().copied().chain([a.shape()[axis]]);
    let starts = [0].into_iter().chain(positions.iter().copied());
    starts.zip(ends).map(|(start, end)| slice_axis(a, axis, start, end)).collect()
}

/// The rows of `a` along `axis` that `indices` name.
pub fn take(a: &Array, indices: &Array, axis: i32) -> Result<Array> {
    op!(mlx_take_axis(a.as_ptr(), indices.as_ptr(), axis))
}

/// For each position along `axis` the element that `indices`, of as many dimensions, name.
pub fn take_along(a: &Array, indices: &Array, axis: i32) -> Result<Array> {
    op!(mlx_take_along_axis(a.as_ptr(), indices.as_ptr(), axis))
}

/// `a` with the elements that `indices` name along `axis` replaced by `values`.
pub fn put_along(a: &Array, indices: &Array, values: &Array, axis: i32) -> Result<Array> {
    op!(mlx_put_along_axis(a.as_ptr(), indices.as_ptr(), values.as_ptr(), axis))
}

/// `a` with `values` added to the elements that `indices` name along `axis`; repeated indices add
/// up.
pub fn scatter_add(a: &Array, indices: &Array, values: &Array, axis: i32) -> Result<Array> {
    op!(mlx_scatter_add_axis(a.as_ptr(), indices.as_ptr(), values.as_ptr(), axis))
}

/// `a` where `condition` holds, else `b`.
pub fn select(condition: &Array, a: &Array, b: &Array) -> Result<Array> {
    op!(mlx_where(condition.as_ptr(), a.as_ptr(), b.as_ptr()))
}

/// The numbers `start`, `start + 1`, … below `stop`.
pub fn arange(start: i32, stop: i32, dtype: Dtype) -> Result<Array> {
    op!(mlx_arange(f64::from(start), f64::from(stop), 1.0, dtype.into()))
}

/// A convolution over the second axis of `[batch, length, channels]` with `[outputs, kernel,
/// channels / groups]`, without padding.
pub fn conv1d(x: &Array, weight: &Array, groups: i32) -> Result<Array> {
    op!(mlx_conv1d(x.as_ptr(), weight.as_ptr(), 1, 0, 1, groups))
}

/// Zeros.
pub fn zeros(shape: &[i32], dtype: Dtype) -> Result<Array> {
    op!(mlx_zeros(shape.as_ptr(), shape.len(), dtype.into()))
}

/// Soft-max along `axis`; `precise` accumulates in `f32`.
pub fn softmax(a: &Array, axis: i32, precise: bool) -> Result<Array> {
    op!(mlx_softmax_axis(a.as_ptr(), axis, precise))
}

/// log Σ exp along `axis`, which is kept with length 1.
pub fn logsumexp(a: &Array, axis: i32) -> Result<Array> {
    op!(mlx_logsumexp_axis(a.as_ptr(), axis, true))
}

/// The index of the largest element along `axis`; the first one of equals.
pub fn argmax(a: &Array, axis: i32) -> Result<Array> {
    op!(mlx_argmax_axis(a.as_ptr(), axis, false))
}

/// The indices that would sort `a` around its `kth` element along `axis`.
pub fn argpartition(a: &Array, kth: i32, axis: i32) -> Result<Array> {
    op!(mlx_argpartition_axis(a.as_ptr(), kth, axis))
}

/// The indices that would sort `a` along `axis`.
pub fn argsort(a: &Array, axis: i32) -> Result<Array> {
    op!(mlx_argsort_axis(a.as_ptr(), axis))
}

/// `a` in ascending order along `axis`.
pub fn sort(a: &Array, axis: i32) -> Result<Array> {
    op!(mlx_sort_axis(a.as_ptr(), axis))
}

/// Σ along `axis`, which is kept with length 1.
pub fn sum(a: &Array, axis: i32) -> Result<Array> {
    op!(mlx_sum_axis(a.as_ptr(), axis, true))
}

/// The mean along `axis`, which is kept with length 1.
pub fn mean(a: &Array, axis: i32) -> Result<Array> {
    op!(mlx_mean_axis(a.as_ptr(), axis, true))
}

/// The standard deviation along `axis`, which is kept with length 1, of the elements as a whole
/// population.
pub fn standard_deviation(a: &Array, axis: i32) -> Result<Array> {
    op!(mlx_std_axis(a.as_ptr(), axis, true, 0))
}

/// The nearest whole numbers, and of two that are as near the even one.
pub fn round(a: &Array) -> Result<Array> {
    op!(mlx_round(a.as_ptr(), 0))
}

/// The Walsh–Hadamard transform of the last axis, whose length is a power of two (or 12, 20 or 28
/// times one), times `scale`.
pub fn hadamard(a: &Array, scale: f32) -> Result<Array> {
    let scale = mlx_sys::mlx_optional_float { value: scale, has_value: true };
    op!(mlx_hadamard_transform(a.as_ptr(), scale))
}

/// The largest element along `axis`, which is kept with length 1.
pub fn max(a: &Array, axis: i32) -> Result<Array> {
    op!(mlx_max_axis(a.as_ptr(), axis, true))
}

/// The smallest element along `axis`, which is kept with length 1.
pub fn min(a: &Array, axis: i32) -> Result<Array> {
    op!(mlx_min_axis(a.as_ptr(), axis, true))
}

/// Cumulative sums along `axis`, from the end where `reverse`, each without its own element unless
/// `inclusive`.
pub fn cumsum(a: &Array, axis: i32, reverse: bool, inclusive: bool) -> Result<Array> {
    let dtype = mlx_sys::mlx_optional_dtype { value: a.dtype().into(), has_value: false };
    op!(mlx_cumsum_axis(a.as_ptr(), axis, reverse, inclusive, dtype))
}
