//! The button on the page: keeps the picture that is shown, and says later what it is.

use std::sync::Arc;

use hyper::StatusCode;
use serde_json::{Value, json};

use super::respond::{Refusal, json, refuse};
use super::routes::Answer;
use super::serve::App;
use crate::error::Kind;
use crate::examples::{Example, Place, Reason, Shelf, Whereabouts};
use crate::operator::board::{Channel, Snapshot};

/// `{"seq": N}` keeps the picture of that frame, not labelled; with `"class": C` (a number, an id or a name) as one of that class; with
/// `"discard": true` not. Each may follow the other for the same frame.
pub async fn put(app: &App, channel: &Channel, camera: &str, body: &Value) -> Answer {
    let Some(shelf) = app.board.examples.clone() else {
        return refuse(StatusCode::CONFLICT, "there is no folder for examples (collect.folder)");
    };
    let Some(seq) = body["seq"].as_u64() else {
        return refuse(StatusCode::BAD_REQUEST, "expected {\"seq\": the number of a frame}");
    };
    let place = place(&shelf, body)?;
    let (shot, camera) = (channel.easel.shot(seq), camera.to_owned());
    let writing = Arc::clone(&shelf);
    // The disk may take its time; the other clients do not wait for it.
    let put = tokio::task::spawn_blocking(move || {
        let shown =
            shot.as_ref().map(|shot| (example(&camera, &shot.snapshot), &shot.jpeg[..], (shot.width, shot.height)));
        writing.put((&camera, seq), place, shown)
    });
    let put = put.await.map_err(|error| Refusal(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()))?;
    match put {
        Ok(whereabouts) => {
            let (place, class) = match &whereabouts {
                None => ("discarded", None),
                Some(Whereabouts::Inbox) => ("inbox", None),
                Some(Whereabouts::Class(split, folder)) => (split.as_str(), Some(folder)),
            };
            Ok(json(StatusCode::OK, &json!({ "v": 1, "seq": seq, "place": place, "class": class })))
        }
        Err(error) if error.kind() == Kind::Usage => refuse(StatusCode::NOT_FOUND, error.to_string()),
        Err(error) => refuse(StatusCode::INSUFFICIENT_STORAGE, error.to_string()),
    }
}

fn place(shelf: &Shelf, body: &Value) -> Result<Place, Refusal> {
    if body["discard"] == true {
        return Ok(Place::Discarded);
    }
    let classes = shelf.about.labels.len();
    let class = match &body["class"] {
        Value::Null => return Ok(Place::Inbox),
        Value::String(word) => shelf.class(word),
        other => other.as_u64().and_then(|class| usize::try_from(class).ok()).filter(|class| *class < classes),
    };
    let Some(class) = class else {
        return refuse(
            StatusCode::BAD_REQUEST,
            format!("class: expected a number below {classes}, or the id or name of a class"),
        );
    };
    Ok(Place::Class(class))
}

fn example(camera: &str, snapshot: &Snapshot) -> Example {
    Example {
        camera: camera.to_owned(),
        seq: snapshot.seq,
        captured: snapshot.captured,
        stage: snapshot.stage,
        top: snapshot.top.clone(),
        coarse_top: snapshot.coarse_top.clone(),
        coarse_confidence: snapshot.coarse_confidence,
        threshold: snapshot.threshold,
        informative: snapshot.informative.clone(),
        reason: Reason::Asked,
    }
}
