use std::collections::HashMap;
use std::ffi::OsString;
use std::path::PathBuf;

use super::*;
use crate::text::test_folder::TestFolder;

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// A cache with `owner/name` at [`COMMIT`], which `main` and `refs/pr/1` name.
fn cache() -> (TestFolder, PathBuf) {
    let folder = TestFolder::new();
    let repository = "models--owner--name";
    folder.write(&format!("{repository}/refs/main"), COMMIT);
    folder.write(&format!("{repository}/refs/refs/pr/1"), format!("{COMMIT}\n"));
    let snapshot = format!("{repository}/snapshots/{COMMIT}");
    folder.write(&format!("{snapshot}/config.json"), "{}");
    folder.write(&format!("{snapshot}/model.safetensors"), "");
    let path = folder.path().join(snapshot);
    (folder, path)
}

fn failure(model: &str, cache: &Path) -> String {
    let error = resolve_in(model, Path::new("/"), Some(cache)).unwrap_err();
    assert_eq!(error.code(), "MODEL_NOT_FOUND", "{error}");
    error.to_string()
}

#[test]
fn folders_come_first() {
    let folder = TestFolder::new();
    let path = folder.path().to_str().unwrap();
    assert_eq!(resolve_in(path, Path::new("/"), None).unwrap(), folder.path());
    let file = folder.write("model.safetensors", "");
    assert!(failure(file.to_str().unwrap(), folder.path()).contains("is a file"));
    let file = folder.write("model-Q4_K_M.gguf", "");
    assert!(failure(file.to_str().unwrap(), folder.path()).contains("llama.cpp"));
}

#[test]
fn a_relative_path_is_seen_from_the_folder_that_was_current() {
    let folder = TestFolder::new();
    folder.write("models/one/config.json", "{}");
    let found = resolve_in("models/one", folder.path(), None).unwrap();
    assert_eq!(found, folder.path().join("models/one"));
    assert!(resolve_in("models/two", folder.path(), None).is_err());
}

#[test]
fn a_stale_index_does_not_make_a_download_incomplete() {
    let (folder, snapshot) = cache();
    let index = r#"{"weight_map": {"a": "model-00001-of-00002.safetensors"}}"#;
    std::fs::write(snapshot.join("model.safetensors.index.json"), index).unwrap();
    assert_eq!(resolve_in("owner/name", Path::new("/"), Some(folder.path())).unwrap(), snapshot);
}

#[test]
fn revisions_are_branches_references_and_commits() {
    let (folder, snapshot) = cache();
    for model in ["owner/name", "owner/name@main", "owner/name@refs/pr/1", "owner/name@0123456"] {
        assert_eq!(
            resolve_in(model, Path::new("/"), Some(folder.path())).unwrap(),
            snapshot,
            "{model}"
        );
    }
    let commit = format!("owner/name@{COMMIT}");
    assert_eq!(resolve_in(&commit, Path::new("/"), Some(folder.path())).unwrap(), snapshot);
    let message = failure("owner/name@v2", folder.path());
    assert!(message.contains("\"v2\"") && message.contains("main"), "{message}");
}

#[test]
fn an_alias_stands_for_its_repository() {
    let folder = TestFolder::new();
    let snapshot = format!("models--mlx-community--Qwen3-4B-4bit/snapshots/{COMMIT}");
    folder.write("models--mlx-community--Qwen3-4B-4bit/refs/main", COMMIT);
    folder.write(&format!("{snapshot}/config.json"), "{}");
    folder.write(&format!("{snapshot}/model.safetensors"), "");
    for name in ["qwen", "Qwen3-4B"] {
        assert_eq!(
            resolve_in(name, Path::new("/"), Some(folder.path())).unwrap(),
            folder.path().join(&snapshot)
        );
    }
    assert!(failure("llama", folder.path()).contains("mlx-community/Llama-3.2-3B-Instruct-4bit"));
    assert!(failure("qwen-9", folder.path()).contains("Did you mean qwen,"));
}

#[test]
fn aliases_are_unique_repositories() {
    let names: HashMap<_, _> =
        recommended_models().iter().map(|alias| (alias.name, alias.repository)).collect();
    assert_eq!(names.len(), recommended_models().len());
    assert!(names.values().all(|it| cache::RepositoryId::parse(it).is_some()));
}

#[test]
fn incomplete_downloads_are_named() {
    let (folder, snapshot) = cache();
    std::fs::remove_file(snapshot.join("model.safetensors")).unwrap();
    assert!(failure("owner/name", folder.path()).contains("model.safetensors is missing"));
    let index = r#"{"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}"#;
    std::fs::write(snapshot.join("model.safetensors.index.json"), index).unwrap();
    std::fs::write(snapshot.join("model-1.safetensors"), "").unwrap();
    assert!(failure("owner/name", folder.path()).contains("model-2.safetensors is missing"));
    #[cfg(unix)]
    {
        std::os::unix::fs::symlink("gone", snapshot.join("tokenizer.json")).unwrap();
        assert!(failure("owner/name", folder.path()).contains("tokenizer.json is missing"));
    }
}

#[test]
fn a_download_of_another_format_is_named() {
    let (folder, snapshot) = cache();
    std::fs::rename(snapshot.join("model.safetensors"), snapshot.join("a-Q4.gguf")).unwrap();
    assert!(failure("owner/name", folder.path()).contains("llama.cpp"));
}

#[test]
fn names_cannot_leave_the_cache() {
    let folder = TestFolder::new();
    for model in ["../secret", "owner/..", "owner/name@../../x", "a/b/c", "/", "owner/", "o wner/n"]
    {
        let is_repository = cache::RepositoryId::parse(model).is_some();
        assert!(!is_repository, "{model}");
        assert!(
            resolve_in(model, Path::new("/"), Some(folder.path())).is_err()
                || Path::new(model).is_dir()
        );
    }
    assert_eq!(resolve_in(" ", Path::new("/"), None).unwrap_err().code(), "INVALID_ARGUMENT");
    let (folder, _) = cache();
    folder.write("models--owner--name/refs/main", "../../..");
    assert!(failure("owner/name", folder.path()).contains("does not hold a commit"));
}

#[test]
fn the_environment_says_where_the_cache_is() {
    let directory = |variables: &[(&str, &str)]| {
        let variables: HashMap<String, OsString> =
            variables.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
        cache::directory(|name| variables.get(name).cloned())
    };
    let home = ("HOME", "/h");
    let cases: [(&[(&str, &str)], &str); 6] = [
        (&[home], "/h/.cache/huggingface/hub"),
        (&[home, ("XDG_CACHE_HOME", "/x")], "/x/huggingface/hub"),
        (&[home, ("XDG_CACHE_HOME", "/x"), ("HF_HOME", "/f")], "/f/hub"),
        (&[home, ("HF_HOME", "/f"), ("HUGGINGFACE_HUB_CACHE", "/o")], "/o"),
        (&[home, ("HUGGINGFACE_HUB_CACHE", "/o"), ("HF_HUB_CACHE", "~/c")], "/h/c"),
        (&[home, ("HF_HUB_CACHE", "")], "/h/.cache/huggingface/hub"),
    ];
    for (variables, expected) in cases {
        assert_eq!(directory(variables), Some(PathBuf::from(expected)), "{variables:?}");
    }
    assert_eq!(directory(&[]), None);
}
