//! The events socket: each client gets every decision as a line of JSON. A client has a thread of its own, so one that stands still holds
//! nobody else.

use std::io::{ErrorKind, Write};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, bounded};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::board::Board;
use super::lines::{Line, Subscribe, WAITING};
use super::messages::{Fate, Output};
use crate::episode::Episode;

/// Clients at a time; more are turned away.
pub const MAX_CLIENTS: usize = 8;
/// A client that takes nothing for so long is left.
const WRITE_PATIENCE: Duration = Duration::from_secs(60);
/// While there is no line, it is looked so often whether the client is still there.
const LOOK: Duration = Duration::from_secs(5);
/// After an error of accepting, such as too many open files.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);
/// So long the thread may take to end; then it is left behind.
const GRACE: Duration = Duration::from_secs(1);
/// A client's thread writes what others have made.
const STACK: usize = 128 << 10;
/// For this user and its group.
const MODE: u32 = 0o660;

/// The socket, until it is dropped.
#[derive(Debug)]
pub struct EventsSocket {
    path: PathBuf,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl EventsSocket {
    /// Listens at `path`; `None` where that cannot be (logged): nothing of it is worth a frame.
    pub fn start(board: Arc<Board>, path: &Path, subscribe: Subscribe) -> Option<Self> {
        board.messages.show(Output::Events);
        let listener = listen(path)
            .inspect_err(|error| {
                log::warn!("no events socket: cannot listen at {}: {error}; frames go on", path.display());
            })
            .ok()?;
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let accept = move || accept(&board, &listener, &subscribe, &stopped);
        match std::thread::Builder::new().name("events".to_owned()).stack_size(STACK).spawn(accept) {
            Ok(thread) => {
                log::info!("events: {}", path.display());
                Some(Self { path: path.to_owned(), stop, thread: Some(thread) })
            }
            Err(error) => {
                log::warn!("no events socket: cannot start a thread: {error}; frames go on");
                None
            }
        }
    }
}

impl Drop for EventsSocket {
    fn drop(&mut self) {
        self.stop.store(true, SeqCst);
        // Wakes the thread. Where the file is gone it cannot be woken, and is left behind.
        let woken = UnixStream::connect(&self.path).is_ok();
        let (Some(thread), end) = (self.thread.take(), Instant::now() + GRACE) else { return };
        while woken && !thread.is_finished() && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(5));
        }
        if thread.is_finished() {
            // A panic of it has been printed.
            let _ = thread.join();
        }
        // Best effort: the next one replaces a socket that nobody listens at.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Listens at `path`, where a socket that a run without a clean end has left may stand.
fn listen(path: &Path) -> std::io::Result<UnixListener> {
    let is_socket = std::fs::symlink_metadata(path).is_ok_and(|file| file.file_type().is_socket());
    if is_socket && UnixStream::connect(path).is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused) {
        std::fs::remove_file(path)?;
    }
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(MODE))?;
    Ok(listener)
}

/// Takes clients until `stop`.
fn accept(board: &Arc<Board>, listener: &UnixListener, subscribe: &Subscribe, stop: &AtomicBool) {
    let (room, mut failing, mut crowded) = (Arc::new(()), Episode::default(), Episode::default());
    loop {
        let stream = listener.accept();
        if stop.load(SeqCst) {
            return;
        }
        match stream {
            // Each client's thread holds one more.
            Ok(_) if Arc::strong_count(&room) > MAX_CLIENTS => {
                if crowded.fails() {
                    log::warn!("events: {MAX_CLIENTS} clients are there already, more are turned away");
                }
            }
            Ok((stream, _)) => {
                failing.recovers();
                crowded.recovers();
                if let Err(error) = welcome(board, stream, subscribe, Arc::clone(&room)) {
                    log::warn!("events: a client cannot be served: {error}");
                }
            }
            Err(error) => {
                if failing.fails() {
                    log::warn!("events: a client cannot be accepted: {error}");
                }
                std::thread::sleep(ACCEPT_PAUSE);
            }
        }
    }
}

/// Gives the client a thread and a subscription.
fn welcome(board: &Arc<Board>, stream: UnixStream, subscribe: &Subscribe, seat: Arc<()>) -> std::io::Result<()> {
    stream.set_write_timeout(Some(WRITE_PATIENCE))?;
    let (near, lines) = bounded(WAITING);
    let board = Arc::clone(board);
    let serve = move || {
        serve(&board, stream, &lines);
        drop(seat);
    };
    std::thread::Builder::new().name("events client".to_owned()).stack_size(STACK).spawn(serve)?;
    // Where nobody takes subscriptions the run is over, and the client's thread ends as this end of its channel is dropped.
    let _ = subscribe.send(Box::new(near));
    Ok(())
}

/// Writes lines until the client is gone or the run is over.
fn serve(board: &Board, mut stream: UnixStream, lines: &Receiver<Arc<Line>>) {
    loop {
        match lines.recv_timeout(LOOK) {
            Ok(line) if stream.write_all(&line.json).is_err() => return,
            Ok(line) if line.camera.is_empty() => {}
            Ok(_) => board.messages.count(Output::Events, Fate::Sent, 1),
            Err(RecvTimeoutError::Timeout) if has_left(&stream) => return,
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}

/// Whether the client has closed its end. One that has only said that it will say nothing is still there.
fn has_left(stream: &UnixStream) -> bool {
    let mut ends = [PollFd::new(stream, PollFlags::empty())];
    let looked = poll(&mut ends, Some(&Timespec::default()));
    looked.is_err() || ends[0].revents().intersects(PollFlags::HUP | PollFlags::ERR)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_has_left_when_it_closed_and_not_when_it_is_silent() {
        let (near, far) = UnixStream::pair().unwrap();
        assert!(!has_left(&near));
        far.shutdown(std::net::Shutdown::Write).unwrap();
        assert!(!has_left(&near), "it still listens");
        drop(far);
        assert!(has_left(&near));
    }

    #[test]
    fn a_socket_left_behind_is_replaced_and_nothing_else_is() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("events.sock");
        let first = listen(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, MODE);
        assert_eq!(listen(&path).unwrap_err().kind(), ErrorKind::AddrInUse, "somebody listens");
        drop(first);
        listen(&path).unwrap();
        let file = dir.path().join("file");
        std::fs::write(&file, "mine").unwrap();
        assert!(listen(&file).is_err());
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "mine");
    }
}
