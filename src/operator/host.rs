//! The one thread in which the page, MQTT and the webhook live, so that all together cost one.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::board::Board;

/// So long the thread may take to end; then it is left behind.
const GRACE: Duration = Duration::from_secs(1);

/// What lives in the thread: ends by itself, or soon after the stop.
pub type Task = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Asks the tasks to end.
#[derive(Debug)]
pub struct Stopper(watch::Sender<bool>);

/// Tells a task that it is to end. Clones are told the same.
#[derive(Clone, Debug)]
pub struct Stopping(watch::Receiver<bool>);

/// Both ends.
pub fn stop() -> (Stopper, Stopping) {
    let (stopper, stopping) = watch::channel(false);
    (Stopper(stopper), Stopping(stopping))
}

impl Stopping {
    /// Waits for the stop.
    pub async fn wait(&mut self) {
        // An error means that whoever could ask for the end is gone, which is the same.
        let _ = self.0.wait_for(|stop| *stop).await;
    }
}

/// The thread, until it is dropped.
#[derive(Debug)]
pub struct Host {
    board: Arc<Board>,
    stopper: Stopper,
    thread: Option<JoinHandle<()>>,
}

impl Host {
    /// Runs `tasks`, which listen to `stopper`; `None` where that cannot begin (logged): nothing of it is worth a frame.
    pub fn start(board: Arc<Board>, stopper: Stopper, tasks: Vec<Task>) -> Option<Self> {
        let run = move || match runtime() {
            Ok(runtime) => {
                let handles: Vec<_> = tasks.into_iter().map(|task| runtime.spawn(task)).collect();
                runtime.block_on(async {
                    for handle in handles {
                        if handle.await.is_err() {
                            log::error!(
                                "a part of what operators see has failed for good; the rest and the frames go on"
                            );
                        }
                    }
                });
                // A look-up of a name may still be waiting for its answer.
                runtime.shutdown_background();
            }
            Err(error) => log::warn!("no page, no metrics, no MQTT, no webhook: {error}; frames go on"),
        };
        match std::thread::Builder::new().name("operator".to_owned()).spawn(run) {
            Ok(thread) => Some(Self { board, stopper, thread: Some(thread) }),
            Err(error) => {
                log::warn!("no page, no metrics, no MQTT, no webhook: cannot start a thread: {error}; frames go on");
                None
            }
        }
    }
}

fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    // Names are looked up, and examples written, in threads of their own, which end soon after. A broker's and a receiver's name that are
    // not found for long must keep nobody else waiting.
    tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .max_blocking_threads(4)
        .thread_keep_alive(Duration::from_secs(1))
        .build()
}

impl Drop for Host {
    fn drop(&mut self) {
        self.board.close();
        // The thread may have ended before.
        let _ = self.stopper.0.send(true);
        let (Some(thread), end) = (self.thread.take(), Instant::now() + GRACE) else { return };
        while !thread.is_finished() && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(5));
        }
        if thread.is_finished() {
            // A panic of it has been printed.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operator::Facts;

    #[test]
    fn tasks_end_with_the_host_and_one_that_panics_takes_none_with_it() {
        let (stopper, mut stopping) = stop();
        let (told, ended) = std::sync::mpsc::channel();
        let polite: Task = Box::pin(async move {
            stopping.wait().await;
            told.send(()).unwrap();
        });
        let broken: Task = Box::pin(async { std::panic::resume_unwind(Box::new("broken")) });
        let host = Host::start(Arc::new(Board::new(Facts::default())), stopper, vec![broken, polite]).unwrap();
        assert!(ended.try_recv().is_err());
        drop(host);
        ended.recv_timeout(Duration::from_secs(60)).unwrap();
    }
}
