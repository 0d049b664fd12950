//! The table of requests that are refused, and those that are not.

use std::net::TcpListener;

use hyper::Request;

use super::*;

const TOKEN: &str = "0123456789abcdef0123456789abcdef";
const VIEW_TOKEN: &str = "fedcba9876543210fedcba9876543210";

fn access(token: bool, hosts: &[&str]) -> Access {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("token");
    std::fs::write(&path, format!("{TOKEN}\n")).unwrap();
    let hosts = hosts.iter().map(|host| (*host).to_owned()).collect();
    Access::new(&WebSettings { token_file: token.then_some(path), hosts, ..WebSettings::default() }).unwrap()
}

/// With a token for looking besides the other, and a socket that the network reaches.
fn networked() -> Access {
    let dir = tempfile::tempdir().unwrap();
    let [control, view] = [TOKEN, VIEW_TOKEN].map(|token| {
        let path = dir.path().join(token);
        std::fs::write(&path, token).unwrap();
        Some(path)
    });
    let settings = WebSettings { token_file: control, view_token_file: view, ..WebSettings::default() };
    let mut access = Access::new(&settings).unwrap();
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    access.check_sockets(&[Socket::Tcp(socket, "0.0.0.0:1".parse().unwrap())]).unwrap();
    access
}

#[test]
fn who_may_look_may_not_change() {
    let access = networked();
    let write = [("host", "localhost"), ("content-type", "application/json"), ("x-cfvit", "1")];
    let cookie = |token: &str| access.login(token).unwrap().split(';').next().unwrap().to_owned();
    let bearer = |token: &str| format!("Bearer {token}");
    for (name, value, get, put) in [
        ("authorization", bearer(TOKEN), 200, 200),
        ("authorization", bearer(VIEW_TOKEN), 200, 403),
        ("authorization", bearer("wrong"), 401, 401),
        ("cookie", cookie(TOKEN), 200, 200),
        ("cookie", cookie(VIEW_TOKEN), 200, 403),
        ("cookie", "cfvit_session=0".to_owned(), 401, 401),
    ] {
        let headers: Vec<(&str, &str)> = write.into_iter().chain([(name, value.as_str())]).collect();
        let both = ["GET", "PUT"].map(|method| status(&access, &request(method, "/api/state", &headers)));
        assert_eq!(both, [get, put], "{name}: {value}");
        let headers = request("GET", "/", &headers).headers().clone();
        assert_eq!(access.may_write(&headers, Peer::Tcp), put == 200);
    }
    assert_eq!(access.login("wrong").unwrap_err().0, StatusCode::UNAUTHORIZED);
}

#[test]
fn both_tokens_must_differ_and_one_for_looking_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("token");
    std::fs::write(&path, TOKEN).unwrap();
    let same =
        WebSettings { token_file: Some(path.clone()), view_token_file: Some(path.clone()), ..WebSettings::default() };
    assert!(Access::new(&same).unwrap_err().to_string().contains("found the same"));
    let access = Access::new(&WebSettings { view_token_file: Some(path), ..WebSettings::default() }).unwrap();
    assert!(!access.has_token());
    let bearer = format!("Bearer {TOKEN}");
    let headers =
        [("host", "localhost"), ("content-type", "application/json"), ("x-cfvit", "1"), ("authorization", &bearer)];
    assert_eq!(status(&access, &request("PUT", "/api/cameras/a/threshold", &headers)), 403);
}

fn request(method: &str, path: &str, headers: &[(&str, &str)]) -> Request<()> {
    let request = Request::builder().method(method).uri(path);
    headers.iter().fold(request, |request, (name, value)| request.header(*name, *value)).body(()).unwrap()
}

fn status(access: &Access, request: &Request<()>) -> u16 {
    access.check(request, Peer::Tcp).err().map_or(200, |refusal| refusal.0.as_u16())
}

#[test]
fn only_known_hosts_are_served() {
    let access = access(false, &["door.local"]);
    for (host, expected) in [
        ("localhost", 200),
        ("LOCALHOST:8632", 200),
        ("127.0.0.1:1", 200),
        ("[::1]:8632", 200),
        ("evil.example", 421),
        ("localhost.evil.example", 421),
        ("127.0.0.1.evil.example", 421),
        ("", 421),
        ("[::1", 421),
        ("::1", 421),
    ] {
        assert_eq!(status(&access, &request("GET", "/", &[("host", host)])), expected, "{host}");
    }
    assert_eq!(status(&access, &request("GET", "/", &[])), 421, "no host");
    assert_eq!(
        status(&access, &request("GET", "/", &[("host", "localhost"), ("host", "localhost")])),
        421,
        "two hosts"
    );
    assert_eq!(status(&access, &request("GET", "http://evil.example/", &[("host", "localhost")])), 421);
    assert_eq!(access.check(&request("GET", "/", &[("host", "x")]), Peer::Unix), Ok(()));
    // Through a proxy, what is served to anybody here needs a token; the page itself does not.
    assert_eq!(status(&access, &request("GET", "/api/state", &[("host", "door.local")])), 401);
    assert_eq!(status(&access, &request("GET", "/", &[("host", "door.local")])), 200);
}

#[test]
fn what_a_foreign_page_or_a_form_can_send_changes_nothing() {
    let access = access(true, &[]);
    let bearer = format!("Bearer {TOKEN}");
    let good = [
        ("host", "localhost:8632"),
        ("content-type", "application/json; charset=utf-8"),
        ("x-cfvit", "1"),
        ("authorization", bearer.as_str()),
        ("origin", "http://localhost:8632"),
    ];
    let with = |name: &str, value: &'static str| {
        let mut headers: Vec<(&str, &str)> = good.into_iter().filter(|(known, _)| *known != name).collect();
        if !value.is_empty() {
            headers.push((name, value));
        }
        request("PUT", "/api/cameras/a/threshold", &headers.iter().map(|&(n, v)| (n, v)).collect::<Vec<_>>())
    };
    assert_eq!(status(&access, &request("PUT", "/api/cameras/a/threshold", &good)), 200);
    for (name, value, expected) in [
        ("origin", "http://evil.example", 403),
        ("origin", "null", 403),
        ("origin", "", 200),
        ("x-cfvit", "", 403),
        ("content-type", "application/x-www-form-urlencoded", 415),
        ("content-type", "text/plain", 415),
        ("content-type", "", 415),
        ("authorization", "", 401),
        ("authorization", "Bearer 0123456789abcdef0123456789abcdee", 401),
        ("authorization", "Bearer ", 401),
        ("host", "evil.example", 421),
    ] {
        assert_eq!(status(&access, &with(name, value)), expected, "{name}: {value}");
    }
    let writes = (0..20).filter(|_| status(&access, &request("PUT", "/x", &good)) == 429).count();
    assert!(writes >= 10, "{writes} of 20 were too many");
}

#[test]
fn without_a_token_everything_is_read_only_but_for_the_unix_socket() {
    let access = access(false, &[]);
    let headers = [("host", "localhost"), ("x-cfvit", "1")];
    let delete = request("DELETE", "/api/cameras/a/threshold", &headers);
    assert_eq!(status(&access, &delete), 403);
    assert_eq!(access.check(&delete, Peer::Unix), Ok(()));
    assert!(access.may_write(delete.headers(), Peer::Unix) && !access.may_write(delete.headers(), Peer::Tcp));
    assert_eq!(access.login("").unwrap_err().0.as_u16(), 403);
}

#[test]
fn a_login_is_a_cookie_and_a_wrong_one_is_not() {
    let access = access(true, &[]);
    assert_eq!(access.login(&TOKEN[1..]).unwrap_err().0.as_u16(), 401);
    let cookie = access.login(TOKEN).unwrap();
    assert!(cookie.contains("HttpOnly") && cookie.contains("SameSite=Strict") && !cookie.contains(TOKEN));
    let sent = cookie.split(';').next().unwrap();
    let may = |cookie: &str| access.may_write(request("GET", "/", &[("cookie", cookie)]).headers(), Peer::Tcp);
    assert!(may(sent) && may(&format!("a=b; {sent}; c=d")));
    assert!(!may("cfvit_session=00") && !may("cfvit_session") && !may("") && !may(&format!("x{sent}")));
    // The oldest of too many ends.
    (0..MAX_SESSIONS).for_each(|_| drop(access.login(TOKEN).unwrap()));
    assert!(!may(sent));
}

#[test]
fn a_network_needs_a_token_for_everything() {
    let socket = TcpListener::bind("0.0.0.0:0").unwrap();
    let address = socket.local_addr().unwrap();
    let sockets = [Socket::Tcp(socket, address)];
    let error = access(false, &[]).check_sockets(&sockets).unwrap_err();
    assert!(error.kind() == Kind::Config && error.to_string().contains("web.token_file"), "{error}");
    let mut access = access(true, &[]);
    access.check_sockets(&sockets).unwrap();
    // Whoever is elsewhere can also call the host localhost.
    assert_eq!(status(&access, &request("GET", "/metrics", &[("host", "localhost")])), 401);
    assert_eq!(status(&access, &request("GET", "/healthz", &[("host", "localhost")])), 200);
}

#[test]
fn a_token_that_is_short_or_no_text_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    for content in [&b""[..], b"short\n", b"\xff\xfe\xff\xfe", &[b'a'; 5000]] {
        let path = dir.path().join("token");
        std::fs::write(&path, content).unwrap();
        let settings = WebSettings { token_file: Some(path), ..WebSettings::default() };
        let error = Access::new(&settings).unwrap_err();
        assert!(error.kind() == Kind::Config && error.to_string().contains("web.token_file"), "{error}");
    }
    let settings = WebSettings { token_file: Some(dir.path().join("none")), ..WebSettings::default() };
    assert_eq!(Access::new(&settings).unwrap_err().kind(), Kind::Config);
}

#[test]
fn a_limit_fills_up_again_with_time() {
    let limit = Limit::new(5, Duration::from_secs(60));
    let start = Instant::now();
    assert_eq!((0..8).filter(|_| limit.take_at(start)).count(), 5);
    assert!(!limit.take_at(start + Duration::from_secs(11)) && limit.take_at(start + Duration::from_secs(13)));
}
