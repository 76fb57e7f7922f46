//! Secrets, keys and certificates in files.

use std::{
    fs::{self, File},
    io::Read,
    os::unix::fs::PermissionsExt,
    path::Path,
};

use secrecy::{ExposeSecret, SecretString};
use zeroize::Zeroizing;

use super::{super::KeyBytes, Error, settings::Secret};

/// No secret is longer.
const MAX_RESPONSE_BYTES: u64 = 1 << 20;

/// Everybody but the owner may do nothing, except that the group may read: so are volumes of Kubernetes Secrets.
const TOO_OPEN: u32 = 0o027;

impl Secret {
    /// The secret as it is now; white space around that of a file is not part of it.
    pub(crate) fn read(&self) -> Result<SecretString, Error> {
        let path = match self {
            Secret::Inline(secret) => return Ok(secret.clone()),
            Secret::File(path) => path,
        };
        let bytes = read(path)?;
        let text = std::str::from_utf8(&bytes).map(str::trim).unwrap_or_default();
        if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            let want = "want one secret of printable ASCII without white space";
            return Err(Error::Settings(format!("{} does not hold a secret: {want}", path.display())));
        }
        Ok(SecretString::from(text))
    }
}

/// A file's bytes.
pub(crate) fn read(path: &Path) -> Result<Zeroizing<Vec<u8>>, Error> {
    let mut bytes = Zeroizing::new(Vec::new());
    let read = File::open(path).and_then(|file| file.take(MAX_RESPONSE_BYTES).read_to_end(&mut bytes));
    read.map_err(|error| Error::Settings(format!("cannot read {}: {error}", path.display())))?;
    Ok(bytes)
}

/// A master key: 32 bytes, or 64 hexadecimal digits and perhaps the end of a line, in a file that nobody else can read.
pub(crate) fn read_master_key(path: &Path) -> Result<KeyBytes, Error> {
    let shown = path.display();
    let metadata =
        fs::metadata(path).map_err(|error| Error::Settings(format!("cannot read the master key {shown}: {error}")))?;
    if !metadata.is_file() {
        return Err(Error::Settings(format!("the master key {shown} is not a file")));
    }
    let mode = metadata.permissions().mode() & 0o777;
    if mode & TOO_OPEN != 0 {
        let who = if mode & 0o007 != 0 { "everybody" } else { "its group" };
        let message = format!("the master key {shown} is open to {who} (mode {mode:o}): chmod 600 {shown}");
        return Err(Error::Settings(message));
    }
    let bytes = read(path)?;
    parse_master_key(&bytes).ok_or_else(|| {
        let message = format!("{} bytes that are neither 32 raw bytes nor 64 hexadecimal digits", bytes.len());
        Error::Settings(format!("the master key {shown} holds {message}"))
    })
}

/// 64 hexadecimal digits.
pub(crate) fn parse_hex_key(hex: &SecretString) -> Result<KeyBytes, Error> {
    let key = decode_hex(hex.expose_secret().as_bytes());
    key.ok_or_else(|| Error::Settings("the master key in the configuration is not 64 hexadecimal digits".to_owned()))
}

fn parse_master_key(bytes: &[u8]) -> Option<KeyBytes> {
    match <[u8; 32]>::try_from(bytes) {
        Ok(raw) => Some(KeyBytes::new(raw)),
        Err(_) => decode_hex(bytes.trim_ascii_end()),
    }
}

fn decode_hex(digits: &[u8]) -> Option<KeyBytes> {
    let mut key = KeyBytes::default();
    hex::decode_to_slice(digits, key.as_mut_slice()).ok()?;
    Some(key)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tempfile::TempDir;

    use super::*;

    fn file(directory: &TempDir, bytes: &[u8], mode: u32) -> std::path::PathBuf {
        let path = directory.path().join("key");
        fs::write(&path, bytes).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        path
    }

    #[test]
    fn a_key_file_is_read_raw_and_as_hex() {
        let directory = TempDir::new().unwrap();
        for bytes in [vec![0xab; 32], b"ab".repeat(32), b"AB".repeat(32), [b"ab".repeat(32), b"\r\n".to_vec()].concat()]
        {
            assert_eq!(read_master_key(&file(&directory, &bytes, 0o600)), Ok(KeyBytes::new([0xab; 32])));
        }
    }

    #[test]
    fn a_key_file_of_another_form_is_refused_without_quoting_it() {
        let directory = TempDir::new().unwrap();
        for bytes in [vec![], vec![b's'; 31], vec![b's'; 33], b"xy".repeat(32), b"ab".repeat(33)] {
            let path = file(&directory, &bytes, 0o600);
            let message = format!(
                "the master key {} holds {} bytes that are neither 32 raw bytes nor 64 hexadecimal digits",
                path.display(),
                bytes.len()
            );
            assert_eq!(read_master_key(&path), Err(Error::Settings(message)));
        }
    }

    #[test]
    fn a_key_file_must_not_be_open_to_others() {
        let directory = TempDir::new().unwrap();
        for mode in [0o400, 0o600, 0o440, 0o640] {
            assert!(read_master_key(&file(&directory, &[1; 32], mode)).is_ok(), "{mode:o}");
        }
        for (mode, who) in [(0o644, "everybody"), (0o604, "everybody"), (0o606, "everybody"), (0o660, "its group")] {
            let path = file(&directory, &[1; 32], mode);
            let shown = path.display();
            let message = format!("the master key {shown} is open to {who} (mode {mode:o}): chmod 600 {shown}");
            assert_eq!(read_master_key(&path), Err(Error::Settings(message)));
        }
    }

    #[test]
    fn a_missing_key_file_is_named() {
        let error = read_master_key(Path::new("/nowhere/key")).expect_err("it is not there");
        let message = "cannot read the master key /nowhere/key: No such file or directory (os error 2)";
        assert_eq!(error, Error::Settings(message.to_owned()));
    }

    #[test]
    fn a_secret_is_read_anew_without_the_space_around_it() {
        let directory = TempDir::new().unwrap();
        let secret = Secret::File(file(&directory, b" s.one\n", 0o600));
        assert_eq!(secret.read().unwrap().expose_secret(), "s.one");
        file(&directory, b"s.two", 0o600);
        assert_eq!(secret.read().unwrap().expose_secret(), "s.two");
        for bytes in [b"".as_slice(), b"\n", b"two message", b"caf\xc3\xa9", b"\xff"] {
            file(&directory, bytes, 0o600);
            let Secret::File(path) = &secret else { unreachable!() };
            let want = "want one secret of printable ASCII without white space";
            let message = format!("{} does not hold a secret: {want}", path.display());
            assert_eq!(secret.read().map(|_| ()), Err(Error::Settings(message)));
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_key_or_not(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            prop_assert_eq!(parse_master_key(&bytes).is_some(), bytes.len() == 32);
        }
    }
}
