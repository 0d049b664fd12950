//! The page, the metrics and the interface over HTTP, in one task for everybody.
//!
//! | | |
//! |---|---|
//! | `GET /` | the page |
//! | `GET /healthz`, `/readyz` | whether this thread lives; whether frames are decided (503 and why not) |
//! | `GET /metrics` | for Prometheus |
//! | `GET /api/state`, `/api/history?range=5m`, `24h` | JSON, `"v": 1` |
//! | `GET /api/events?camera=C` | server-sent events: `state` once a second, `decision` for each picture |
//! | `GET /cameras/C/frame.jpg?seq=N` | the picture of that frame, else the next one |
//! | `GET /cameras/C/stream.mjpg` | pictures as multipart/x-mixed-replace |
//! | `PUT`, `DELETE /api/cameras/C/threshold` | `{"threshold": 0.7}`; back to the configuration's |
//! | `POST /api/cameras/C/examples` | `{"seq": N}` keeps that picture, with `"class": K` as one of that class, with `"discard": true` not |
//! | `GET /api/model`, `/api/told` | what stays the same for the run; the last warnings and errors |
//! | `POST /api/login` | `{"token": "…"}`; a cookie for twelve hours |

mod access;
mod examples;
mod json;
mod listen;
mod page;
mod patient;
mod respond;
mod routes;
mod serve;
mod stream;

use std::sync::Arc;
use std::time::Duration;

pub use access::Access;

use super::board::Board;
use super::host::{Stopping, Task};
use crate::config::WebSettings;
use crate::error::Result;

/// Connections at a time; more are turned away.
pub const MAX_CONNECTIONS: usize = 16;
/// Streams of pictures at a time.
pub const MAX_STREAMS: usize = 4;
/// The longest head of a request, in bytes.
pub const MAX_HEAD: usize = 8 << 10;
/// The longest body of a request, in bytes.
pub const MAX_BODY: usize = 4 << 10;
/// The whole head, and the whole body, must be there in this time.
pub const REQUEST_PATIENCE: Duration = Duration::from_secs(5);
/// A client that takes nothing for so long is left.
pub const WRITE_PATIENCE: Duration = Duration::from_secs(10);

/// Serves `board` at the sockets that the service manager handed over, else where `settings` say, until it is `stopping`. `None` where no
/// socket could be had (logged): nothing of that is worth a frame.
///
/// # Errors
/// [`crate::error::Kind::Config`] where a network could reach it and there is no token, or the token cannot be read.
pub fn start(board: Arc<Board>, settings: &WebSettings, stopping: Stopping) -> Result<Option<Task>> {
    let mut access = Access::new(settings)?;
    let sockets = listen::sockets(settings.listen);
    access.check_sockets(&sockets)?;
    if sockets.is_empty() {
        return Ok(None);
    }
    Ok(Some(Box::pin(serve::serve(board, access, sockets, stopping))))
}
