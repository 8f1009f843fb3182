//! Taking back positions that were added on trial, whatever the kind of the cache.

use super::Cache;

/// What takes the caches of a sequence back to where they were. It costs nothing: most are trimmed,
/// and what each step replaces as a whole is kept by reference.
#[derive(Debug)]
pub struct Checkpoint {
    /// For each of the caches that are no lists, what it was, where it cannot take back all that
    /// is added.
    kept: Vec<Option<Cache>>,
}

impl Checkpoint {
    /// The present state of `caches`.
    pub fn of(caches: &[Cache]) -> Self {
        let leaves = || caches.iter().flat_map(Cache::parts);
        let has_states = leaves().any(|cache| matches!(cache, Cache::Arrays(_)));
        let is_kept = |cache: &Cache| match cache {
            Cache::Arrays(_) => true,
            // Beside states all positions are taken back, and a window is too short for that.
            Cache::Rotating(_) => has_states,
            _ => false,
        };
        Self { kept: leaves().map(|cache| is_kept(cache).then(|| cache.clone())).collect() }
    }

    /// Takes back the last `surplus` of the `added` positions that went in since. Where there are
    /// states, only all of them can be taken back. Gives how many were, or `None` where the caches
    /// are of no use any more.
    pub fn take_back(self, caches: &mut [Cache], surplus: i32, added: i32) -> Option<i32> {
        let mut leaves = caches.iter().flat_map(Cache::parts);
        let has_states =
            leaves.any(|cache| matches!(cache, Cache::Arrays(_)) && !cache.arrays().is_empty());
        let count = if has_states && surplus > 0 { added } else { surplus };
        for (cache, kept) in leaves_mut(caches).zip(self.kept) {
            match kept {
                Some(kept) if has_states && count > 0 => *cache = kept,
                _ if cache.arrays().is_empty() => {}
                _ if !cache.rewind(cache.offset() - count) => return None,
                _ => {}
            }
        }
        Some(count)
    }
}

/// The caches that are no lists.
fn leaves_mut(caches: &mut [Cache]) -> impl Iterator<Item = &mut Cache> {
    caches.iter_mut().flat_map(|cache| match cache {
        Cache::List(parts) => parts.iter_mut(),
        cache => std::slice::from_mut(cache).iter_mut(),
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::cache::{CacheLimits, KvQuantization};
    use crate::mlx::{self, Array, DeviceKind};

    /// Keys of positions `from..to`, whose features are their positions.
    fn keys(from: i32, to: i32) -> Array {
        let values: Vec<f32> = (from..to).flat_map(|at| [at as f32; 64]).collect();
        mlx::from_f32(&values, &[1, 1, to - from, 64])
    }

    /// Adds positions in one step; gives the positions that the last of them sees.
    fn feed(cache: &mut Cache, from: i32, to: i32) -> Vec<i32> {
        if let Cache::List(parts) = cache {
            let seen: Vec<_> = parts.iter_mut().map(|part| feed(part, from, to)).collect();
            return seen.into_iter().next_back().unwrap();
        }
        if let Ok(state) = cache.state() {
            state.set(0, keys(from, to));
            state.advance(to - from);
            return vec![to - 1];
        }
        let (keys, _) = cache.update(&keys(from, to), &keys(from, to)).unwrap();
        let seen = mlx::to_f32_vec(&keys).unwrap();
        let mut seen: Vec<i32> = seen.iter().step_by(64).map(|&at| at as i32).collect();
        seen.sort_unstable();
        seen
    }

    fn all_kinds() -> Vec<Cache> {
        let quantization = Some(KvQuantization { group_size: Some(64), bits: 8 });
        let packed = CacheLimits { max_size: None, quantization };
        vec![
            Cache::standard(),
            Cache::rotating(8, 0),
            Cache::rotating(8, 2),
            Cache::chunked(8),
            Cache::standard().limited(&packed),
            Cache::rotating(8, 2).limited(&packed),
            Cache::List(vec![Cache::standard(), Cache::rotating(8, 0)]),
        ]
    }

    #[test]
    fn keys_and_values_go_on_as_if_nothing_had_been_added() {
        mlx::enter(DeviceKind::Cpu).unwrap();
        for before in [1, 3, 7, 8, 9, 30] {
            for (surplus, added) in [(0, 4), (1, 4), (3, 4), (1, 2)] {
                for (tried, straight) in all_kinds().into_iter().zip(all_kinds()) {
                    let (mut tried, mut straight) = ([tried], straight);
                    for position in 0..before {
                        feed(&mut tried[0], position, position + 1);
                        feed(&mut straight, position, position + 1);
                    }
                    let checkpoint = Checkpoint::of(&tried);
                    feed(&mut tried[0], before, before + added);
                    assert_eq!(checkpoint.take_back(&mut tried, surplus, added), Some(surplus));
                    let end = before + added - surplus;
                    for position in before..end {
                        feed(&mut straight, position, position + 1);
                    }
                    for (from, to) in [(end, end + 1), (end + 1, end + 4), (end + 4, end + 5)] {
                        let kind = straight.kind();
                        let window = if kind == "standard" { usize::MAX } else { 8 };
                        let last = |seen: Vec<i32>| {
                            let count = seen.len().min(window);
                            seen[seen.len() - count..].to_vec()
                        };
                        let seen = [feed(&mut tried[0], from, to), feed(&mut straight, from, to)];
                        let [tried, straight] = seen.map(last);
                        assert_eq!(tried, straight, "{kind} after {before}, {surplus} of {added}");
                    }
                }
            }
        }
    }

    #[test]
    fn states_go_back_to_where_they_were_with_all_beside_them() {
        mlx::enter(DeviceKind::Cpu).unwrap();
        let mut caches = [
            Cache::arrays_of(1),
            Cache::standard(),
            Cache::List(vec![Cache::arrays_of(1), Cache::rotating(8, 0)]),
        ];
        caches.iter_mut().for_each(|cache| drop(feed(cache, 0, 12)));
        let checkpoint = Checkpoint::of(&caches);
        caches.iter_mut().for_each(|cache| drop(feed(cache, 12, 16)));
        assert_eq!(checkpoint.take_back(&mut caches, 1, 4), Some(4));
        assert!(caches.iter().flat_map(Cache::parts).all(|part| part.offset() == 12));
        let state = mlx::to_f32_vec(caches[0].arrays()[0]).unwrap();
        assert_eq!((state.len(), state[0]), (12 * 64, 0.0));
        let seen = feed(&mut caches[2].list(2).unwrap()[1], 12, 13);
        assert_eq!(seen, (5..13).collect::<Vec<_>>());
    }

    #[test]
    fn what_a_layer_does_not_use_is_left_alone() {
        mlx::enter(DeviceKind::Cpu).unwrap();
        let mut caches = [Cache::standard(), Cache::arrays_of(2), Cache::standard()];
        feed(&mut caches[0], 0, 3);
        let checkpoint = Checkpoint::of(&caches);
        feed(&mut caches[0], 3, 6);
        assert_eq!(checkpoint.take_back(&mut caches, 2, 3), Some(2));
        assert_eq!(caches.each_ref().map(Cache::offset), [4, 0, 0]);
    }
}
