//! What adapters add to the layers of a model, which may have several.
//!
//! Which one a step runs with is the step's own choice: whoever
//! builds its graph selects it, and the layers of that model read it while they add their nodes.
//! The kernels that fuse several layers take none with an addition, so that such a layer is
//! composed.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The number of an adapter, different from every other in the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct AdapterId(u64);

impl AdapterId {
    /// A new number.
    pub fn next() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        Self(NEXT.fetch_add(1, Ordering::Relaxed))
    }

    /// The number that was handed out as `value`; one that was not names no adapter.
    pub fn from_number(value: f64) -> Self {
        Self(value as u64)
    }

    /// The number, for JavaScript.
    pub fn number(self) -> f64 {
        self.0 as f64
    }
}

/// Which of a model's adapters the graph belongs to that is being built.
#[derive(Debug, Clone, Default)]
pub struct Selection(Rc<Cell<Option<AdapterId>>>);

impl Selection {
    /// Builds something with an adapter, or none.
    pub fn scope<T>(&self, adapter: Option<AdapterId>, build: impl FnOnce() -> T) -> T {
        /// Brings back what was selected, after a panic, too.
        struct Restore<'a>(&'a Selection, Option<AdapterId>);
        impl Drop for Restore<'_> {
            fn drop(&mut self) {
                self.0.0.set(self.1);
            }
        }
        let _restore = Restore(self, self.0.replace(adapter));
        build()
    }
}

/// The additions of a layer, by adapter.
#[derive(Debug)]
pub struct Additions<T>(Option<Rc<Known<T>>>);

#[derive(Debug)]
struct Known<T> {
    selection: Selection,
    by_adapter: RefCell<Vec<(AdapterId, Rc<T>)>>,
}

impl<T> Default for Additions<T> {
    /// Those of a layer that takes none.
    fn default() -> Self {
        Self(None)
    }
}

impl<T> Clone for Additions<T> {
    /// The same additions.
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T> Additions<T> {
    /// Those of a layer of the model that selects with this.
    pub fn new(selection: &Selection) -> Self {
        let selection = selection.clone();
        Self(Some(Rc::new(Known { selection, by_adapter: RefCell::default() })))
    }

    /// What is added with an adapter from now on.
    pub fn insert(&self, adapter: AdapterId, addition: T) {
        self.remove(adapter);
        if let Some(known) = &self.0 {
            known.by_adapter.borrow_mut().push((adapter, Rc::new(addition)));
        }
    }

    /// Forgets what is added with an adapter.
    pub fn remove(&self, adapter: AdapterId) {
        if let Some(known) = &self.0 {
            known.by_adapter.borrow_mut().retain(|(other, _)| *other != adapter);
        }
    }

    /// What the selected adapter adds.
    pub fn current(&self) -> Option<Rc<T>> {
        let known = self.0.as_ref()?;
        let adapter = known.selection.0.get()?;
        let by_adapter = known.by_adapter.borrow();
        by_adapter.iter().find(|(other, _)| *other == adapter).map(|(_, it)| Rc::clone(it))
    }

    /// Whether the selected adapter adds nothing here.
    pub(super) fn is_empty(&self) -> bool {
        self.current().is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_selected_adapter_adds_is_seen_and_only_within_its_scope() {
        let (selection, other) = (Selection::default(), Selection::default());
        let additions = Additions::new(&selection);
        let [first, second] = [AdapterId::next(), AdapterId::next()];
        additions.insert(first, "first");
        additions.insert(second, "second");
        let current = || additions.current().map(|addition| *addition);
        assert_eq!(current(), None);
        selection.scope(Some(first), || {
            assert_eq!(current(), Some("first"));
            selection.scope(None, || assert_eq!(current(), None));
            selection.scope(Some(second), || assert_eq!(current(), Some("second")));
            assert_eq!(current(), Some("first"));
        });
        let failed = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            selection.scope(Some(first), || std::panic::panic_any("a step fails"));
        }));
        assert!(failed.is_err() && current().is_none());
        other.scope(Some(first), || assert_eq!(current(), None));
        additions.remove(first);
        selection.scope(Some(first), || assert_eq!(current(), None));
        assert!(Additions::<()>::default().is_empty());
    }
}
