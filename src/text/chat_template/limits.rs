//! What one rendering may take: time and memory, measured as it runs.
//!
//! minijinja calls filters, operators and methods without a context of ours, and a rendering stays
//! on one thread from its beginning to its end; so the meter of the rendering is that thread's.
//!
//! Memory is counted before it is allocated. What a pass of a loop makes is given back when the
//! next pass begins: it lives longer only in the output, which is counted on its own, or in a
//! namespace, where [`keep`] counts it.

use std::cell::{Cell, RefCell};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use minijinja::value::ObjectRepr;
use minijinja::{Error, ErrorKind, Value};

/// What one rendering of a chat template may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct TemplateLimits {
    /// How long it may run.
    pub time: Duration,
    /// The bytes that the template's values and its output may take together, besides what the
    /// conversation needs: [`Self::memory_per_byte`].
    pub memory: usize,
    /// The further bytes for each byte of the conversation: templates that look at all messages for
    /// each message are counted for more than they hold.
    pub memory_per_byte: usize,
    /// What all of it may come to, however long the conversation is.
    pub max_memory: usize,
    /// The longest string and the longest prompt, in bytes.
    pub length: usize,
    /// How deep macros may call each other and themselves.
    pub recursion: usize,
}

impl Default for TemplateLimits {
    fn default() -> Self {
        Self {
            time: Duration::from_secs(10),
            memory: 128 << 20,
            memory_per_byte: 4096,
            max_memory: 2 << 30,
            length: 64 << 20,
            recursion: 200,
        }
    }
}

/// Values nested deeper than this are not printed, kept or compared.
pub(super) const MAX_DEPTH: usize = 1000;

/// The bytes that an item of a list takes.
const SLOT: usize = size_of::<Value>();
/// The bytes of an entry of a dictionary: key, value and the index.
const ENTRY: usize = 3 * SLOT;

/// What ends a rendering that is no longer wanted.
pub(super) const CANCELLED: &str = "the rendering was aborted";

/// Looking at the clock takes as long as this many small steps.
const STEPS_PER_LOOK: usize = 256;

/// The state of a rendering.
struct Meter {
    limits: TemplateLimits,
    ends: Instant,
    cancelled: Option<Arc<AtomicBool>>,
    memory: usize,
    steps: Cell<usize>,
    /// The bytes of values that end with the pass of a loop.
    temporary: Cell<usize>,
    /// The bytes of values in namespaces.
    kept: Cell<usize>,
    /// The bytes of the output, and of what blocks and macros capture.
    written: Cell<usize>,
}

thread_local! {
    static METER: RefCell<Option<Meter>> = const { RefCell::new(None) };
}

/// Runs `work` with a meter on this thread; `input` is the conversation's length in bytes.
pub(super) fn metered<T>(
    limits: TemplateLimits,
    input: usize,
    cancelled: Option<Arc<AtomicBool>>,
    work: impl FnOnce() -> T,
) -> T {
    let meter = Meter {
        limits,
        ends: Instant::now() + limits.time,
        cancelled,
        memory: limits
            .memory
            .saturating_add(input.saturating_mul(limits.memory_per_byte))
            .min(limits.max_memory.max(limits.memory)),
        steps: Cell::new(0),
        temporary: Cell::new(0),
        kept: Cell::new(0),
        written: Cell::new(0),
    };
    METER.with_borrow_mut(|slot| *slot = Some(meter));
    let done = work();
    METER.with_borrow_mut(|slot| *slot = None);
    done
}

fn with_meter(measure: impl FnOnce(&Meter) -> Result<(), Error>) -> Result<(), Error> {
    METER.with_borrow(|slot| slot.as_ref().map_or(Ok(()), measure))
}

impl Meter {
    fn step(&self, count: usize) -> Result<(), Error> {
        let steps = self.steps.get().saturating_add(count);
        if steps < STEPS_PER_LOOK {
            self.steps.set(steps);
            return Ok(());
        }
        self.steps.set(0);
        if self.cancelled.as_ref().is_some_and(|flag| flag.load(Ordering::Relaxed)) {
            return Err(invalid(CANCELLED));
        }
        if Instant::now() >= self.ends {
            let seconds = self.limits.time.as_secs_f64();
            return Err(invalid(format!(
                "the chat template runs longer than {seconds} s: shorten the conversation, or \
                 render it yourself and pass the prompt as text"
            )));
        }
        Ok(())
    }

    fn fits(&self, more: usize) -> Result<(), Error> {
        let held = self.temporary.get() + self.kept.get() + self.written.get();
        if held.saturating_add(more) > self.memory {
            return Err(invalid(format!(
                "the chat template needs more than {} MB of memory: shorten the conversation, or \
                 render it yourself and pass the prompt as text",
                self.memory >> 20
            )));
        }
        Ok(())
    }
}

/// Counts steps of work, each about as long as comparing two small values.
pub(super) fn step(count: usize) -> Result<(), Error> {
    with_meter(|meter| meter.step(count))
}

/// Counts `bytes` that are about to be allocated.
pub(super) fn take(bytes: usize) -> Result<(), Error> {
    with_meter(|meter| {
        meter.step(1 + bytes / 64)?;
        meter.fits(bytes)?;
        meter.temporary.set(meter.temporary.get() + bytes);
        Ok(())
    })
}

/// Counts a string of `length` bytes that is about to be made.
pub(super) fn take_text(length: usize) -> Result<(), Error> {
    with_meter(|meter| {
        let longest = meter.limits.length;
        if length > longest {
            return Err(invalid(format!(
                "the chat template makes a string of more than {} MB",
                longest >> 20
            )));
        }
        Ok(())
    })?;
    take(length)
}

/// Counts a list of `items` that is about to be made.
pub(super) fn take_list(items: usize) -> Result<(), Error> {
    take(items.saturating_mul(SLOT))
}

/// Counts `bytes` that are about to be written.
pub(super) fn write(bytes: usize) -> Result<(), Error> {
    with_meter(|meter| {
        meter.step(1 + bytes / 64)?;
        meter.fits(bytes)?;
        meter.written.set(meter.written.get() + bytes);
        Ok(())
    })
}

/// The bytes of values at the beginning of a loop; [`pass`] goes back to them.
pub(super) fn mark() -> usize {
    METER.with_borrow(|slot| slot.as_ref().map_or(0, |meter| meter.temporary.get()))
}

/// Begins a pass of a loop that has begun at `mark`; its text is `text` bytes long.
pub(super) fn pass(mark: Option<usize>, text: usize) -> Result<(), Error> {
    if let Some(mark) = mark {
        with_meter(|meter| {
            meter.temporary.set(mark.min(meter.temporary.get()));
            Ok(())
        })?;
    }
    write(text)
}

/// Counts `value`, which takes the place of `previous` in a namespace.
pub(super) fn keep(value: &Value, previous: &Value) -> Result<(), Error> {
    let weight = weight(value, 0)?;
    let freed = self::weight(previous, 0).unwrap_or(0);
    with_meter(|meter| {
        let kept = meter.kept.get().saturating_sub(freed);
        meter.kept.set(kept);
        meter.fits(weight)?;
        meter.kept.set(kept + weight);
        Ok(())
    })
}

/// Refuses a value that holds others so often that going through it takes too long.
pub(super) fn weigh(value: &Value) -> Result<(), Error> {
    weight(value, 0).map(drop)
}

/// Refuses to make a value that holds `value` so many `times`.
pub(super) fn weigh_times(value: &Value, times: usize) -> Result<(), Error> {
    let weight = weight(value, 0)?.saturating_mul(times);
    with_meter(|meter| meter.fits(weight))
}

/// The bytes that `value` takes, with all in it; an item that is there twice counts twice.
fn weight(value: &Value, depth: usize) -> Result<usize, Error> {
    if depth > MAX_DEPTH {
        return Err(too_deep());
    }
    step(1)?;
    let Some(object) = value.as_object() else {
        return Ok(value.as_str().map_or(0, str::len));
    };
    let mut sum = 0_usize;
    match object.repr() {
        ObjectRepr::Map => {
            for key in value.try_iter()? {
                let item = object.get_value(&key).map_or(Ok(0), |it| weight(&it, depth + 1))?;
                sum = sum.saturating_add(ENTRY + item + key.as_str().map_or(0, str::len));
            }
        }
        ObjectRepr::Seq => {
            for item in value.try_iter()? {
                sum = sum.saturating_add(SLOT + weight(&item, depth + 1)?);
            }
        }
        _ => sum = value.len().unwrap_or(0).saturating_mul(SLOT),
    }
    with_meter(|meter| if sum > meter.memory { meter.fits(sum) } else { Ok(()) })?;
    Ok(sum)
}

/// A value is nested too deep to be handled.
pub(super) fn too_deep() -> Error {
    invalid(format!("a value nested deeper than {MAX_DEPTH} levels"))
}

fn invalid(message: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::new(ErrorKind::InvalidOperation, message)
}
