//! Reads the configuration again on request. In a thread of its own: opening a camera may take long, and neither the frames nor the
//! signals wait for it.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use crossbeam_channel::Receiver;

use super::Notifier;
use crate::error::{Error, Kind, Result};

/// A process has one configuration, and runs only where its first one was good.
static LAST_SUCCEEDED: AtomicBool = AtomicBool::new(true);

/// Whether the configuration that was read last, at the start or since, is in force.
pub fn last_reload_succeeded() -> bool {
    LAST_SUCCEEDED.load(Relaxed)
}

/// Calls `reload` for each request, until nobody can make one any more; tells the log and the service manager how it went. `reload` gives
/// the parts that have changed and need a restart.
///
/// # Errors
/// [`Kind::Io`] when the thread cannot be started.
pub fn reload_on(
    requests: Receiver<()>,
    notifier: Notifier,
    mut reload: impl FnMut() -> Result<Vec<&'static str>> + Send + 'static,
) -> Result<()> {
    let obey = move || {
        for () in requests {
            notifier.reloading();
            let result = reload();
            LAST_SUCCEEDED.store(result.is_ok(), Relaxed);
            match &result {
                Ok(fixed) if fixed.is_empty() => log::info!("the configuration was read again: all of it is in force"),
                Ok(fixed) => log::warn!(
                    "the configuration was read again: {} needs a restart, everything else is in force",
                    fixed.join(", ")
                ),
                Err(error) => log::error!("the new configuration is refused, the old one is in force: {error}"),
            }
            notifier.reloaded(result.err().map(|error| error.to_string()).as_deref());
        }
    };
    let started = std::thread::Builder::new().name("reload".to_owned()).spawn(obey);
    started.map(|_| ()).map_err(|cause| Error::caused(Kind::Io, "cannot start the reload thread", cause))
}
