//! Files that come, go and break while several stores share a directory.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use tempfile::TempDir;

use super::*;
use crate::cache::{CacheLimits, KvQuantization};
use crate::mlx::{self, Array, DeviceKind};

const ENOUGH: u64 = 1 << 30;

fn later(milliseconds: u64) -> SystemTime {
    SystemTime::now() + Duration::from_millis(milliseconds)
}

fn numbers(seed: f32, shape: &[i32]) -> Array {
    let size: i32 = shape.iter().product();
    let values: Vec<f32> = (0..size).map(|at| seed + (at % 17) as f32).collect();
    mlx::from_f32(&values, shape)
}

/// One of each kind after so many positions.
fn all_kinds(positions: i32) -> Vec<Cache> {
    let packed = KvQuantization { group_size: Some(32), bits: 8 };
    let packed = CacheLimits { max_size: None, quantization: Some(packed) };
    let mut caches = vec![
        Cache::standard(),
        Cache::standard().limited(&packed),
        Cache::rotating(16, 4),
        Cache::rotating(64, 0).limited(&packed),
        Cache::chunked(8),
        Cache::arrays_of(2),
        Cache::List(vec![Cache::arrays_of(1), Cache::standard()]),
    ];
    fn fill(cache: &mut Cache, positions: i32) {
        match cache {
            Cache::Arrays(state) => {
                state.set(0, numbers(1.0, &[1, 3]));
                state.advance(positions);
            }
            Cache::List(parts) => parts.iter_mut().for_each(|part| fill(part, positions)),
            other => {
                let shape = [1, 2, positions, 64];
                other.update(&numbers(2.0, &shape), &numbers(3.0, &shape)).unwrap();
            }
        }
    }
    caches.iter_mut().for_each(|cache| fill(cache, positions));
    caches
}

fn beginning(tokens: &[u32]) -> Beginning {
    Beginning {
        owner: "anybody".to_owned(),
        part: CachePart::Positions,
        tokens: tokens.to_vec(),
        shortest: 0,
    }
}

fn open(directory: &Path, limit: u64) -> PrefixStore {
    mlx::enter(DeviceKind::Cpu).unwrap();
    let store = PrefixStore::open(directory, limit, "a model").unwrap();
    store.refresh();
    store
}

fn flush(store: &PrefixStore) {
    store.flush(Instant::now() + Duration::from_secs(60));
}

fn save_caches(store: &PrefixStore, beginning: Beginning, caches: &[Cache], used: SystemTime) {
    let bytes = CacheBytes::of(caches, &store.texts(&beginning)).unwrap();
    let nbytes = caches.iter().map(Cache::nbytes).sum();
    store.save(beginning, bytes, nbytes, used);
    flush(store);
    assert_eq!(store.waiting(), 0);
}

/// Saves keys and values that tell the tokens.
fn save(store: &PrefixStore, tokens: &[u32], used: SystemTime) {
    save_caches(store, beginning(tokens), &caches_of(tokens), used);
}

fn caches_of(tokens: &[u32]) -> Vec<Cache> {
    let rows: Vec<f32> = tokens.iter().flat_map(|&token| [token as f32; 64]).collect();
    let rows = mlx::from_f32(&rows, &[1, 1, tokens.len() as i32, 64]);
    let mut cache = Cache::standard();
    cache.update(&rows, &rows).unwrap();
    CachePart::without_room(vec![cache]).unwrap()
}

fn find(store: &PrefixStore, tokens: &[u32]) -> usize {
    store.refresh();
    let found = store.longest("anybody", CachePart::Positions, tokens);
    found.map_or(0, |(length, _)| length)
}

/// Reads back what serves `tokens`, as often as what is found is of no use; how many tokens come.
fn read(store: &PrefixStore, tokens: &[u32]) -> usize {
    store.refresh();
    while let Some((length, name)) = store.longest("anybody", CachePart::Positions, tokens) {
        let Some(restored) = store.fetch(&name) else { continue };
        let (beginning, caches) = restored.into_caches().unwrap();
        let expected = caches_of(&beginning.tokens);
        for (array, other) in caches[0].arrays().iter().zip(expected[0].arrays()) {
            assert_eq!(mlx::to_f32_vec(array).unwrap(), mlx::to_f32_vec(other).unwrap());
        }
        return length;
    }
    0
}

/// All files but the lock, and the folders.
fn files(directory: &Path) -> Vec<PathBuf> {
    let folders = fs::read_dir(directory).unwrap().map(|it| it.unwrap().path());
    let folders = folders.filter(|it| it.is_dir());
    let files = folders.flat_map(|it| fs::read_dir(it).unwrap().map(|it| it.unwrap().path()));
    files.collect()
}

fn bytes_of(directory: &Path) -> u64 {
    files(directory).iter().map(|it| fs::metadata(it).unwrap().len()).sum()
}

fn tokens(seed: u32, length: u32) -> Vec<u32> {
    (0..length).map(|at| seed * 1000 + at).collect()
}

#[test]
fn a_directory_that_somebody_removes_is_made_again() {
    let folder = TempDir::new().unwrap();
    let directory = folder.path().join("prefixes");
    let store = open(&directory, ENOUGH);
    save(&store, &[1, 2, 3], later(0));
    fs::remove_dir_all(&directory).unwrap();
    assert_eq!(read(&store, &[1, 2, 3, 4]), 0);
    save(&store, &[1, 2, 5], later(0));
    assert_eq!(read(&store, &[1, 2, 5, 4]), 3);
    let mode = fs::metadata(&directory).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
}

#[test]
fn caches_of_all_kinds_come_back_as_they_were() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path(), ENOUGH);
    let caches = all_kinds(40);
    let (positions, state) = CachePart::split(caches);
    let tokens = tokens(1, 40);
    for (part, caches) in [(CachePart::Positions, positions), (CachePart::State, state)] {
        let beginning = Beginning { part, shortest: 40, ..beginning(&tokens) };
        let caches = CachePart::without_room(caches).unwrap();
        save_caches(&store, beginning.clone(), &caches, later(0));
        let other = open(directory.path(), ENOUGH);
        let (length, name) = other.longest("anybody", part, &tokens).unwrap();
        assert_eq!(length, 40);
        assert_eq!(other.longest("somebody", part, &tokens), None);
        assert_eq!(other.longest("anybody", part, &tokens[..39]), None, "it cannot be cut");
        assert!(store.covers(&beginning) && !other.covers(&beginning), "only one has seen it");
        let (told, back) = other.fetch(&name).unwrap().into_caches().unwrap();
        assert_eq!((told, back.len()), (beginning, caches.len()));
        for (one, other) in caches.iter().zip(&back) {
            assert_eq!(one.kind(), other.kind());
            if !one.arrays().is_empty() {
                assert_eq!((one.offset(), one.nbytes()), (other.offset(), other.nbytes()));
            }
            for (array, other) in one.arrays().iter().zip(other.arrays()) {
                assert_eq!((array.shape(), array.dtype()), (other.shape(), other.dtype()));
                assert_eq!(mlx::to_bytes(array).unwrap(), mlx::to_bytes(other).unwrap());
            }
        }
    }
}

#[test]
fn files_and_folders_are_for_their_owner_only() {
    let parent = tempfile::tempdir().unwrap();
    let directory = parent.path().join("a/b");
    let store = open(&directory, ENOUGH);
    save(&store, &tokens(1, 50), later(0));
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let [file] = &files(&directory)[..] else { panic!("not one file") };
    assert_eq!((mode(file), mode(file.parent().unwrap()), mode(&directory)), (0o600, 0o700, 0o700));
    assert_eq!(mode(&directory.join("lock")), 0o600);
}

#[test]
fn a_longer_beginning_replaces_the_shorter_ones_that_it_serves() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path(), ENOUGH);
    let all = tokens(1, 100);
    save(&store, &all[..50], later(0));
    save(&store, &all, later(1));
    assert_eq!(files(directory.path()).len(), 1);
    save(&store, &all[..70], later(2));
    assert_eq!(files(directory.path()).len(), 1, "it is served already");
    assert_eq!([read(&store, &all), read(&store, &all[..60])], [100, 60]);
    let branch = [&all[..80], &tokens(2, 10)].concat();
    assert_eq!(read(&store, &branch), 80);
    save(&store, &branch, later(3));
    assert_eq!([files(directory.path()).len(), read(&store, &branch)], [2, 90]);
}

#[test]
fn what_was_not_used_for_longest_goes_first_whichever_model_it_is_of() {
    let directory = tempfile::tempdir().unwrap();
    let one = open(directory.path(), ENOUGH);
    save(&one, &tokens(1, 50), later(0));
    let size = bytes_of(directory.path());
    let limit = 3 * size + size / 2;
    let one = open(directory.path(), limit);
    let other = PrefixStore::open(directory.path(), limit, "another model").unwrap();
    save(&other, &tokens(1, 50), later(10));
    save(&one, &tokens(2, 50), later(20));
    assert_eq!(find(&other, &tokens(1, 50)), 50);
    // It is used now, so that of the other model is the oldest.
    one.touch(beginning(&tokens(1, 50)), later(30));
    save(&one, &tokens(3, 50), later(40));
    assert!(bytes_of(directory.path()) <= limit);
    assert_eq!(read(&other, &tokens(1, 50)), 0);
    assert_eq!([1, 2, 3].map(|seed| find(&one, &tokens(seed, 50))), [50; 3]);
    // The folder that went with its last file comes back.
    save(&other, &tokens(5, 50), later(50));
    assert_eq!(read(&other, &tokens(5, 50)), 50);
    assert_eq!([1, 2, 3].map(|seed| find(&one, &tokens(seed, 50))), [50, 0, 50]);
    // Nothing makes room for what is older.
    save(&one, &tokens(6, 50), SystemTime::UNIX_EPOCH + Duration::from_secs(1));
    assert_eq!([1, 6, 3].map(|seed| find(&one, &tokens(seed, 50))), [50, 0, 50]);
    save(&one, &tokens(7, 900), later(60));
    assert_eq!(find(&one, &tokens(7, 900)), 0, "it is larger than the limit");
    assert!(bytes_of(directory.path()) <= limit);
}

#[test]
fn broken_files_are_removed_and_never_read() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path(), ENOUGH);
    let all = tokens(1, 60);
    save(&store, &all, later(0));
    let path = files(directory.path()).remove(0);
    let whole = fs::read(&path).unwrap();
    let mut contents: Vec<Vec<u8>> = vec![
        Vec::new(),
        whole[..7].to_vec(),
        whole[..200].to_vec(),
        whole[..whole.len() - 1].to_vec(),
        [whole.as_slice(), b"more"].concat(),
        vec![0; whole.len()],
        vec![0xff; whole.len()],
        b"version https://git-lfs.github.com/spec/v1\n".to_vec(),
        // A header as long as memory is large.
        [&(u64::MAX / 2).to_le_bytes()[..], &whole[8..]].concat(),
        [&10u64.to_le_bytes()[..], &[b'['; 10]].concat(),
    ];
    for at in (0..whole.len()).step_by(37) {
        let mut flipped = whole.clone();
        flipped[at] ^= 1 << (at % 8);
        contents.push(flipped);
    }
    for content in contents {
        // What a store has read before, and what it finds like that.
        for known in [true, false] {
            // Texts in headers have no order, so what was written anew has another name.
            files(directory.path()).iter().for_each(|file| fs::remove_file(file).unwrap());
            fs::write(&path, &whole).unwrap();
            let store = open(directory.path(), ENOUGH);
            if known {
                assert_eq!(find(&store, &all), 60);
            }
            fs::write(&path, &content).unwrap();
            assert_eq!(read(&store, &all), 0);
            assert!(!path.exists());
            save(&store, &all, later(0));
            assert_eq!(read(&store, &all), 60, "it is written anew");
        }
    }
}

#[test]
fn files_of_other_models_and_formats_are_not_taken_for_this_ones() {
    let directory = tempfile::tempdir().unwrap();
    let all = tokens(1, 60);
    let store = open(directory.path(), ENOUGH);
    let other = PrefixStore::open(directory.path(), ENOUGH, "another model").unwrap();
    save(&other, &all, later(0));
    let theirs = files(directory.path()).remove(0);
    assert_eq!(read(&store, &all), 0);
    let moved = store.shelf.folder.path().join(theirs.file_name().unwrap());
    fs::copy(&theirs, &moved).unwrap();
    assert_eq!(read(&store, &all), 0);
    assert!(!moved.exists() && theirs.exists());
    // A prompt cache with a right checksum.
    let plain = directory.path().join("plain");
    CacheBytes::of(&caches_of(&all), &HashMap::new()).unwrap().write(&plain).unwrap();
    let checksum = crc32fast::hash(&fs::read(&plain).unwrap());
    let named = moved.with_file_name(format!("{}-{checksum:08x}.safetensors", "0".repeat(16)));
    fs::rename(&plain, &named).unwrap();
    assert_eq!(read(&store, &all), 0);
    assert!(!named.exists());
}

#[test]
fn other_things_in_the_directory_stay() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path(), ENOUGH);
    let folder = store.shelf.folder.path().to_owned();
    let others =
        [directory.path().join("notes.txt"), folder.join("notes.safetensors"), folder.join("x")];
    for path in &others {
        fs::write(path, vec![0; 100_000]).unwrap();
    }
    fs::create_dir(folder.join(format!("{}-00000000.safetensors", "a".repeat(16)))).unwrap();
    let small = open(directory.path(), 40_000);
    for seed in 0..5 {
        save(&small, &tokens(seed, 30), later(u64::from(seed)));
    }
    assert_eq!(read(&small, &tokens(4, 30)), 30);
    assert_eq!(read(&small, &tokens(0, 30)), 0);
    assert!(others.iter().all(|path| path.exists()));
}

#[test]
fn what_a_crash_leaves_behind_is_removed_and_what_is_being_written_is_not() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path(), ENOUGH);
    save(&store, &tokens(1, 50), later(0));
    let whole = files(directory.path()).remove(0);
    // A process that ended between the last byte and the name, and one that has not ended.
    let [dead, alive] = ["dead", "alive"].map(|it| whole.with_file_name(format!(".writing-{it}")));
    fs::copy(&whole, &dead).unwrap();
    fs::copy(&whole, &alive).unwrap();
    let held = fs::File::open(&alive).unwrap();
    held.lock().unwrap();
    let other = open(directory.path(), ENOUGH);
    assert_eq!(find(&other, &tokens(2, 50)), 0);
    save(&other, &tokens(2, 50), later(1));
    assert!(!dead.exists() && alive.exists() && whole.exists());
    drop(held);
    save(&other, &tokens(3, 50), later(2));
    assert!(!alive.exists());
    assert_eq!(files(directory.path()).len(), 3);
}

#[test]
fn a_lower_limit_holds_as_soon_as_the_directory_is_opened() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path(), ENOUGH);
    // What is used later than now is not removed.
    let before = later(0) - Duration::from_secs(60);
    for seed in 0..4 {
        save(&store, &tokens(seed, 300), before + Duration::from_secs(u64::from(seed)));
        flush(&store);
    }
    drop(store);
    let all = bytes_of(directory.path());
    let store = open(directory.path(), all / 2);
    assert!(bytes_of(directory.path()) <= all / 2);
    assert!(find(&store, &tokens(3, 300)) > 0);
}

#[test]
fn a_pipe_in_the_place_of_a_file_holds_nobody_up() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path(), ENOUGH);
    save(&store, &tokens(1, 300), later(0));
    flush(&store);
    let lock = directory.path().join("lock");
    for path in files(directory.path()).into_iter().chain([lock]) {
        fs::remove_file(&path).unwrap();
        assert!(std::process::Command::new("mkfifo").arg(&path).status().unwrap().success());
    }
    assert_eq!(read(&store, &tokens(1, 300)), 0);
    save(&store, &tokens(2, 300), later(1));
    flush(&store);
}

#[test]
fn a_file_that_another_process_removes_is_missed_once() {
    let directory = tempfile::tempdir().unwrap();
    let (one, other) = (open(directory.path(), ENOUGH), open(directory.path(), ENOUGH));
    save(&one, &tokens(1, 50), later(0));
    assert_eq!(read(&other, &tokens(1, 50)), 50);
    let (_, name) = other.longest("anybody", CachePart::Positions, &tokens(1, 50)).unwrap();
    let (sender, receiver) = channel();
    one.clear(Box::new(move || sender.send(()).unwrap()));
    receiver.recv().unwrap();
    assert!(files(directory.path()).is_empty());
    assert!(other.fetch(&name).is_none());
    assert_eq!([read(&one, &tokens(1, 50)), read(&other, &tokens(1, 50))], [0, 0]);
    save(&other, &tokens(1, 50), later(0));
    assert_eq!([read(&one, &tokens(1, 50)), read(&other, &tokens(1, 50))], [50, 50]);
}

#[test]
fn several_writers_and_readers_share_a_directory() {
    let directory: TempDir = tempfile::tempdir().unwrap();
    let probe = open(directory.path(), ENOUGH);
    save(&probe, &tokens(99, 40), later(0));
    let limit = 6 * bytes_of(directory.path());
    thread::scope(|scope| {
        for worker in 0..4 {
            let directory = directory.path();
            scope.spawn(move || {
                let store = open(directory, limit);
                for round in 0..25 {
                    let seed = (worker + round) % 10;
                    save(&store, &tokens(seed, 40), SystemTime::now());
                    let found = read(&store, &tokens((seed + 3) % 10, 40));
                    assert!(found == 0 || found == 40);
                }
            });
        }
    });
    assert!(bytes_of(directory.path()) <= limit);
    let store = open(directory.path(), limit);
    let there = (0..10).filter(|&seed| read(&store, &tokens(seed, 40)) == 40).count();
    assert!(there >= 3 && files(directory.path()).len() <= 6, "{there}");
}

#[test]
fn a_directory_that_cannot_be_is_an_error() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    fs::write(&file, "").unwrap();
    assert!(PrefixStore::open(&file, ENOUGH, "a model").is_err());
    assert!(PrefixStore::open(&file.join("below"), ENOUGH, "a model").is_err());
}
