//! What a cache holds beyond the positions that somebody who goes on from it keeps.

use super::{Cache, KvTensor, StandardCache};
use crate::error::Result;

impl Cache {
    /// What is lost where all but the first `length` positions are overwritten: copies of the
    /// positions behind, and by reference what a step replaces as a whole. Nothing is computed.
    ///
    /// # Errors
    /// Those of MLX.
    pub fn remainder(&self, length: i32) -> Result<Self> {
        Ok(match self {
            Self::Standard(cache) => Self::Standard(cache.remainder(length)?),
            Self::List(parts) => {
                Self::List(parts.iter().map(|it| it.remainder(length)).collect::<Result<_>>()?)
            }
            Self::Rotating(_) | Self::Chunked(_) | Self::Arrays(_) => self.clone(),
        })
    }

    /// The cache that `self` is the [`Cache::remainder`] of, with the first `length` positions of
    /// `beginning`; `None` where these are not there.
    ///
    /// # Errors
    /// Those of MLX.
    pub fn behind(&self, beginning: Option<&Self>, length: i32) -> Result<Option<Self>> {
        match (self, beginning) {
            (Self::List(parts), beginning) => {
                let beginnings = beginning.map(Self::parts).unwrap_or_default();
                let whole = |(index, part): (usize, &Self)| {
                    part.behind(beginnings.get(index), length).transpose()
                };
                let whole: Vec<Self> =
                    parts.iter().enumerate().filter_map(whole).collect::<Result<_>>()?;
                Ok((whole.len() == parts.len()).then_some(Self::List(whole)))
            }
            (Self::Standard(rest), Some(Self::Standard(beginning))) if rest.offset > 0 => {
                Ok(rest.behind(beginning.clone(), length)?.map(Self::Standard))
            }
            (Self::Standard(rest), _) if rest.offset > 0 => Ok(None),
            _ => Ok(Some(self.clone())),
        }
    }
}

impl StandardCache {
    fn remainder(&self, length: i32) -> Result<Self> {
        self.settle()?;
        let copy = |tensor: &KvTensor| {
            let behind = tensor.slice(length, self.offset)?;
            // What is cut off alone may still be the same memory.
            behind.concatenated(&[&behind.zeros_like(1)?])
        };
        let buffers = match &self.buffers {
            Some((keys, values)) if length < self.offset => Some((copy(keys)?, copy(values)?)),
            _ => None,
        };
        Ok(Self { buffers, writer: None, ..self.clone() })
    }

    fn behind(&self, mut beginning: Self, length: i32) -> Result<Option<Self>> {
        if beginning.offset < length {
            return Ok(None);
        }
        beginning.offset = length;
        if let Some((keys, values)) = &self.buffers {
            let count = self.offset - length;
            beginning.append(&keys.take_prefix(count)?, &values.take_prefix(count)?)?;
        }
        Ok(Some(beginning))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::cache::{CacheLimits, KvQuantization};
    use crate::mlx::{self, Array, DeviceKind};

    fn keys(positions: impl Iterator<Item = i32>) -> Array {
        let values: Vec<f32> = positions.flat_map(|at| [at as f32; 64]).collect();
        mlx::from_f32(&values, &[1, 1, (values.len() / 64) as i32, 64])
    }

    fn feed(cache: &mut Cache, positions: std::ops::Range<i32>) {
        match cache {
            Cache::List(parts) => parts.iter_mut().for_each(|it| feed(it, positions.clone())),
            Cache::Arrays(state) => {
                state.advance(positions.len() as i32);
                state.set(0, keys(positions));
            }
            _ => drop(cache.update(&keys(positions.clone()), &keys(positions)).unwrap()),
        }
        mlx::eval(&cache.arrays()).unwrap();
    }

    /// The positions that the next token sees, in any order, or the state.
    fn held(cache: &Cache) -> Vec<Vec<f32>> {
        let seen = |cache: &Cache| {
            let mut cache = cache.clone();
            let seen = match &mut cache {
                Cache::Arrays(state) => state.entries()[0].clone().unwrap(),
                cache => cache.update(&keys(77..78), &keys(77..78)).unwrap().1,
            };
            let mut seen = mlx::to_f32_vec(&seen).unwrap();
            seen.sort_by(f32::total_cmp);
            seen
        };
        cache.parts().iter().map(seen).collect()
    }

    #[test]
    fn what_is_overwritten_behind_a_beginning_comes_back() {
        mlx::enter(DeviceKind::Cpu).unwrap();
        let packed = KvQuantization { group_size: Some(64), bits: 8 };
        let packed = CacheLimits { max_size: None, quantization: Some(packed) };
        let kinds = || {
            let list = vec![Cache::arrays_of(1), Cache::standard()];
            let standard = [Cache::standard(), Cache::standard().limited(&packed)];
            let others = [Cache::rotating(8, 2), Cache::chunked(8), Cache::List(list)];
            standard.into_iter().chain(others)
        };
        for (length, added) in [(12, 1), (12, 300), (5, 2), (5, 30)] {
            for mut cache in kinds() {
                let kind = cache.kind();
                feed(&mut cache, 0..12);
                let before = held(&cache);
                let rest = cache.remainder(length).unwrap();
                mlx::eval(&rest.arrays()).unwrap();
                if length < 12 && !cache.rewind(length) {
                    // Its whole is kept, in memory of its own.
                    assert!(matches!(kind, "rotating" | "chunked" | "list"), "{kind}");
                    assert!(kind == "list" || held(&rest) == before, "{kind}");
                    continue;
                }
                for position in 0..added {
                    feed(&mut cache, 50 + position..51 + position);
                }
                let whole = rest.behind(Some(&cache), length).unwrap().unwrap();
                assert_eq!((whole.offset(), whole.kind()), (12, kind));
                assert_eq!(held(&whole), before, "{kind}, {added} behind {length}");
            }
        }
    }

    #[test]
    fn a_beginning_that_is_lost_is_none() {
        mlx::enter(DeviceKind::Cpu).unwrap();
        let mut cache = Cache::standard();
        feed(&mut cache, 0..12);
        let rest = cache.remainder(5).unwrap();
        assert!(rest.behind(None, 5).unwrap().is_none());
        let mut shorter = Cache::standard();
        feed(&mut shorter, 0..4);
        assert!(rest.behind(Some(&shorter), 5).unwrap().is_none());
        // A layer that has a cache and does not use it.
        let unused = Cache::standard().remainder(5).unwrap();
        assert_eq!(unused.behind(None, 5).unwrap().unwrap().offset(), 0);
    }
}
