//! Which files there are, and what they are of.

use std::collections::{BTreeMap, HashSet};

use super::Beginning;
use crate::cache::CachePart;

/// The files of one model by their names.
#[derive(Debug, Default)]
pub(super) struct Index {
    files: BTreeMap<String, Beginning>,
    /// Names of files that are of no use, and may not let themselves be removed.
    refused: HashSet<String>,
    /// Names of files whose content this process has written or looked at.
    verified: HashSet<String>,
}

impl Index {
    pub(super) fn get(&self, name: &str) -> Option<&Beginning> {
        self.files.get(name)
    }

    pub(super) fn insert(&mut self, name: String, beginning: Beginning) {
        self.files.insert(name, beginning);
    }

    /// Notes that a file's content is right.
    pub(super) fn verify(&mut self, name: &str) {
        self.verified.insert(name.to_owned());
    }

    pub(super) fn is_verified(&self, name: &str) -> bool {
        self.verified.contains(name)
    }

    /// Forgets a file, for good.
    pub(super) fn refuse(&mut self, name: &str) {
        self.files.remove(name);
        self.verified.remove(name);
        self.refused.insert(name.to_owned());
    }

    /// Forgets the files that are not among `names` any more; gives the names that are new.
    pub(super) fn retain_and_list_unknown(&mut self, names: HashSet<String>) -> Vec<String> {
        self.files.retain(|name, _| names.contains(name));
        self.refused.retain(|name| names.contains(name));
        self.verified.retain(|name| names.contains(name));
        let is_known = |name: &String| self.files.contains_key(name) || self.refused.contains(name);
        names.into_iter().filter(|name| !is_known(name)).collect()
    }

    /// The longest beginning of `tokens` that a file serves; of several files the shortest.
    pub(super) fn longest(
        &self,
        owner: &str,
        part: CachePart,
        tokens: &[u32],
    ) -> Option<(usize, String)> {
        let of_owner = self.files.iter().filter(|(_, it)| it.owner == owner && it.part == part);
        let lengths = of_owner.map(|(name, it)| {
            let common = it.tokens.iter().zip(tokens).take_while(|(a, b)| a == b).count();
            (common, it, name)
        });
        let usable = lengths.filter(|(common, it, _)| *common > 0 && *common >= it.shortest);
        let best = usable.max_by_key(|(common, it, _)| (*common, usize::MAX - it.tokens.len()));
        best.map(|(common, _, name)| (common, name.clone()))
    }

    /// A file that serves all that `beginning` serves.
    pub(super) fn covering(&self, beginning: &Beginning) -> Option<&str> {
        let covers = |(_, it): &(&String, &Beginning)| serves_all_of(it, beginning);
        self.files.iter().find(covers).map(|(name, _)| name.as_str())
    }

    /// Forgets the files that serve nothing which `beginning` does not serve, and gives their
    /// names.
    pub(super) fn take_superfluous(&mut self, beginning: &Beginning) -> Vec<String> {
        let gone = self.files.extract_if(.., |_, it| serves_all_of(beginning, it));
        gone.map(|(name, _)| name).collect()
    }

    /// Forgets all files, and gives their names.
    pub(super) fn take_names(&mut self) -> Vec<String> {
        std::mem::take(&mut self.files).into_keys().collect()
    }
}

fn serves_all_of(one: &Beginning, other: &Beginning) -> bool {
    one.owner == other.owner
        && one.part == other.part
        && one.shortest <= other.shortest
        && one.tokens.starts_with(&other.tokens)
}
