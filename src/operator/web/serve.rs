//! What serves: accepts connections, bounds them, and writes the history.

use std::convert::Infallible;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::access::{Access, Peer};
use super::listen::Socket;
use super::patient::{Patient, Wire};
use super::{MAX_CONNECTIONS, MAX_HEAD, REQUEST_PATIENCE, WRITE_PATIENCE, routes};
use crate::episode::Episode;
use crate::machine;
use crate::operator::board::Board;
use crate::operator::history::History;
use crate::operator::host::Stopping;
use crate::operator::sampler::Sampler;
use crate::operator::seconds::Seconds;
use crate::power::PerDecision;

/// The machine's state takes dozens of files to read, so it is read every so many steps.
const MACHINE_STEPS: u32 = 10;
/// After an error of accepting, such as too many open files.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// At the end open connections may take so long to be answered; less than the thread's grace.
const LAST_ANSWERS: Duration = Duration::from_millis(500);

/// What all requests share.
#[derive(Debug)]
pub struct App {
    /// The run.
    pub board: Arc<Board>,
    /// The rules.
    pub access: Access,
    /// Open streams of pictures.
    pub stream_count: AtomicUsize,
    connections: Arc<Semaphore>,
    history: Mutex<History>,
    machine: Mutex<machine::State>,
    drawn: Mutex<Drawn>,
}

/// What the machine draws, where that is measured.
#[derive(Clone, Debug, Default)]
pub struct Drawn {
    /// Mean power of the last second by rail, in watts.
    pub rails_w: Vec<(String, f64)>,
    /// What a decision of each kind has cost.
    pub per_decision: Option<PerDecision>,
}

impl App {
    fn new(board: Arc<Board>, access: Access) -> Self {
        Self {
            board,
            access,
            stream_count: AtomicUsize::new(0),
            connections: Arc::new(Semaphore::new(MAX_CONNECTIONS)),
            history: Mutex::default(),
            machine: Mutex::default(),
            drawn: Mutex::default(),
        }
    }

    /// The rows so far.
    pub fn history(&self) -> MutexGuard<'_, History> {
        self.history.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The machine's newest known state.
    pub fn machine(&self) -> machine::State {
        self.machine.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What the machine draws.
    pub fn drawn(&self) -> Drawn {
        self.drawn.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Open connections.
    pub fn connections(&self) -> usize {
        MAX_CONNECTIONS - self.connections.available_permits()
    }

    /// Open streams of pictures.
    pub fn streams(&self) -> usize {
        self.stream_count.load(Relaxed)
    }

    /// Writes the history for ever.
    async fn sample(&self) {
        let (mut sampler, mut seconds, mut step) = (Sampler::new(Instant::now()), Seconds::new(), 0u32);
        loop {
            if step > 0 {
                seconds.next().await;
            }
            if step.is_multiple_of(MACHINE_STEPS) {
                let state = machine::State::read(Path::new("/"));
                *self.machine.lock().unwrap_or_else(PoisonError::into_inner) = state;
            }
            if step > 0 {
                let row = sampler.sample(Instant::now(), &self.board, &self.machine());
                self.history().push(row);
                let drawn = Drawn { rails_w: sampler.rails_w().to_vec(), per_decision: sampler.per_decision() };
                *self.drawn.lock().unwrap_or_else(PoisonError::into_inner) = drawn;
            }
            step = step.wrapping_add(1);
        }
    }
}

/// Serves `board` at `sockets` until it is `stopping`.
pub(super) fn serve(
    board: Arc<Board>,
    access: Access,
    sockets: Vec<Socket>,
    mut stopping: Stopping,
) -> impl Future<Output = ()> + Send {
    let places: Vec<String> = sockets.iter().map(Socket::to_string).collect();
    log::info!("page and metrics: {}", places.join(", "));
    let app = Arc::new(App::new(board, access));
    async move {
        let mut acceptors = JoinSet::new();
        for socket in sockets {
            let app = Arc::clone(&app);
            acceptors.spawn(async move {
                if let Err(error) = accept(&app, socket).await {
                    log::warn!("a socket for the page is no use: {error}; frames go on");
                }
            });
        }
        let sampled = Arc::clone(&app);
        tokio::spawn(async move { sampled.sample().await });
        stopping.wait().await;
        // Whoever comes from now on waits in the socket for the next service, where the service manager keeps it. Who has come already still
        // gets an answer; connections that are kept open, as a page's, are not waited for any longer.
        drop(acceptors);
        let all_gone = app.connections.acquire_many(MAX_CONNECTIONS as u32);
        let _ = timeout(LAST_ANSWERS, all_gone).await;
    }
}

/// Takes connections for ever.
async fn accept(app: &Arc<App>, socket: Socket) -> std::io::Result<()> {
    let mut failing = Episode::default();
    match socket {
        Socket::Tcp(socket, _) => {
            let socket = TcpListener::from_std(socket)?;
            loop {
                let stream = socket.accept().await.map(|(stream, _)| Box::pin(stream) as Wire);
                take(app, stream, Peer::Tcp, &mut failing).await;
            }
        }
        Socket::Unix(socket) => {
            let socket = UnixListener::from_std(socket)?;
            loop {
                let stream = socket.accept().await.map(|(stream, _)| Box::pin(stream) as Wire);
                take(app, stream, Peer::Unix, &mut failing).await;
            }
        }
    }
}

/// Serves a connection in a task of its own, if there is room for it; one too many is closed at once.
async fn take(app: &Arc<App>, stream: std::io::Result<Wire>, peer: Peer, failing: &mut Episode) {
    match stream {
        Ok(stream) => {
            failing.recovers();
            if let Ok(room) = Arc::clone(&app.connections).try_acquire_owned() {
                let app = Arc::clone(app);
                tokio::spawn(async move {
                    converse(app, stream, peer).await;
                    drop(room);
                });
            }
        }
        Err(error) => {
            if failing.fails() {
                log::warn!("a connection to the page cannot be accepted: {error}");
            }
            sleep(ACCEPT_PAUSE).await;
        }
    }
}

/// Answers the requests of one connection until it ends. What goes wrong there is the client's affair.
async fn converse(app: Arc<App>, stream: Wire, peer: Peer) {
    let answer = service_fn(move |request| {
        let app = Arc::clone(&app);
        async move { Ok::<_, Infallible>(routes::answer(app, peer, request).await) }
    });
    let _ = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(REQUEST_PATIENCE)
        .max_buf_size(MAX_HEAD)
        .serve_connection(TokioIo::new(Patient::new(stream, WRITE_PATIENCE)), answer)
        .await;
}
