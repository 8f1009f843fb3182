//! What snapshots of a sequence's caches consist of.
//!
//! Keys and values of every position can be cut to any length, so those of the longest sequence
//! serve every beginning of it. All else (windows, chunks, the state of a recurrence) holds what
//! one position needs, and is small: it is kept for single positions, beside the former.

use super::{Cache, RotatingCache, StandardCache};
use crate::error::Result;

/// A part of the caches of a sequence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CachePart {
    /// Keys and values of every position.
    Positions,
    /// All else.
    State,
}

impl CachePart {
    /// Its name in files.
    pub fn name(self) -> &'static str {
        match self {
            Self::Positions => "positions",
            Self::State => "state",
        }
    }

    /// The part of a name.
    pub fn named(name: &str) -> Option<Self> {
        [Self::Positions, Self::State].into_iter().find(|part| part.name() == name)
    }

    /// Whether `caches` have such a part.
    pub fn is_in(self, caches: &[Cache]) -> bool {
        caches.iter().any(|cache| match cache {
            Cache::List(parts) => self.is_in(parts),
            Cache::Standard(_) => self == Self::Positions,
            Cache::Rotating(_) | Cache::Chunked(_) | Cache::Arrays(_) => self == Self::State,
        })
    }

    /// Divides caches into [`CachePart::Positions`] and [`CachePart::State`]: either has a cache
    /// for each layer, and some are empty.
    pub fn split(caches: impl IntoIterator<Item = Cache>) -> (Vec<Cache>, Vec<Cache>) {
        let divide = |cache| match cache {
            Cache::List(parts) => {
                let (positions, state) = Self::split(parts);
                (Cache::List(positions), Cache::List(state))
            }
            Cache::Standard(_) => (cache, Cache::arrays_of(0)),
            state => (Cache::arrays_of(0), state),
        };
        caches.into_iter().map(divide).unzip()
    }

    /// The caches after `length` positions, of the same kinds as `empty`, made of the parts of
    /// sequences that begin alike; `None` where these cannot be cut so far. Nothing that is written
    /// to them changes the parts.
    ///
    /// # Errors
    /// Those of MLX.
    pub fn join(
        empty: Vec<Cache>,
        positions: Option<&[Cache]>,
        state: Option<&[Cache]>,
        length: i32,
    ) -> Result<Option<Vec<Cache>>> {
        let mut joined = Vec::with_capacity(empty.len());
        for (index, cache) in empty.into_iter().enumerate() {
            let positions = positions.and_then(|caches| caches.get(index));
            let state = state.and_then(|caches| caches.get(index));
            match join(cache, positions, state, length)? {
                Some(cache) => joined.push(cache),
                None => return Ok(None),
            }
        }
        Ok(Some(joined))
    }

    /// A copy of the first `length` positions of `caches` as they are now, in memory of its own.
    ///
    /// # Errors
    /// Those of MLX, also of what computes the positions.
    pub fn copy_positions(caches: &[Cache], length: i32) -> Result<Vec<Cache>> {
        let copies: Vec<Cache> =
            caches.iter().map(|cache| copy(cache, length)).collect::<Result<_>>()?;
        Cache::evaluated(copies)
    }

    /// What of such a part is worth writing: no room for more, and nothing that no token sees.
    /// Nothing is computed.
    ///
    /// # Errors
    /// Those of MLX.
    pub fn without_room(caches: Vec<Cache>) -> Result<Vec<Cache>> {
        caches.into_iter().map(without_room).collect()
    }

    /// Whether `caches`, which may come from a file, can be such a part of those that a model has
    /// `made` for one token.
    pub fn is_like(self, made: Vec<Cache>, caches: &[Cache]) -> bool {
        let (positions, state) = Self::split(made);
        match self {
            Self::Positions => Cache::all_alike(&positions, caches),
            Self::State => Cache::all_alike(&state, caches),
        }
    }

    /// The state of `caches` as it is now. Nothing is computed.
    ///
    /// # Errors
    /// Those of building the graph.
    pub fn copy_state(caches: &[Cache]) -> Result<Vec<Cache>> {
        let (_, state) = Self::split(caches.iter().cloned());
        state.into_iter().map(compact).collect()
    }
}

impl Cache {
    /// The fewest positions to which [`Cache::rewind`] can take it back.
    pub fn shortest(&self) -> i32 {
        match self {
            Self::List(parts) => parts.iter().map(Self::shortest).max().unwrap_or(0),
            _ if self.arrays().is_empty() || matches!(self, Self::Standard(_)) => 0,
            Self::Chunked(cache) => cache.shortest(),
            Self::Rotating(cache) if cache.is_trimmable() => 0,
            _ => self.offset(),
        }
    }
}

fn join(
    empty: Cache,
    positions: Option<&Cache>,
    state: Option<&Cache>,
    length: i32,
) -> Result<Option<Cache>> {
    match empty {
        Cache::Standard(_) => match positions {
            Some(Cache::Standard(cache)) => cache.beginning(length).map(Cache::Standard).map(Some),
            _ => Ok(None),
        },
        Cache::List(parts) => {
            let of_list = |cache: Option<&'_ Cache>| cache.map(|it| it.parts().to_vec());
            let (positions, state) = (of_list(positions), of_list(state));
            let joined = CachePart::join(parts, positions.as_deref(), state.as_deref(), length)?;
            Ok(joined.map(Cache::List))
        }
        Cache::Rotating(_) | Cache::Chunked(_) | Cache::Arrays(_) => {
            let Some(mut cache) = state.cloned() else { return Ok(None) };
            if let (Cache::Arrays(empty), Cache::Arrays(state)) = (&empty, &mut cache) {
                state.set_like(empty);
            }
            Ok((cache.offset() == length || cache.rewind(length)).then_some(cache))
        }
    }
}

fn copy(cache: &Cache, length: i32) -> Result<Cache> {
    Ok(match cache {
        Cache::Standard(cache) => Cache::Standard(cache.copied(length)?),
        Cache::List(parts) => {
            Cache::List(parts.iter().map(|part| copy(part, length)).collect::<Result<_>>()?)
        }
        Cache::Rotating(_) | Cache::Chunked(_) | Cache::Arrays(_) => Cache::arrays_of(0),
    })
}

fn compact(cache: Cache) -> Result<Cache> {
    Ok(match cache {
        Cache::Rotating(cache) => Cache::Rotating(cache.compact()?),
        Cache::List(parts) => Cache::List(parts.into_iter().map(compact).collect::<Result<_>>()?),
        other => other,
    })
}

fn without_room(cache: Cache) -> Result<Cache> {
    Ok(match cache {
        Cache::Standard(cache) => Cache::Standard(cache.beginning(cache.offset())?),
        Cache::Rotating(cache) => Cache::Rotating(cache.compact()?),
        Cache::List(parts) => Cache::List(CachePart::without_room(parts)?),
        other => other,
    })
}

impl StandardCache {
    /// The first `length` positions, in buffers without room: who adds to them makes a copy.
    fn beginning(&self, length: i32) -> Result<Self> {
        self.settle()?;
        let Some((keys, values)) = &self.buffers else { return Ok(self.clone()) };
        let buffers = match length {
            0 => None,
            _ => Some((keys.take_prefix(length)?, values.take_prefix(length)?)),
        };
        Ok(Self { buffers, offset: length, ..self.clone() })
    }

    /// The first `length` positions, in buffers of their own.
    fn copied(&self, length: i32) -> Result<Self> {
        let beginning = self.beginning(length)?;
        let Some((keys, values)) = &beginning.buffers else { return Ok(beginning) };
        // What is cut off alone may still be the same memory.
        let copy = |tensor: &super::KvTensor| tensor.concatenated(&[&tensor.zeros_like(1)?]);
        Ok(Self { buffers: Some((copy(keys)?, copy(values)?)), ..beginning })
    }
}

impl RotatingCache {
    /// The same without positions that no later token sees.
    fn compact(self) -> Result<Self> {
        let Some((keys, values)) = &self.buffers else { return Ok(self) };
        let (capacity, surplus) = (keys.length(), keys.length() - self.max_size);
        if surplus <= 0 || self.index != capacity {
            return Ok(self);
        }
        let buffers = (
            self.without_oldest(surplus, keys, None)?,
            self.without_oldest(surplus, values, None)?,
        );
        Ok(Self { buffers: Some(buffers), index: self.max_size, ..self })
    }
}
