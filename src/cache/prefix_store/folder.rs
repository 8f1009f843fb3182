//! The files themselves: private, whole or not there, and all together within the limit.

use std::collections::HashSet;
use std::fs::{self, File, TryLockError};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use tempfile::NamedTempFile;

/// The end of the name of a file that is complete.
const WHOLE: &str = ".safetensors";

/// The beginning of the name of one that is being written. Who writes it holds its lock, so the
/// file of a process that has ended can be told.
const UNFINISHED: &str = ".writing-";

/// The file whose lock whoever adds files holds.
const LOCK: &str = "lock";

/// How long others may hold that lock.
const PATIENCE: Duration = Duration::from_secs(5);

/// The folder of one model in the directory of all.
#[derive(Debug)]
pub(super) struct Folder {
    root: PathBuf,
    path: PathBuf,
    limit: u64,
}

/// A complete file that has no name yet.
pub(super) struct Written {
    file: NamedTempFile,
    checksum: u32,
    length: u64,
}

/// The right to add files. It ends when this is dropped.
pub(super) struct Lock {
    _file: File,
}

struct Entry {
    path: PathBuf,
    length: u64,
    used: SystemTime,
    is_whole: bool,
}

impl Folder {
    pub(super) fn create(root: &Path, name: &str, limit: u64) -> io::Result<Self> {
        let folder = Self { root: root.to_owned(), path: root.join(name), limit };
        folder.make()?;
        // The limit may be lower than that of those who wrote what is there.
        if let Ok(_lock) = folder.lock() {
            folder.make_room(0, SystemTime::now(), None);
        }
        Ok(folder)
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn limit(&self) -> u64 {
        self.limit
    }

    fn make(&self) -> io::Result<()> {
        make_private(&self.root)?;
        make_private(&self.path)?;
        // It may have been made by others, with other rights: whose it is not cannot do this.
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            fs::set_permissions(&self.path, fs::Permissions::from_mode(0o700))?;
        }
        Ok(())
    }

    /// When a file came or went last.
    pub(super) fn changed(&self) -> Option<SystemTime> {
        fs::metadata(&self.path).and_then(|it| it.modified()).ok()
    }

    /// The names of the complete files.
    pub(super) fn names(&self) -> HashSet<String> {
        let names = fs::read_dir(&self.path).into_iter().flatten().flatten();
        // Reading a pipe would wait for whoever writes it.
        let names = names.filter(|entry| entry.file_type().is_ok_and(|it| it.is_file()));
        let names = names.filter_map(|entry| entry.file_name().into_string().ok());
        names.filter(|name| checksum_in(name).is_some()).collect()
    }

    pub(super) fn remove(&self, name: &str) {
        // Others may have been faster.
        let _ = fs::remove_file(self.path.join(name));
    }

    pub(super) fn touch(&self, name: &str, used: SystemTime) {
        // Without this it is taken for older than it is.
        let _ = self.open(name).and_then(|file| file.set_modified(used));
    }

    /// Opens a file: a pipe, which somebody has put in its place, would wait for whoever writes it.
    fn open(&self, name: &str) -> io::Result<File> {
        let path = self.path.join(name);
        match fs::metadata(&path)?.is_file() {
            true => File::open(path),
            false => Err(io::Error::other("not a file")),
        }
    }

    /// Whether the file's content is what was written.
    pub(super) fn is_whole(&self, name: &str) -> bool {
        let read = self.open(name).and_then(checksum);
        read.is_ok_and(|checksum| checksum_in(name) == Some(checksum))
    }

    /// A new file of these bytes. They reach the disk when the system likes: a file of which some
    /// do not in time has a wrong checksum.
    pub(super) fn write(&self, bytes: &[u8]) -> io::Result<Written> {
        // Who made room last may have removed the folder.
        self.make()?;
        let mut file = tempfile::Builder::new().prefix(UNFINISHED).tempfile_in(&self.path)?;
        file.as_file().lock()?;
        file.write_all(bytes)?;
        Ok(Written { file, checksum: crc32fast::hash(bytes), length: bytes.len() as u64 })
    }

    /// Waits for the right to add files.
    pub(super) fn lock(&self) -> io::Result<Lock> {
        let mut options = File::options();
        options.create(true).truncate(false).write(true);
        #[cfg(unix)]
        {
            use std::os::unix::fs::OpenOptionsExt;
            // Opening a pipe of that name would wait for whoever reads it.
            options.mode(0o600).custom_flags(libc::O_NONBLOCK);
        }
        // Who empties a folder of caches takes this one with it, and what is read from then on is
        // worth keeping.
        make_private(&self.root)?;
        let file = options.open(self.root.join(LOCK))?;
        let deadline = Instant::now() + PATIENCE;
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(Lock { _file: file }),
                Err(TryLockError::WouldBlock) if Instant::now() < deadline => {
                    thread::sleep(Duration::from_millis(2));
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Makes room for about so many bytes, so that not even what is being written is beyond the
    /// limit; `false` where there is none but that of files that were used later than `used`.
    pub(super) fn reserve(&self, length: u64, used: SystemTime, _: &Lock) -> bool {
        self.make_room(length, used, None)
    }

    /// Gives a file its name, with `key` in it, once there is room; `None` where there is none but
    /// that of files that were used later than `used`.
    pub(super) fn keep(
        &self,
        written: Written,
        key: &str,
        used: SystemTime,
        _: &Lock,
    ) -> io::Result<Option<String>> {
        let Written { file, checksum, length } = written;
        if !self.make_room(length, used, Some(file.path())) {
            return Ok(None);
        }
        file.as_file().set_modified(used)?;
        let name = format!("{key}-{checksum:08x}{WHOLE}");
        file.persist(self.path.join(&name)).map_err(|error| error.error)?;
        Ok(Some(name))
    }

    /// Removes files until `length` more bytes are within the limit: those of processes that have
    /// ended while they wrote, then the complete ones that were not used for longest, but for what
    /// was used later than `used`. Whether there is room now. `own` is no file of others.
    fn make_room(&self, length: u64, used: SystemTime, own: Option<&Path>) -> bool {
        let mut entries: Vec<Entry> = self.entries().collect();
        entries.retain(|entry| own != Some(&entry.path));
        entries.retain(|entry| entry.is_whole || !remove_abandoned(&entry.path));
        let mut total: u64 = entries.iter().map(|entry| entry.length).sum();
        let mut whole: Vec<&Entry> = entries.iter().filter(|entry| entry.is_whole).collect();
        whole.sort_by_key(|entry| entry.used);
        let fits = |total: u64| total.saturating_add(length) <= self.limit;
        let mut oldest = whole.into_iter().take_while(|entry| entry.used <= used);
        while !fits(total) {
            let Some(entry) = oldest.next() else { return false };
            if fs::remove_file(&entry.path).is_ok() {
                total -= entry.length;
            }
            if let Some(folder) = entry.path.parent().filter(|folder| *folder != self.path) {
                // That of another model, if this was its last file.
                let _ = fs::remove_dir(folder);
            }
        }
        true
    }

    /// The files of all models.
    fn entries(&self) -> impl Iterator<Item = Entry> {
        let folders = fs::read_dir(&self.root).into_iter().flatten().flatten();
        let folders = folders.filter(|it| it.file_name().to_str().is_some_and(is_hash));
        let files = folders.flat_map(|it| fs::read_dir(it.path()).into_iter().flatten().flatten());
        files.filter_map(|file| {
            let name = file.file_name().into_string().ok()?;
            let is_whole = checksum_in(&name).is_some();
            let metadata = file.metadata().ok()?;
            let used = metadata.modified().ok()?;
            let is_ours = is_whole || name.starts_with(UNFINISHED);
            (is_ours && metadata.is_file()).then_some(Entry {
                path: file.path(),
                length: metadata.len(),
                used,
                is_whole,
            })
        })
    }
}

/// Removes an unfinished file whose writer has ended; whether it has.
fn remove_abandoned(path: &Path) -> bool {
    let abandoned = File::open(path).is_ok_and(|file| file.try_lock().is_ok());
    abandoned && fs::remove_file(path).is_ok()
}

fn checksum(mut file: File) -> io::Result<u32> {
    let (mut hasher, mut buffer) = (crc32fast::Hasher::new(), vec![0; 1 << 20]);
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hasher.finalize()),
            count => hasher.update(&buffer[..count]),
        }
    }
}

/// The checksum in the name of a complete file; `None` for any other name.
fn checksum_in(name: &str) -> Option<u32> {
    let (key, checksum) = name.strip_suffix(WHOLE)?.split_once('-')?;
    let is_checksum = checksum.len() == 8 && checksum.bytes().all(|it| it.is_ascii_hexdigit());
    (is_hash(key) && is_checksum).then(|| u32::from_str_radix(checksum, 16).ok())?
}

fn is_hash(name: &str) -> bool {
    name.len() == 16 && name.bytes().all(|it| matches!(it, b'0'..=b'9' | b'a'..=b'f'))
}

fn make_private(folder: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(folder)
}
