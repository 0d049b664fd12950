//! The thread that serves: accepts connections, bounds them, and writes the history.

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::Extension;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{Semaphore, oneshot};
use tokio::time::{interval, sleep};

use super::access::{Access, Peer};
use super::listen::Socket;
use super::patient::Patient;
use super::{MAX_CONNECTIONS, MAX_HEAD, REQUEST_PATIENCE, WRITE_PATIENCE, routes};
use crate::episode::Episode;
use crate::machine;
use crate::operator::board::Board;
use crate::operator::history::{History, Sampler};

/// The history's step.
const SECOND: Duration = Duration::from_secs(1);
/// The machine's state takes dozens of files to read, so it is read every so many steps.
const MACHINE_STEPS: u32 = 10;
/// After an error of accepting, such as too many open files.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);
/// So long the thread may take to end; then it is left behind.
const GRACE: Duration = Duration::from_secs(1);

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
        let (mut sampler, mut ticks, mut step) = (Sampler::new(Instant::now()), interval(SECOND), 0u32);
        loop {
            ticks.tick().await;
            if step.is_multiple_of(MACHINE_STEPS) {
                let state = machine::State::read(Path::new("/"));
                *self.machine.lock().unwrap_or_else(PoisonError::into_inner) = state;
            }
            if step > 0 {
                let row = sampler.sample(Instant::now(), &self.board, &self.machine());
                self.history().push(row);
            }
            step = step.wrapping_add(1);
        }
    }
}

/// The service, until it is dropped.
#[derive(Debug)]
pub struct Web {
    board: Arc<Board>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Web {
    /// Serves `board` at `sockets`; `None` where that cannot begin (logged).
    pub(super) fn start(board: Arc<Board>, access: Access, sockets: Vec<Socket>) -> Option<Self> {
        let places: Vec<String> = sockets.iter().map(Socket::to_string).collect();
        let app = Arc::new(App::new(Arc::clone(&board), access));
        let (stop, stopped) = oneshot::channel();
        let serve = move || match tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build() {
            Ok(runtime) => runtime.block_on(serve(&app, sockets, stopped)),
            Err(error) => log::warn!("no page, no metrics: {error}; frames go on"),
        };
        match std::thread::Builder::new().name("web".to_owned()).spawn(serve) {
            Ok(thread) => {
                log::info!("page and metrics: {}", places.join(", "));
                Some(Self { board, stop: Some(stop), thread: Some(thread) })
            }
            Err(error) => {
                log::warn!("no page, no metrics: cannot start a thread: {error}; frames go on");
                None
            }
        }
    }
}

impl Drop for Web {
    fn drop(&mut self) {
        self.board.close();
        // The thread may have ended before.
        let _ = self.stop.take().map(|stop| stop.send(()));
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

async fn serve(app: &Arc<App>, sockets: Vec<Socket>, stopped: oneshot::Receiver<()>) {
    for socket in sockets {
        let app = Arc::clone(app);
        tokio::spawn(async move {
            if let Err(error) = accept(&app, socket).await {
                log::warn!("a socket for the page is no use: {error}; frames go on");
            }
        });
    }
    let sampling = Arc::clone(app);
    tokio::spawn(async move { sampling.sample().await });
    // An error means that whoever could ask for the end is gone, which is the same.
    let _ = stopped.await;
}

/// Takes connections for ever.
async fn accept(app: &Arc<App>, socket: Socket) -> std::io::Result<()> {
    let (router, mut failing) = (routes::router(app), Episode::default());
    match socket {
        Socket::Tcp(socket, _) => {
            let (socket, router) = (TcpListener::from_std(socket)?, router.layer(Extension(Peer::Tcp)));
            loop {
                let stream = socket.accept().await.map(|(stream, _)| stream);
                take(app, stream, &router, &mut failing).await;
            }
        }
        Socket::Unix(socket) => {
            let (socket, router) = (UnixListener::from_std(socket)?, router.layer(Extension(Peer::Unix)));
            loop {
                let stream = socket.accept().await.map(|(stream, _)| stream);
                take(app, stream, &router, &mut failing).await;
            }
        }
    }
}

/// Serves a connection in a task of its own, if there is room for it; one too many is closed at once.
async fn take<S>(app: &App, stream: std::io::Result<S>, router: &Router, failing: &mut Episode)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    match stream {
        Ok(stream) => {
            failing.recovers();
            if let Ok(room) = Arc::clone(&app.connections).try_acquire_owned() {
                let router = router.clone();
                tokio::spawn(async move {
                    converse(stream, router).await;
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
async fn converse<S>(stream: S, router: Router)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let stream = TokioIo::new(Patient::new(stream, WRITE_PATIENCE));
    let _ = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(REQUEST_PATIENCE)
        .max_buf_size(MAX_HEAD)
        .serve_connection(stream, TowerToHyperService::new(router))
        .await;
}
