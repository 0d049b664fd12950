//! Connections to brokers that are none.

use std::io::{Read, Write};
use std::net::TcpListener;

use super::*;
use crate::operator::Facts;
use crate::operator::host;

/// What a broker says after it has accepted.
const ACCEPTED: [u8; 4] = [0x20, 2, 0, 0];

fn link(port: u16) -> Link {
    let settings = MqttSettings { control: true, images: true, ..MqttSettings::default() };
    let broker = Broker { host: "127.0.0.1".to_owned(), port };
    let topics = Topics::new("0123456789ab", Some("homeassistant"));
    let board = Arc::new(Board::new(Facts::default()));
    Link::new(board, (broker, (None, None)), (&settings, topics), None, None)
}

/// A broker that says `words`, each on a connection of its own, and leaves.
fn say(words: Vec<Vec<u8>>) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for words in words {
            let (mut stream, _) = listener.accept().unwrap();
            // The first message of a client; the client may be gone before all is said.
            let _ = stream.read(&mut [0; 1024]);
            let _ = stream.write_all(&words);
            if words.starts_with(&ACCEPTED) {
                // Its second message, or its end.
                let _ = stream.read(&mut [0; 1024]);
            }
        }
    });
    port
}

/// How each connection to such a broker ends: `true` where it stood.
fn ends(words: Vec<Vec<u8>>) -> Vec<bool> {
    let count = words.len();
    let mut link = link(say(words));
    let (_stopper, mut stopping) = host::stop();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut ends = Vec::new();
        for number in 0..count {
            let end = timeout(Duration::from_secs(60), link.connection(&mut stopping)).await;
            match end {
                Ok(End::Lost(_, held)) => ends.push(held.is_some()),
                _ => panic!("connection {number} does not end"),
            }
        }
        ends
    })
}

/// A message with a remaining length that fits.
fn packet(first: u8, rest: &[u8]) -> Vec<u8> {
    [&[first, rest.len() as u8], rest].concat()
}

#[test]
fn whatever_a_broker_says_the_connection_ends_and_nothing_else() {
    let accepted = |more: &[u8]| [&ACCEPTED, more].concat();
    let publish =
        |topic: &[u8], payload: &[u8]| packet(0x30, &[&(topic.len() as u16).to_be_bytes(), topic, payload].concat());
    let mut words =
        vec![vec![], vec![0], b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec(), packet(0x20, &[0, 5]), packet(0x20, &[])];
    let stands = words.len();
    words.extend([
        accepted(&[]),
        // Acknowledgements that nobody asked for, of each kind, and of messages that cannot be.
        accepted(&packet(0x40, &[0, 1])),
        accepted(&packet(0x40, &[0xff, 0xff])),
        accepted(&packet(0x50, &[0, 1])),
        accepted(&packet(0x62, &[0, 1])),
        accepted(&packet(0x70, &[0xff, 0xff])),
        accepted(&packet(0x90, &[0, 1, 0x80])),
        accepted(&packet(0xd0, &[])),
        accepted(&ACCEPTED),
        // Messages: too long, without a topic, to nobody, commands that are none.
        accepted(&[0x30, 0xff, 0xff, 0xff, 0x7f]),
        accepted(&[0x30, 0xff, 0xff, 0xff, 0xff, 0xff]),
        accepted(&packet(0x30, &[])),
        accepted(&publish(b"", b"")),
        accepted(&publish(b"\xff\xfe", b"x")),
        accepted(&publish(b"homeassistant/status", b"online")),
        accepted(&publish(b"cfvit/0123456789ab/door/threshold/set", b"0.5")),
        accepted(&packet(0x3e, &[0, 1, b'a', 0, 0])),
        accepted(&packet(0x36, &[0, 1, b'a', 0, 0])),
        accepted(&publish(b"a", b"x").repeat(1000)),
    ]);
    let ends = ends(words);
    assert!(ends[..stands].iter().all(|stood| !stood), "{ends:?}");
    assert!(ends[stands], "{ends:?}");
}

#[test]
fn random_bytes_end_the_connection_and_nothing_else() {
    // Any generator will do: the bytes are the same at each run.
    let mut state = 1u32;
    let mut byte = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    let words: Vec<Vec<u8>> = (0..400usize)
        .map(|number| {
            let start = if number % 4 == 0 { &[][..] } else { &ACCEPTED[..] };
            start.iter().copied().chain((0..number % 40).map(|_| byte())).collect()
        })
        .collect();
    let ends = ends(words);
    assert_eq!(ends.len(), 400);
    assert!(ends.iter().filter(|stood| **stood).count() > 200, "most were accepted");
}
