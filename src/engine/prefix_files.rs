//! The files in which a model keeps what sequences have read.

use super::request::LoadRequest;
use crate::cache::prefix_store::{PrefixStore, stamp};
use crate::error::{Error, Result};
use crate::fused::Device;
use crate::models;

/// The store that `request` asks for, of what this model, loaded so, can use again.
///
/// # Errors
/// [`Error::InvalidArgument`] for a directory that cannot be used.
pub(super) fn prefix_store(
    request: &LoadRequest,
    device: &Device,
    model: &models::Info,
) -> Result<Option<PrefixStore>> {
    let Some(disk) = request.prefix_disk.as_ref().filter(|disk| disk.bytes > 0) else {
        return Ok(None);
    };
    let key = format!(
        "{} {} {:?} {:?} {:?}",
        model.fingerprint,
        stamp(&request.path),
        device.kind,
        device.precision,
        model.dtype,
    );
    let store = PrefixStore::open(&disk.directory, disk.bytes, &key);
    store.map(Some).map_err(|error| {
        let message = format!("cannot be used: {error}");
        Error::argument("prefixCache.directory", message).caused_by(error)
    })
}
