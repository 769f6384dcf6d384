//! memcached's text protocol: `get` of one key, or `set` when filling.

use std::collections::VecDeque;
use std::io::Write as _;
use std::time::Instant;

use anyhow::{Result, bail};

use super::{Protocol, key};

/// One connection.
pub(crate) struct Memcached {
    value_bytes: usize,
    fill: bool,
    /// When each request was made; replies come in the same order.
    asked: VecDeque<Instant>,
}

impl Memcached {
    pub(crate) fn new(value_bytes: usize, fill: bool) -> Self {
        Self { value_bytes, fill, asked: VecDeque::new() }
    }

    /// The length of the reply at the beginning of `input`, once it is whole.
    fn reply(&self, input: &[u8]) -> Result<Option<usize>> {
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
        let whole = end + 2 + self.value_bytes + b"\r\nEND\r\n".len();
        if input.len() < whole {
            return Ok(None);
        }
        if !input[..whole].ends_with(b"\r\nEND\r\n") {
            bail!("memcached's value has another length than it said");
        }
        Ok(Some(whole))
    }
}

impl Protocol for Memcached {
    fn begin(&mut self, _: &mut Vec<u8>) {}

    fn request(&mut self, number: u32, at: Instant, out: &mut Vec<u8>) {
        let key = key(number);
        if self.fill {
            let value = "v".repeat(self.value_bytes);
            let _ = write!(out, "set {key} 0 0 {}\r\n{value}\r\n", self.value_bytes);
        } else {
            let _ = write!(out, "get {key}\r\n");
        }
        self.asked.push_back(at);
    }

    fn take(&mut self, input: &[u8], replied: &mut Vec<Instant>, _: &mut Vec<u8>) -> Result<usize> {
        let mut taken = 0;
        while let Some(length) = self.reply(&input[taken..])? {
            taken += length;
            match self.asked.pop_front() {
                Some(at) => replied.push(at),
                None => bail!("memcached answered what was not asked"),
            }
        }
        Ok(taken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take(fill: bool, asked: usize, input: &str) -> Result<(usize, usize)> {
        let mut memcached = Memcached::new(3, fill);
        let (mut out, mut replied) = (Vec::new(), Vec::new());
        for _ in 0..asked {
            memcached.request(1, Instant::now(), &mut out);
        }
        let taken = memcached.take(input.as_bytes(), &mut replied, &mut out)?;
        Ok((taken, replied.len()))
    }

    #[test]
    fn whole_replies_are_taken_and_parts_wait() {
        let one = "VALUE key-00000001 0 3\r\nabc\r\nEND\r\n";
        let input = format!("{one}{}", &one[..20]);
        assert_eq!(take(false, 2, &input).expect("good"), (one.len(), 1));
        assert_eq!(take(true, 2, "STORED\r\nSTO").expect("good"), (8, 1));
    }

    #[test]
    fn a_miss_a_wrong_length_and_an_error_end_the_run() {
        assert!(take(false, 1, "END\r\n").is_err());
        assert!(take(false, 1, "VALUE key-00000001 0 4\r\nabcd\r\nEND\r\n").is_err());
        assert!(take(false, 1, "SERVER_ERROR\r\n").is_err());
        assert!(take(false, 0, "VALUE key-00000001 0 3\r\nabc\r\nEND\r\n").is_err());
    }
}
