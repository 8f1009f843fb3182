//! How long who has waited the longest lets others go before.

/// How many go before who has waited longer, because their priority is higher, until that one is
/// next.
pub const MOST_OVERTAKES: usize = 15;

/// Keeps who waits with a low priority from waiting for ever beside those of a higher one that keep
/// coming.
#[derive(Debug, Default)]
pub struct Patience {
    /// How many have overtaken in a row.
    overtakes: usize,
}

impl Patience {
    /// Whether who has waited the longest is next, whatever its priority.
    pub fn is_over(&self) -> bool {
        self.overtakes >= MOST_OVERTAKES
    }

    /// Notes whose turn it was: whether one was passed over who had waited longer.
    pub fn note(&mut self, overtakes: bool) {
        self.overtakes = if overtakes { self.overtakes + 1 } else { 0 };
    }
}
