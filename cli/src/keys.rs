//! How a user names keys: `GROUP KEY...`, `GROUP/KEY`, or bytes that are not text by flag.
//!
//! A group's name has no slash, so the first one of `GROUP/KEY` ends it; the key may have more.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{Read, stdin};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use clap::Args;

use crate::exit::BadConfiguration;

/// More than any member's limit on a key; keeps a wrong file from filling memory.
const MAX_KEY_FILE: u64 = 1 << 20;

#[derive(Debug, Default, Args)]
pub(crate) struct KeyFlags {
    /// A key as base64, for one that is not text; may be repeated
    #[arg(long, value_name = "BASE64", value_parser = from_base64)]
    key_base64: Vec<Bytes>,

    /// A file whose bytes, all of them, are the key; - reads standard input; may be repeated
    #[arg(long, value_name = "FILE")]
    key_file: Vec<PathBuf>,
}

/// A group and keys of it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) group: String,
    pub(crate) keys: Vec<Bytes>,
}

impl KeyFlags {
    pub(crate) fn is_empty(&self) -> bool {
        self.key_base64.is_empty() && self.key_file.is_empty()
    }

    /// Puts the arguments together. There may be no key.
    ///
    /// # Errors
    /// `GROUP/KEY` next to other keys, a key file that cannot be read.
    pub(crate) fn target(
        &self,
        first: &OsStr,
        keys: &[OsString],
    ) -> Result<Target, BadConfiguration> {
        let first = first.as_bytes();
        let slash = first.iter().position(|byte| *byte == b'/');
        let (group, key) = match slash {
            Some(at) => (&first[..at], Some(&first[at + 1..])),
            None => (first, None),
        };
        let group = String::from_utf8(group.to_vec())
            .map_err(|_| BadConfiguration("the name of the group is not UTF-8".into()))?;
        let named = keys.len() + self.key_base64.len() + self.key_file.len();
        if key.is_some() && named > 0 {
            return Err(BadConfiguration(
                "GROUP/KEY names one key; write GROUP KEY... for several".into(),
            ));
        }
        let mut all: Vec<Bytes> = key.into_iter().map(Bytes::copy_from_slice).collect();
        all.extend(keys.iter().map(|key| Bytes::copy_from_slice(key.as_bytes())));
        all.extend(self.key_base64.iter().cloned());
        for file in &self.key_file {
            all.push(read(file)?);
        }
        Ok(Target { group, keys: all })
    }

    /// As [`KeyFlags::target`], with exactly one key.
    pub(crate) fn one(
        &self,
        first: &OsStr,
        key: Option<&OsString>,
    ) -> Result<(String, Bytes), BadConfiguration> {
        let Target { group, keys } = self.target(first, key.map_or(&[], std::slice::from_ref))?;
        match <[Bytes; 1]>::try_from(keys) {
            Ok([key]) => Ok((group, key)),
            Err(_) => Err(BadConfiguration("name one key: GROUP KEY or GROUP/KEY".into())),
        }
    }
}

fn read(path: &Path) -> Result<Bytes, BadConfiguration> {
    let mut bytes = Vec::new();
    let read = if path == Path::new("-") {
        stdin().lock().take(MAX_KEY_FILE).read_to_end(&mut bytes)
    } else {
        File::open(path).and_then(|file| file.take(MAX_KEY_FILE).read_to_end(&mut bytes))
    };
    read.map_err(|e| BadConfiguration(format!("{} cannot be read: {e}", path.display())))?;
    Ok(bytes.into())
}

pub(crate) fn from_base64(text: &str) -> Result<Bytes, String> {
    STANDARD.decode(text).map(Bytes::from).map_err(|error| format!("not base64: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(first: &str, keys: &[&str]) -> Result<Target, String> {
        let keys: Vec<OsString> = keys.iter().map(Into::into).collect();
        KeyFlags::default().target(first.as_ref(), &keys).map_err(|e| e.to_string())
    }

    fn of(group: &str, keys: &[&str]) -> Target {
        let keys = keys.iter().map(|key| Bytes::copy_from_slice(key.as_bytes())).collect();
        Target { group: group.into(), keys }
    }

    #[test]
    fn a_key_follows_the_group_or_its_first_slash() {
        assert_eq!(target("g", &["a", "b/c"]), Ok(of("g", &["a", "b/c"])));
        assert_eq!(target("g/a/b", &[]), Ok(of("g", &["a/b"])));
        assert_eq!(target("g/", &[]), Ok(of("g", &[""])));
        assert_eq!(target("g", &[]), Ok(of("g", &[])));
        assert!(target("g/a", &["b"]).expect_err("which").contains("GROUP KEY..."));
    }

    #[test]
    fn keys_that_are_not_text_come_by_flag_after_the_others() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("key");
        std::fs::write(&file, b"\xfe\n").expect("written");
        let flags = KeyFlags {
            key_base64: vec![from_base64("/wA=").expect("valid")],
            key_file: vec![file, folder.path().join("none")],
        };
        let error = flags.target("g".as_ref(), &[]).expect_err("no such file").to_string();
        assert!(error.contains("none cannot be read: "), "{error}");
        let flags = KeyFlags { key_file: vec![flags.key_file[0].clone()], ..flags };
        let keys = flags.target("g".as_ref(), &["a".into()]).expect("valid").keys;
        assert_eq!(keys, [&b"a"[..], b"\xff\x00", b"\xfe\n"]);
        assert!(flags.one("g".as_ref(), None).is_err());
        assert!(from_base64("?").expect_err("no").starts_with("not base64: "));
    }
}
