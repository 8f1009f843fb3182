//! The state of layers that carry a fixed number of arrays from token to token: the last inputs of
//! a convolution, the hidden state of a recurrence, the sums of groups of positions.

use crate::mlx::Array;

/// Arrays that each step replaces. What went into them cannot be taken back.
#[derive(Debug, Clone)]
pub struct ArraysCache {
    entries: Vec<Option<Array>>,
    offset: i32,
    /// The most positions that entries which grow with the length may stand for.
    max_size: Option<i32>,
    /// Whether entries `[batch, length, …]` grow with the length, or come with it.
    pub(super) grows: bool,
}

impl ArraysCache {
    pub(super) fn new(entries: usize) -> Self {
        Self { entries: vec![None; entries], offset: 0, max_size: None, grows: false }
    }

    /// The same of entries that grow with the length, or come with it.
    pub(super) fn growing(self) -> Self {
        Self { grows: true, ..self }
    }

    /// The same for so many positions at most.
    pub(super) fn within(self, max_size: Option<i32>) -> Self {
        Self { max_size, ..self }
    }

    /// Arrays that `positions` positions went into.
    pub(super) fn of(entries: Vec<Option<Array>>, positions: i32) -> Self {
        Self { entries, offset: positions, max_size: None, grows: false }
    }

    /// Takes what no entry shows, and no file says, of another one.
    pub(super) fn set_like(&mut self, other: &Self) {
        (self.max_size, self.grows) = (other.max_size, other.grows);
    }

    pub(super) fn entries(&self) -> &[Option<Array>] {
        &self.entries
    }

    /// Positions that went in.
    pub fn offset(&self) -> i32 {
        self.offset
    }

    /// The most positions that entries which grow with the length may stand for; `None` for all.
    pub fn max_size(&self) -> Option<i32> {
        self.max_size
    }

    /// An entry; `None` before the first step.
    pub fn get(&self, index: usize) -> Option<&Array> {
        self.entries.get(index)?.as_ref()
    }

    /// Replaces an entry.
    pub fn set(&mut self, index: usize, value: Array) {
        if index >= self.entries.len() {
            self.entries.resize(index + 1, None);
        }
        self.entries[index] = Some(value);
    }

    /// Counts the positions that went in; to be called once for each step.
    pub fn advance(&mut self, positions: i32) {
        self.offset += positions;
    }

    pub(super) fn arrays(&self) -> Vec<&Array> {
        self.entries.iter().flatten().collect()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::super::Cache;
    use crate::mlx::{self, DeviceKind};

    #[test]
    fn a_copy_keeps_its_state_when_the_original_goes_on() {
        mlx::enter(DeviceKind::Cpu).unwrap();
        let mut cache = Cache::arrays_of(2);
        let state = cache.state().unwrap();
        state.set(0, mlx::from_f32(&[1.0, 2.0], &[2]));
        state.advance(3);
        let copy = cache.clone();
        let state = cache.state().unwrap();
        state.set(0, mlx::from_f32(&[3.0, 4.0], &[2]));
        state.set(1, mlx::from_f32(&[5.0], &[1]));
        state.advance(1);
        assert_eq!((copy.offset(), cache.offset()), (3, 4));
        assert_eq!((copy.nbytes(), cache.nbytes()), (8, 12));
        assert_eq!(mlx::to_f32_vec(copy.arrays()[0]).unwrap(), [1.0, 2.0]);
    }

    #[test]
    fn entries_that_a_file_did_not_have_are_added() {
        mlx::enter(DeviceKind::Cpu).unwrap();
        let mut cache = Cache::arrays_of(0);
        let state = cache.state().unwrap();
        assert!(state.get(1).is_none());
        state.set(1, mlx::from_f32(&[1.0], &[1]));
        assert!(state.get(0).is_none() && state.get(1).is_some());
    }

    #[test]
    fn arrays_that_grow_are_alike_whatever_their_length() {
        mlx::enter(DeviceKind::Cpu).unwrap();
        let cache = |mut cache: Cache, length: i32, features: i32| {
            let array = mlx::ops::zeros(&[1, length, features], mlx::Dtype::Float32).unwrap();
            let state = cache.state().unwrap();
            state.set(0, array);
            state.advance(length);
            cache
        };
        let grown = [cache(Cache::arrays_of(2), 7, 4)];
        let made = [cache(Cache::growing_arrays_of(2), 1, 4)];
        assert!(Cache::all_alike(&made, &grown));
        assert!(!Cache::all_alike(&[cache(Cache::arrays_of(2), 1, 4)], &grown));
        assert!(!Cache::all_alike(&made, &[cache(Cache::arrays_of(2), 7, 3)]));
        assert!(!Cache::all_alike(&made, &[cache(Cache::arrays_of(1), 7, 4)]));
    }

    #[test]
    fn no_position_is_taken_back() {
        let mut cache = Cache::arrays_of(1);
        cache.state().unwrap().advance(5);
        assert!(!cache.is_trimmable());
        assert_eq!((cache.trim(2), cache.offset()), (0, 5));
    }

    #[test]
    fn keys_and_values_are_refused() {
        let mut cache = Cache::arrays_of(1);
        let keys = mlx::from_f32(&[1.0], &[1, 1, 1, 1]);
        assert_eq!(cache.update(&keys, &keys).unwrap_err().code(), "UNSUPPORTED");
        assert_eq!(cache.mask(1, None).unwrap_err().code(), "UNSUPPORTED");
        assert_eq!(Cache::standard().state().unwrap_err().code(), "UNSUPPORTED");
    }
}
