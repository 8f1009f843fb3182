//! What callers ask of the adapters that they hold.

use std::path::PathBuf;

use super::status::Reply;
use crate::adapters::AdapterInfo;

/// What can be asked of an adapter, which has a number that goes around.
pub enum AdapterRequest {
    /// Load it from a folder.
    Load(PathBuf, Reply<AdapterInfo>),
    /// Forget it, once no generation runs with it.
    Drop,
}
