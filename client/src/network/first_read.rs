//! What a server sends first, which tells apart HTTP/2, another protocol and a refusal.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::oneshot;

/// Where an HTTP/2 frame has its type. Source: RFC 9113, section 4.1.
pub(super) const FRAME_TYPE_AT: usize = 3;
/// Bytes that are kept, for an error that quotes them.
const QUOTED_BYTES: usize = 40;

/// The first bytes of a server, more than [`FRAME_TYPE_AT`] of them, or why there are none.
pub(super) type FirstBytes = io::Result<Vec<u8>>;

/// A connection that reports what is read from it first.
pub(super) struct FirstRead<C> {
    connection: C,
    report: Option<oneshot::Sender<FirstBytes>>,
    first: Vec<u8>,
}

impl<C> FirstRead<C> {
    /// The receiver fails if the connection is dropped or ends before enough was read.
    pub(super) fn of(connection: C) -> (Self, oneshot::Receiver<FirstBytes>) {
        let (report, first) = oneshot::channel();
        (Self { connection, report: Some(report), first: Vec::new() }, first)
    }

    fn observe(&mut self, read: &io::Result<()>, bytes: &[u8]) {
        let outcome = match read {
            Ok(()) => {
                self.first.extend_from_slice(&bytes[..bytes.len().min(QUOTED_BYTES)]);
                if self.first.len() <= FRAME_TYPE_AT && !bytes.is_empty() {
                    return;
                }
                Ok(std::mem::take(&mut self.first))
            }
            Err(error) => Err(copy_of(error)),
        };
        let is_enough = outcome.as_ref().map_or(true, |bytes| bytes.len() > FRAME_TYPE_AT);
        let report = self.report.take();
        if let Some(report) = report.filter(|_| is_enough) {
            // The handshake may have been given up.
            _ = report.send(outcome);
        }
    }
}

/// An error of TLS keeps its type, by which it is explained.
fn copy_of(error: &io::Error) -> io::Error {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        Some(of_tls) => io::Error::new(error.kind(), of_tls.clone()),
        None => io::Error::new(error.kind(), error.to_string()),
    }
}

impl<C: AsyncRead + Unpin> AsyncRead for FirstRead<C> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = ready!(Pin::new(&mut self.connection).poll_read(context, buffer));
        if self.report.is_some() {
            self.observe(&read, &buffer.filled()[before..]);
        }
        Poll::Ready(read)
    }
}

impl<C: AsyncWrite + Unpin> AsyncWrite for FirstRead<C> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.connection).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.connection).poll_write_vectored(context, buffers)
    }

    fn is_write_vectored(&self) -> bool {
        self.connection.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.connection).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.connection).poll_shutdown(context)
    }
}
