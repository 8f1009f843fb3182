//! Entries by the tokens that they were made of: a radix tree, whose edges are runs of tokens, for
//! each owner. An entry at the end of some tokens serves whoever begins with them, or with fewer of
//! them, as far as it can be cut.
//!
//! No entry is kept that another one makes superfluous. The tree counts the entries' bytes and
//! knows which was used least recently; when to remove that one is up to its user.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;

type NodeId = usize;

/// Entries of several owners, by their tokens.
#[derive(Debug)]
pub struct PrefixTree<K, P> {
    roots: HashMap<K, NodeId>,
    nodes: Vec<Node<K, P>>,
    /// Nodes that are out of use.
    free: Vec<NodeId>,
    /// The nodes with entries, by the time when they were used last.
    by_use: BTreeMap<u64, NodeId>,
    clock: u64,
    bytes: usize,
}

/// A place in the tree. But for roots, a node without an entry has several children.
#[derive(Debug)]
struct Node<K, P> {
    place: Place<K>,
    /// The tokens between its parent and itself.
    run: Vec<u32>,
    /// The tokens between the root and itself.
    depth: usize,
    children: BTreeMap<u32, NodeId>,
    entry: Option<Entry<P>>,
}

#[derive(Debug)]
enum Place<K> {
    RootOf(K),
    ChildOf(NodeId),
    OutOfUse,
}

#[derive(Debug)]
struct Entry<P> {
    payload: P,
    /// The fewest tokens that it can be cut to.
    shortest: usize,
    bytes: usize,
    last_used: u64,
}

/// An entry that was removed.
#[derive(Debug)]
pub struct Removed<K, P> {
    /// Whose it was.
    pub owner: K,
    /// What it was made of.
    pub tokens: Vec<u32>,
    /// The fewest tokens that it can be cut to.
    pub shortest: usize,
    /// What it held.
    pub payload: P,
}

impl<K, P> Default for PrefixTree<K, P> {
    fn default() -> Self {
        Self {
            roots: HashMap::new(),
            nodes: Vec::new(),
            free: Vec::new(),
            by_use: BTreeMap::new(),
            clock: 0,
            bytes: 0,
        }
    }
}

impl<K: Clone + Eq + Hash, P> PrefixTree<K, P> {
    /// The bytes of all entries.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The number of entries.
    pub fn len(&self) -> usize {
        self.by_use.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.by_use.is_empty()
    }

    /// Adds an entry that was made of `tokens` and can be cut to any length from `shortest` on. One
    /// that another entry makes superfluous is not kept, which `false` says; the other one then
    /// counts as used.
    pub fn insert(
        &mut self,
        owner: &K,
        tokens: &[u32],
        shortest: usize,
        bytes: usize,
        payload: P,
    ) -> bool {
        let root = self.root(owner);
        let (path, matched) = self.walk(root, tokens);
        let last = path.last().copied().unwrap_or(root);
        if matched == tokens.len()
            && let Some(other) = self.latest_beneath(last, None, shortest)
        {
            self.touch(other);
            return false;
        }
        let node = self.node_at(last, tokens, matched);
        self.clock += 1;
        let entry = Entry { payload, shortest, bytes, last_used: self.clock };
        self.take_entry(node);
        self.nodes[node].entry = Some(entry);
        self.by_use.insert(self.clock, node);
        self.bytes += bytes;
        self.remove_superfluous_above(node, shortest);
        true
    }

    /// The longest beginning of `tokens` that an entry serves, and that entry, which then counts as
    /// used: of several the one that was used last.
    pub fn longest(&mut self, owner: &K, tokens: &[u32]) -> Option<(usize, &P)> {
        let (length, node) = self.find(owner, tokens)?;
        self.touch(node);
        self.nodes[node].entry.as_ref().map(|entry| (length, &entry.payload))
    }

    /// The length of the longest beginning of `tokens` that an entry serves; 0 for none.
    pub fn longest_length(&self, owner: &K, tokens: &[u32]) -> usize {
        self.find(owner, tokens).map_or(0, |(length, _)| length)
    }

    /// How many of `tokens` are the beginning of what an entry was made of, whether or not it can
    /// be cut there.
    pub fn common_length(&self, owner: &K, tokens: &[u32]) -> usize {
        self.roots.get(owner).map_or(0, |&root| self.walk(root, tokens).1)
    }

    /// Removes the entry that was used least recently.
    pub fn remove_oldest(&mut self) -> Option<Removed<K, P>> {
        let (_, &node) = self.by_use.first_key_value()?;
        self.remove(node)
    }

    /// The bytes of the entry that was used last; 0 where there is none.
    pub fn newest_bytes(&self) -> usize {
        let newest = self.by_use.last_key_value();
        let entry = newest.and_then(|(_, &node)| self.nodes[node].entry.as_ref());
        entry.map_or(0, |entry| entry.bytes)
    }

    /// Removes the entry that was used last.
    pub fn remove_newest(&mut self) -> Option<Removed<K, P>> {
        let (_, &node) = self.by_use.last_key_value()?;
        self.remove(node)
    }

    fn remove(&mut self, node: NodeId) -> Option<Removed<K, P>> {
        let (owner, tokens) = self.way_to(node)?;
        let Entry { payload, shortest, .. } = self.take_entry(node)?;
        self.tidy(node);
        Some(Removed { owner, tokens, shortest, payload })
    }

    /// The owner of a node, and all tokens that lead to it.
    fn way_to(&self, node: NodeId) -> Option<(K, Vec<u32>)> {
        let (mut at, mut runs) = (node, Vec::new());
        loop {
            let Node { place, run, .. } = &self.nodes[at];
            runs.push(run.as_slice());
            match place {
                Place::RootOf(owner) => {
                    runs.reverse();
                    return Some((owner.clone(), runs.concat()));
                }
                Place::ChildOf(parent) => at = *parent,
                Place::OutOfUse => return None,
            }
        }
    }

    /// Removes all entries.
    pub fn clear(&mut self) {
        *self = Self { clock: self.clock, ..Self::default() };
    }

    fn find(&self, owner: &K, tokens: &[u32]) -> Option<(usize, NodeId)> {
        let (path, mut length) = self.walk(*self.roots.get(owner)?, tokens);
        let mut visited = None;
        for &node in path.iter().rev() {
            // All entries beneath share this many tokens: the rest of a run may not be among them.
            length = length.min(self.nodes[node].depth);
            if length == 0 {
                return None;
            }
            if let Some(found) = self.latest_beneath(node, visited, length) {
                return Some((length, found));
            }
            visited = Some(node);
        }
        None
    }

    /// The nodes along `tokens`, without the root, the last of which may end beyond what agrees;
    /// and how many tokens agree.
    fn walk(&self, root: NodeId, tokens: &[u32]) -> (Vec<NodeId>, usize) {
        let (mut path, mut at, mut matched) = (Vec::new(), root, 0);
        while let Some(&child) =
            tokens.get(matched).and_then(|token| self.nodes[at].children.get(token))
        {
            let run = &self.nodes[child].run;
            let common = run.iter().zip(&tokens[matched..]).take_while(|(a, b)| a == b).count();
            path.push(child);
            matched += common;
            if common < run.len() {
                break;
            }
            at = child;
        }
        (path, matched)
    }

    /// The node of the entry at or beneath `top`, but for what is beneath `except`, that can be cut
    /// to `length`: of several the one that was used last.
    fn latest_beneath(&self, top: NodeId, except: Option<NodeId>, length: usize) -> Option<NodeId> {
        let mut latest: Option<(u64, NodeId)> = None;
        let mut open = vec![top];
        while let Some(node) = open.pop() {
            let Node { children, entry, .. } = &self.nodes[node];
            if let Some(entry) = entry
                && entry.shortest <= length
            {
                latest = latest.max(Some((entry.last_used, node)));
            }
            open.extend(children.values().filter(|&&child| Some(child) != except));
        }
        latest.map(|(_, node)| node)
    }

    fn touch(&mut self, node: NodeId) {
        self.clock += 1;
        if let Some(entry) = &mut self.nodes[node].entry {
            self.by_use.remove(&entry.last_used);
            entry.last_used = self.clock;
            self.by_use.insert(self.clock, node);
        }
    }

    fn root(&mut self, owner: &K) -> NodeId {
        if let Some(&root) = self.roots.get(owner) {
            return root;
        }
        let root = self.add(Place::RootOf(owner.clone()), Vec::new(), 0);
        self.roots.insert(owner.clone(), root);
        root
    }

    fn add(&mut self, place: Place<K>, run: Vec<u32>, depth: usize) -> NodeId {
        let node = Node { place, run, depth, children: BTreeMap::new(), entry: None };
        match self.free.pop() {
            Some(id) => {
                self.nodes[id] = node;
                id
            }
            None => {
                self.nodes.push(node);
                self.nodes.len() - 1
            }
        }
    }

    /// The node at the end of `tokens`, of which `matched` lead to `last` or into its run.
    fn node_at(&mut self, last: NodeId, tokens: &[u32], matched: usize) -> NodeId {
        let mut at = last;
        if self.nodes[last].depth > matched {
            at = self.split(last, matched);
        }
        if matched == tokens.len() {
            return at;
        }
        let leaf = self.add(Place::ChildOf(at), tokens[matched..].to_vec(), tokens.len());
        self.nodes[at].children.insert(tokens[matched], leaf);
        leaf
    }

    /// Cuts a node's run at `depth`; gives the new node there.
    fn split(&mut self, node: NodeId, depth: usize) -> NodeId {
        let Node { run, depth: end, place, .. } = &mut self.nodes[node];
        let rest = run.split_off(run.len() - (*end - depth));
        let first = std::mem::replace(run, rest);
        let place = std::mem::replace(place, Place::OutOfUse);
        let parent = match &place {
            Place::ChildOf(parent) => Some(*parent),
            Place::RootOf(_) | Place::OutOfUse => None,
        };
        let key = first[0];
        let middle = self.add(place, first, depth);
        if let Some(parent) = parent {
            self.nodes[parent].children.insert(key, middle);
        }
        self.nodes[node].place = Place::ChildOf(middle);
        let key = self.nodes[node].run[0];
        self.nodes[middle].children.insert(key, node);
        middle
    }

    /// Removes the entries above `node` that serve no length that its entry does not serve.
    fn remove_superfluous_above(&mut self, node: NodeId, shortest: usize) {
        let mut above = Vec::new();
        let mut at = node;
        while let Place::ChildOf(parent) = self.nodes[at].place {
            at = parent;
            above.push(at);
        }
        // From the bottom: what becomes of a node changes nothing above it that is still to come.
        for node in above {
            if self.nodes[node].entry.as_ref().is_some_and(|entry| entry.shortest >= shortest) {
                self.take_entry(node);
                self.tidy(node);
            }
        }
    }

    fn take_entry(&mut self, node: NodeId) -> Option<Entry<P>> {
        let entry = self.nodes[node].entry.take()?;
        self.by_use.remove(&entry.last_used);
        self.bytes -= entry.bytes;
        Some(entry)
    }

    /// Removes `node` and what is above it as far as nothing needs it.
    fn tidy(&mut self, node: NodeId) {
        let mut at = node;
        loop {
            let Node { place, run, children, entry, .. } = &self.nodes[at];
            if entry.is_some() {
                return;
            }
            let only_child = children.values().next().copied().filter(|_| children.len() == 1);
            match (place, only_child) {
                (Place::RootOf(owner), None) if children.is_empty() => {
                    let owner = owner.clone();
                    self.roots.remove(&owner);
                    self.release(at);
                    return;
                }
                (Place::ChildOf(parent), None) if children.is_empty() => {
                    let (parent, key) = (*parent, run[0]);
                    self.nodes[parent].children.remove(&key);
                    self.release(at);
                    at = parent;
                }
                (Place::ChildOf(parent), Some(child)) => {
                    let (parent, key) = (*parent, run[0]);
                    let mut run = std::mem::take(&mut self.nodes[at].run);
                    run.append(&mut self.nodes[child].run);
                    self.nodes[child].run = run;
                    self.nodes[child].place = Place::ChildOf(parent);
                    self.nodes[parent].children.insert(key, child);
                    self.release(at);
                    return;
                }
                _ => return,
            }
        }
    }

    fn release(&mut self, node: NodeId) {
        self.nodes[node] = Node {
            place: Place::OutOfUse,
            run: Vec::new(),
            depth: 0,
            children: BTreeMap::new(),
            entry: None,
        };
        self.free.push(node);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::rc::Rc;

    #[test]
    fn the_longest_beginning_is_found_whoever_made_it() {
        let mut tree = PrefixTree::default();
        tree.insert(&0, &[1, 2, 3, 4], 0, 10, "long");
        tree.insert(&0, &[1, 2, 9], 0, 10, "branch");
        tree.insert(&1, &[1, 2, 3, 4, 5], 0, 10, "of another owner");
        assert_eq!(tree.longest(&0, &[1, 2, 3, 4, 5]), Some((4, &"long")));
        assert_eq!(tree.longest(&0, &[1, 2, 3]), Some((3, &"long")));
        assert_eq!(tree.longest(&0, &[1, 2, 9, 9]), Some((3, &"branch")));
        assert_eq!(tree.longest(&0, &[1, 2, 7]), Some((2, &"branch")), "used last");
        assert_eq!(tree.longest(&0, &[2]), None);
        assert_eq!(tree.longest(&2, &[1]), None);
    }

    #[test]
    fn what_cannot_be_cut_serves_its_own_length_only() {
        let mut tree = PrefixTree::default();
        tree.insert(&(), &[1, 2], 2, 1, "two");
        tree.insert(&(), &[1, 2, 3, 4], 4, 1, "four");
        tree.insert(&(), &[1, 2, 3, 4, 5, 6], 5, 1, "six, or five");
        assert_eq!(tree.longest(&(), &[1, 2, 3, 9]), Some((2, &"two")));
        assert_eq!(tree.longest(&(), &[1, 2, 3, 4]), Some((4, &"four")));
        assert_eq!(tree.longest(&(), &[1, 2, 3, 4, 5, 9]), Some((5, &"six, or five")));
        assert_eq!(tree.longest(&(), &[1]), None);
        assert_eq!(tree.common_length(&(), &[1, 2, 3, 9]), 3);
    }

    #[test]
    fn a_longer_entry_makes_shorter_ones_superfluous() {
        let mut tree = PrefixTree::default();
        assert!(tree.insert(&(), &[1, 2], 0, 5, "short"));
        assert!(tree.insert(&(), &[1, 2, 3], 0, 7, "long"));
        assert_eq!((tree.len(), tree.bytes()), (1, 7));
        assert!(!tree.insert(&(), &[1], 0, 3, "shorter"));
        assert_eq!((tree.len(), tree.bytes()), (1, 7));
        assert!(tree.insert(&(), &[1, 2, 3, 4], 4, 9, "cannot be cut"));
        assert_eq!((tree.len(), tree.bytes()), (2, 16));
    }

    /// The same, without a tree.
    #[derive(Default)]
    struct Naive {
        entries: Vec<NaiveEntry>,
        clock: u64,
    }

    struct NaiveEntry {
        owner: u32,
        tokens: Vec<u32>,
        shortest: usize,
        bytes: usize,
        id: u64,
        last_used: u64,
    }

    impl Naive {
        fn tick(&mut self) -> u64 {
            self.clock += 1;
            self.clock
        }

        fn insert(&mut self, owner: u32, tokens: &[u32], shortest: usize, bytes: usize, id: u64) {
            let now = self.tick();
            let covers = |it: &&mut NaiveEntry| {
                it.owner == owner && it.tokens.starts_with(tokens) && it.shortest <= shortest
            };
            let others = self.entries.iter_mut().filter(covers);
            if let Some(other) = others.max_by_key(|it| it.last_used) {
                other.last_used = now;
                return;
            }
            self.entries.retain(|it| {
                it.owner != owner || !tokens.starts_with(&it.tokens) || it.shortest < shortest
            });
            self.entries.retain(|it| it.owner != owner || it.tokens != tokens);
            let tokens = tokens.to_vec();
            self.entries.push(NaiveEntry { owner, tokens, shortest, bytes, id, last_used: now });
        }

        fn longest(&mut self, owner: u32, tokens: &[u32]) -> Option<(usize, u64)> {
            let length = |it: &NaiveEntry| {
                let common = it.tokens.iter().zip(tokens).take_while(|(a, b)| a == b).count();
                if common >= it.shortest { common } else { 0 }
            };
            let found = self
                .entries
                .iter()
                .enumerate()
                .filter(|(_, it)| it.owner == owner && length(it) > 0)
                .max_by_key(|(_, it)| (length(it), it.last_used))
                .map(|(index, it)| (index, length(it), it.id));
            let (index, length, id) = found?;
            self.entries[index].last_used = self.tick();
            Some((length, id))
        }

        fn remove(&mut self, newest: bool) -> Option<NaiveEntry> {
            let times = self.entries.iter().map(|it| it.last_used);
            let time = if newest { times.max() } else { times.min() }?;
            let index = self.entries.iter().position(|it| it.last_used == time)?;
            Some(self.entries.remove(index))
        }
    }

    fn check(tree: &PrefixTree<u32, Rc<u64>>, naive: &Naive) {
        assert_eq!(tree.len(), naive.entries.len());
        assert_eq!(tree.bytes(), naive.entries.iter().map(|it| it.bytes).sum::<usize>());
        let mut used = 0;
        for node in &tree.nodes {
            used += usize::from(!matches!(node.place, Place::OutOfUse));
            if let Place::ChildOf(parent) = node.place {
                assert!(node.entry.is_some() || node.children.len() > 1, "a needless node");
                assert_eq!(node.depth, tree.nodes[parent].depth + node.run.len());
            }
        }
        assert_eq!(used + tree.free.len(), tree.nodes.len());
        let roots = tree.nodes.iter().filter(|it| matches!(it.place, Place::RootOf(_))).count();
        assert_eq!(roots, tree.roots.len());
    }

    #[test]
    fn it_agrees_with_a_list_that_is_searched() {
        let mut state = 0x2545_f491_4f6c_dd1d_u64;
        let mut random = move |below: u64| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 16) % below
        };
        for round in 0..40_u64 {
            let (mut tree, mut naive) = (PrefixTree::default(), Naive::default());
            let letters = 2 + round % 3;
            for number in 0..500 {
                let id = Rc::new(number);
                let owner = random(2) as u32;
                let length = random(12) as usize;
                let tokens: Vec<u32> = (0..length).map(|_| random(letters) as u32).collect();
                match random(8) {
                    0..=3 => {
                        let shortest = match random(3) {
                            0 => 0,
                            1 => length,
                            _ => random(length as u64 + 1) as usize,
                        };
                        let bytes = random(1000) as usize;
                        tree.insert(&owner, &tokens, shortest, bytes, Rc::clone(&id));
                        naive.insert(owner, &tokens, shortest, bytes, number);
                    }
                    4 | 5 => {
                        let found = tree.longest_length(&owner, &tokens);
                        let longest = tree.longest(&owner, &tokens).map(|(at, id)| (at, **id));
                        assert_eq!(found, longest.map_or(0, |(length, _)| length));
                        assert_eq!(longest, naive.longest(owner, &tokens));
                    }
                    6 => {
                        let common = |it: &NaiveEntry| {
                            it.tokens.iter().zip(&tokens).take_while(|(a, b)| a == b).count()
                        };
                        let all = naive.entries.iter().filter(|it| it.owner == owner);
                        let expected = all.map(common).max().unwrap_or(0);
                        assert_eq!(tree.common_length(&owner, &tokens), expected);
                    }
                    _ => {
                        let newest = random(2) == 0;
                        let removed = match newest {
                            true => tree.remove_newest(),
                            false => tree.remove_oldest(),
                        };
                        let removed =
                            removed.map(|it| (it.owner, it.tokens, it.shortest, *it.payload));
                        let other = naive.remove(newest);
                        let other = other.map(|it| (it.owner, it.tokens, it.shortest, it.id));
                        assert_eq!(removed, other);
                    }
                }
                check(&tree, &naive);
            }
            while let Some(removed) = tree.remove_oldest() {
                assert_eq!(Some(*removed.payload), naive.remove(false).map(|it| it.id));
                check(&tree, &naive);
            }
            assert!(tree.is_empty() && naive.entries.is_empty() && tree.bytes() == 0);
            assert!(tree.roots.is_empty() && tree.free.len() == tree.nodes.len(), "a leak");
        }
    }

    #[test]
    fn nothing_holds_what_was_removed() {
        let payload = Rc::new(());
        let mut tree = PrefixTree::default();
        for length in 1..100_u32 {
            let tokens: Vec<u32> = (0..length).collect();
            tree.insert(&(), &tokens, length as usize, 1, Rc::clone(&payload));
        }
        assert_eq!(Rc::strong_count(&payload), 100);
        tree.insert(&(), &(0..100).collect::<Vec<_>>(), 0, 1, Rc::clone(&payload));
        assert_eq!(Rc::strong_count(&payload), 2, "the last one serves them all");
        tree.clear();
        assert_eq!((Rc::strong_count(&payload), tree.bytes(), tree.len()), (1, 0, 0));
    }
}
