//! What a hostile or broken client can do: the service answers others meanwhile and afterwards, and frames go on.

use std::io::{Read, Write};
use std::time::{Duration, Instant};

use super::service::{Service, ask, connect, raw, until};

#[test]
fn a_head_that_comes_byte_by_byte_is_given_up_as_a_whole() {
    let service = Service::start("fps=2");
    let mut slow = connect(service.port);
    let begun = Instant::now();
    // One byte each 300 ms would satisfy any time-out for a single read.
    let head = b"GET /api/state HTTP/1.1\r\nHost: localhost\r\nX-Slow: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
    let mut sent = 0;
    let closed = loop {
        if begun.elapsed() > Duration::from_secs(60) {
            break false;
        }
        if slow.write_all(&head[sent % head.len()..=sent % head.len()]).is_err() {
            break true;
        }
        sent += 1;
        slow.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
        match slow.read(&mut [0; 512]) {
            Ok(0) => break true,
            Ok(_) => {}
            Err(error) if matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut) => {}
            Err(_) => break true,
        }
    };
    assert!(closed, "still open after {sent} bytes");
    service.still_decides();
}

#[test]
fn two_hundred_connections_leave_room_for_others_when_they_are_gone() {
    let service = Service::start("fps=5");
    let before = service.camera()["frames"]["decided"].as_u64();
    let crowd: Vec<_> = (0..200).map(|_| connect(service.port)).collect();
    std::thread::sleep(Duration::from_millis(500));
    drop(crowd);
    until("there is room again", || ask(service.port, "GET", "/healthz", "", "").status == 200);
    assert!(service.camera()["frames"]["decided"].as_u64() >= before);
    service.still_decides();
}

/// The generator of SplitMix64.
fn random(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[test]
fn random_heads_are_answered_or_refused_and_nothing_breaks() {
    const WORDS: [&[u8]; 20] = [
        b"GET ",
        b"PUT ",
        b"/",
        b"/api/cameras/",
        b"/threshold",
        b"/cameras/cam0/frame.jpg?seq=",
        b" HTTP/1.1\r\n",
        b"Host: ",
        b"localhost",
        b"\r\n",
        b"\r\n\r\n",
        b"Content-Length: ",
        b"99999999999999999999",
        b"Transfer-Encoding: chunked\r\n",
        b"%00%ff..%2f",
        b"Cookie: cfvit_session=;;=",
        b"Authorization: Bearer ",
        b"\x00\xff\xfe",
        b"Origin: null\r\n",
        b"Range: bytes=0-",
    ];
    let service = Service::start("fps=5");
    let (seed, mut state) = (2026, 2026);
    for round in 0..400 {
        let mut request = Vec::new();
        for _ in 0..random(&mut state) % 24 {
            request.extend_from_slice(WORDS[random(&mut state) as usize % WORDS.len()]);
        }
        let mut stream = connect(service.port);
        let _ = stream.write_all(&request);
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        let fine = answer.is_empty() || answer.starts_with(b"HTTP/1.1 ");
        assert!(
            fine && !answer.starts_with(b"HTTP/1.1 500"),
            "seed {seed}, round {round}: {}",
            String::from_utf8_lossy(&answer)
        );
    }
    assert_eq!(raw(service.port, "GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").status, 200);
    service.still_decides();
}
