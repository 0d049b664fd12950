//! Where connections come from: sockets that the service manager opened, else one of our own.

use std::fmt;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{FromRawFd, OwnedFd};
use std::os::unix::net::UnixListener;

/// A socket that listens, not blocking.
#[derive(Debug)]
pub enum Socket {
    /// For any program that reaches the address.
    Tcp(TcpListener, SocketAddr),
    /// For the users whom the permissions of its file admit.
    Unix(UnixListener),
}

impl fmt::Display for Socket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Socket::Tcp(_, address) => write!(f, "http://{address}/"),
            Socket::Unix(socket) => {
                let address = socket.local_addr().ok();
                let path = address.as_ref().and_then(|address| address.as_pathname());
                match path {
                    Some(path) => write!(f, "{}", path.display()),
                    None => f.write_str("a unix socket"),
                }
            }
        }
    }
}

/// The sockets that were handed over; where there are none, one at `address`. What cannot be used is logged and left out.
pub fn sockets(address: SocketAddr) -> Vec<Socket> {
    let handed = handed_over();
    if !handed.is_empty() {
        return handed;
    }
    match TcpListener::bind(address).and_then(tcp) {
        Ok(socket) => vec![socket],
        Err(error) => {
            log::warn!("no page, no metrics: cannot listen at {address}: {error}; frames go on");
            Vec::new()
        }
    }
}

fn handed_over() -> Vec<Socket> {
    let numbers: Vec<_> = match sd_notify::listen_fds() {
        Ok(numbers) => numbers.collect(),
        Err(error) => {
            log::warn!("sockets were handed over in a wrong way: {error}");
            Vec::new()
        }
    };
    let take = |number| {
        // SAFETY: the service manager's protocol (LISTEN_PID is this process) makes these descriptors ours, and nobody else in this program
        // takes them: this runs once, at the start of a run.
        let descriptor = unsafe { OwnedFd::from_raw_fd(number) };
        socket(descriptor)
            .inspect_err(|error| log::warn!("socket {number} that was handed over is no use: {error}"))
            .ok()
    };
    numbers.into_iter().filter_map(take).collect()
}

/// A descriptor that listens, of whichever family.
fn socket(descriptor: OwnedFd) -> std::io::Result<Socket> {
    let listener = TcpListener::from(descriptor);
    // The address of a socket of another family is an error.
    if listener.local_addr().is_ok() {
        return tcp(listener);
    }
    let listener = UnixListener::from(OwnedFd::from(listener));
    listener.local_addr()?;
    listener.set_nonblocking(true)?;
    Ok(Socket::Unix(listener))
}

fn tcp(listener: TcpListener) -> std::io::Result<Socket> {
    listener.set_nonblocking(true)?;
    let address = listener.local_addr()?;
    Ok(Socket::Tcp(listener, address))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_descriptor_is_known_by_its_family() {
        let dir = tempfile::tempdir().unwrap();
        let unix = UnixListener::bind(dir.path().join("s")).unwrap();
        assert!(matches!(socket(unix.into()), Ok(Socket::Unix(_))));
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        assert!(matches!(socket(tcp.into()), Ok(Socket::Tcp(..))));
        let file = std::fs::File::create(dir.path().join("f")).unwrap();
        assert!(socket(file.into()).is_err());
    }

    #[test]
    fn a_port_that_is_taken_is_no_socket() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        assert!(sockets(taken.local_addr().unwrap()).is_empty());
    }
}
