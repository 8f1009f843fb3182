//! The caches of a sequence as a tree of arrays and numbers, in the shape that mlx-lm 0.32.2 gives
//! them in its prompt-cache files.

use super::kv_tensor::{KvQuantization, KvTensor};
use super::{ArraysCache, Cache, ChunkedCache, RotatingCache, StandardCache};
use crate::mlx::Array;
use crate::mlx::quantized::{Mode, QuantizationParams, QuantizedTensor};

/// A node of the tree.
#[derive(Debug, Clone)]
pub(super) enum State {
    /// An array.
    Array(Array),
    /// A number that is no array.
    Number(i64),
    /// The name of a class.
    Text(String),
    /// Python's `None`.
    Nothing,
    /// Further nodes.
    List(Vec<State>),
}

/// Windows and chunks of packed keys and values, which mlx-lm does not have.
const PACKED_WINDOW: &str = "QuantizedRotatingKVCache";
const PACKED_CHUNK: &str = "QuantizedChunkedKVCache";

/// Positions beyond which a cache from outside is not believed: far more than any model's context,
/// and few enough for sums of them to be numbers still.
const MAX_POSITIONS: i32 = 1 << 30;

/// Several caches of one layer.
const LIST: &str = "CacheList";

/// The name of a cache's class in mlx-lm, and its state.
pub(super) fn of(cache: &Cache) -> (&'static str, State) {
    match cache {
        Cache::Standard(StandardCache { buffers, offset, quantization, .. }) => {
            let mut state = rows(buffers.as_ref());
            state.push(number(*offset));
            let class = match quantization {
                None => "KVCache",
                Some(quantization) => {
                    state.extend(packing_of(buffers.as_ref(), *quantization));
                    "QuantizedKVCache"
                }
            };
            (class, State::List(state))
        }
        Cache::Rotating(RotatingCache { buffers, offset, max_size, keep, index, quantization }) => {
            let mut state = rows(buffers.as_ref());
            state.extend([*offset, *keep, *max_size, *index].map(number));
            let class = match quantization {
                None => "RotatingKVCache",
                Some(quantization) => {
                    state.extend(packing_of(buffers.as_ref(), *quantization));
                    PACKED_WINDOW
                }
            };
            (class, State::List(state))
        }
        Cache::Chunked(ChunkedCache { buffers, offset, chunk, start, quantization, .. }) => {
            let mut state = rows(buffers.as_ref());
            state.extend([*offset, *chunk, *start].map(number));
            let class = match quantization {
                None => "ChunkedKVCache",
                Some(quantization) => {
                    state.extend(packing_of(buffers.as_ref(), *quantization));
                    PACKED_CHUNK
                }
            };
            (class, State::List(state))
        }
        Cache::Arrays(cache) => {
            let entries = cache.entries().iter();
            let entries =
                entries.map(|entry| entry.clone().map_or(State::Nothing, State::Array)).collect();
            // Left padding and lengths are those of a batch.
            let state = vec![State::List(entries), State::Nothing, State::Nothing];
            ("ArraysCache", State::List(state))
        }
        Cache::List(parts) => {
            let part = |part| {
                let (class, state) = of(part);
                State::List(vec![state, State::Text(class.to_owned())])
            };
            (LIST, State::List(parts.iter().map(part).collect()))
        }
    }
}

/// The cache of a class and state; `None` where they do not make sense. The positions that went
/// into arrays are not in the state: they are `positions`.
pub(super) fn restore(class: &str, state: &State, positions: i32) -> Option<Cache> {
    let State::List(fields) = state else { return None };
    let cache = match (class, fields.as_slice()) {
        ("KVCache", [keys, values, offset]) => Cache::Standard(StandardCache {
            buffers: buffers(keys, values, None)?,
            offset: offset.as_length()?,
            ..StandardCache::default()
        }),
        ("QuantizedKVCache", [keys, values, offset, group_size, bits]) => {
            let quantization = quantization(group_size, bits)?;
            Cache::Standard(StandardCache {
                buffers: buffers(keys, values, Some(quantization))?,
                offset: offset.as_length()?,
                quantization: Some(quantization),
                ..StandardCache::default()
            })
        }
        ("RotatingKVCache", [keys, values, window @ ..]) => {
            rotating(buffers(keys, values, None)?, window, None)?
        }
        (PACKED_WINDOW, [keys, values, window @ .., group_size, bits]) => {
            let quantization = quantization(group_size, bits)?;
            rotating(buffers(keys, values, Some(quantization))?, window, Some(quantization))?
        }
        ("ChunkedKVCache", [keys, values, chunk @ ..]) => {
            chunked(buffers(keys, values, None)?, chunk, None)?
        }
        (PACKED_CHUNK, [keys, values, chunk @ .., group_size, bits]) => {
            let quantization = quantization(group_size, bits)?;
            chunked(buffers(keys, values, Some(quantization))?, chunk, Some(quantization))?
        }
        ("ArraysCache", [State::List(entries), State::Nothing, State::Nothing]) => {
            let entries = entries.iter().map(State::as_optional_array).collect::<Option<_>>()?;
            Cache::Arrays(ArraysCache::of(entries, positions))
        }
        (LIST, parts) => {
            let part = |part: &State| match part {
                State::List(part) => match part.as_slice() {
                    [state, State::Text(class)] if class != LIST => {
                        restore(class, state, positions)
                    }
                    _ => None,
                },
                _ => None,
            };
            Cache::List(parts.iter().map(part).collect::<Option<_>>()?)
        }
        _ => return None,
    };
    is_sound(&cache).then_some(cache)
}

fn rotating(
    buffers: Option<(KvTensor, KvTensor)>,
    window: &[State],
    quantization: Option<KvQuantization>,
) -> Option<Cache> {
    let [offset, keep, max_size, index] = window else { return None };
    Some(Cache::Rotating(RotatingCache {
        buffers,
        offset: offset.as_length()?,
        max_size: max_size.as_length()?,
        keep: keep.as_length()?,
        index: index.as_length()?,
        quantization,
    }))
}

fn chunked(
    buffers: Option<(KvTensor, KvTensor)>,
    place: &[State],
    quantization: Option<KvQuantization>,
) -> Option<Cache> {
    let [offset, chunk, start] = place else { return None };
    let (offset, chunk) = (offset.as_length()?, chunk.as_length().filter(|&chunk| chunk > 0)?);
    let seen = offset / chunk * chunk;
    let start = start.as_length()?;
    Some(Cache::Chunked(ChunkedCache { buffers, offset, chunk, start, seen, quantization }))
}

/// Whether no later step can reach outside of the buffers.
fn is_sound(cache: &Cache) -> bool {
    match cache {
        Cache::Standard(cache) => match &cache.buffers {
            Some((keys, values)) => {
                cache.offset <= keys.length() && keys.length() == values.length()
            }
            None => cache.offset == 0,
        },
        Cache::Rotating(cache) => {
            let filled = match &cache.buffers {
                Some((keys, values)) => {
                    cache.index <= keys.length()
                        && cache.offset.min(cache.max_size) <= keys.length()
                        && keys.length() == values.length()
                        // The next position is the one behind the last, or one of the ring.
                        && match cache.offset < cache.max_size {
                            true => cache.index == cache.offset,
                            false => cache.index >= cache.keep,
                        }
                }
                None => cache.offset == 0 && cache.index == 0,
            };
            filled && cache.keep < cache.max_size && cache.index <= cache.offset
        }
        Cache::Chunked(cache) => match &cache.buffers {
            Some((keys, values)) => {
                cache.start <= cache.seen
                    && cache.offset - cache.start <= keys.length()
                    && keys.length() == values.length()
            }
            None => cache.offset == 0 && cache.start == 0,
        },
        // The parts of a list were looked at one by one.
        Cache::Arrays(_) | Cache::List(_) => true,
    }
}

fn number(value: i32) -> State {
    State::Number(i64::from(value))
}

fn rows(buffers: Option<&(KvTensor, KvTensor)>) -> Vec<State> {
    let state = |rows: &KvTensor| match rows {
        KvTensor::Plain(array) => State::Array(array.clone()),
        KvTensor::Quantized(_) => {
            State::List(rows.arrays().into_iter().cloned().map(State::Array).collect())
        }
    };
    match buffers {
        Some((keys, values)) => vec![state(keys), state(values)],
        None => vec![State::Nothing, State::Nothing],
    }
}

/// The group size and the bits: of what was packed, or else as asked for.
fn packing_of(buffers: Option<&(KvTensor, KvTensor)>, quantization: KvQuantization) -> [State; 2] {
    let group_size = match buffers {
        Some((KvTensor::Quantized(packed), _)) => packed.params.group_size,
        _ => quantization.group_size.unwrap_or(64),
    };
    [number(group_size), number(quantization.bits)]
}

fn quantization(group_size: &State, bits: &State) -> Option<KvQuantization> {
    let (group_size, bits) = (group_size.as_length()?, bits.as_length()?);
    let known = [32, 64, 128].contains(&group_size) && [2, 3, 4, 5, 6, 8].contains(&bits);
    known.then_some(KvQuantization { group_size: Some(group_size), bits })
}

/// Outside: whether the state makes sense. Inside: `None` for buffers that are not there yet.
fn buffers(
    keys: &State,
    values: &State,
    quantization: Option<KvQuantization>,
) -> Option<Option<(KvTensor, KvTensor)>> {
    if let (State::Nothing, State::Nothing) = (keys, values) {
        return Some(None);
    }
    Some(Some((read_rows(keys, quantization)?, read_rows(values, quantization)?)))
}

fn read_rows(state: &State, quantization: Option<KvQuantization>) -> Option<KvTensor> {
    match (state, quantization) {
        (State::Array(array), None) => (array.ndim() == 4).then(|| KvTensor::Plain(array.clone())),
        (State::List(parts), Some(KvQuantization { group_size: Some(group_size), bits })) => {
            let [State::Array(weight), State::Array(scales), State::Array(biases)] =
                parts.as_slice()
            else {
                return None;
            };
            let alike = scales.shape() == biases.shape()
                && weight.ndim() == 4
                && scales.ndim() == 4
                && weight.shape()[..3] == scales.shape()[..3]
                && i64::from(weight.dim(3)) * 32
                    == i64::from(scales.dim(3)) * i64::from(group_size) * i64::from(bits);
            alike.then(|| {
                KvTensor::Quantized(QuantizedTensor {
                    weight: weight.clone(),
                    scales: scales.clone(),
                    biases: Some(biases.clone()),
                    params: QuantizationParams { mode: Mode::Affine, group_size, bits },
                    dtype: scales.dtype(),
                })
            })
        }
        _ => None,
    }
}

impl State {
    fn as_length(&self) -> Option<i32> {
        match self {
            Self::Number(number) => {
                i32::try_from(*number).ok().filter(|number| (0..=MAX_POSITIONS).contains(number))
            }
            _ => None,
        }
    }

    fn as_optional_array(&self) -> Option<Option<Array>> {
        match self {
            Self::Array(array) => Some(Some(array.clone())),
            Self::Nothing => Some(None),
            _ => None,
        }
    }
}
