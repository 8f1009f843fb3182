//! The vectors of attention heads, with any strides.

/// A tensor `[batch, heads, length, head_dim]` with any strides but that of the features, which is
/// 1.
#[derive(Clone, Copy, Debug)]
pub struct Heads<'a> {
    /// From the first to the last element, at least.
    pub values: &'a [f32],
    /// Lengths of the axes.
    pub shape: [usize; 4],
    /// Distances of neighbours along the first three axes, in elements.
    pub strides: [usize; 3],
}

impl<'a> Heads<'a> {
    /// Whether the strides stay within the memory.
    pub(super) fn fits(&self) -> bool {
        let [batch, heads, length, dim] = self.shape;
        self.shape.contains(&0)
            || self.at(batch - 1, heads - 1, length - 1) + dim <= self.values.len()
    }

    /// Where the vector `[batch, head, position]` begins.
    pub(super) fn at(&self, batch: usize, head: usize, position: usize) -> usize {
        batch * self.strides[0] + head * self.strides[1] + position * self.strides[2]
    }

    /// The vector `[batch, head, position]`.
    pub(super) fn vector(&self, batch: usize, head: usize, position: usize) -> &'a [f32] {
        &self.values[self.at(batch, head, position)..][..self.shape[3]]
    }
}
