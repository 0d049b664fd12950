//! One function for each address.

use std::sync::Arc;

use bytes::Bytes;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::{Method, Request, Response, StatusCode, Uri};
use serde_json::{Value, json};
use tokio::time::timeout;

use super::access::Peer;
use super::page::FILES;
use super::respond::{Body, Refusal, bytes, json, refuse, secure, whole};
use super::serve::App;
use super::{MAX_BODY, REQUEST_PATIENCE, examples, json as say, stream};
use crate::operator::board::Channel;
use crate::operator::metrics::{self, Around, Format};
use crate::operator::pictures::{Shot, Viewer};
use crate::report::CameraState;

pub(super) type Answer = Result<Response<Body>, Refusal>;

const LOOK: (&[Method], &str) = (&[Method::GET, Method::HEAD], "GET, HEAD");

/// Judges `request` and answers it. Every answer has the same headers.
pub async fn answer(app: Arc<App>, peer: Peer, request: Request<Incoming>) -> Response<Body> {
    let answer = match app.access.check(&request, peer) {
        Ok(()) => route(&app, peer, request).await,
        Err(refusal) => Err(refusal),
    };
    let mut response = answer.unwrap_or_else(Refusal::into_response);
    secure(&mut response);
    response
}

/// Finds the function for an address.
async fn route(app: &Arc<App>, peer: Peer, request: Request<Incoming>) -> Answer {
    let (head, body) = request.into_parts();
    let (uri, headers) = (&head.uri, &head.headers);
    let path: Vec<&str> = uri.path().split('/').skip(1).collect();
    let nothing = "there is nothing at this address";
    let Some((methods, names)) = methods(uri.path(), &path) else { return refuse(StatusCode::NOT_FOUND, nothing) };
    if !methods.contains(&head.method) {
        return Ok(wrong_method(names));
    }
    match path[..] {
        ["healthz"] => Ok(bytes(StatusCode::OK, "text/plain", whole("ok\n"))),
        ["readyz"] => Ok(ready(app)),
        ["metrics"] => scrape(app, headers),
        ["api", "state"] => Ok(json(StatusCode::OK, &say::state(app, app.access.may_write(headers, peer)))),
        ["api", "history"] => history(app, uri),
        ["api", "events"] => events(app, app.access.may_write(headers, peer), uri),
        ["api", "model"] => Ok(json(StatusCode::OK, &say::model(&app.board))),
        ["api", "told"] => Ok(json(StatusCode::OK, &say::told())),
        ["api", "login"] => login(app, &body_json(body).await?),
        ["api", "cameras", camera, "examples"] => {
            let channel = channel(app, camera)?;
            examples::put(app, &channel, camera, &body_json(body).await?).await
        }
        ["api", "cameras", camera, "threshold"] => {
            let channel = channel(app, camera)?;
            match head.method {
                Method::DELETE => Ok(reset_threshold(&channel, camera)),
                _ => set_threshold(&channel, camera, &body_json(body).await?),
            }
        }
        ["cameras", camera, "frame.jpg"] => frame(app, camera, uri).await,
        ["cameras", camera, "stream.mjpg"] => pictures(app, camera),
        _ => match FILES.iter().find(|file| file.path == uri.path()) {
            Some(file) => Ok(file.respond(headers)),
            None => refuse(StatusCode::NOT_FOUND, nothing),
        },
    }
}

/// The methods of an address; `None` where there is nothing.
fn methods(path: &str, segments: &[&str]) -> Option<(&'static [Method], &'static str)> {
    match segments {
        ["api", "login"] | ["api", "cameras", _, "examples"] => Some((&[Method::POST], "POST")),
        ["api", "cameras", _, "threshold"] => Some((&[Method::PUT, Method::DELETE], "PUT, DELETE")),
        ["healthz" | "readyz" | "metrics"]
        | ["api", "state" | "history" | "events" | "model" | "told"]
        | ["cameras", _, "frame.jpg" | "stream.mjpg"] => Some(LOOK),
        _ => FILES.iter().any(|file| file.path == path).then_some(LOOK),
    }
}

fn wrong_method(names: &'static str) -> Response<Body> {
    let mut response = Refusal(StatusCode::METHOD_NOT_ALLOWED, format!("expected {names}")).into_response();
    response.headers_mut().insert(header::ALLOW, HeaderValue::from_static(names));
    response
}

/// Ready means: frames are decided. A broken promise does not end that, so it is only said.
fn ready(app: &App) -> Response<Body> {
    let cameras = app.board.view().map(|view| view.cameras()).unwrap_or_default();
    let absent = cameras.iter().find(|camera| camera.state != CameraState::Up);
    let why = match absent {
        _ if cameras.is_empty() => "no camera yet".to_owned(),
        Some(camera) => format!("camera {}: {}", camera.name, camera.state.says().unwrap_or_default()),
        None if cameras.iter().any(|camera| camera.tally.decided == 0) => "no frame was decided yet".to_owned(),
        None => {
            let complaint = app.board.promises.complaint().map(|complaint| complaint + "\n").unwrap_or_default();
            return bytes(StatusCode::OK, "text/plain; charset=utf-8", whole(format!("ready\n{complaint}")));
        }
    };
    bytes(StatusCode::SERVICE_UNAVAILABLE, "text/plain; charset=utf-8", whole(why + "\n"))
}

fn scrape(app: &App, headers: &HeaderMap) -> Answer {
    let accept = headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok()).unwrap_or_default();
    let format = Format::wanted(accept);
    let around = Around {
        machine: app.machine(),
        rails_w: app.drawn().rails_w,
        clients: [("connection", app.connections()), ("stream", app.streams())],
    };
    match metrics::text(&app.board, around, format) {
        Ok(text) => Ok(bytes(StatusCode::OK, format.content_type(), whole(text))),
        Err(error) => refuse(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
    }
}

fn history(app: &App, uri: &Uri) -> Answer {
    let history = app.history();
    let value = match parameter(uri, "range").unwrap_or("5m") {
        "5m" => say::history(history.seconds(), 1),
        "24h" => say::history(history.minutes(), 60),
        _ => return refuse(StatusCode::BAD_REQUEST, "range: expected 5m or 24h"),
    };
    Ok(json(StatusCode::OK, &value))
}

fn events(app: &Arc<App>, may_write: bool, uri: &Uri) -> Answer {
    let channel = parameter(uri, "camera").map(|camera| channel(app, camera)).transpose()?;
    let viewer = channel.map(|channel| Viewer::new(&app.board, channel));
    Ok(bytes(StatusCode::OK, "text/event-stream", stream::events(Arc::clone(app), viewer, may_write)))
}

async fn frame(app: &Arc<App>, camera: &str, uri: &Uri) -> Answer {
    let channel = channel(app, camera)?;
    app.access.take_picture()?;
    let shot = match parameter(uri, "seq") {
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
    let mut response = bytes(StatusCode::OK, "image/jpeg", whole(shot.jpeg.clone()));
    response.headers_mut().insert(HeaderName::from_static("x-cfvit-seq"), HeaderValue::from(shot.snapshot.seq));
    response
}

fn pictures(app: &Arc<App>, camera: &str) -> Answer {
    let viewer = Viewer::new(&app.board, channel(app, camera)?);
    let body = stream::pictures(Arc::clone(app), viewer)?;
    let mut response = bytes(StatusCode::OK, "", body);
    let kind = format!("multipart/x-mixed-replace; boundary={}", stream::BOUNDARY);
    if let Ok(kind) = HeaderValue::from_str(&kind) {
        response.headers_mut().insert(header::CONTENT_TYPE, kind);
    }
    Ok(response)
}

fn set_threshold(channel: &Channel, camera: &str, body: &Value) -> Answer {
    let threshold = body["threshold"].as_f64().filter(|threshold| (0.0..=2.0).contains(threshold));
    let Some(threshold) = threshold.map(|threshold| threshold as f32) else {
        return refuse(StatusCode::BAD_REQUEST, "expected {\"threshold\": a number from 0 to 2}");
    };
    channel.set_threshold(Some(threshold));
    log::info!("camera {camera}: threshold {threshold} from now on, set over HTTP");
    Ok(json(StatusCode::OK, &json!({ "v": 1, "threshold": body["threshold"] })))
}

fn reset_threshold(channel: &Channel, camera: &str) -> Response<Body> {
    channel.set_threshold(None);
    log::info!("camera {camera}: the configuration's threshold from now on, set over HTTP");
    json(StatusCode::OK, &json!({ "v": 1, "threshold": channel.threshold().configured }))
}

fn login(app: &App, body: &Value) -> Answer {
    let cookie = app.access.login(body["token"].as_str().unwrap_or_default())?;
    let mut response = json(StatusCode::OK, &json!({ "v": 1 }));
    if let Ok(cookie) = HeaderValue::from_str(&cookie) {
        response.headers_mut().insert(header::SET_COOKIE, cookie);
    }
    Ok(response)
}

/// A short body, in a short time.
async fn body_json(body: Incoming) -> Result<Value, Refusal> {
    let Ok(bytes) = timeout(REQUEST_PATIENCE, Limited::new(body, MAX_BODY).collect()).await else {
        return refuse(StatusCode::REQUEST_TIMEOUT, "the request did not come in time");
    };
    let bytes: Bytes = match bytes {
        Ok(bytes) => bytes.to_bytes(),
        Err(error) if error.is::<LengthLimitError>() => {
            return refuse(StatusCode::PAYLOAD_TOO_LARGE, format!("expected at most {MAX_BODY} bytes"));
        }
        Err(error) => return refuse(StatusCode::BAD_REQUEST, format!("the request broke off: {error}")),
    };
    serde_json::from_slice(&bytes).map_err(|error| Refusal(StatusCode::BAD_REQUEST, format!("expected JSON: {error}")))
}

/// The channel of a camera that is, or was, in service.
fn channel(app: &App, camera: &str) -> Result<Arc<Channel>, Refusal> {
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
