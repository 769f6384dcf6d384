//! gRPC calls, under the metric names of the Go middleware so that existing dashboards work.

use std::array;
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, Opts, Registry,
};
use tonic::Code;

use super::register::register;

/// Upper bounds of a call's duration, seconds.
const BUCKETS: &[f64] = &[0.0001, 0.001, 0.005, 0.02, 0.1, 0.5, 2.0];
/// gRPC's codes are 0 to 16.
const CODES: usize = 17;

/// A measured method.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// `larder.v1.Cache/Get`.
    Get,
    /// `larder.v1.Cache/GetMany`.
    GetMany,
    /// `larder.v1.Cache/Invalidate`.
    Invalidate,
    /// `larder.v1.Peer/Fetch`.
    Fetch,
    /// `larder.v1.Peer/Sync`.
    Sync,
    /// `larder.v1.Peer/TakeOver`.
    TakeOver,
    /// `groupcachepb.GroupCache/Get`.
    GroupcacheGet,
}

impl Method {
    const ALL: [Self; 7] = [
        Self::Get,
        Self::GetMany,
        Self::Invalidate,
        Self::Fetch,
        Self::Sync,
        Self::TakeOver,
        Self::GroupcacheGet,
    ];

    /// False if no request waits for a call, so that its duration matters little.
    fn is_timed(self) -> bool {
        self != Self::TakeOver
    }

    fn labels(self) -> [&'static str; 2] {
        match self {
            Self::Get => ["larder.v1.Cache", "Get"],
            Self::GetMany => ["larder.v1.Cache", "GetMany"],
            Self::Invalidate => ["larder.v1.Cache", "Invalidate"],
            Self::Fetch => ["larder.v1.Peer", "Fetch"],
            Self::Sync => ["larder.v1.Peer", "Sync"],
            Self::TakeOver => ["larder.v1.Peer", "TakeOver"],
            Self::GroupcacheGet => ["groupcachepb.GroupCache", "Get"],
        }
    }
}

/// The area's metrics. Clones share them.
#[derive(Clone)]
pub struct GrpcMetrics(Arc<[MethodMetrics; Method::ALL.len()]>);

struct MethodMetrics {
    method: Method,
    started: IntCounter,
    handled_ok: IntCounter,
    /// Counters of the other codes, created on first use. Read without a lock, because NOT_FOUND is
    /// as frequent as a hit.
    handled: [OnceLock<IntCounter>; CODES],
    vec: IntCounterVec,
    /// `None` if [`Method::is_timed`] is false.
    seconds: Option<Histogram>,
}

/// Measures one call from its start until it is dropped.
pub struct CallTimer<'m> {
    metrics: &'m MethodMetrics,
    began: Instant,
    code: Code,
}

impl GrpcMetrics {
    /// Registers the area.
    #[must_use]
    pub fn register(registry: &Registry) -> Self {
        let labels = ["grpc_service", "grpc_method"];
        let started =
            IntCounterVec::new(Opts::new("grpc_server_started_total", "Calls started."), &labels);
        let started = register(registry, started.expect("valid names"));
        let handled = IntCounterVec::new(
            Opts::new("grpc_server_handled_total", "Calls completed, by code."),
            &["grpc_service", "grpc_method", "grpc_code"],
        );
        let handled = register(registry, handled.expect("valid names"));
        let seconds = HistogramVec::new(
            HistogramOpts::new("grpc_server_handling_seconds", "Duration of a call.")
                .buckets(BUCKETS.to_vec()),
            &labels,
        );
        let seconds = register(registry, seconds.expect("valid names"));
        Self(Arc::new(Method::ALL.map(|method| {
            let [service, name] = method.labels();
            MethodMetrics {
                method,
                started: started.with_label_values(&[service, name]),
                handled_ok: handled.with_label_values(&[service, name, "OK"]),
                handled: array::from_fn(|_| OnceLock::new()),
                vec: handled.clone(),
                seconds: method.is_timed().then(|| seconds.with_label_values(&[service, name])),
            }
        })))
    }

    /// Starts to measure a call. It counts as cancelled unless [`CallTimer::end`] is called.
    #[must_use]
    pub fn begin(&self, method: Method) -> CallTimer<'_> {
        let metrics = &self.0[method as usize];
        metrics.started.inc();
        CallTimer { metrics, began: Instant::now(), code: Code::Cancelled }
    }
}

impl CallTimer<'_> {
    /// Ends the call with `result`, whose code is counted.
    pub fn end<T>(mut self, result: Result<T, tonic::Status>) -> Result<T, tonic::Status> {
        self.code = result.as_ref().err().map_or(Code::Ok, tonic::Status::code);
        result
    }
}

impl Drop for CallTimer<'_> {
    fn drop(&mut self) {
        if let Some(seconds) = &self.metrics.seconds {
            seconds.observe(self.began.elapsed().as_secs_f64());
        }
        self.metrics.count(self.code);
    }
}

impl MethodMetrics {
    fn count(&self, code: Code) {
        if code == Code::Ok {
            self.handled_ok.inc();
            return;
        }
        let child = self.handled[code as usize].get_or_init(|| {
            let [service, method] = self.method.labels();
            self.vec.with_label_values(&[service, method, &format!("{code:?}")])
        });
        child.inc();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_with_errors_on_many_threads_are_all_counted() {
        let registry = Registry::new();
        let metrics = GrpcMetrics::register(&registry);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..500 {
                        let absent = Err::<(), _>(tonic::Status::not_found("absent"));
                        _ = metrics.begin(Method::Get).end(absent);
                    }
                });
            }
        });
        let labels = ["larder.v1.Cache", "Get", "NotFound"];
        assert_eq!(metrics.0[Method::Get as usize].vec.with_label_values(&labels).get(), 2_000);
    }

    #[test]
    fn a_call_counts_under_its_code_and_a_dropped_one_as_cancelled() {
        let registry = Registry::new();
        let metrics = GrpcMetrics::register(&registry);
        metrics.begin(Method::Get).end(Ok(())).expect("ok");
        metrics.begin(Method::Get).end::<()>(Err(tonic::Status::not_found("a"))).expect_err("404");
        drop(metrics.begin(Method::Get));
        let text = prometheus::TextEncoder::new().encode_to_string(&registry.gather());
        let text = text.expect("text");
        for code in ["OK", "NotFound", "Cancelled"] {
            let line = format!(
                "grpc_server_handled_total{{grpc_code=\"{code}\",grpc_method=\"Get\",\
                 grpc_service=\"larder.v1.Cache\"}} 1"
            );
            assert!(text.contains(&line), "{line} in\n{text}");
        }
        for (index, method) in Method::ALL.into_iter().enumerate() {
            assert_eq!(method as usize, index);
        }
    }
}
