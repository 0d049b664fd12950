//! One function for each address.

use std::sync::Arc;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Extension, Path, Request, State};
use axum::http::header::{self, HeaderName, HeaderValue};
use axum::http::{HeaderMap, Response, StatusCode, Uri};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::IntoResponse;
use axum::routing::{get, post, put};
use serde_json::{Value, json};
use tokio::time::timeout;

use super::access::Peer;
use super::page::FILES;
use super::respond::{Refusal, bytes, json, refuse, secure};
use super::serve::App;
use super::{MAX_BODY, REQUEST_PATIENCE, examples, json as say, stream};
use crate::operator::board::Channel;
use crate::operator::metrics::{self, Around, Format};
use crate::operator::pictures::{Shot, Viewer};
use crate::report::CameraState;

pub(super) type Answer = Result<Response<Body>, Refusal>;

/// All addresses, behind the guard.
pub fn router(app: &Arc<App>) -> Router {
    let files = FILES.iter().fold(Router::new(), |router, file| {
        router.route(file.path, get(move |headers: HeaderMap| async move { file.respond(&headers) }))
    });
    let guard = from_fn_with_state(Arc::clone(app), guard);
    files
        .route("/healthz", get(async || bytes(StatusCode::OK, "text/plain", "ok\n")))
        .route("/readyz", get(ready))
        .route("/metrics", get(scrape))
        .route("/api/state", get(state))
        .route("/api/history", get(history))
        .route("/api/events", get(events))
        .route("/api/model", get(async |State(app): State<Arc<App>>| json(StatusCode::OK, &say::model(&app.board))))
        .route("/api/told", get(async || json(StatusCode::OK, &say::told())))
        .route("/api/cameras/{camera}/examples", post(examples::put))
        .route("/api/login", post(login))
        .route("/api/cameras/{camera}/threshold", put(set_threshold).delete(reset_threshold))
        .route("/cameras/{camera}/frame.jpg", get(frame))
        .route("/cameras/{camera}/stream.mjpg", get(pictures))
        .fallback(async || Refusal(StatusCode::NOT_FOUND, "there is nothing at this address".to_owned()))
        .layer(guard)
        .with_state(Arc::clone(app))
}

/// Judges every request, and gives every answer the same headers.
async fn guard(
    State(app): State<Arc<App>>,
    Extension(peer): Extension<Peer>,
    request: Request,
    next: Next,
) -> Response<Body> {
    let mut response = match app.access.check(&request, peer) {
        Ok(()) => next.run(request).await,
        Err(refusal) => refusal.into_response(),
    };
    secure(&mut response);
    response
}

/// Ready means: frames are decided. A broken promise does not end that, so it is only said.
async fn ready(State(app): State<Arc<App>>) -> Answer {
    let cameras = app.board.view().map(|view| view.cameras()).unwrap_or_default();
    let absent = cameras.iter().find(|camera| camera.state != CameraState::Up);
    let why = match absent {
        _ if cameras.is_empty() => "no camera yet".to_owned(),
        Some(camera) => format!("camera {}: {}", camera.name, camera.state.says().unwrap_or_default()),
        None if cameras.iter().any(|camera| camera.tally.decided == 0) => "no frame was decided yet".to_owned(),
        None => {
            let complaint = app.board.promises.complaint().map(|complaint| complaint + "\n").unwrap_or_default();
            return Ok(bytes(StatusCode::OK, "text/plain; charset=utf-8", format!("ready\n{complaint}")));
        }
    };
    Ok(bytes(StatusCode::SERVICE_UNAVAILABLE, "text/plain; charset=utf-8", why + "\n"))
}

async fn scrape(State(app): State<Arc<App>>, headers: HeaderMap) -> Answer {
    let accept = headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok()).unwrap_or_default();
    let format = Format::wanted(accept);
    let around = Around {
        machine: app.machine(),
        rails_w: app.drawn().rails_w,
        clients: [("connection", app.connections()), ("stream", app.streams())],
    };
    match metrics::text(&app.board, around, format) {
        Ok(text) => Ok(bytes(StatusCode::OK, format.content_type(), text)),
        Err(error) => refuse(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
    }
}

async fn state(State(app): State<Arc<App>>, Extension(peer): Extension<Peer>, headers: HeaderMap) -> Answer {
    Ok(json(StatusCode::OK, &say::state(&app, app.access.may_write(&headers, peer))))
}

async fn history(State(app): State<Arc<App>>, uri: Uri) -> Answer {
    let history = app.history();
    let value = match parameter(&uri, "range").unwrap_or("5m") {
        "5m" => say::history(history.seconds(), 1),
        "24h" => say::history(history.minutes(), 60),
        _ => return refuse(StatusCode::BAD_REQUEST, "range: expected 5m or 24h"),
    };
    Ok(json(StatusCode::OK, &value))
}

async fn events(State(app): State<Arc<App>>, Extension(peer): Extension<Peer>, headers: HeaderMap, uri: Uri) -> Answer {
    let may_write = app.access.may_write(&headers, peer);
    let channel = parameter(&uri, "camera").map(|camera| channel(&app, camera)).transpose()?;
    let viewer = channel.map(|channel| Viewer::new(&app.board, channel));
    Ok(bytes(StatusCode::OK, "text/event-stream", stream::events(Arc::clone(&app), viewer, may_write)))
}

async fn frame(State(app): State<Arc<App>>, Path(camera): Path<String>, uri: Uri) -> Answer {
    let channel = channel(&app, &camera)?;
    app.access.take_picture()?;
    let shot = match parameter(&uri, "seq") {
        Some(seq) => {
            let seq =
                seq.parse().map_err(|_| Refusal(StatusCode::BAD_REQUEST, "seq: expected a whole number".to_owned()))?;
            channel.easel.shot(seq).ok_or((StatusCode::NOT_FOUND, "the picture of this frame is gone, or never was"))
        }
        None => {
            let shot = stream::picture(Viewer::new(&app.board, channel)).await;
            shot.ok_or((StatusCode::SERVICE_UNAVAILABLE, "no picture came in time"))
        }
    };
    match shot {
        Ok(shot) => Ok(image(&shot)),
        Err((status, why)) => refuse(status, why),
    }
}

fn image(shot: &Shot) -> Response<Body> {
    let mut response = bytes(StatusCode::OK, "image/jpeg", shot.jpeg.clone());
    response.headers_mut().insert(HeaderName::from_static("x-cfvit-seq"), HeaderValue::from(shot.snapshot.seq));
    response
}

async fn pictures(State(app): State<Arc<App>>, Path(camera): Path<String>) -> Answer {
    let viewer = Viewer::new(&app.board, channel(&app, &camera)?);
    let body = stream::pictures(Arc::clone(&app), viewer)?;
    let mut response = bytes(StatusCode::OK, "", body);
    let kind = format!("multipart/x-mixed-replace; boundary={}", stream::BOUNDARY);
    if let Ok(kind) = HeaderValue::from_str(&kind) {
        response.headers_mut().insert(header::CONTENT_TYPE, kind);
    }
    Ok(response)
}

async fn set_threshold(State(app): State<Arc<App>>, Path(camera): Path<String>, body: Body) -> Answer {
    let channel = channel(&app, &camera)?;
    let body = body_json(body).await?;
    let threshold = body["threshold"].as_f64().filter(|threshold| (0.0..=2.0).contains(threshold));
    let Some(threshold) = threshold.map(|threshold| threshold as f32) else {
        return refuse(StatusCode::BAD_REQUEST, "expected {\"threshold\": a number from 0 to 2}");
    };
    channel.set_threshold(Some(threshold));
    log::info!("camera {camera}: threshold {threshold} from now on, set over HTTP");
    Ok(json(StatusCode::OK, &json!({ "v": 1, "threshold": body["threshold"] })))
}

async fn reset_threshold(State(app): State<Arc<App>>, Path(camera): Path<String>) -> Answer {
    let channel = channel(&app, &camera)?;
    channel.set_threshold(None);
    log::info!("camera {camera}: the configuration's threshold from now on, set over HTTP");
    Ok(json(StatusCode::OK, &json!({ "v": 1, "threshold": channel.threshold().configured })))
}

async fn login(State(app): State<Arc<App>>, body: Body) -> Answer {
    let body = body_json(body).await?;
    let cookie = app.access.login(body["token"].as_str().unwrap_or_default())?;
    let mut response = json(StatusCode::OK, &json!({ "v": 1 }));
    if let Ok(cookie) = HeaderValue::from_str(&cookie) {
        response.headers_mut().insert(header::SET_COOKIE, cookie);
    }
    Ok(response)
}

/// A short body, in a short time.
pub(super) async fn body_json(body: Body) -> Result<Value, Refusal> {
    let Ok(bytes) = timeout(REQUEST_PATIENCE, to_bytes(body, MAX_BODY)).await else {
        return refuse(StatusCode::REQUEST_TIMEOUT, "the request did not come in time");
    };
    let too_long = |_| Refusal(StatusCode::PAYLOAD_TOO_LARGE, format!("expected at most {MAX_BODY} bytes"));
    serde_json::from_slice(&bytes.map_err(too_long)?)
        .map_err(|error| Refusal(StatusCode::BAD_REQUEST, format!("expected JSON: {error}")))
}

/// The channel of a camera that is, or was, in service.
pub(super) fn channel(app: &App, camera: &str) -> Result<Arc<Channel>, Refusal> {
    let known = || app.board.view().is_some_and(|view| view.cameras().iter().any(|known| known.name == camera));
    match app.board.find(camera) {
        Some(channel) => Ok(channel),
        None if known() => Ok(app.board.channel(camera)),
        None => refuse(StatusCode::NOT_FOUND, "there is no such camera"),
    }
}

/// The value of a parameter of the query. Those that are known here need no escapes.
fn parameter<'a>(uri: &'a Uri, name: &str) -> Option<&'a str> {
    uri.query()?
        .split('&')
        .find_map(|pair| pair.split_once('=').filter(|(key, _)| *key == name))
        .map(|(_, value)| value)
}
