//! etcd's Watch service: one task per stream, with any number of watchers.

use etcd_client::proto::{PbWatchRequest, PbWatchRequestUnion, PbWatchResponse, PbWatchService};
use tokio::sync::mpsc;
use tokio::time::{Instant, interval_at};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::{EtcdService, STREAM_BUFFER};
use crate::store::Store;
use crate::watch::{WatchRequest, Watchers};

#[tonic::async_trait]
impl PbWatchService for EtcdService {
    type WatchStream = ReceiverStream<Result<PbWatchResponse, Status>>;

    async fn watch(
        &self,
        request: Request<Streaming<PbWatchRequest>>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let (responses, stream) = mpsc::channel(STREAM_BUFFER);
        let serve = self.clone().serve_watch(request.into_inner(), responses);
        self.tasks.spawn("registry-watch", serve);
        Ok(Response::new(ReceiverStream::new(stream)))
    }
}

impl EtcdService {
    async fn serve_watch(
        self,
        mut requests: Streaming<PbWatchRequest>,
        responses: mpsc::Sender<Result<PbWatchResponse, Status>>,
    ) {
        let mut watchers = Watchers::default();
        let (mut revisions, mut drops) = (self.shared.revisions(), self.shared.drops());
        let period = self.shared.options.progress_interval;
        let mut progress = interval_at(Instant::now() + period, period);
        loop {
            let mut pending = tokio::select! {
                () = self.tasks.stopping().cancelled() => return,
                () = responses.closed() => return,
                _ = drops.changed() => {
                    let _ = responses.send(Err(Status::unavailable("stream dropped"))).await;
                    return;
                }
                request = requests.message() => {
                    let Ok(Some(request)) = request else { return };
                    self.shared.read(|state, _| handle(&mut watchers, request, &state.store))
                }
                _ = revisions.changed() => Vec::new(),
                _ = progress.tick() => {
                    self.shared.read(|state, _| watchers.periodic_progress(&state.store))
                }
            };
            loop {
                self.shared.wait_until_resumed().await;
                for mut response in pending {
                    response.header = Some(self.shared.header(response.header.take()));
                    if responses.send(Ok(response)).await.is_err() {
                        return;
                    }
                }
                pending = self.shared.read(|state, _| watchers.advance(&state.store));
                if pending.is_empty() {
                    break;
                }
            }
        }
    }
}

fn handle(watchers: &mut Watchers, request: PbWatchRequest, store: &Store) -> Vec<PbWatchResponse> {
    match request.request_union {
        Some(PbWatchRequestUnion::CreateRequest(create)) => {
            let request = WatchRequest {
                key: create.key,
                range_end: create.range_end,
                start_revision: create.start_revision,
                progress_notify: create.progress_notify,
                filters: create.filters,
                prev_kv: create.prev_kv,
                watch_id: create.watch_id,
            };
            vec![watchers.create(request, store)]
        }
        Some(PbWatchRequestUnion::CancelRequest(cancel)) => {
            watchers.cancel(cancel.watch_id, store).into_iter().collect()
        }
        Some(PbWatchRequestUnion::ProgressRequest(_)) => watchers.progress(store),
        None => Vec::new(),
    }
}
