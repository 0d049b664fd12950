//! The seconds of the operators' thread.

use std::io;
use std::time::Duration;

use rustix::time::{
    ClockId, Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, clock_gettime, timerfd_create,
    timerfd_settime,
};
use tokio::net::unix::pipe::Receiver;
use tokio::time::{Interval, MissedTickBehavior, interval};

const SECOND: Duration = Duration::from_secs(1);

/// Whole seconds of the monotonic clock: whoever counts them in this thread is woken at once, and once. Tokio's own timers are woken two or
/// three times on the way to a moment that is so far away.
#[derive(Debug)]
pub struct Seconds(Source);

#[derive(Debug)]
enum Source {
    /// A timer is read as a pipe is.
    Kernel(Receiver),
    /// Where the kernel gives no timer, as with too many open files.
    Tokio(Interval),
}

impl Seconds {
    /// Counts from now on: the first one ends in one to two seconds. Inside a Tokio runtime only.
    pub fn new() -> Self {
        Self(timer().map(Source::Kernel).unwrap_or_else(|_| {
            let mut ticks = interval(SECOND);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            ticks.reset();
            Source::Tokio(ticks)
        }))
    }

    /// Waits for the end of this second. Those that were missed are not made up for. Nothing is lost when the future is dropped.
    pub async fn next(&mut self) {
        match &mut self.0 {
            Source::Tokio(ticks) => {
                ticks.tick().await;
            }
            Source::Kernel(timer) => {
                let mut count = [0; 8];
                while timer.readable().await.is_ok() {
                    match timer.try_read(&mut count) {
                        Ok(_) => return,
                        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                        Err(_) => break,
                    }
                }
                // The runtime ends. Whatever else it was must not become a loop without a pause.
                std::future::pending::<()>().await;
            }
        }
    }
}

fn timer() -> io::Result<Receiver> {
    let timer = timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC)?;
    let now = clock_gettime(ClockId::Monotonic);
    let first = Timespec { tv_sec: now.tv_sec + 2, tv_nsec: 0 };
    let times = Itimerspec { it_interval: Timespec { tv_sec: 1, tv_nsec: 0 }, it_value: first };
    timerfd_settime(&timer, TimerfdTimerFlags::ABSTIME, &times)?;
    Receiver::from_owned_fd_unchecked(timer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_that_count_are_told_of_the_same_seconds_and_none_is_made_up_for() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let clock = || clock_gettime(ClockId::Monotonic);
        runtime.block_on(async {
            let (mut one, mut other) = (Seconds::new(), Seconds::new());
            assert!(matches!((&one.0, &other.0), (Source::Kernel(_), Source::Kernel(_))));
            let begun = clock();
            one.next().await;
            let at = clock();
            other.next().await;
            // Where the machine is busy both may come late, but never early.
            assert!(at.tv_sec > begun.tv_sec, "{begun:?} {at:?}");
            std::thread::sleep(Duration::from_millis(2100));
            one.next().await;
            let late = clock();
            one.next().await;
            let next = clock();
            assert!(next.tv_sec > late.tv_sec, "{late:?} {next:?}");
        });
    }
}
