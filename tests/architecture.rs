//! The arrows between modules: they go down the picture of `docs/architecture.md`, and no files of
//! `src/` and of the crate of kernels go in a circle.
//!
//! Paths are read from the text of the files, without tests and comments. A module and those inside
//! it are one unit, so arrows between them do not count.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// What everybody may use, and what therefore uses nobody else.
const EVERYWHERE: [&str; 7] = ["error", "files", "foreign", "json", "panics", "ranges", "warning"];

/// Modules without MLX, which only these use.
const APART: [(&str, &[&str]); 3] = [
    ("constraint", &["engine", "generate", "napi"]),
    ("cpu", &["fused"]),
    ("text", &["engine", "napi"]),
];

type Name = Vec<String>;

/// `src/nn/mod.rs` and `src/nn.rs` are `nn`, `src/nn/moe.rs` is `nn::moe`.
fn module(path: &Path) -> Name {
    let mut name: Name = path.iter().map(|part| part.to_string_lossy().into_owned()).collect();
    let file = name.pop().unwrap();
    if file != "mod.rs" {
        name.push(file.trim_end_matches(".rs").to_owned());
    }
    name
}

fn files(dir: &Path, root: &Path, found: &mut BTreeMap<Name, String>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let stem = path.file_stem().unwrap().to_string_lossy();
        if stem.starts_with("test") || stem == "lib" {
            continue;
        }
        if path.is_dir() {
            files(&path, root, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = std::fs::read_to_string(&path).unwrap();
            found.insert(module(path.strip_prefix(root).unwrap()), code(&text));
        }
    }
}

/// The files of the crate of kernels, as if they were the module `cpu`.
fn kernels(root: &Path) -> BTreeMap<Name, String> {
    let mut found = BTreeMap::new();
    files(root, root, &mut found);
    let head = std::fs::read_to_string(root.join("lib.rs")).unwrap();
    found.insert(Vec::new(), code(&head));
    let inside = |code: String| code.replace("crate::", "crate::cpu::");
    let below = |name: Name| ["cpu".to_owned()].into_iter().chain(name).collect();
    found.into_iter().map(|(name, code)| (below(name), inside(code))).collect()
}

/// The text without comments and without what follows `#[cfg(test)]`.
fn code(text: &str) -> String {
    let text = text.split("#[cfg(test)]\nmod tests").next().unwrap();
    text.lines().map(|line| line.split("//").next().unwrap()).collect::<Vec<_>>().join("\n")
}

/// The paths of a `use` tree: `a::{b, c::{d, e}}` are `a::b`, `a::c::d` and `a::c::e`.
fn expand(tree: &str, prefix: &[String], paths: &mut Vec<Name>) {
    let tree = tree.trim();
    let (head, braces) = match tree.split_once('{') {
        Some((head, rest)) => (head, Some(rest.strip_suffix('}').unwrap_or(rest))),
        None => (tree.split(" as ").next().unwrap(), None),
    };
    let segments = head.split("::").map(str::trim).filter(|segment| !segment.is_empty());
    let path: Name = prefix.iter().cloned().chain(segments.map(str::to_owned)).collect();
    let Some(rest) = braces else { return paths.push(path) };
    let (mut depth, mut start) = (0, 0);
    for (i, byte) in rest.bytes().enumerate().chain([(rest.len(), b',')]) {
        match byte {
            b'{' => depth += 1,
            b'}' => depth -= 1,
            b',' if depth == 0 => {
                if !rest[start..i].trim().is_empty() {
                    expand(&rest[start..i], &path, paths);
                }
                start = i + 1;
            }
            _ => {}
        }
    }
}

/// Every path that a file names: in `use`, and those that begin with `crate` or `super` elsewhere.
/// With each, whether it is exported again.
fn paths(code: &str) -> Vec<(Name, bool)> {
    let mut all = Vec::new();
    let mut rest = code;
    while let Some(at) = rest.find("use ") {
        let before = &rest[..at];
        let statement = &rest[at + 4..];
        let starts = before.is_empty() || before.ends_with([' ', '\n']);
        if let (true, Some(end)) = (starts, statement.find(';')) {
            let mut paths = Vec::new();
            expand(&statement[..end], &[], &mut paths);
            let line = before.rsplit('\n').next().unwrap().trim();
            all.extend(paths.into_iter().map(|path| (path, line.starts_with("pub"))));
            rest = &statement[end..];
        } else {
            rest = statement;
        }
    }
    for start in ["crate::", "super::"] {
        for (at, _) in code.match_indices(start) {
            if code[..at].ends_with([':', '$']) {
                continue;
            }
            let part = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
            let path: String = code[at..].chars().take_while(|&c| part(c)).collect();
            all.push((path.split("::").map(str::to_owned).collect(), false));
        }
    }
    all
}

struct Source {
    files: BTreeMap<Name, String>,
    /// What modules export of others: the module and the name, and the path behind it.
    exports: BTreeMap<(Name, String), Name>,
}

impl Source {
    fn read() -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let mut files = BTreeMap::new();
        self::files(&root.join("src"), &root.join("src"), &mut files);
        files.extend(kernels(&root.join("crates/cpu/src")));
        let mut source = Self { files, exports: BTreeMap::new() };
        for (file, code) in source.files.clone() {
            for (path, exported) in paths(&code) {
                if let (true, Some(absolute)) = (exported, source.absolute(&file, &path)) {
                    let name = path.last().unwrap().clone();
                    source.exports.insert((file.clone(), name), absolute);
                }
            }
        }
        source
    }

    /// A path from the root; `None` for one that leads outside of the crate.
    fn absolute(&self, file: &Name, path: &[String]) -> Option<Name> {
        let mut base: Name = match path.first()?.as_str() {
            "crate" => Vec::new(),
            "super" | "self" => file.clone(),
            child => {
                let inside: Name = file.iter().cloned().chain([child.to_owned()]).collect();
                return self.files.contains_key(&inside).then(|| [file, path].concat());
            }
        };
        for segment in path {
            match segment.as_str() {
                "crate" | "self" => {}
                "super" => drop(base.pop()),
                name => base.push(name.to_owned()),
            }
        }
        Some(base)
    }

    /// The file in which a path ends, through what modules export.
    fn target(&self, path: &Name) -> Option<Name> {
        let mut path = path.clone();
        for _ in 0..8 {
            let mut end = (1..=path.len()).rev();
            let end = end.find(|&end| self.files.contains_key(&path[..end]))?;
            let name = path.get(end).cloned().unwrap_or_default();
            match self.exports.get(&(path[..end].to_vec(), name)) {
                Some(behind) if self.files.contains_key(&behind[..1]) => {
                    path = [behind.as_slice(), &path[end + 1..]].concat();
                }
                _ => return Some(path[..end].to_vec()),
            }
        }
        None
    }

    /// The paths from each file to others, from the root.
    fn uses(&self) -> impl Iterator<Item = (&Name, Name)> {
        self.files.iter().flat_map(move |(file, code)| {
            let paths = paths(code).into_iter();
            paths.filter_map(move |(path, _)| Some((file, self.absolute(file, &path)?)))
        })
    }

    /// The arrows from each file to others.
    fn arrows(&self) -> BTreeMap<Name, BTreeSet<Name>> {
        let mut arrows = BTreeMap::<Name, BTreeSet<Name>>::new();
        for (file, path) in self.uses() {
            let Some(target) = self.target(&path) else { continue };
            if !target.starts_with(file) && !file.starts_with(&target) {
                arrows.entry(file.clone()).or_default().insert(target);
            }
        }
        arrows
    }
}

/// The modules of the picture, from the top to the bottom.
fn picture() -> Vec<String> {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/architecture.md");
    let page = std::fs::read_to_string(page).unwrap();
    let lines = page.lines().skip_while(|line| !line.starts_with("    JavaScript"));
    let lines = lines.take_while(|line| line.is_empty() || line.starts_with("    "));
    let names = lines.flat_map(|line| {
        // The modules come before what is said of them.
        let words = line.split_whitespace().take_while(|word| word.ends_with('/'));
        words.map(|word| word.trim_end_matches('/').to_owned()).collect::<Vec<_>>()
    });
    names.collect()
}

#[test]
fn arrows_go_down_the_picture() {
    let picture = picture();
    let place = |name: &str| picture.iter().position(|module| module == name);
    assert!(place("fused").is_some() && place("cpu").is_some(), "{picture:?}");
    let mut wrong = BTreeSet::new();
    let source = Source::read();
    for (file, path) in source.uses() {
        let (from, Some(to)) = (file[0].as_str(), path.first()) else { continue };
        if from == to || EVERYWHERE.contains(&to.as_str()) || source.target(&path).is_none() {
            continue;
        }
        let users = APART.iter().find(|(name, _)| name == to).map(|(_, users)| *users);
        let allowed = match users {
            Some(users) => users.contains(&from),
            None => place(from).zip(place(to)).is_some_and(|(from, to)| from < to),
        };
        if !allowed {
            wrong.insert(format!("{} uses {}", file.join("::"), path.join("::")));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn no_files_go_in_a_circle() {
    let mut arrows = Source::read().arrows();
    assert!(arrows.len() > 100 && arrows.values().map(BTreeSet::len).sum::<usize>() > 300);
    // What nobody uses, or what uses nobody, is in no circle; take it away until nothing changes.
    loop {
        let used: BTreeSet<Name> = arrows.values().flatten().cloned().collect();
        let users: BTreeSet<Name> = arrows.keys().cloned().collect();
        let before = arrows.len();
        arrows.retain(|file, targets| {
            targets.retain(|target| users.contains(target));
            !targets.is_empty() && used.contains(file)
        });
        if arrows.len() == before {
            break;
        }
    }
    let lines: Vec<_> = arrows
        .iter()
        .map(|(file, targets)| {
            let targets: Vec<_> = targets.iter().map(|target| target.join("::")).collect();
            format!("{} uses {}", file.join("::"), targets.join(", "))
        })
        .collect();
    assert!(lines.is_empty(), "{lines:#?}");
}
