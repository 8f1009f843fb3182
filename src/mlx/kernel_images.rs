//! Compiled kernels of GPUs on disk.
//!
//! They lie in the folder in which MLX keeps those of its own, in its layout: `NAME_KEY.ptx` is
//! the image, `NAME_KEY.txt` says which kernel in it is meant by the name. MLX would otherwise
//! compute a key from the image each time that a kernel runs, which takes longer than all else
//! that the host does for it. The folder is private: whoever can write there can run code. One that
//! others may write to is left alone.

use std::ffi::{CString, OsStr};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use crate::error::Result;

/// The variable with which MLX is told its folder.
const VARIABLE: &str = "MLX_PTX_CACHE_DIR";

/// MLX's key of an empty image: `std::hash` of an empty string in libstdc++, in hexadecimal.
const EMPTY_KEY: &str = "553e93901e462a6e";

/// A compiled kernel.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Image {
    /// On disk, where MLX finds it by this name.
    Kept(CString),
    /// In memory.
    Loose(Vec<u8>),
}

/// Tells MLX the folder, unless the user has. Must run before MLX loads a kernel.
pub(super) fn announce() {
    if std::env::var_os(VARIABLE).is_none_or(|it| it.is_empty())
        && let Some(folder) = folder()
        && make_private(folder)
    {
        // SAFETY: sets a variable that MLX alone reads, once, when it loads its first kernel,
        // which is after this.
        unsafe { std::env::set_var(VARIABLE, folder) };
    }
}

/// The image of this source, whose kernel is called `function`: kept from an earlier time, or made
/// by `compile`. A folder that cannot be used costs time, nothing else.
pub(super) fn image(
    options: &[String],
    text: &str,
    function: &str,
    compile: impl FnOnce() -> Result<Vec<u8>>,
) -> Result<Image> {
    image_in(folder(), options, text, function, compile)
}

fn image_in(
    folder: Option<&Path>,
    options: &[String],
    text: &str,
    function: &str,
    compile: impl FnOnce() -> Result<Vec<u8>>,
) -> Result<Image> {
    let name = name(options, text, function);
    let file = |extension: &str| {
        folder.map(|folder| folder.join(format!("{name}_{EMPTY_KEY}.{extension}")))
    };
    let (Some(binary), Some(facts), Ok(known), true) =
        (file("ptx"), file("txt"), CString::new(&*name), folder.is_some_and(make_private))
    else {
        return compile().map(Image::Loose);
    };
    if is_whole(&binary, &facts) {
        return Ok(Image::Kept(known));
    }
    let image = compile()?;
    // MLX takes lines with a tabulator; the other says how long the image is.
    let text = format!("{name}\t{function}\nbytes {}\n", image.len());
    // The image comes last, for it is what MLX looks for.
    let kept = write(&facts, text.as_bytes()).and_then(|()| write(&binary, &image));
    Ok(if kept.is_ok() { Image::Kept(known) } else { Image::Loose(image) })
}

/// Two hashes of 64 bits: kernels of different sources must not meet.
fn name(options: &[String], text: &str, function: &str) -> String {
    let hash = |seed: u8| {
        let mut hasher = DefaultHasher::new();
        (seed, options, text).hash(&mut hasher);
        hasher.finish()
    };
    format!("{function}_{:016x}{:016x}", hash(0), hash(1))
}

fn is_whole(binary: &Path, facts: &Path) -> bool {
    let length = std::fs::metadata(binary).map(|it| it.len()).ok();
    let facts = std::fs::read_to_string(facts).unwrap_or_default();
    let said = facts.lines().find_map(|line| line.strip_prefix("bytes ")?.parse().ok());
    length.is_some() && length == said
}

fn write(file: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let folder = file.parent().unwrap_or(file);
    let mut new = tempfile::NamedTempFile::new_in(folder)?;
    new.write_all(bytes)?;
    new.persist(file)?;
    Ok(())
}

/// Makes the folder, if it is not there; whether nobody else may write to it.
fn make_private(folder: &Path) -> bool {
    create_private(folder).is_ok() && is_private(folder)
}

#[cfg(unix)]
fn create_private(folder: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

/// Whether nobody may write there but this user and who may write everywhere.
#[cfg(unix)]
fn is_private(folder: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    // SAFETY: asks for a number of this process.
    let user = unsafe { libc::geteuid() };
    let is_private =
        |it: std::fs::Metadata| [user, 0].contains(&it.uid()) && it.mode() & 0o022 == 0;
    std::fs::metadata(folder).is_ok_and(is_private)
}

#[cfg(not(unix))]
fn is_private(_: &Path) -> bool {
    true
}

#[cfg(not(unix))]
fn create_private(folder: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(folder)
}

/// What the user says, `XDG_CACHE_HOME/nodemlx/cuda` or `~/.cache/nodemlx/cuda`; as it was at
/// first.
fn folder() -> Option<&'static Path> {
    static FOLDER: LazyLock<Option<PathBuf>> = LazyLock::new(|| {
        let set = |name: &str| std::env::var_os(name).filter(|it| it != OsStr::new(""));
        let home = || set("HOME").map(|home| PathBuf::from(home).join(".cache"));
        set(VARIABLE).map(PathBuf::from).or_else(|| {
            let cache = set("XDG_CACHE_HOME").map(PathBuf::from).or_else(home)?;
            Some(cache.join("nodemlx/cuda"))
        })
    });
    FOLDER.as_deref()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::error::Error;

    fn files(folder: &Path) -> Vec<PathBuf> {
        let mut files: Vec<_> =
            std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.sort();
        files
    }

    #[test]
    fn an_image_is_compiled_once_for_each_source_and_options() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().join("kernels");
        let ask = |options: &str, text: &str, image: Option<&[u8]>| {
            let compile = || image.map(<[u8]>::to_vec).ok_or(Error::Mlx("again".to_owned()));
            image_in(Some(&folder), &[options.to_owned()], text, "kernel", compile).unwrap()
        };
        let first = ask("-DA=1", "x", Some(b"first"));
        assert!(matches!(first, Image::Kept(_)));
        assert_eq!(ask("-DA=1", "x", None), first);
        assert_ne!(ask("-DA=2", "x", Some(b"other")), first);
        assert_ne!(ask("-DA=1", "y", Some(b"third")), first);
        assert_eq!(files(&folder).len(), 6);
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            assert_eq!(std::fs::metadata(&folder).unwrap().permissions().mode() & 0o777, 0o700);
        }
    }

    #[test]
    fn files_are_as_mlx_reads_them() {
        let folder = tempfile::tempdir().unwrap();
        let image = image_in(Some(folder.path()), &[], "x", "kernel", || Ok(b"image".to_vec()));
        let Image::Kept(name) = image.unwrap() else { panic!("it is not kept") };
        let name = name.into_string().unwrap();
        let [binary, facts] = &files(folder.path())[..] else { panic!("there are other files") };
        assert_eq!(
            binary.file_name().unwrap().to_str().unwrap(),
            format!("{name}_{EMPTY_KEY}.ptx")
        );
        assert_eq!(std::fs::read(binary).unwrap(), b"image");
        assert_eq!(facts, &binary.with_extension("txt"));
        let facts = std::fs::read_to_string(facts).unwrap();
        let kernels: Vec<_> = facts.lines().filter_map(|line| line.split_once('\t')).collect();
        assert_eq!(kernels, [(&*name, "kernel")]);
    }

    #[test]
    fn a_file_that_is_cut_off_is_compiled_anew() {
        let folder = tempfile::tempdir().unwrap();
        let ask = |image: &[u8]| {
            let image = image.to_vec();
            image_in(Some(folder.path()), &[], "x", "kernel", || Ok(image)).unwrap();
            std::fs::read(&files(folder.path())[0]).unwrap()
        };
        assert_eq!(ask(b"image"), b"image");
        std::fs::write(&files(folder.path())[0], b"ima").unwrap();
        assert_eq!(ask(b"new"), b"new");
        std::fs::remove_file(&files(folder.path())[1]).unwrap();
        assert_eq!(ask(b"newest"), b"newest");
    }

    #[test]
    fn without_a_folder_the_image_stays_in_memory() {
        let image = image_in(None, &[], "x", "kernel", || Ok(b"one".to_vec())).unwrap();
        assert_eq!(image, Image::Loose(b"one".to_vec()));
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        std::fs::write(&file, b"").unwrap();
        let image = image_in(Some(&file), &[], "x", "kernel", || Ok(b"two".to_vec())).unwrap();
        assert_eq!(image, Image::Loose(b"two".to_vec()));
    }

    #[cfg(unix)]
    #[test]
    fn a_folder_that_others_may_write_to_is_neither_read_nor_written() {
        use std::fs::{Permissions, set_permissions};
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let ask = |mode: u32, image: &[u8]| {
            set_permissions(folder.path(), Permissions::from_mode(mode)).unwrap();
            image_in(Some(folder.path()), &[], "x", "kernel", || Ok(image.to_vec())).unwrap()
        };
        assert_eq!(ask(0o777, b"one"), Image::Loose(b"one".to_vec()));
        assert_eq!(ask(0o770, b"two"), Image::Loose(b"two".to_vec()));
        assert!(files(folder.path()).is_empty());
        assert!(matches!(ask(0o755, b"three"), Image::Kept(_)));
        assert_eq!(ask(0o777, b"four"), Image::Loose(b"four".to_vec()));
    }
}
