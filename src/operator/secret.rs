//! Secrets from files, signatures, and what this machine is called where its real identity is nobody's business.

use std::path::Path;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use crate::error::{Error, Kind, Result};

/// A secret is a line of text.
const MAX_SECRET: u64 = 4096;
/// Digits of [`device_id`].
const ID_DIGITS: usize = 12;
/// What the machine's identity is hashed with, so that it cannot be found again in other programs' names for it.
const PURPOSE: &[u8] = b"cfvit";

/// The secret in the file at `path`, which the configuration calls `key`, without the end of its line.
///
/// # Errors
/// [`Kind::Config`] when it cannot be read, is empty or longer than 4096 bytes, or is not one line of text.
pub fn read(key: &str, path: &Path) -> Result<String> {
    let place = format!("{key}: {}", path.display());
    let unreadable = |error| Error::caused(Kind::Config, format!("{place} cannot be read"), error);
    let size = std::fs::metadata(path).map_err(unreadable)?.len();
    let text = match size {
        ..=MAX_SECRET => std::fs::read_to_string(path).map_err(unreadable)?,
        _ => String::new(),
    };
    let secret = text.trim_end_matches(['\r', '\n']);
    if secret.is_empty() || secret.contains(char::is_control) {
        let message = format!("{place}: expected one line of text of at most {MAX_SECRET} bytes, found {size} bytes");
        return Err(Error::new(Kind::Config, message));
    }
    Ok(secret.to_owned())
}

/// HMAC-SHA256 (RFC 2104, FIPS 180-4) of `message`, in lower-case hexadecimal digits.
pub fn hmac_sha256(key: &[u8], message: &[u8]) -> String {
    // Keys of any length are taken, so this never is the other branch.
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(key) else { return String::new() };
    mac.update(message);
    mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Twelve digits that this machine has to itself and keeps, from which its identity cannot be told: from `/etc/machine-id` below `root`,
/// else from the host's name.
pub fn device_id(root: &Path) -> String {
    let files = ["etc/machine-id", "var/lib/dbus/machine-id", "proc/sys/kernel/hostname"];
    let mut texts = files.iter().filter_map(|file| std::fs::read_to_string(root.join(file)).ok());
    let identity = texts.find(|text| !text.trim().is_empty()).unwrap_or_default();
    let mut id = hmac_sha256(identity.trim().as_bytes(), PURPOSE);
    id.truncate(ID_DIGITS);
    id
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 4231, test cases 1, 2 and 6.
    #[test]
    fn signatures_are_those_of_the_standard() {
        for (key, message, expected) in [
            (&[0x0b; 20][..], &b"Hi There"[..], "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7"),
            (
                b"Jefe",
                b"what do ya want for nothing?",
                "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843",
            ),
            (
                &[0xaa; 131],
                b"Test Using Larger Than Block-Size Key - Hash Key First",
                "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54",
            ),
        ] {
            assert_eq!(hmac_sha256(key, message), expected);
        }
    }

    #[test]
    fn a_machine_keeps_its_digits_and_they_do_not_tell_its_identity() {
        let root = tempfile::tempdir().unwrap();
        let etc = root.path().join("etc");
        std::fs::create_dir(&etc).unwrap();
        let id = |identity: &str| {
            std::fs::write(etc.join("machine-id"), identity).unwrap();
            device_id(root.path())
        };
        let first = id("0123456789abcdef0123456789abcdef\n");
        assert_eq!((first.len(), &first), (12, &id("0123456789abcdef0123456789abcdef")));
        assert!(first.bytes().all(|byte| byte.is_ascii_hexdigit()) && !"0123456789abcdef".contains(&first));
        assert_ne!(first, id("1123456789abcdef0123456789abcdef\n"));
        assert_eq!(id("\n").len(), 12, "no identity at all");
    }

    #[test]
    fn a_secret_is_one_line() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secret");
        assert!(read("webhook.secret_file", &path).is_err());
        for (bytes, expected) in
            [(&b"a b\n"[..], Some("a b")), (b"x\r\n", Some("x")), (b"", None), (b"a\nb\n", None), (b"\xff", None)]
        {
            std::fs::write(&path, bytes).unwrap();
            assert_eq!(read("webhook.secret_file", &path).ok().as_deref(), expected, "{bytes:?}");
        }
        std::fs::write(&path, vec![b'a'; 5000]).unwrap();
        let error = read("webhook.secret_file", &path).unwrap_err().to_string();
        assert!(error.contains("webhook.secret_file") && error.contains("5000 bytes"), "{error}");
    }
}
