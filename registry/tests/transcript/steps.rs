//! Steps of an etcd client and the responses to them, recorded as text. They need an empty
//! registry.
//!
//! `expected.txt` next to this file holds the expected transcript; `LARDER_UPDATE=1` rewrites it.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use etcd_client::{
    Client, Compare, CompareOp, DeleteOptions, Error, EventType, GetOptions, KeyValue,
    LeaseGrantOptions, LeaseTimeToLiveOptions, PutOptions, ResponseHeader, SortOrder, SortTarget,
    Txn, TxnOp, TxnOpResponse, WatchFilterType, WatchOptions, WatchResponse, WatchStream,
};

/// Time-out of one message.
const PATIENCE: Duration = Duration::from_secs(15);

/// Compares a transcript with `expected.txt`, or rewrites the file if `LARDER_UPDATE` is set.
pub(crate) fn check(transcript: &str) {
    let path =
        PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../registry/tests/transcript/expected.txt");
    if std::env::var_os("LARDER_UPDATE").is_some() {
        std::fs::write(&path, transcript).expect("a writable tree");
    }
    let expected = std::fs::read_to_string(&path).expect("expected.txt exists");
    for (number, (actual, expected)) in transcript.lines().zip(expected.lines()).enumerate() {
        assert_eq!(actual, expected, "line {} of the transcript", number + 1);
    }
    assert_eq!(transcript.lines().count(), expected.lines().count(), "lines of the transcript");
}

/// Runs all steps against the registry at `endpoint`, which must be empty, and returns the
/// transcript.
pub(crate) async fn run(endpoint: &str) -> String {
    let client = Client::connect([endpoint], None).await.expect("the registry is up");
    let mut recorder = Recorder { client, out: String::new(), leases: HashMap::new() };
    recorder.keys().await;
    recorder.ranges().await;
    recorder.transactions().await;
    recorder.leases().await;
    recorder.watches().await;
    recorder.compaction().await;
    recorder.out
}

struct Recorder {
    client: Client,
    out: String,
    /// Names of leases. Their ids differ between runs.
    leases: HashMap<i64, &'static str>,
}

impl Recorder {
    fn record(&mut self, step: &str, result: impl AsRef<str>) {
        writeln!(self.out, "{step}: {}", result.as_ref()).expect("memory");
    }

    fn record_refusal<T>(&mut self, step: &str, result: Result<T, Error>) {
        let text = match result {
            Ok(_) => "accepted".to_owned(),
            Err(Error::GRpcStatus(status)) => format!("{:?} {}", status.code(), status.message()),
            Err(other) => other.to_string(),
        };
        self.record(step, text);
    }

    fn kv(&self, kv: &KeyValue) -> String {
        let lease = self.leases.get(&kv.lease()).map_or(String::new(), |l| format!(" {l}"));
        let (created, modified) = (kv.create_revision(), kv.mod_revision());
        let text = |bytes: &[u8]| bytes.escape_ascii().to_string();
        let (key, value, version) = (text(kv.key()), text(kv.value()), kv.version());
        format!("{key}={value} c{created} m{modified} v{version}{lease}")
    }

    fn kvs(&self, kvs: &[KeyValue]) -> String {
        kvs.iter().map(|kv| self.kv(kv)).collect::<Vec<_>>().join(", ")
    }

    fn at(header: Option<&ResponseHeader>) -> String {
        header.map_or("@none".into(), |header| format!("@{}", header.revision()))
    }

    async fn put(&mut self, key: &str, value: &str, options: Option<PutOptions>) {
        let response = self.client.put(key, value, options).await.expect("a good put");
        let before = response.prev_key().map_or(String::new(), |kv| self.kv(kv));
        let text = format!("{} {before}", Self::at(response.header()));
        self.record(&format!("put {key}"), text.trim_end());
    }

    async fn get(&mut self, step: &str, key: &str, options: GetOptions) {
        let response = self.client.get(key, Some(options)).await.expect("a good get");
        let (at, count, more) = (Self::at(response.header()), response.count(), response.more());
        let kvs = self.kvs(response.kvs());
        self.record(&format!("get {step}"), format!("{at} count={count} more={more} [{kvs}]"));
    }

    async fn delete(&mut self, key: &str, options: DeleteOptions) {
        let response = self.client.delete(key, Some(options)).await.expect("a good delete");
        let (at, deleted) = (Self::at(response.header()), response.deleted());
        let before = self.kvs(response.prev_kvs());
        self.record(&format!("delete {key}"), format!("{at} deleted={deleted} [{before}]"));
    }

    async fn txn(&mut self, step: &str, txn: Txn) {
        let response = self.client.txn(txn).await.expect("a good transaction");
        let mut text =
            format!("{} succeeded={}", Self::at(response.header()), response.succeeded());
        for operation in response.op_responses() {
            let part = self.operation(&operation);
            write!(text, " | {part}").expect("memory");
        }
        self.record(&format!("txn {step}"), text);
    }

    fn operation(&self, operation: &TxnOpResponse) -> String {
        match operation {
            TxnOpResponse::Put(put) => format!("put {}", Self::at(put.header())),
            TxnOpResponse::Get(get) => {
                format!("get {} [{}]", Self::at(get.header()), self.kvs(get.kvs()))
            }
            TxnOpResponse::Delete(delete) => {
                format!("delete {} deleted={}", Self::at(delete.header()), delete.deleted())
            }
            TxnOpResponse::Txn(txn) => {
                let inner: Vec<_> =
                    txn.op_responses().iter().map(|part| self.operation(part)).collect();
                let at = Self::at(txn.header());
                format!("txn {at} succeeded={} ({})", txn.succeeded(), inner.join(" | "))
            }
        }
    }

    async fn next(&mut self, watch: &mut WatchStream) -> WatchResponse {
        let message = tokio::time::timeout(PATIENCE, watch.message()).await;
        message.expect("in time").expect("a live stream").expect("not the end")
    }

    async fn record_next(&mut self, step: &str, watch: &mut WatchStream) {
        let response = self.next(watch).await;
        let mut text = format!("id={}", response.watch_id());
        if response.created() {
            text += " created";
        }
        if response.canceled() {
            text += " canceled";
        }
        if response.compact_revision() != 0 {
            write!(text, " compacted={}", response.compact_revision()).expect("memory");
        }
        if response.events().is_empty() {
            write!(text, " {}", Self::at(response.header())).expect("memory");
        }
        for event in response.events() {
            let kind = match event.event_type() {
                EventType::Put => "put",
                EventType::Delete => "delete",
            };
            let now = event.kv().map_or(String::new(), |kv| self.kv(kv));
            let before =
                event.prev_kv().map_or(String::new(), |kv| format!(" was {}", self.kv(kv)));
            write!(text, " | {kind} {now}{before}").expect("memory");
        }
        self.record(&format!("watch {step}"), text);
    }

    /// Records events one by one, because the server may put any number of them into one message.
    async fn record_events(&mut self, step: &str, watch: &mut WatchStream, count: usize) {
        let mut seen = 0;
        while seen < count {
            let response = self.next(watch).await;
            for event in response.events() {
                let now = event.kv().map_or(String::new(), |kv| self.kv(kv));
                self.record(&format!("watch {step}"), format!("{:?} {now}", event.event_type()));
                seen += 1;
            }
        }
    }

    async fn keys(&mut self) {
        self.get("nothing", "a", GetOptions::new()).await;
        self.put("a", "1", None).await;
        self.put("a", "2", Some(PutOptions::new().with_prev_key())).await;
        self.put("a", "", Some(PutOptions::new().with_ignore_value().with_prev_key())).await;
        self.get("after an ignored value", "a", GetOptions::new()).await;
        let result = self.client.put("no", "", Some(PutOptions::new().with_ignore_value())).await;
        self.record_refusal("ignored value of a missing key", result);
        let result = self.client.put("a", "3", Some(PutOptions::new().with_ignore_value())).await;
        self.record_refusal("ignored value with a value", result);
        let result = self.client.put("", "1", None).await;
        self.record_refusal("empty key", result);
        let result = self.client.put("a", "1", Some(PutOptions::new().with_lease(77))).await;
        self.record_refusal("missing lease", result);
        self.delete("nothing", DeleteOptions::new()).await;
        self.delete("a", DeleteOptions::new().with_prev_key()).await;
        self.put("a", "again", None).await;
        self.get("after a delete", "a", GetOptions::new()).await;
    }

    async fn ranges(&mut self) {
        for (key, value) in [("r/b", "2"), ("r/a", "3"), ("r/c", "1"), ("s", "0")] {
            self.put(key, value, None).await;
        }
        let prefix = || GetOptions::new().with_prefix();
        self.get("prefix", "r/", prefix()).await;
        self.get("limit", "r/", prefix().with_limit(2)).await;
        self.get("count only", "r/", prefix().with_count_only()).await;
        self.get("keys only", "r/", prefix().with_keys_only()).await;
        let sorted = |target, order| prefix().with_sort(target, order);
        self.get("by value", "r/", sorted(SortTarget::Value, SortOrder::Ascend)).await;
        self.get("by revision", "r/", sorted(SortTarget::Mod, SortOrder::Descend)).await;
        self.get("newest", "r/", sorted(SortTarget::Create, SortOrder::Descend).with_limit(1))
            .await;
        self.get("from a key", "r/b", GetOptions::new().with_from_key()).await;
        self.get("all", "", GetOptions::new().with_all_keys()).await;
        self.get("empty range", "r/c", GetOptions::new().with_range("r/a")).await;
        self.get("past", "r/", prefix().with_revision(8)).await;
        self.get("young", "r/", prefix().with_min_mod_revision(9)).await;
        self.get("old", "r/", prefix().with_max_create_revision(7)).await;
        let future = GetOptions::new().with_revision(1_000_000);
        let result = self.client.get("a", Some(future)).await;
        self.record_refusal("future", result);
        self.delete("r/", DeleteOptions::new().with_prefix()).await;
    }

    async fn transactions(&mut self) {
        let put = |key: &str, value: &str| TxnOp::put(key, value, None);
        let get = |key: &str| TxnOp::get(key, None);
        self.txn(
            "create",
            Txn::new()
                .when([Compare::version("t", CompareOp::Equal, 0)])
                .and_then([put("t", "1"), get("t")])
                .or_else([get("t")]),
        )
        .await;
        self.txn(
            "create again",
            Txn::new()
                .when([Compare::version("t", CompareOp::Equal, 0)])
                .and_then([put("t", "1")])
                .or_else([get("t")]),
        )
        .await;
        for (step, compare) in [
            ("value equal", Compare::value("t", CompareOp::Equal, "1")),
            ("value less", Compare::value("t", CompareOp::Less, "2")),
            ("value of a missing key", Compare::value("no", CompareOp::NotEqual, "1")),
            ("revision of a missing key", Compare::mod_revision("no", CompareOp::Equal, 0)),
            ("create greater", Compare::create_revision("t", CompareOp::Greater, 2)),
            ("lease none", Compare::lease("t", CompareOp::Equal, 0)),
            ("all of a prefix", Compare::version("t", CompareOp::Equal, 1).with_prefix()),
        ] {
            self.txn(step, Txn::new().when([compare])).await;
        }
        self.txn(
            "writes share a revision",
            Txn::new().and_then([
                put("t/1", "x"),
                get("t/1"),
                TxnOp::delete("t", None),
                put("t/2", "y"),
                TxnOp::txn(
                    Txn::new()
                        .when([Compare::value("t", CompareOp::Equal, "1")])
                        .and_then([put("t/3", "z"), get("t")]),
                ),
            ]),
        )
        .await;
        self.get("after it", "t", GetOptions::new().with_prefix()).await;
        self.txn("reads only", Txn::new().and_then([get("t/1"), get("no")])).await;
        let result = self.client.txn(Txn::new().and_then([put("d", "1"), put("d", "2")])).await;
        self.record_refusal("two puts of one key", result);
        let delete = TxnOp::delete("d", Some(DeleteOptions::new().with_prefix()));
        let result = self.client.txn(Txn::new().and_then([put("d/1", "1"), delete])).await;
        self.record_refusal("put and delete of one key", result);
        let leased = TxnOp::put("d", "1", Some(PutOptions::new().with_lease(77)));
        let result = self.client.txn(Txn::new().and_then([put("d/1", "1"), leased])).await;
        self.record_refusal("a step that fails", result);
        self.get("nothing of it", "d", GetOptions::new().with_prefix()).await;
        let many: Vec<TxnOp> = (0..129).map(|n| put(&format!("m{n}"), "")).collect();
        let result = self.client.txn(Txn::new().and_then(many)).await;
        self.record_refusal("too many", result);
    }

    async fn grant(&mut self, name: &'static str, ttl: i64) -> i64 {
        let granted = self.client.lease_grant(ttl, None).await.expect("granted");
        self.leases.insert(granted.id(), name);
        let at = Self::at(granted.header());
        self.record(&format!("grant {name}"), format!("{at} ttl={}", granted.ttl()));
        granted.id()
    }

    async fn keep_alive(&mut self, name: &str, lease: i64) {
        match self.client.lease_keep_alive(lease).await {
            Ok((mut keeper, mut stream)) => {
                keeper.keep_alive().await.expect("a live stream");
                let response = stream.message().await.expect("a live stream").expect("a response");
                self.record(&format!("keep {name} alive"), format!("ttl={}", response.ttl()));
            }
            Err(error) => self.record_refusal::<()>(&format!("keep {name} alive"), Err(error)),
        }
    }

    async fn time_to_live(&mut self, name: &str, lease: i64) {
        let options = LeaseTimeToLiveOptions::new().with_keys();
        let response =
            self.client.lease_time_to_live(lease, Some(options)).await.expect("a response");
        let mut keys: Vec<_> =
            response.keys().iter().map(|key| key.escape_ascii().to_string()).collect();
        // etcd returns them in no particular order.
        keys.sort();
        let (granted, exists) = (response.granted_ttl(), response.ttl() >= 0);
        self.record(
            &format!("ttl of {name}"),
            format!("exists={exists} granted={granted} {keys:?}"),
        );
    }

    async fn leases(&mut self) {
        let short = self.grant("short", 1).await;
        let long = self.grant("long", 100).await;
        let leased = |lease| Some(PutOptions::new().with_lease(lease));
        self.put("l/short", "x", leased(short)).await;
        self.put("l/short2", "x", leased(short)).await;
        self.put("l/moved", "x", leased(short)).await;
        self.put("l/moved", "y", leased(long)).await;
        self.put("l/freed", "x", leased(short)).await;
        self.put("l/freed", "y", None).await;
        self.put("l/kept", "x", leased(long)).await;
        self.put("l/kept", "y", Some(PutOptions::new().with_ignore_lease())).await;
        self.get("leased", "l/", GetOptions::new().with_prefix()).await;
        self.time_to_live("short", short).await;
        self.keep_alive("long", long).await;
        let options = LeaseGrantOptions::new().with_id(long);
        let result = self.client.lease_grant(5, Some(options)).await;
        self.record_refusal("grant an existing lease", result);
        let result = self.client.lease_grant(9_000_000_001, None).await;
        self.record_refusal("grant a too long lease", result);
        let count = self.client.leases().await.expect("a response").leases().len();
        self.record("leases", format!("{count}"));

        let options = WatchOptions::new().with_prefix();
        let mut watch = self.client.watch("l/", Some(options)).await.expect("a stream");
        self.record_next("of leased keys", &mut watch).await;
        self.record_events("an expired lease", &mut watch, 2).await;
        self.time_to_live("short", short).await;
        self.keep_alive("short", short).await;
        self.time_to_live("long", long).await;
        self.client.lease_revoke(long).await.expect("an existing lease");
        self.record_events("a revoked lease", &mut watch, 2).await;
        let result = self.client.lease_revoke(long).await;
        self.record_refusal("revoke twice", result);
        self.get("what is left", "l/", GetOptions::new().with_prefix()).await;
    }

    async fn watches(&mut self) {
        self.put("w/1", "a", None).await;
        self.put("w/1", "b", None).await;
        let start = self.client.put("w/2", "a", None).await.expect("put");
        let start = start.header().expect("a header").revision();
        self.delete("w/1", DeleteOptions::new()).await;

        let options = WatchOptions::new().with_prefix().with_start_revision(start - 1);
        let mut watch =
            self.client.watch("w/", Some(options.with_prev_key())).await.expect("a stream");
        self.record_next("from the past", &mut watch).await;
        self.record_events("from the past", &mut watch, 3).await;
        let options = WatchOptions::new().with_filters([WatchFilterType::NoPut]);
        watch.watch("w/2", Some(options)).await.expect("a second watcher");
        self.record_next("deletes only", &mut watch).await;
        watch.request_progress().await.expect("sent");
        self.record_next("progress", &mut watch).await;
        watch.cancel(0).await.expect("sent");
        self.record_next("cancel", &mut watch).await;
        self.put("w/2", "b", None).await;
        self.delete("w/2", DeleteOptions::new()).await;
        self.record_next("deletes only", &mut watch).await;
        let options = WatchOptions::new().with_watch_id(9).with_prev_key();
        watch.watch("w/3", Some(options.clone())).await.expect("a third watcher");
        self.record_next("own id", &mut watch).await;
        watch.watch("w/3", Some(options)).await.expect("a fourth watcher");
        self.record_next("own id again", &mut watch).await;
        self.put("w/3", "a", None).await;
        self.record_next("a new key has no past", &mut watch).await;
        self.put("w/3", "b", None).await;
        self.record_next("a changed key has", &mut watch).await;

        let two = Txn::new().and_then([
            TxnOp::put("w/5", "x", None),
            TxnOp::delete("w/3", None),
            TxnOp::put("w/4", "y", None),
        ]);
        let options = WatchOptions::new().with_prefix();
        let mut watch = self.client.watch("w/", Some(options)).await.expect("a stream");
        self.record_next("a transaction", &mut watch).await;
        self.txn("watched", two).await;
        self.record_next("a transaction", &mut watch).await;
    }

    async fn compaction(&mut self) {
        let now = self.client.put("c", "1", None).await.expect("put");
        let now = now.header().expect("a header").revision();
        self.put("c", "2", None).await;
        let response = self.client.compact(now, None).await.expect("in the past");
        self.record("compact", Self::at(response.header()));
        let result = self.client.compact(now, None).await;
        self.record_refusal("compact twice", result);
        let result = self.client.compact(now + 100, None).await;
        self.record_refusal("compact the future", result);
        let past = |revision| Some(GetOptions::new().with_revision(revision));
        let result = self.client.get("c", past(now - 1)).await;
        self.record_refusal("get before", result);
        self.get("at the compaction", "c", GetOptions::new().with_revision(now)).await;
        let from = |revision| Some(WatchOptions::new().with_start_revision(revision));
        let mut watch = self.client.watch("c", from(now - 1)).await.expect("a stream");
        self.record_next("before", &mut watch).await;
        self.record_next("before", &mut watch).await;
        let mut watch = self.client.watch("c", from(now)).await.expect("a stream");
        self.record_next("at it", &mut watch).await;
        self.record_events("at it", &mut watch, 2).await;
        let mut watch = self.client.watch("c", from(now + 3)).await.expect("a stream");
        self.record_next("the future", &mut watch).await;
        self.put("c", "3", None).await;
        self.put("c", "4", None).await;
        self.record_events("the future", &mut watch, 1).await;
    }
}
