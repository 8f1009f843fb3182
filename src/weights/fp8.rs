//! Matrices of 8-bit floats with a scale for each block, as DeepSeek V3 is published.

use super::{Float8, Weights};
use crate::error::Result;
use crate::mlx::{Array, Dtype, eval, ops};

impl Weights<'_> {
    /// Takes the matrix `name`, `[rows, columns]` bytes of e4m3, and `name_scale_inv`, a factor for
    /// each block of `[height, width]`: their product in bfloat16.
    ///
    /// # Errors
    /// [`crate::error::Error::Weights`] if a tensor is missing or has another shape or type.
    pub(super) fn take_fp8(
        &self,
        name: &str,
        shape: &[i32],
        [height, width]: [i32; 2],
    ) -> Result<Array> {
        let &[rows, columns] = shape else {
            return Err(self.error(name, "is not a matrix, which fp8 blocks are cut from"));
        };
        let values =
            ops::from_fp8(&self.take_bytes(name, shape, Some(Float8::E4m3))?, Dtype::Bfloat16)?;
        let blocks = [(rows + height - 1) / height, (columns + width - 1) / width];
        let scales = self.take_f32(&format!("{name}_scale_inv"), &blocks)?;
        let [down, across] = blocks;
        let scales = ops::reshape(&scales, &[down, 1, across, 1])?;
        let scales = ops::broadcast_to(&scales, &[down, height, across, width])?;
        let scales = ops::reshape(&scales, &[down * height, across * width])?;
        let scales = ops::slice_axis(&ops::slice_axis(&scales, 0, 0, rows)?, 1, 0, columns)?;
        let product = ops::astype(&ops::multiply(&values, &scales)?, Dtype::Bfloat16)?;
        eval(&[&product])?;
        Ok(product)
    }
}
