//! Message streams that end when their server stops.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use http::{HeaderMap, Request, Response};
use hyper::body::{Body as HttpBody, Bytes, Frame};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::Status;
use tonic::body::Body;

/// A body that ends once its server stops. What `inner` has ready passes first, so only streams
/// that wait are cut short.
struct UntilStopped<B> {
    inner: B,
    stopped: Pin<Box<WaitForCancellationFutureOwned>>,
    /// Sent at the end.
    trailers: Option<HeaderMap>,
    ended: bool,
}

/// A client that never ends its stream of requests does not keep the call alive.
pub(super) fn request<B>(
    request: Request<B>,
    stopping: &CancellationToken,
) -> Request<impl HttpBody<Data = Bytes, Error = B::Error> + use<B>>
where
    B: HttpBody<Data = Bytes> + Unpin,
{
    request.map(|body| UntilStopped::new(body, stopping, None))
}

/// The stream of responses ends with UNAVAILABLE.
pub(super) fn response(response: Response<Body>, stopping: &CancellationToken) -> Response<Body> {
    if response.body().is_end_stream() {
        return response;
    }
    let mut trailers = HeaderMap::new();
    let status = Status::unavailable("the server is stopping");
    status.add_header(&mut trailers).expect("a plain text is a valid header");
    response.map(|body| Body::new(UntilStopped::new(body, stopping, Some(trailers))))
}

impl<B> UntilStopped<B> {
    fn new(inner: B, stopping: &CancellationToken, trailers: Option<HeaderMap>) -> Self {
        let stopped = Box::pin(stopping.clone().cancelled_owned());
        Self { inner, stopped, trailers, ended: false }
    }
}

impl<B: HttpBody + Unpin> HttpBody for UntilStopped<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        if let Poll::Ready(frame) = Pin::new(&mut self.inner).poll_frame(context) {
            return Poll::Ready(frame);
        }
        ready!(self.stopped.as_mut().poll(context));
        self.ended = true;
        Poll::Ready(self.trailers.take().map(|trailers| Ok(Frame::trailers(trailers))))
    }

    fn is_end_stream(&self) -> bool {
        self.ended || self.inner.is_end_stream()
    }
}
