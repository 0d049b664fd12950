//! Signals: SIGINT and SIGTERM stop a run, SIGHUP has its configuration read again.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::thread::JoinHandle;

use crossbeam_channel::Sender;
use signal_hook::SigId;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::{Handle, Signals};
use signal_hook::{flag, low_level};

use crate::clock::Stop;
use crate::error::{Error, Kind, Result};

/// While it lives, SIGINT and SIGTERM request a stop; the second one ends the process at once with exit code 130 or 143. SIGHUP is passed
/// on where somebody listens for it; else it ends the process, as ever.
pub struct Signalled {
    shutdowns: Vec<SigId>,
    handle: Handle,
    listener: Option<JoinHandle<()>>,
}

impl Signalled {
    /// Begins to listen. Each SIGHUP is sent to `hangups`; those that come while one waits there already are the same one.
    ///
    /// # Errors
    /// [`Kind::Io`] when the handlers cannot be installed.
    pub fn new(stop: Stop, hangups: Option<Sender<()>>) -> Result<Self> {
        let fails = |cause| Error::caused(Kind::Io, "cannot install the signal handlers", cause);
        let (mut shutdowns, armed) = (Vec::new(), Arc::new(AtomicBool::new(false)));
        for signal in [SIGINT, SIGTERM] {
            // In this order: the first signal finds the shutdown unarmed and arms it.
            shutdowns
                .push(flag::register_conditional_shutdown(signal, 128 + signal, Arc::clone(&armed)).map_err(fails)?);
            shutdowns.push(flag::register(signal, Arc::clone(&armed)).map_err(fails)?);
        }
        let hangup = hangups.as_ref().map(|_| SIGHUP);
        let mut signals = Signals::new([SIGINT, SIGTERM].into_iter().chain(hangup)).map_err(fails)?;
        let handle = signals.handle();
        let listen = move || {
            for signal in signals.forever() {
                if let (SIGHUP, Some(hangups)) = (signal, &hangups) {
                    // Full: one is waiting. Gone: nobody reads a configuration any more.
                    let _ = hangups.try_send(());
                    continue;
                }
                let name = low_level::signal_name(signal).unwrap_or("a signal");
                log::info!("{name}: stopping; a second signal ends at once");
                stop.request();
                return;
            }
        };
        let listener = std::thread::Builder::new().name("signals".to_owned()).spawn(listen).map_err(fails)?;
        Ok(Self { shutdowns, handle, listener: Some(listener) })
    }
}

impl Drop for Signalled {
    fn drop(&mut self) {
        self.handle.close();
        if let Some(listener) = self.listener.take() {
            // A panic of the listener has been printed; there is nothing to add.
            let _ = listener.join();
        }
        for id in self.shutdowns.drain(..) {
            low_level::unregister(id);
        }
    }
}
