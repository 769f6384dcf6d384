//! etcd's Watch service: one task a stream, any number of watchers on it.

use etcd_client::proto::{PbWatchRequest, PbWatchRequestUnion, PbWatchResponse, PbWatchService};
use tokio::sync::mpsc;
use tokio::time::{Instant, interval_at};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::{Edge, STREAM_BUFFER};
use crate::store::Store;
use crate::watch::{Watchers, Wish};

#[tonic::async_trait]
impl PbWatchService for Edge {
    type WatchStream = ReceiverStream<Result<PbWatchResponse, Status>>;

    async fn watch(
        &self,
        request: Request<Streaming<PbWatchRequest>>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let (answers, stream) = mpsc::channel(STREAM_BUFFER);
        self.tasks.spawn("registry-watch", self.clone().watching(request.into_inner(), answers));
        Ok(Response::new(ReceiverStream::new(stream)))
    }
}

impl Edge {
    async fn watching(
        self,
        mut requests: Streaming<PbWatchRequest>,
        answers: mpsc::Sender<Result<PbWatchResponse, Status>>,
    ) {
        let mut watchers = Watchers::default();
        let (mut revisions, mut drops) = (self.shared.revisions(), self.shared.drops());
        let period = self.shared.options.progress_interval;
        let mut progress = interval_at(Instant::now() + period, period);
        loop {
            let mut responses = tokio::select! {
                () = self.tasks.stopping().cancelled() => return,
                () = answers.closed() => return,
                _ = drops.changed() => {
                    let _ = answers.send(Err(Status::unavailable("stream dropped"))).await;
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
                self.shared.pass().await;
                for mut response in responses {
                    response.header = Some(self.shared.header(response.header.take()));
                    if answers.send(Ok(response)).await.is_err() {
                        return;
                    }
                }
                responses = self.shared.read(|state, _| watchers.advance(&state.store));
                if responses.is_empty() {
                    break;
                }
            }
        }
    }
}

fn handle(watchers: &mut Watchers, request: PbWatchRequest, store: &Store) -> Vec<PbWatchResponse> {
    match request.request_union {
        Some(PbWatchRequestUnion::CreateRequest(create)) => {
            let wish = Wish {
                key: create.key,
                range_end: create.range_end,
                start_revision: create.start_revision,
                progress_notify: create.progress_notify,
                filters: create.filters,
                prev_kv: create.prev_kv,
                watch_id: create.watch_id,
            };
            vec![watchers.create(wish, store)]
        }
        Some(PbWatchRequestUnion::CancelRequest(cancel)) => {
            watchers.cancel(cancel.watch_id, store).into_iter().collect()
        }
        Some(PbWatchRequestUnion::ProgressRequest(_)) => {
            // What was committed since the last wake-up goes out before the progress that covers
            // it, so that a client may believe the header.
            let mut responses = Vec::new();
            loop {
                let behind = watchers.advance(store);
                if behind.is_empty() {
                    break;
                }
                responses.extend(behind);
            }
            responses.push(watchers.progress(store));
            responses
        }
        None => Vec::new(),
    }
}
