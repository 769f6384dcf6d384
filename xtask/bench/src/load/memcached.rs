//! memcached's text protocol: `get` of one key, or `set` while filling.

use std::collections::VecDeque;
use std::io::Write as _;
use std::time::Instant;

use anyhow::{Result, bail};

use super::protocol::{Protocol, key};

/// The state of one connection.
pub(crate) struct Memcached {
    value_bytes: usize,
    fill: bool,
    /// When each open request was sent; replies arrive in the same order.
    sent: VecDeque<Instant>,
}

impl Memcached {
    pub(crate) fn new(value_bytes: usize, fill: bool) -> Self {
        Self { value_bytes, fill, sent: VecDeque::new() }
    }

    /// The length of the reply at the beginning of `input`, once it is complete.
    fn reply_length(&self, input: &[u8]) -> Result<Option<usize>> {
        let Some(end) = input.windows(2).position(|pair| pair == b"\r\n") else { return Ok(None) };
        let line = &input[..end];
        if self.fill {
            if line != b"STORED" {
                bail!("memcached answered {}", String::from_utf8_lossy(line));
            }
            return Ok(Some(end + 2));
        }
        let length = line.rsplit(|byte| *byte == b' ').next();
        let length = length.and_then(|digits| std::str::from_utf8(digits).ok()?.parse().ok());
        if !line.starts_with(b"VALUE ") || length != Some(self.value_bytes) {
            bail!("memcached answered {}", String::from_utf8_lossy(line));
        }
        let total = end + 2 + self.value_bytes + b"\r\nEND\r\n".len();
        if input.len() < total {
            return Ok(None);
        }
        if !input[..total].ends_with(b"\r\nEND\r\n") {
            bail!("memcached's value does not have the announced length");
        }
        Ok(Some(total))
    }
}

impl Protocol for Memcached {
    fn begin(&mut self, _: &mut Vec<u8>) {}

    fn request(&mut self, number: u32, sent: Instant, out: &mut Vec<u8>) {
        let key = key(number);
        if self.fill {
            let value = "v".repeat(self.value_bytes);
            let _ = write!(out, "set {key} 0 0 {}\r\n{value}\r\n", self.value_bytes);
        } else {
            let _ = write!(out, "get {key}\r\n");
        }
        self.sent.push_back(sent);
    }

    fn consume(
        &mut self,
        input: &[u8],
        replied: &mut Vec<Instant>,
        _: &mut Vec<u8>,
    ) -> Result<usize> {
        let mut consumed = 0;
        while let Some(length) = self.reply_length(&input[consumed..])? {
            consumed += length;
            match self.sent.pop_front() {
                Some(sent) => replied.push(sent),
                None => bail!("memcached sent a reply without a request"),
            }
        }
        Ok(consumed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn consume(fill: bool, requests: usize, input: &str) -> Result<(usize, usize)> {
        let mut memcached = Memcached::new(3, fill);
        let (mut out, mut replied) = (Vec::new(), Vec::new());
        for _ in 0..requests {
            memcached.request(1, Instant::now(), &mut out);
        }
        let consumed = memcached.consume(input.as_bytes(), &mut replied, &mut out)?;
        Ok((consumed, replied.len()))
    }

    #[test]
    fn complete_replies_are_consumed_and_partial_ones_wait() {
        let one = "VALUE key-00000001 0 3\r\nabc\r\nEND\r\n";
        let input = format!("{one}{}", &one[..20]);
        assert_eq!(consume(false, 2, &input).expect("valid"), (one.len(), 1));
        assert_eq!(consume(true, 2, "STORED\r\nSTO").expect("valid"), (8, 1));
    }

    #[test]
    fn a_miss_a_wrong_length_and_an_error_end_the_run() {
        assert!(consume(false, 1, "END\r\n").is_err());
        assert!(consume(false, 1, "VALUE key-00000001 0 4\r\nabcd\r\nEND\r\n").is_err());
        assert!(consume(false, 1, "SERVER_ERROR\r\n").is_err());
        assert!(consume(false, 0, "VALUE key-00000001 0 3\r\nabc\r\nEND\r\n").is_err());
    }
}
