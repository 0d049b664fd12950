//! Why the network is out of reach: the packaged service has none until somebody opens it.

use std::io;
use std::net::UdpSocket;

/// What to do about it.
const HINT: &str = "the service's sandbox has no network; /usr/share/cfvit/network.conf says how to open it";

/// What to do about `error`, where the sandbox is the reason.
pub fn hint(error: Option<&io::Error>) -> Option<&'static str> {
    let in_service = std::env::var_os("INVOCATION_ID").is_some();
    let is_shut = UdpSocket::bind("0.0.0.0:0").is_err_and(|error| is_forbidden(&error));
    (is_shut || in_service && error.is_some_and(is_forbidden)).then_some(HINT)
}

/// The errors of a family of addresses, or of all of them, that is not to be used, and of a network without an interface.
fn is_forbidden(error: &io::Error) -> bool {
    let errors = [libc::EAFNOSUPPORT, libc::EPERM, libc::EACCES, libc::ENETUNREACH];
    error.raw_os_error().is_some_and(|number| errors.contains(&number))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_a_sandbox_forbids_is_forbidden() {
        assert!(is_forbidden(&io::Error::from_raw_os_error(libc::EAFNOSUPPORT)));
        assert!(!is_forbidden(&io::Error::from_raw_os_error(libc::ECONNREFUSED)));
        assert!(!is_forbidden(&io::Error::other("no such name")));
    }
}
