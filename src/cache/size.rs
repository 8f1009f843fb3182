//! How much memory caches take, by how many positions they hold.

use super::{Cache, STEP, kv_tensor};

/// What the cache of a layer takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CacheSize {
    /// The bytes of a position.
    pub per_position: usize,
    /// The bytes of a state, however many positions went in.
    fixed: usize,
    capacity: Capacity,
}

/// How many positions a cache has room for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Capacity {
    /// All of them, in steps.
    Every,
    /// All of them, and no more; or the last ones, in whole groups.
    Groups(Option<i32>),
    /// The last ones.
    Window(i32),
    /// At most as many as buffers of chunks have.
    Chunk(i32),
}

impl CacheSize {
    /// The sizes of a cache's parts, each of which holds at least a position.
    pub fn of(cache: &Cache) -> Vec<Self> {
        let capacity = match cache {
            Cache::List(parts) => return parts.iter().flat_map(Self::of).collect(),
            Cache::Arrays(_) => {
                let fixed = cache.nbytes();
                return vec![Self { per_position: 0, fixed, capacity: Capacity::Every }];
            }
            Cache::Standard(_) => Capacity::Every,
            Cache::Rotating(cache) => Capacity::Window(cache.max_size),
            Cache::Chunked(cache) => Capacity::Chunk(cache.capacity_of(i32::MAX)),
        };
        let arrays = cache.arrays();
        // A layer may have a cache and not use it.
        let held = arrays.first().map(|array| array.dim(kv_tensor::POSITIONS as i32));
        let per_position = held.map_or(0, |held| cache.nbytes() / held.max(1) as usize);
        vec![Self { per_position, fixed: 0, capacity }]
    }

    /// The same of a cache with entries that grow with the positions: two states of it without
    /// limits, after some `positions` and after twice as many, tell what a position adds. `max_size`
    /// limits the positions that these entries stand for.
    pub fn of_growing(
        cache: &Cache,
        [some, twice]: [&Cache; 2],
        positions: i32,
        max_size: Option<i32>,
    ) -> Vec<Self> {
        match (some, twice) {
            (Cache::List(some), Cache::List(twice)) => {
                let states = some.iter().zip(twice);
                let all = cache.parts().iter().zip(states);
                all.flat_map(|(cache, (some, twice))| {
                    Self::of_growing(cache, [some, twice], positions, max_size)
                })
                .collect()
            }
            (Cache::Arrays(state), _) if state.grows => {
                let (before, after) = (some.nbytes(), twice.nbytes());
                let count = positions.max(1) as usize;
                let per_position = after.saturating_sub(before).div_ceil(count);
                // What a position adds may be no whole number, and is rounded up.
                let fixed = before.saturating_sub(after.saturating_sub(before));
                vec![Self { per_position, fixed, capacity: Capacity::Groups(max_size) }]
            }
            _ => Self::of(cache),
        }
    }

    /// The most bytes that it takes for so many positions, one prompt and tokens that come one by
    /// one.
    pub fn bytes(&self, positions: i32) -> usize {
        let in_steps = positions.saturating_add(STEP - 1) / STEP * STEP;
        let held = match self.capacity {
            Capacity::Every => in_steps,
            // A group is no longer than a step.
            Capacity::Groups(most) => {
                positions.min(most.map_or(positions, |most| most.saturating_add(STEP)))
            }
            // Steps begin where the prompt ends.
            Capacity::Window(most) => positions.saturating_add(STEP - 1).min(most),
            Capacity::Chunk(most) => in_steps.min(most),
        };
        self.fixed.saturating_add(self.per_position.saturating_mul(held as usize))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::cache::{CacheLimits, KvQuantization};
    use crate::fused::kv::KvCache;
    use crate::mlx::{self, DeviceKind};

    fn bytes(cache: &Cache, positions: i32) -> usize {
        CacheSize::of(cache).iter().map(|size| size.bytes(positions)).sum()
    }

    #[test]
    fn what_positions_take_is_known_from_the_first_one() {
        mlx::enter(DeviceKind::Cpu).unwrap();
        let packed = Some(KvQuantization { group_size: None, bits: 8 });
        let limits = CacheLimits { max_size: None, quantization: packed };
        let caches = [
            Cache::standard(),
            Cache::standard().limited(&limits),
            Cache::rotating(100, 4),
            Cache::rotating(1000, 0),
            Cache::chunked(64),
            Cache::List(vec![Cache::standard(), Cache::rotating(100, 0), Cache::standard()]),
        ];
        let key =
            |length: usize| mlx::from_f32(&vec![1.0; 2 * 32 * length], &[1, 2, length as i32, 32]);
        for (mut cache, prompt) in caches.into_iter().flat_map(|it| [(it.clone(), 1), (it, 90)]) {
            let feed = |cache: &mut Cache, length| {
                let parts = match cache {
                    // The last one is not used.
                    Cache::List(parts) => &mut parts[..2],
                    cache => std::slice::from_mut(cache),
                };
                for part in parts {
                    part.update_and_fetch(&key(length), &key(length)).unwrap();
                }
            };
            let mut first = cache.clone();
            feed(&mut first, 1);
            feed(&mut cache, prompt);
            while cache.offset() < 700 {
                feed(&mut cache, 1);
                if [2, 100, 256, 257, 700].contains(&cache.offset()) {
                    let (counted, held) = (bytes(&first, cache.offset()), cache.nbytes());
                    assert!(counted >= held, "{} {counted} {held}", cache.kind());
                    assert!(counted <= 6 * held, "{} {counted} {held}", cache.kind());
                    assert!(!matches!(cache, Cache::Standard(_)) || counted == held);
                }
            }
        }
        let mut state = Cache::arrays_of(1);
        state.state().unwrap().set(0, mlx::from_f32(&[1.0, 2.0], &[2]));
        assert_eq!((bytes(&state, 1), bytes(&state, 1000)), (8, 8));
    }
}
