//! Any bytes as a file of what was read, with a right checksum and a header that names the model:
//! they are removed, or give caches.
#![no_main]

use std::fs;
use std::path::PathBuf;

use libfuzzer_sys::fuzz_target;
use nodemlx::cache::CachePart;
use nodemlx::cache::prefix_store::PrefixStore;
use nodemlx::mlx::{self, DeviceKind};
use tempfile::TempDir;

thread_local! {
    static STORE: (TempDir, PathBuf, PrefixStore) = {
        mlx::enter(DeviceKind::Cpu).expect("the CPU");
        let dir = tempfile::tempdir().expect("a temporary folder");
        let store = PrefixStore::open(dir.path(), 1 << 30, "any").expect("a store");
        let folders = fs::read_dir(dir.path()).expect("its folder").flatten();
        let folder = folders.map(|it| it.path()).find(|it| it.is_dir()).expect("one of the model");
        (dir, folder, store)
    };
}

fuzz_target!(|data: &[u8]| {
    STORE.with(|(_, folder, store)| {
        let checksum = crc32fast::hash(data);
        let name = format!("{}-{checksum:08x}.safetensors", "0".repeat(16));
        let path = folder.join(&name);
        fs::write(&path, data).expect("a temporary file");
        store.refresh();
        for part in [CachePart::Positions, CachePart::State] {
            store.longest("any", part, &[1, 2, 3]);
        }
        match store.fetch(&name) {
            Some(restored) => drop(restored.into_caches()),
            None => assert!(!path.exists()),
        }
        let _ = fs::remove_file(&path);
    });
});
