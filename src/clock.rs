//! Time and interruption: a clock that tests can drive, and the one way in which everything that waits is told to stop.

use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TryRecvError, bounded};

/// Asks threads to stop, once and for all. Clones are the same request; every waiter wakes up at once.
#[derive(Clone, Debug)]
pub struct Stop {
    // Nothing is ever sent: dropping the only sender is the request, which wakes any number of receivers.
    sender: Arc<Mutex<Option<Sender<Infallible>>>>,
    receiver: Receiver<Infallible>,
}

impl Default for Stop {
    fn default() -> Self {
        Self::new()
    }
}

impl Stop {
    /// Not yet requested.
    pub fn new() -> Self {
        let (sender, receiver) = bounded(0);
        Self { sender: Arc::new(Mutex::new(Some(sender))), receiver }
    }

    /// Requests the stop. Asking again changes nothing.
    pub fn request(&self) {
        self.sender.lock().unwrap_or_else(PoisonError::into_inner).take();
    }

    /// Whether the stop was requested.
    pub fn is_requested(&self) -> bool {
        matches!(self.receiver.try_recv(), Err(TryRecvError::Disconnected))
    }

    /// Waits until `deadline` or the stop, whichever comes first; true if it was the stop.
    pub fn wait_until(&self, deadline: Instant) -> bool {
        matches!(self.receiver.recv_deadline(deadline), Err(RecvTimeoutError::Disconnected))
    }

    /// Becomes ready (disconnected) at the stop; for `crossbeam_channel::select!`.
    pub fn receiver(&self) -> &Receiver<Infallible> {
        &self.receiver
    }
}

/// A steady clock, so that pacing and energy integration can be tested without waiting.
pub trait Clock: Send + Sync {
    /// Now. Never goes back.
    fn now(&self) -> Instant;

    /// Waits until `deadline` or until `stop` is requested; true if it was the stop.
    fn sleep_until(&self, deadline: Instant, stop: &Stop) -> bool;
}

/// The machine's monotonic clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct System;

impl Clock for System {
    fn now(&self) -> Instant {
        Instant::now()
    }

    fn sleep_until(&self, deadline: Instant, stop: &Stop) -> bool {
        stop.wait_until(deadline)
    }
}

/// A clock that stands still until it is told to go on; sleeping moves it to the deadline.
#[derive(Debug)]
pub struct Simulated(Mutex<Instant>);

impl Default for Simulated {
    fn default() -> Self {
        Self::new()
    }
}

impl Simulated {
    /// Starts at an arbitrary instant.
    pub fn new() -> Self {
        Self(Mutex::new(Instant::now()))
    }

    /// Moves the time forward.
    pub fn advance(&self, by: Duration) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) += by;
    }
}

impl Clock for Simulated {
    fn now(&self) -> Instant {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn sleep_until(&self, deadline: Instant, stop: &Stop) -> bool {
        let mut now = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if stop.is_requested() {
            return true;
        }
        *now = deadline.max(*now);
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stop_wakes_every_waiter_and_stays() {
        let stop = Stop::new();
        let far = Instant::now() + Duration::from_secs(3600);
        let waiters: Vec<_> = (0..3)
            .map(|_| {
                let stop = stop.clone();
                std::thread::spawn(move || stop.wait_until(far))
            })
            .collect();
        assert!(!stop.is_requested() && !stop.wait_until(Instant::now()));
        stop.clone().request();
        stop.request();
        assert!(waiters.into_iter().all(|w| w.join().unwrap()));
        assert!(stop.is_requested() && stop.wait_until(far));
    }

    #[test]
    fn simulated_sleep_jumps_to_the_deadline_unless_stopped() {
        let (clock, stop) = (Simulated::new(), Stop::new());
        let start = clock.now();
        assert!(!clock.sleep_until(start + Duration::from_secs(9), &stop));
        clock.advance(Duration::from_secs(1));
        assert!(!clock.sleep_until(start, &stop), "a deadline that has passed");
        assert_eq!(clock.now() - start, Duration::from_secs(10));
        stop.request();
        assert!(clock.sleep_until(start + Duration::from_secs(99), &stop));
        assert_eq!(clock.now() - start, Duration::from_secs(10));
    }
}
