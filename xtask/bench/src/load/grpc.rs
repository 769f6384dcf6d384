//! Cache.Get over HTTP/2, framed by hand: an HTTP/2 library would use as much processor time as the
//! server under test.
//!
//! Implements what well-behaved servers on loopback need: requests like a stock client's (indexed
//! headers, END_STREAM on the data), replies recognised by their frames. Response headers are not
//! decoded; a reply is right when its message has exactly the expected length.

use std::net::SocketAddr;
use std::time::Instant;

use anyhow::{Context as _, Result, bail};
use larder_proto::v1::{GetRequest, GetResponse};
use prost::Message as _;

use super::protocol::{Protocol, key};
use crate::surroundings::GROUP;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const END_STREAM: u8 = 1;
const ACK: u8 = 1;
const END_HEADERS: u8 = 4;

/// Bytes of a frame header (source: RFC 9113 §4.1).
const FRAME_HEADER: usize = 9;
/// The initial window of a connection (source: RFC 9113 §6.9.2).
const INITIAL_WINDOW: i64 = 65_535;
/// The largest window (source: RFC 9113 §6.9.1).
const LARGEST_WINDOW: i64 = (1 << 31) - 1;
/// Limit of the open streams on one connection, a power of two.
const STREAMS: usize = 1 << 10;

/// The state of one connection.
pub(crate) struct Grpc {
    authority: String,
    /// Bytes of the message in every reply, including gRPC's prefix of five.
    expected: usize,
    next_stream: u32,
    /// The open streams, indexed by half their number modulo [`STREAMS`].
    streams: Vec<Option<Stream>>,
    send_window: i64,
    /// What the server may still send.
    receive_window: i64,
}

#[derive(Clone, Copy)]
struct Stream {
    number: u32,
    sent: Instant,
    received: usize,
}

impl Grpc {
    pub(crate) fn new(address: SocketAddr, value_bytes: usize) -> Self {
        let reply = GetResponse { value: vec![b'v'; value_bytes].into(), ..Default::default() };
        Self {
            authority: address.to_string(),
            expected: 5 + reply.encoded_len(),
            next_stream: 1,
            streams: vec![None; STREAMS],
            send_window: INITIAL_WINDOW,
            receive_window: LARGEST_WINDOW,
        }
    }

    /// The first request adds its headers to the server's dynamic table; later ones refer to it.
    fn headers(&self) -> Vec<u8> {
        // HPACK (RFC 7541): 0x83 is `:method: POST`, 0x86 `:scheme: http`; the dynamic table holds
        // te (62), content-type (63), :authority (64) and :path (65), the latest first.
        if self.next_stream > 1 {
            return vec![0x83, 0x86, 0xc1, 0xc0, 0xbf, 0xbe];
        }
        let mut block = vec![0x83, 0x86];
        let mut literal = |name: &[u8], value: &str| {
            block.extend_from_slice(name);
            block.push(u8::try_from(value.len()).expect("below 256 bytes"));
            block.extend_from_slice(value.as_bytes());
        };
        literal(&[0x44], "/larder.v1.Cache/Get");
        literal(&[0x41], &self.authority);
        literal(&[0x5f], "application/grpc");
        literal(b"\x40\x02te", "trailers");
        block
    }

    fn slot(&mut self, number: u32) -> &mut Option<Stream> {
        &mut self.streams[(number as usize >> 1) % STREAMS]
    }

    /// Handles one frame of the server. Returns when the request was sent if the frame ends a reply.
    fn receive(
        &mut self,
        head: FrameHeader,
        payload: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<Option<Instant>> {
        match head.kind {
            DATA => {
                self.receive_window -= i64::try_from(payload.len())?;
                let stream = self
                    .slot(head.stream)
                    .as_mut()
                    .context("data for a stream that is not open")?;
                stream.received += payload.len();
                if self.receive_window < LARGEST_WINDOW / 2 {
                    let more = u32::try_from(LARGEST_WINDOW - self.receive_window)?;
                    frame(out, WINDOW_UPDATE, 0, 0, &more.to_be_bytes());
                    self.receive_window = LARGEST_WINDOW;
                }
            }
            HEADERS => {}
            SETTINGS if head.flags & ACK == 0 => frame(out, SETTINGS, ACK, 0, &[]),
            PING if head.flags & ACK == 0 => frame(out, PING, ACK, 0, payload),
            WINDOW_UPDATE if head.stream == 0 => {
                let more =
                    <[u8; 4]>::try_from(payload).context("a WINDOW_UPDATE of the wrong length")?;
                self.send_window += i64::from(u32::from_be_bytes(more));
            }
            RST_STREAM => bail!("the server reset a stream"),
            GOAWAY => bail!("the server sent GOAWAY: {}", String::from_utf8_lossy(payload)),
            _ => {}
        }
        if matches!(head.kind, DATA | HEADERS) && head.flags & END_STREAM != 0 {
            let expected = self.expected;
            let stream =
                self.slot(head.stream).take().context("the end of a stream that is not open")?;
            if stream.number != head.stream || stream.received != expected {
                bail!(
                    "a reply of {} bytes instead of {expected}: {}",
                    stream.received,
                    String::from_utf8_lossy(payload)
                );
            }
            return Ok(Some(stream.sent));
        }
        Ok(None)
    }
}

impl Protocol for Grpc {
    fn begin(&mut self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
        // HEADER_TABLE_SIZE (1) of 0 for the server's headers, INITIAL_WINDOW_SIZE (4) of 1 MiB.
        let mut settings = vec![0, 1, 0, 0, 0, 0];
        settings.extend_from_slice(&[0, 4, 0, 16, 0, 0]);
        frame(out, SETTINGS, 0, 0, &settings);
        let more = u32::try_from(LARGEST_WINDOW - INITIAL_WINDOW).expect("31 bits");
        frame(out, WINDOW_UPDATE, 0, 0, &more.to_be_bytes());
    }

    fn request(&mut self, number: u32, sent: Instant, out: &mut Vec<u8>) {
        let stream = self.next_stream;
        frame(out, HEADERS, END_HEADERS, stream, &self.headers());
        let request = GetRequest {
            group: GROUP.into(),
            key: key(number).into_bytes().into(),
            explain: false,
        };
        let mut body = vec![0];
        let length = u32::try_from(request.encoded_len()).expect("a few bytes");
        body.extend_from_slice(&length.to_be_bytes());
        request.encode(&mut body).expect("a Vec has room");
        frame(out, DATA, END_STREAM, stream, &body);
        self.send_window -= i64::try_from(body.len()).expect("a few bytes");
        assert!(self.send_window > 0, "the server must return the window as it reads");
        let slot = self.slot(stream);
        assert!(slot.is_none(), "a stream is still open after {STREAMS} later ones");
        *slot = Some(Stream { number: stream, sent, received: 0 });
        self.next_stream += 2;
    }

    fn consume(
        &mut self,
        input: &[u8],
        replied: &mut Vec<Instant>,
        out: &mut Vec<u8>,
    ) -> Result<usize> {
        let mut consumed = 0;
        while let Some(head) = FrameHeader::read(&input[consumed..]) {
            let begin = consumed + FRAME_HEADER;
            let Some(payload) = input.get(begin..begin + head.length) else { break };
            replied.extend(self.receive(head, payload, out)?);
            consumed = begin + head.length;
        }
        Ok(consumed)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct FrameHeader {
    length: usize,
    kind: u8,
    flags: u8,
    stream: u32,
}

impl FrameHeader {
    fn read(input: &[u8]) -> Option<Self> {
        let head: &[u8; FRAME_HEADER] = input.first_chunk()?;
        Some(Self {
            length: u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize,
            kind: head[3],
            flags: head[4],
            stream: u32::from_be_bytes([head[5] & 0x7f, head[6], head[7], head[8]]),
        })
    }
}

fn frame(out: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
    let length = u32::try_from(payload.len()).expect("a few bytes");
    out.extend_from_slice(&length.to_be_bytes()[1..]);
    out.extend_from_slice(&[kind, flags]);
    out.extend_from_slice(&stream.to_be_bytes());
    out.extend_from_slice(payload);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open() -> (Grpc, usize) {
        let mut grpc = Grpc::new("127.0.0.1:1".parse().expect("an address"), 100);
        grpc.request(1, Instant::now(), &mut Vec::new());
        let expected = grpc.expected;
        (grpc, expected)
    }

    fn reply(message_bytes: usize) -> Vec<u8> {
        let mut input = Vec::new();
        frame(&mut input, HEADERS, END_HEADERS, 1, &[0x88]);
        frame(&mut input, DATA, 0, 1, &vec![0; message_bytes]);
        frame(&mut input, HEADERS, END_HEADERS | END_STREAM, 1, &[]);
        input
    }

    #[test]
    fn a_reply_counts_once_its_trailers_are_complete() {
        let (mut grpc, expected) = open();
        let input = reply(expected);
        let (mut replied, mut out) = (Vec::new(), Vec::new());
        let part = &input[..input.len() - 1];
        let consumed = grpc.consume(part, &mut replied, &mut out).expect("valid");
        assert!(replied.is_empty() && consumed == input.len() - FRAME_HEADER);
        let rest = grpc.consume(&input[consumed..], &mut replied, &mut out).expect("valid");
        assert_eq!((replied.len(), consumed + rest), (1, input.len()));
    }

    #[test]
    fn an_error_or_a_wrong_value_ends_the_run() {
        for message_bytes in [0, 1] {
            let (mut grpc, _) = open();
            let input = reply(message_bytes);
            assert!(grpc.consume(&input, &mut Vec::new(), &mut Vec::new()).is_err());
        }
    }

    #[test]
    fn settings_and_pings_are_answered() {
        let (mut grpc, _) = open();
        let (mut input, mut out) = (Vec::new(), Vec::new());
        frame(&mut input, SETTINGS, 0, 0, &[]);
        frame(&mut input, PING, 0, 0, b"12345678");
        grpc.consume(&input, &mut Vec::new(), &mut out).expect("valid");
        assert_eq!(
            FrameHeader::read(&out).map(|head| (head.kind, head.flags)),
            Some((SETTINGS, ACK))
        );
        assert!(out.ends_with(b"12345678"));
    }
}
