//! The tags of a value: their limits, and how origins write several into one text.

use bytes::Bytes;
use larder_proto::names::{MAX_TAG_BYTES, MAX_TAGS};

/// Why tags cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the messages explain the variants")]
pub enum TagError {
    #[error("a tag is empty")]
    Empty,
    #[error("a tag has {bytes} bytes, more than the limit of {MAX_TAG_BYTES}")]
    TooLong { bytes: usize },
    #[error("there are {tags} tags, more than the limit of {MAX_TAGS}")]
    TooMany { tags: usize },
}

/// Checks the tags of one value, or of one invalidation.
///
/// # Errors
/// See [`TagError`].
pub fn check_tags(tags: &[Bytes]) -> Result<(), TagError> {
    if tags.len() > MAX_TAGS {
        return Err(TagError::TooMany { tags: tags.len() });
    }
    tags.iter().try_for_each(|tag| match tag.len() {
        0 => Err(TagError::Empty),
        bytes if bytes > MAX_TAG_BYTES => Err(TagError::TooLong { bytes }),
        _ => Ok(()),
    })
}

/// The tags in a text, separated by commas or white space. CDNs use both: `Cache-Tag` has commas,
/// `Surrogate-Key` spaces.
pub(super) fn split_tags(text: &[u8]) -> impl Iterator<Item = Bytes> {
    let parts = text.split(|byte| *byte == b',' || byte.is_ascii_whitespace());
    parts.filter(|tag| !tag.is_empty()).map(Bytes::copy_from_slice)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_are_separated_by_commas_or_white_space() {
        let split = |text: &str| split_tags(text.as_bytes()).collect::<Vec<_>>();
        assert_eq!(split("a,b"), ["a", "b"]);
        assert_eq!(split(" course:7\tcourse:9, Zoë,,\n"), ["course:7", "course:9", "Zoë"]);
        assert_eq!(split(" , "), [""; 0]);
    }

    #[test]
    fn tags_have_limits() {
        let tags = |count, bytes| vec![Bytes::from(vec![b't'; bytes]); count];
        assert_eq!(check_tags(&[]), Ok(()));
        assert_eq!(check_tags(&tags(MAX_TAGS, MAX_TAG_BYTES)), Ok(()));
        assert_eq!(check_tags(&tags(65, 1)), Err(TagError::TooMany { tags: 65 }));
        assert_eq!(check_tags(&tags(1, 129)), Err(TagError::TooLong { bytes: 129 }));
        assert_eq!(check_tags(&tags(1, 0)), Err(TagError::Empty));
        let text = TagError::TooLong { bytes: 129 }.to_string();
        assert_eq!(text, "a tag has 129 bytes, more than the limit of 128");
    }
}
