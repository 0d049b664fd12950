//! The events socket as its clients see it.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use serde_json::Value;

use super::service::{CAMERA, PATIENCE, Service, until};

fn section(path: &std::path::Path) -> String {
    format!("[events]\nsocket = {path:?}\n")
}

fn connect(path: &std::path::Path) -> BufReader<UnixStream> {
    let stream = until("the socket", || UnixStream::connect(path).ok());
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    BufReader::new(stream)
}

fn next(client: &mut BufReader<UnixStream>) -> Value {
    let mut line = String::new();
    assert!(client.read_line(&mut line).unwrap() > 0, "the end");
    serde_json::from_str(&line).unwrap()
}

#[test]
fn every_client_gets_the_lines_that_the_file_gets_and_the_ninth_is_turned_away() {
    let dir = tempfile::tempdir().unwrap();
    let (socket, records) = (dir.path().join("events.sock"), dir.path().join("records.jsonl"));
    let config = format!("{CAMERA}[records]\npath = {records:?}\n{}", section(&socket));
    let service = Service::start(&config);
    let mut clients: Vec<_> = (0..8).map(|_| connect(&socket)).collect();
    assert_eq!(std::fs::metadata(&socket).unwrap().permissions().mode() & 0o777, 0o660);
    let lines: Vec<Vec<Value>> = clients.iter_mut().map(|client| (0..5).map(|_| next(client)).collect()).collect();
    let mut ninth = connect(&socket);
    assert_eq!(ninth.read(&mut [0; 16]).unwrap(), 0, "turned away");
    let last = lines.iter().flatten().map(|line| line["seq"].as_u64().unwrap()).max().unwrap();
    let written: HashMap<u64, Value> = until("the same lines in the file", || {
        let text = std::fs::read_to_string(&records).ok()?;
        let lines = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let written: HashMap<u64, Value> = lines.map(|line| (line["seq"].as_u64().unwrap(), line)).collect();
        written.contains_key(&last).then_some(written)
    });
    for line in lines.iter().flatten() {
        // Each is made on its own, so the time of the picture may differ by a millisecond.
        let without_time = |line: &Value| {
            let mut line = line.as_object().unwrap().clone();
            line.remove("time").unwrap();
            line
        };
        assert_eq!(without_time(line), without_time(&written[&line["seq"].as_u64().unwrap()]));
    }
    // One leaves, and there is room for another.
    clients.pop();
    drop(ninth);
    until("room", || {
        let mut client = connect(&socket);
        let mut line = String::new();
        (client.read_line(&mut line).unwrap() > 0).then_some(())
    });
    service.stop();
    until("the file of the socket is gone", || (!socket.exists()).then_some(()));
}

#[test]
fn a_client_that_stands_still_misses_lines_is_told_how_many_and_holds_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("events.sock");
    // As fast as frames are decided.
    let camera = "[gate]\nthreshold = 0\n[[camera]]\nname = \"door\"\nsource = \"pattern://?size=32x32\"\n";
    let service = Service::start(&format!("{camera}{}", section(&socket)));
    let (mut slow, mut quick) = (connect(&socket), connect(&socket));
    let first = next(&mut slow)["seq"].as_u64().unwrap();
    let mut seen = next(&mut quick)["seq"].as_u64().unwrap();
    // More than the socket's own memory and the queue can hold.
    while seen < first + 1500 {
        let line = next(&mut quick);
        if let Some(seq) = line["seq"].as_u64() {
            seen = seq;
        }
    }
    let (mut last, mut lost) = (first, 0);
    while lost == 0 {
        let line = next(&mut slow);
        match line["lost"].as_u64() {
            Some(count) => lost = count,
            None => last = line["seq"].as_u64().unwrap(),
        }
    }
    assert_eq!(next(&mut slow)["seq"].as_u64().unwrap(), last + lost + 1);
    // One that never reads does not keep the run from ending.
    std::thread::sleep(Duration::from_millis(200));
    service.stop();
}

/// A camera that is not there brings no line on which a client that has left could be noticed.
#[test]
fn clients_that_leave_make_room_also_while_nothing_is_decided() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("events.sock");
    let camera = "[[camera]]\nname = \"door\"\nsource = \"/dev/video-none\"\n";
    let service = Service::start(&format!("{camera}{}", section(&socket)));
    let clients: Vec<_> = (0..8).map(|_| connect(&socket)).collect();
    // Turned away: the end. Taken in: nothing, for as long as we wait.
    let is_taken = || {
        let mut client = connect(&socket);
        client.get_ref().set_read_timeout(Some(Duration::from_millis(300))).unwrap();
        client.read(&mut [0; 16]).is_err()
    };
    assert!(!is_taken());
    drop(clients);
    until("room", || is_taken().then_some(()));
    service.stop();
}

#[test]
fn a_socket_that_cannot_be_is_no_reason_not_to_run() {
    let dir = tempfile::tempdir().unwrap();
    let taken = dir.path().join("file");
    std::fs::write(&taken, "mine").unwrap();
    let service = Service::start(&format!("{CAMERA}{}", section(&taken)));
    service.wait_for_log("no events socket: cannot listen at");
    service.stop();
    assert_eq!(std::fs::read_to_string(&taken).unwrap(), "mine");
}
