//! What a hostile or broken client can do: the service answers others meanwhile and afterwards, and frames go on.

use std::io::{Read, Write};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use super::service::{Service, UnixService, ask, connect, until};

/// Requests of random words.
const HEADS: usize = 100_000;

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
    let decided = || service.camera()["frames"]["decided"].as_u64().unwrap();
    let (before, begun) = (decided(), Instant::now());
    let crowd: Vec<_> = (0..200).map(|_| connect(service.port)).collect();
    std::thread::sleep(Duration::from_secs(2));
    // There is room for sixteen, one of which may have been given up already; all others are closed without a word.
    let is_closed = |mut stream: &std::net::TcpStream| {
        stream.set_read_timeout(Some(Duration::from_millis(10))).unwrap();
        !matches!(stream.read(&mut [0; 16]), Err(error) if error.kind() == std::io::ErrorKind::WouldBlock)
    };
    let closed = crowd.iter().filter(|stream| is_closed(stream)).count();
    assert!((184..=200).contains(&closed), "{closed} were closed");
    drop(crowd);
    until("there is room again", || ask(service.port, "GET", "/healthz", "", "").status == 200);
    // Five frames a second, all the while.
    let (frames, elapsed_s) = (decided() - before, begun.elapsed().as_secs_f64());
    assert!(frames as f64 >= 5.0 * elapsed_s * 0.8 - 2.0, "{frames} frames in {elapsed_s:.1} s");
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
    let (service, asked, answered) = (UnixService::start("fps=5"), AtomicUsize::new(0), AtomicUsize::new(0));
    let decided = || service.camera()["frames"]["decided"].as_u64().unwrap();
    let before = decided();
    // Each at a stream of its own, so that a failure names the request.
    let attack = |seed: u64| {
        let mut state = seed;
        while asked.fetch_add(1, Relaxed) < HEADS {
            // Half of them get as far as an address.
            let mut request = match random(&mut state) % 2 {
                0 => Vec::new(),
                _ => b"GET /api/told HTTP/1.1\r\nHost: localhost\r\n".to_vec(),
            };
            for _ in 0..random(&mut state) % 24 {
                request.extend_from_slice(WORDS[random(&mut state) as usize % WORDS.len()]);
            }
            let mut stream = service.connect();
            // It may have been turned away already.
            let _ = stream.write_all(&request);
            let _ = stream.shutdown(std::net::Shutdown::Write);
            let mut answer = Vec::new();
            let _ = stream.read_to_end(&mut answer);
            let fine = answer.is_empty() || answer.starts_with(b"HTTP/1.1 ");
            assert!(
                fine && !answer.starts_with(b"HTTP/1.1 500"),
                "seed {seed}: {}: {}",
                String::from_utf8_lossy(&request),
                String::from_utf8_lossy(&answer)
            );
            answered.fetch_add(usize::from(!answer.is_empty()), Relaxed);
        }
    };
    std::thread::scope(|scope| {
        for seed in 2026..2030 {
            let attack = &attack;
            scope.spawn(move || attack(seed));
        }
    });
    assert!(answered.load(Relaxed) > HEADS / 10, "{answered:?} were answered at all");
    assert_eq!(service.ask("GET", "/healthz", "", "").status, 200);
    assert!(decided() > before, "frames went on");
    let after = decided();
    until("frames go on", || decided() > after + 2);
}
