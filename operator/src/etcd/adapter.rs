//! Owns the words that are spoken to a real etcd, and how long we wait for its answers.
//! It decides nothing and keeps nothing between calls.

use std::future::Future;
use std::time::Duration;

use etcd_client::{
    Certificate, Client, Compare, CompareOp, ConnectOptions, GetOptions, Identity,
    MemberAddOptions, TlsOptions, Txn, TxnOp,
};
use futures::future::BoxFuture;
use larder_runtime::tls::Pem;

use super::{Access, Answer, Change, Endpoint, Entry, Error, EtcdAdmin, Listing, Record};

/// A pod that is gone does not refuse, it is silent; a reconcile must not wait long for it.
const CONNECT_DEADLINE: Duration = Duration::from_millis(1_000);
/// For an answer out of one member's memory.
const PROBE_DEADLINE: Duration = Duration::from_millis(1_500);
/// For what goes through a quorum; an election takes about a second.
const QUORUM_DEADLINE: Duration = Duration::from_millis(3_000);

/// gRPC's `FAILED_PRECONDITION` and `UNAVAILABLE`.
const FAILED_PRECONDITION: i32 = 9;
const UNAVAILABLE: i32 = 14;

/// Speaks etcd's own gRPC API with a connection per call.
#[derive(Debug, Clone, Copy, Default)]
pub struct Grpc;

impl EtcdAdmin for Grpc {
    fn probe<'a>(
        &'a self,
        endpoint: &'a Endpoint,
        tls: Option<&'a Pem>,
    ) -> BoxFuture<'a, Result<Answer, Error>> {
        Box::pin(within("tell its state", endpoint, PROBE_DEADLINE, async move {
            let mut client = connect(endpoint, tls).await?;
            let status = client.status().await?;
            // A learner refuses to tell the list.
            let list = if status.is_learner() { None } else { Some(client.member_list().await?) };
            let members = list.as_ref().map_or(&[][..], |list| list.members());
            let header = status.header();
            Ok(Answer {
                cluster_id: header.map_or(0, etcd_client::ResponseHeader::cluster_id),
                member_id: header.map_or(0, etcd_client::ResponseHeader::member_id),
                leader: status.leader(),
                learner: status.is_learner(),
                applied: status.raft_applied_index(),
                troubles: status.errors().to_vec(),
                members: members.iter().map(record).collect(),
            })
        }))
    }

    fn add_learner<'a>(
        &'a self,
        access: &'a Access,
        peer_url: &'a str,
    ) -> BoxFuture<'a, Result<(), Error>> {
        Box::pin(async move {
            let what = "add a learner";
            let added = first(what, access, |mut client| async move {
                let options = MemberAddOptions::new().with_is_learner();
                client.member_add([peer_url], Some(options)).await.map(|_| ())
            })
            .await;
            // Within one second etcd gives one peer URL one identity, and names that instead.
            accept(added, |said| {
                said.contains("Peer URLs already exists")
                    || said.contains("member ID already exist")
            })
        })
    }

    fn promote<'a>(&'a self, access: &'a Access, id: u64) -> BoxFuture<'a, Result<(), Error>> {
        Box::pin(async move {
            let promoted = first("promote a learner", access, |mut client| async move {
                client.member_promote(id).await.map(|_| ())
            })
            .await;
            // etcd has two sentences that begin alike; the longer one means "not in sync yet".
            accept(promoted, |said| said.ends_with("can only promote a learner member"))
        })
    }

    fn remove<'a>(&'a self, access: &'a Access, id: u64) -> BoxFuture<'a, Result<(), Error>> {
        Box::pin(async move {
            let removed = first("remove a member", access, |mut client| async move {
                client.member_remove(id).await.map(|_| ())
            })
            .await;
            accept(removed, |said| said.contains("member not found"))
        })
    }

    fn list<'a>(
        &'a self,
        access: &'a Access,
        prefix: &'a str,
    ) -> BoxFuture<'a, Result<Listing, Error>> {
        Box::pin(async move {
            let answer = first("list keys", access, |mut client| async move {
                client.get(prefix, Some(GetOptions::new().with_prefix())).await
            })
            .await?;
            let header = answer.header();
            let entries = answer.kvs().iter().map(|kv| Entry {
                key: String::from_utf8_lossy(kv.key()).into_owned(),
                value: kv.value().to_vec(),
                changed: kv.mod_revision(),
            });
            Ok(Listing {
                cluster_id: header.map_or(0, etcd_client::ResponseHeader::cluster_id),
                revision: header.map_or(0, etcd_client::ResponseHeader::revision),
                entries: entries.collect(),
            })
        })
    }

    fn change<'a>(
        &'a self,
        access: &'a Access,
        change: Change,
    ) -> BoxFuture<'a, Result<i64, Error>> {
        let txn = match change {
            Change::Put { key, value } => Txn::new().and_then([TxnOp::put(key, value, None)]),
            Change::DeleteUnchanged { key, changed } => Txn::new()
                .when([Compare::mod_revision(key.as_str(), CompareOp::Equal, changed)])
                .and_then([TxnOp::delete(key, None)]),
        };
        Box::pin(async move {
            let answer = first("change a key", access, |mut client| {
                let txn = txn.clone();
                async move { client.txn(txn).await }
            })
            .await?;
            Ok(answer.header().map_or(0, etcd_client::ResponseHeader::revision))
        })
    }
}

/// Tries the endpoints in turn and gives the first answer; a refusal counts as an answer, because
/// the other members would say the same.
async fn first<T, F, R>(what: &'static str, access: &Access, ask: F) -> Result<T, Error>
where
    F: Fn(Client) -> R,
    R: Future<Output = Result<T, etcd_client::Error>>,
{
    let mut failure = Error::Nobody;
    for endpoint in &access.endpoints {
        let tls = access.tls.as_deref();
        let call = async { Ok(ask(connect(endpoint, tls).await?).await?) };
        // On the heap: etcd-client's futures are large, and nobody is in a hurry here.
        match within(what, endpoint, QUORUM_DEADLINE, Box::pin(call)).await {
            Ok(answer) => return Ok(answer),
            Err(error @ Error::NotYet { .. }) => return Err(error),
            Err(error) => failure = error,
        }
    }
    Err(failure)
}

/// What can go wrong inside a call, before the endpoint's name is put to it.
enum Failure {
    Tls(Box<dyn std::error::Error + Send + Sync>),
    Etcd(etcd_client::Error),
}

impl From<etcd_client::Error> for Failure {
    fn from(error: etcd_client::Error) -> Self {
        Self::Etcd(error)
    }
}

async fn within<T>(
    what: &'static str,
    endpoint: &Endpoint,
    deadline: Duration,
    call: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Error> {
    match tokio::time::timeout(deadline, call).await {
        Err(_) => Err(Error::Deadline { what, endpoint: endpoint.url.clone() }),
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(Failure::Tls(source))) => Err(Error::Tls(source)),
        Ok(Err(Failure::Etcd(source))) => Err(sort(what, endpoint, source)),
    }
}

fn sort(what: &'static str, endpoint: &Endpoint, source: etcd_client::Error) -> Error {
    let endpoint = endpoint.url.clone();
    let refused = match &source {
        etcd_client::Error::GRpcStatus(status) => {
            let said = status.message();
            let code = i32::from(status.code());
            // "unhealthy cluster", "not in sync": etcd protects its quorum from us.
            (code == FAILED_PRECONDITION && !said.ends_with("can only promote a learner member"))
                || (code == UNAVAILABLE && said.contains("unhealthy cluster"))
        }
        _ => false,
    };
    let source = Box::new(source);
    if refused { Error::NotYet { what, source } } else { Error::Call { what, endpoint, source } }
}

/// Turns etcd's "it is so already" into success.
fn accept(done: Result<(), Error>, already: impl Fn(&str) -> bool) -> Result<(), Error> {
    let (Err(Error::Call { source, .. }) | Err(Error::NotYet { source, .. })) = &done else {
        return done;
    };
    match source.as_ref() {
        etcd_client::Error::GRpcStatus(status) if already(status.message()) => Ok(()),
        _ => done,
    }
}

async fn connect(endpoint: &Endpoint, tls: Option<&Pem>) -> Result<Client, Failure> {
    let mut options =
        ConnectOptions::new().with_connect_timeout(CONNECT_DEADLINE).with_timeout(QUORUM_DEADLINE);
    if let Some(pem) = tls.filter(|_| endpoint.url.starts_with("https://")) {
        // A process picks its TLS provider once; ring is the one that we link.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut with = TlsOptions::new().ca_certificate(Certificate::from_pem(&pem.ca));
        if let Some(identity) = &pem.identity {
            with = with.identity(Identity::from_pem(&identity.certificate, &identity.key));
        }
        options = options.with_tls(with);
    } else if endpoint.url.starts_with("https://") {
        return Err(Failure::Tls("an https endpoint without certificates".into()));
    }
    Ok(Client::connect([&endpoint.url], Some(options)).await?)
}

fn record(member: &etcd_client::Member) -> Record {
    Record {
        id: member.id(),
        name: member.name().to_owned(),
        peer_url: member.peer_urls().first().cloned().unwrap_or_default(),
        learner: member.is_learner(),
    }
}
