//! Edits of the watched file.
//!
//! The file is read twice a second and its text compared. Notifications of the kernel would save
//! these reads of a small file, and miss what they cannot see: editors that replace the file by a
//! rename, links that are switched, folders shared with another machine or a container.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use tokio::time::{Interval, MissedTickBehavior, interval};

/// Interval of the reads. A new text counts when two of them agree, so that a file that is just
/// being written is not taken for an edit.
const POLL: Duration = Duration::from_millis(500);

pub(super) struct Edits {
    path: PathBuf,
    /// The text that was returned last.
    known: String,
    /// What the last read found, if it is not `known`.
    candidate: Option<Result<String, String>>,
    /// An error was returned and no text since.
    unreadable: bool,
    ticks: Interval,
}

impl Edits {
    /// Watches `path`, whose text is `known`.
    pub(super) fn new(path: PathBuf, known: String) -> Self {
        let mut ticks = interval(POLL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self { path, known, candidate: None, unreadable: false, ticks }
    }

    /// The next text, or once why it cannot be read.
    ///
    /// # Cancel safety
    /// Nothing is lost: an edit that was seen once is seen again by the next call.
    pub(super) async fn next(&mut self) -> Result<String, String> {
        loop {
            self.ticks.tick().await;
            let read = tokio::fs::read_to_string(&self.path).await;
            if let Some(edit) = self.settled(read) {
                return edit;
            }
        }
    }

    fn settled(&mut self, read: io::Result<String>) -> Option<Result<String, String>> {
        let found = read.map_err(|error| error.to_string());
        let is_known = match &found {
            Ok(text) => *text == self.known && !self.unreadable,
            Err(_) => self.unreadable,
        };
        if is_known {
            self.candidate = None;
            return None;
        }
        if self.candidate.as_ref() != Some(&found) {
            self.candidate = Some(found);
            return None;
        }
        self.candidate = None;
        self.unreadable = found.is_err();
        match found {
            // It is readable again and as it was.
            Ok(text) if text == self.known => None,
            Ok(text) => {
                self.known.clone_from(&text);
                Some(Ok(text))
            }
            Err(error) => Some(Err(error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn edits() -> Edits {
        Edits::new(PathBuf::from("unused"), "old".into())
    }

    fn gone() -> io::Result<String> {
        Err(io::Error::from(io::ErrorKind::NotFound))
    }

    #[tokio::test]
    async fn an_edit_counts_when_two_reads_agree() {
        let mut edits = edits();
        let mut see = |text: &str| edits.settled(Ok(text.into()));
        assert_eq!([see("old"), see("ne"), see("new")], [None, None, None]);
        assert_eq!(see("new"), Some(Ok("new".into())));
        assert_eq!([see("new"), see("half"), see("new")], [None, None, None]);
    }

    #[tokio::test]
    async fn a_file_that_is_replaced_by_a_rename_is_missed_for_one_read_at_most() {
        let mut edits = edits();
        assert_eq!(edits.settled(gone()), None);
        assert_eq!(edits.settled(Ok("new".into())), None);
        assert_eq!(edits.settled(Ok("new".into())), Some(Ok("new".into())));
    }

    #[tokio::test]
    async fn a_file_that_stays_away_is_reported_once() {
        let mut edits = edits();
        assert_eq!(edits.settled(gone()), None);
        assert!(matches!(edits.settled(gone()), Some(Err(_))));
        assert_eq!(edits.settled(gone()), None);
        assert_eq!(edits.settled(Ok("old".into())), None);
        assert_eq!(edits.settled(Ok("old".into())), None);
        assert_eq!(edits.settled(gone()), None);
        assert!(matches!(edits.settled(gone()), Some(Err(_))), "it went away again");
    }

    #[tokio::test(start_paused = true)]
    async fn a_file_on_disk_that_is_replaced_is_read_anew() {
        let folder = tempfile::tempdir().expect("a folder");
        let (path, other) = (folder.path().join("a.yaml"), folder.path().join("a.yaml~"));
        std::fs::write(&path, "old").expect("written");
        let mut edits = Edits::new(path.clone(), "old".into());
        std::fs::write(&other, "new").expect("written");
        std::fs::rename(&other, &path).expect("renamed");
        assert_eq!(edits.next().await, Ok("new".into()));
    }
}
