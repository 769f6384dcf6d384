//! Routes the calls of one port.
//!
//! Calls of the hot service go straight from the HTTP/2 connection to the generated code, without
//! tonic's server and router in between: one layer less for a hit. All other calls go through
//! tonic's routes.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;

use http::{Request, Response};
use hyper::body::Incoming;
use larder_proto::FILE_DESCRIPTOR_SET;
use tokio_util::sync::CancellationToken;
use tonic::body::Body;
use tonic::server::NamedService;
use tonic::service::Routes;
use tonic_health::pb::health_server::HealthServer;
use tonic_health::server::{HealthReporter, HealthService};
use tower::Service;

use super::stream;

/// The future that generated services return.
type ResponseFuture = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

/// The services of one port: the one on the hot path, and the others.
#[derive(Clone)]
pub struct PortService<S> {
    hot: S,
    /// `/package.Service/` of the hot service.
    hot_prefix: &'static str,
    others: Routes,
    /// Ends the message streams of the others.
    stopping: CancellationToken,
}

impl<S> PortService<S>
where
    S: Service<Request<Incoming>, Response = Response<Body>, Error = Infallible>,
    S: NamedService + Clone,
{
    /// `hot_prefix` is `/package.Service/` of `hot`.
    ///
    /// # Panics
    /// If `hot_prefix` does not name `hot`.
    #[must_use]
    pub fn new(hot: S, hot_prefix: &'static str, others: Routes) -> Self {
        assert_eq!(hot_prefix.trim_matches('/'), S::NAME, "the prefix names the hot service");
        Self { hot, hot_prefix, others, stopping: CancellationToken::new() }
    }
}

impl<S> PortService<S> {
    /// The same services, whose message streams end once `stopping` is cancelled. Otherwise a
    /// client that watches health would hold up a drain for its whole grace time.
    #[must_use]
    pub fn until(self, stopping: CancellationToken) -> Self {
        Self { stopping, ..self }
    }
}

impl<S> hyper::service::Service<Request<Incoming>> for PortService<S>
where
    S: Service<Request<Incoming>, Response = Response<Body>, Error = Infallible> + Clone,
    // Generated services already box their futures; this avoids a second box.
    S: Service<Request<Incoming>, Future = ResponseFuture>,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = ResponseFuture;

    fn call(&self, request: Request<Incoming>) -> ResponseFuture {
        // Generated services and routes are always ready: no `poll_ready` is needed.
        if request.uri().path().starts_with(self.hot_prefix) {
            self.hot.clone().call(request)
        } else {
            let (mut others, stopping) = (self.others.clone(), self.stopping.clone());
            Box::pin(async move {
                let response = others.call(stream::request(request, &stopping)).await?;
                Ok(stream::response(response, &stopping))
            })
        }
    }
}

/// Health and reflection, which every gRPC port offers.
#[must_use]
pub fn common_services(health: &HealthReporter) -> Routes {
    let reflection = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    let health = HealthService::from_health_reporter(health.clone());
    Routes::new(HealthServer::new(health))
        .add_service(reflection().build_v1().expect("compiled-in descriptors are valid"))
        .add_service(reflection().build_v1alpha().expect("compiled-in descriptors are valid"))
}
