//! What was read, on disk: files of beginnings, for whoever begins alike later on, in this process
//! or in another one.
//!
//! `<directory>/<model>/<key>-<checksum>.safetensors` is a prompt-cache file with one part of a
//! sequence's caches, and its header says of which tokens. A file comes to be under another name
//! and is complete when it gets this one. What is in it is believed only if its checksum is right
//! and its header says what was looked for; every other file is removed. There is no other index
//! than the files: a process reads their headers, and looks for new names whenever it needs them.
//!
//! Their times are the times of their last use. Whoever adds one removes the oldest ones of the
//! whole directory, other models' included, until all fit into its limit.

mod folder;
mod index;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use folder::Folder;
use index::Index;

use super::file::{CacheBytes, OpenFile};
use super::{Cache, CachePart};
use crate::error::{Error, Result};

/// Another number for each layout of the files that older programs cannot read.
const FORMAT: u32 = 1;

/// Two changes of a folder within this time may have the same time.
const CLOCK: Duration = Duration::from_secs(2);

const MODEL: &str = "nodemlx_model";
const OWNER: &str = "nodemlx_owner";
const PART: &str = "nodemlx_part";
const SHORTEST: &str = "nodemlx_shortest";
const TOKENS: &str = "nodemlx_tokens";

/// What a file is of.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Beginning {
    /// Whose it is: sequences of other owners cannot use it.
    pub owner: String,
    /// The part of their caches.
    pub part: CachePart,
    /// The tokens that went in.
    pub tokens: Vec<u32>,
    /// The fewest of them that it can be cut to.
    pub shortest: usize,
}

/// A beginning that was read back.
pub struct Restored {
    /// What it is of.
    pub beginning: Beginning,
    name: String,
    file: OpenFile,
}

/// The files of one model in a directory.
#[derive(Debug)]
pub struct PrefixStore {
    shelf: Arc<Shelf>,
    jobs: Sender<Job>,
}

/// What the writer's thread shares.
#[derive(Debug)]
struct Shelf {
    folder: Folder,
    model: String,
    index: Mutex<Index>,
    /// When the folder had changed last, as it was looked at.
    seen: Mutex<Option<SystemTime>>,
    /// The bytes that wait to be written.
    waiting: AtomicUsize,
}

enum Job {
    Save { beginning: Beginning, bytes: CacheBytes, nbytes: usize, used: SystemTime },
    Touch { beginning: Beginning, used: SystemTime },
    Clear(Box<dyn FnOnce() + Send>),
    Flush(Sender<()>),
}

impl PrefixStore {
    /// The files in `directory`, which is made where it is not there, of the model that `model`
    /// tells from all others. All files of all models take `limit` bytes at most.
    ///
    /// # Errors
    /// [`Error::Io`] where the directory cannot be used.
    pub fn open(directory: &Path, limit: u64, model: &str) -> Result<Self> {
        let model = format!("{FORMAT} {} {model}", env!("CARGO_PKG_VERSION"));
        let failed = |error| Error::io(directory, error);
        let folder = Folder::create(directory, &hash(&model), limit).map_err(failed)?;
        let shelf = Arc::new(Shelf {
            folder,
            model,
            index: Mutex::default(),
            seen: Mutex::default(),
            waiting: AtomicUsize::new(0),
        });
        let (jobs, inbox) = channel();
        let writer = Arc::clone(&shelf);
        thread::Builder::new()
            .name("nodemlx-prefix".to_owned())
            .spawn(move || writer.work(&inbox))
            .map_err(failed)?;
        Ok(Self { shelf, jobs })
    }

    /// The most bytes of all files.
    pub fn limit(&self) -> u64 {
        self.shelf.folder.limit()
    }

    /// The bytes that were given to be saved and are not written yet.
    pub fn waiting(&self) -> usize {
        self.shelf.waiting.load(Ordering::Relaxed)
    }

    /// Looks for files that have come and gone. May be slow.
    pub fn refresh(&self) {
        self.shelf.refresh();
    }

    /// The longest beginning of `tokens` that a file serves, and that file's name.
    pub fn longest(&self, owner: &str, part: CachePart, tokens: &[u32]) -> Option<(usize, String)> {
        self.shelf.index().longest(owner, part, tokens)
    }

    /// Whether a file serves all that `beginning` serves, as far as this process has seen to it.
    pub fn covers(&self, beginning: &Beginning) -> bool {
        let index = self.shelf.index();
        index.covering(beginning).is_some_and(|name| index.is_verified(name))
    }

    /// Reads a file back. May be slow. One that is broken, or not what it was taken for, is removed
    /// and not found again.
    pub fn fetch(&self, name: &str) -> Option<Restored> {
        self.shelf.fetch(name)
    }

    /// Removes the file of what turned out to be of no use.
    pub fn refuse(&self, name: &str) {
        self.shelf.refuse(name);
    }

    /// What is to be said of `beginning` in its file.
    pub fn texts(&self, beginning: &Beginning) -> HashMap<String, String> {
        let Beginning { owner, part, tokens, shortest } = beginning;
        let words: Vec<String> = tokens.iter().map(u32::to_string).collect();
        let texts = [
            (MODEL, self.shelf.model.clone()),
            (OWNER, owner.clone()),
            (PART, part.name().to_owned()),
            (SHORTEST, shortest.to_string()),
            (TOKENS, words.join(" ")),
        ];
        texts.map(|(name, text)| (name.to_owned(), text)).into()
    }

    /// Writes a file on another thread, unless one is there already that serves as much, or there
    /// is no room but that of what was used later than `used`. A failure costs the file only.
    pub fn save(&self, beginning: Beginning, bytes: CacheBytes, nbytes: usize, used: SystemTime) {
        self.shelf.waiting.fetch_add(nbytes, Ordering::Relaxed);
        self.send(Job::Save { beginning, bytes, nbytes, used });
    }

    /// Notes that what serves `beginning` was used.
    pub fn touch(&self, beginning: Beginning, used: SystemTime) {
        self.send(Job::Touch { beginning, used });
    }

    /// Removes all files of the model, then calls `done`.
    pub fn clear(&self, done: Box<dyn FnOnce() + Send>) {
        self.send(Job::Clear(done));
    }

    /// Waits until all is written that was given to be saved, at most until `deadline`.
    pub fn flush(&self, deadline: Instant) {
        let (sender, receiver) = channel();
        self.send(Job::Flush(sender));
        let left = deadline.saturating_duration_since(Instant::now());
        // What is not written by then is lost.
        let _ = receiver.recv_timeout(left);
    }

    fn send(&self, job: Job) {
        // The writer's thread lives as long as this.
        let _ = self.jobs.send(job);
    }
}

impl Restored {
    /// Its file's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its caches, for the thread of the model.
    ///
    /// # Errors
    /// [`Error::PromptCache`] where they make no sense.
    pub fn into_caches(self) -> Result<(Beginning, Vec<Cache>)> {
        let Self { beginning, file, .. } = self;
        let positions = i32::try_from(beginning.tokens.len()).ok();
        Ok((beginning, file.read_after(positions)?.caches))
    }
}

impl Shelf {
    fn work(&self, inbox: &Receiver<Job>) {
        for job in inbox {
            match job {
                Job::Save { beginning, bytes, nbytes, used } => {
                    // Without this file what begins alike is read again.
                    let _ = self.save(beginning, bytes, nbytes, used);
                    self.waiting.fetch_sub(nbytes, Ordering::Relaxed);
                }
                Job::Touch { beginning, used } => {
                    let name = self.index().covering(&beginning).map(str::to_owned);
                    if let Some(name) = name {
                        self.folder.touch(&name, used);
                    }
                }
                Job::Clear(done) => {
                    self.refresh();
                    for name in self.index().take_names() {
                        self.folder.remove(&name);
                    }
                    done();
                }
                Job::Flush(done) => {
                    // Who waited too long is gone.
                    let _ = done.send(());
                }
            }
        }
    }

    fn save(
        &self,
        beginning: Beginning,
        bytes: CacheBytes,
        nbytes: usize,
        used: SystemTime,
    ) -> Result<()> {
        let failed = |error| Error::io(self.folder.path(), error);
        let lock = self.folder.lock().map_err(failed)?;
        if self.is_there(&beginning, used) || !self.folder.reserve(nbytes as u64, used, &lock) {
            return Ok(());
        }
        drop(lock);
        let content = bytes.serialized()?;
        drop(bytes);
        let written = self.folder.write(&content).map_err(failed)?;
        drop(content);
        let lock = self.folder.lock().map_err(failed)?;
        if self.is_there(&beginning, used) {
            return Ok(());
        }
        for name in self.index().take_superfluous(&beginning) {
            self.folder.remove(&name);
        }
        let name = self.folder.keep(written, &hash(&beginning), used, &lock).map_err(failed)?;
        if let Some(name) = name {
            let mut index = self.index();
            index.verify(&name);
            index.insert(name, beginning);
        }
        Ok(())
    }

    /// Whether another process has written as much, which then counts as used.
    fn is_there(&self, beginning: &Beginning, used: SystemTime) -> bool {
        self.refresh();
        loop {
            let covering = self.index().covering(beginning).map(str::to_owned);
            let Some(name) = covering else { return false };
            if self.index().is_verified(&name) || self.folder.is_whole(&name) {
                self.index().verify(&name);
                self.folder.touch(&name, used);
                return true;
            }
            self.refuse(&name);
        }
    }

    fn refresh(&self) {
        // One at a time, so that no header is read twice.
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let changed = self.folder.changed();
        let now = SystemTime::now();
        let is_old = |time: &SystemTime| now.duration_since(*time).is_ok_and(|it| it > CLOCK);
        if changed.is_some() && *seen == changed {
            return;
        }
        let unknown = {
            let names = self.folder.names();
            self.index().retain_and_list_unknown(names)
        };
        for name in unknown {
            match self.read_header(&name) {
                Some((_, beginning)) => self.index().insert(name, beginning),
                None => self.refuse(&name),
            }
        }
        *seen = changed.filter(is_old);
    }

    fn read_header(&self, name: &str) -> Option<(OpenFile, Beginning)> {
        let file = OpenFile::open(&self.folder.path().join(name)).ok()?;
        if file.text(MODEL)? != self.model {
            return None;
        }
        let tokens = file.text(TOKENS)?.split_ascii_whitespace().map(|word| word.parse().ok());
        let beginning = Beginning {
            owner: file.text(OWNER)?.to_owned(),
            part: CachePart::named(file.text(PART)?)?,
            tokens: tokens.collect::<Option<Vec<u32>>>()?,
            shortest: file.text(SHORTEST)?.parse().ok()?,
        };
        (beginning.shortest <= beginning.tokens.len()).then_some((file, beginning))
    }

    fn fetch(&self, name: &str) -> Option<Restored> {
        let restored = self.folder.is_whole(name).then(|| self.read_header(name)).flatten();
        let known = self.index().get(name).cloned();
        match restored {
            Some((file, beginning)) if known.as_ref() == Some(&beginning) => {
                self.folder.touch(name, SystemTime::now());
                self.index().verify(name);
                Some(Restored { beginning, name: name.to_owned(), file })
            }
            _ => {
                self.refuse(name);
                None
            }
        }
    }

    fn refuse(&self, name: &str) {
        self.folder.remove(name);
        self.index().refuse(name);
    }

    fn index(&self) -> MutexGuard<'_, Index> {
        // It is a list of names: whatever panicked, files that are not there are not found.
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What tells the files of a model apart from those that the same names had before: their names,
/// sizes and times.
pub fn stamp(model: &Path) -> String {
    let mut files: Vec<String> = fs::read_dir(model)
        .into_iter()
        .flatten()
        .flatten()
        .filter(|entry| entry.path().extension().is_some_and(|it| it == "safetensors"))
        .map(|entry| {
            // Of what a link leads to.
            let metadata = fs::metadata(entry.path()).ok();
            let modified = metadata.as_ref().and_then(|it| it.modified().ok());
            let since = modified.and_then(|it| it.duration_since(SystemTime::UNIX_EPOCH).ok());
            let length = metadata.map(|it| it.len());
            format!("{:?} {length:?} {:?}", entry.file_name(), since.map(|it| it.as_nanos()))
        })
        .collect();
    files.sort();
    hash(&files)
}

fn hash(value: &impl Hash) -> String {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    format!("{:016x}", hasher.finish())
}
