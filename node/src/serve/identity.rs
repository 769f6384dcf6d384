//! The identity that a connection proved, in the extensions of its requests.

use std::sync::Arc;

use http::Request;
use hyper::body::Incoming;
use hyper::service::Service;
use larder_proto::identity::Identity;

/// The caller of a request, as its certificate names it. In the request's extensions on a port that
/// serves TLS, if the certificate has an identity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallerIdentity(pub Arc<Identity>);

/// A service whose requests carry the identity of their connection.
#[derive(Debug, Clone)]
pub(super) struct Identified<S> {
    pub(super) service: S,
    pub(super) caller: Option<CallerIdentity>,
}

impl<S: Service<Request<Incoming>>> Service<Request<Incoming>> for Identified<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn call(&self, mut request: Request<Incoming>) -> Self::Future {
        if let Some(caller) = &self.caller {
            request.extensions_mut().insert(caller.clone());
        }
        self.service.call(request)
    }
}
