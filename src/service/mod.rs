//! What makes a run a good service: signals, what the service manager is told, its watchdog, and a configuration that is read again.

mod notify;
mod reload;
mod signals;
mod watch;

pub use notify::Notifier;
pub use reload::{last_reload_succeeded, reload_on};
pub use signals::Signalled;
pub use watch::Watch;
