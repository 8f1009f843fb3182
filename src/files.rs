//! Files of outside: read within limits, and named for what they are where they are something else.

use std::fs::{self, File};
use std::io::{ErrorKind, Read};
use std::path::Path;

use crate::error::{Error, Result};

/// The bytes of `path`, of at most `limit`; `None` if there is no such file. Only a regular file is
/// opened: reading a pipe would wait for whoever writes it, and a device has no end.
pub(crate) fn read(path: &Path, limit: u64) -> Result<Option<Vec<u8>>> {
    let failed = |error: std::io::Error| Error::io(path, error);
    let metadata = match fs::metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    let refused = |message: String| Err(Error::Io { path: path.to_owned(), message, cause: None });
    if !metadata.is_file() {
        return refused("not a file".to_owned());
    }
    // The file may grow while it is read.
    let mut bytes = Vec::new();
    File::open(path).map_err(failed)?.take(limit + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > limit {
        let mib = limit >> 20;
        return refused(format!("the file is larger than {mib} MiB, which no such file needs"));
    }
    Ok(Some(bytes))
}

/// Says what is wrong with a file that holds nothing, a pointer to its content, or a web page: the
/// usual results of a download that went wrong.
pub(crate) fn placeholder(bytes: &[u8]) -> Option<&'static str> {
    const PAGES: [&[u8]; 3] = [b"<!doctype", b"<html", b"<?xml"];
    let text = bytes.trim_ascii_start();
    let is_page =
        |page: &&[u8]| text.get(..page.len()).is_some_and(|start| start.eq_ignore_ascii_case(page));
    if text.is_empty() {
        Some("the file is empty; download it again")
    } else if text.starts_with(b"version https://git-lfs.github.com/") {
        Some("the file is a Git LFS pointer, not the content; run `git lfs pull` in its folder")
    } else if PAGES.iter().any(is_page) {
        Some(
            "the file is a web page, not the content; download it again, signed in where that is needed",
        )
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_beyond_the_limit_and_a_folder_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("tokenizer.json");
        assert!(read(&path, 4).unwrap().is_none());
        fs::write(&path, "1234").unwrap();
        assert_eq!(read(&path, 4).unwrap().unwrap(), b"1234");
        fs::write(&path, "12345").unwrap();
        let message = read(&path, 4).unwrap_err().to_string();
        assert!(message.contains("tokenizer.json: the file is larger"), "{message}");
        assert!(read(dir.path(), 4).unwrap_err().to_string().contains("not a file"));
    }

    #[test]
    #[cfg(unix)]
    fn a_pipe_is_not_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("tokenizer.json");
        let made = std::process::Command::new("mkfifo").arg(&path).status().unwrap();
        assert!(made.success());
        assert!(read(&path, 4).unwrap_err().to_string().contains("not a file"));
    }

    #[test]
    fn what_a_download_leaves_behind_is_named() {
        let found = |bytes: &[u8]| placeholder(bytes).unwrap_or("");
        assert!(found(b" \n").contains("empty"));
        assert!(found(b"version https://git-lfs.github.com/spec/v1\noid").contains("Git LFS"));
        assert!(found(b"\n<!DOCTYPE html><html>").contains("web page"));
        assert!(found(b"{}").is_empty());
    }
}
