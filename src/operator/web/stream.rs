//! Answers that go on: events, and pictures one after the other. Each looks at the newest only; a slow client misses some.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::unfold;
use hyper::StatusCode;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout_at};

use super::MAX_STREAMS;
use super::json;
use super::respond::{Body, Refusal, parts, refuse};
use super::serve::App;
use crate::operator::pictures::{Shot, Viewer};

/// How often the state is told. Also what keeps a connection alive.
const STATE_PERIOD: Duration = Duration::from_secs(1);
/// So long a single picture is waited for.
const PICTURE_PATIENCE: Duration = Duration::from_secs(2);

struct Events {
    app: Arc<App>,
    viewer: Option<Viewer>,
    shots: watch::Receiver<Option<Arc<Shot>>>,
    next_state: Instant,
    may_write: bool,
}

/// Server-sent events: the state once a second, and where a camera is watched, each decision that has a picture.
pub fn events(app: Arc<App>, viewer: Option<Viewer>, may_write: bool) -> Body {
    // Without a camera nothing ever comes through this channel.
    let shots = viewer.as_ref().map_or_else(|| watch::channel(None).1, |viewer| viewer.channel().easel.subscribe());
    let events = Events { app, viewer, shots, next_state: Instant::now(), may_write };
    parts(unfold(events, |mut events| async move {
        let text = events.next().await;
        Some((Bytes::from(text), events))
    }))
}

impl Events {
    async fn next(&mut self) -> String {
        while self.viewer.is_some()
            && let Ok(Ok(())) = timeout_at(self.next_state, self.shots.changed()).await
        {
            let shot = self.shots.borrow_and_update().clone();
            if let Some(shot) = shot {
                let decision = json::decision(&self.app.board, &shot.snapshot, Some((shot.width, shot.height)));
                return format!("event: decision\ndata: {decision}\n\n");
            }
        }
        sleep_until(self.next_state).await;
        self.next_state = (self.next_state + STATE_PERIOD).max(Instant::now());
        format!("event: state\ndata: {}\n\n", json::state(&self.app, self.may_write))
    }
}

struct Stream {
    viewer: Viewer,
    shots: watch::Receiver<Option<Arc<Shot>>>,
    app: Arc<App>,
    begun: bool,
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.app.stream_count.fetch_sub(1, Relaxed);
    }
}

/// What separates the pictures of a stream.
pub const BOUNDARY: &str = "cfvit-frame";

/// Pictures one after the other.
///
/// # Errors
/// 503 where there are [`MAX_STREAMS`] already.
pub fn pictures(app: Arc<App>, viewer: Viewer) -> Result<Body, Refusal> {
    if app.stream_count.fetch_add(1, Relaxed) >= MAX_STREAMS {
        app.stream_count.fetch_sub(1, Relaxed);
        return refuse(
            StatusCode::SERVICE_UNAVAILABLE,
            format!("{MAX_STREAMS} streams are open, which is all there are"),
        );
    }
    let shots = viewer.channel().easel.subscribe();
    let stream = Stream { viewer, shots, app, begun: false };
    Ok(parts(unfold(stream, |mut stream| async move {
        let part = stream.next().await?;
        Some((part, stream))
    })))
}

impl Stream {
    /// A picture and already the next boundary: some browsers show a part only when they see the one after it.
    async fn next(&mut self) -> Option<Bytes> {
        let shot = next_shot(&mut self.shots).await?;
        let mut part = Vec::with_capacity(shot.jpeg.len() + 256);
        if !std::mem::replace(&mut self.begun, true) {
            part.extend_from_slice(format!("--{BOUNDARY}\r\n").as_bytes());
        }
        let (length, seq) = (shot.jpeg.len(), shot.snapshot.seq);
        let head = format!("Content-Type: image/jpeg\r\nContent-Length: {length}\r\nX-Cfvit-Seq: {seq}\r\n\r\n");
        part.extend_from_slice(head.as_bytes());
        part.extend_from_slice(&shot.jpeg);
        part.extend_from_slice(format!("\r\n--{BOUNDARY}\r\n").as_bytes());
        // Dropped here, the viewer would no longer count.
        let _ = &self.viewer;
        Some(part.into())
    }
}

async fn next_shot(shots: &mut watch::Receiver<Option<Arc<Shot>>>) -> Option<Arc<Shot>> {
    loop {
        shots.changed().await.ok()?;
        if let Some(shot) = shots.borrow_and_update().clone() {
            return Some(shot);
        }
    }
}

/// The next picture of the camera; `None` where none comes in time.
pub async fn picture(viewer: Viewer) -> Option<Arc<Shot>> {
    let mut shots = viewer.channel().easel.subscribe();
    timeout_at(Instant::now() + PICTURE_PATIENCE, next_shot(&mut shots)).await.ok()?
}
