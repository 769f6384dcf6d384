//! Owns the calls to a real etcd and their deadlines. It decides nothing and keeps nothing between
//! calls.

use std::future::Future;
use std::time::Duration;

use etcd_client::{
    Certificate, Client, Compare, CompareOp, ConnectOptions, GetOptions, Identity,
    MemberAddOptions, TlsOptions, Txn, TxnOp,
};
use futures::future::BoxFuture;
use larder_runtime::tls::Pem;

use super::{Access, Change, Endpoint, Entry, Error, EtcdAdmin, Listing, MemberStatus, Record};

/// The address of a deleted pod does not refuse a connection but drops packets; a reconcile must
/// not wait long for it.
const CONNECT_DEADLINE: Duration = Duration::from_millis(1_000);
/// Deadline of a call that one member answers alone.
const PROBE_DEADLINE: Duration = Duration::from_millis(1_500);
/// Deadline of a call that needs a quorum; an election takes about a second.
const QUORUM_DEADLINE: Duration = Duration::from_millis(3_000);

/// The gRPC status codes of the same names.
const FAILED_PRECONDITION: i32 = 9;
const UNAVAILABLE: i32 = 14;
/// etcd's message when the member to promote is a voter already.
const NOT_A_LEARNER: &str = "can only promote a learner member";

/// Calls etcd's gRPC API, with one connection per call.
#[derive(Debug, Clone, Copy, Default)]
pub struct Grpc;

impl EtcdAdmin for Grpc {
    fn probe<'a>(
        &'a self,
        endpoint: &'a Endpoint,
        tls: Option<&'a Pem>,
    ) -> BoxFuture<'a, Result<MemberStatus, Error>> {
        Box::pin(with_deadline("read the status", endpoint, PROBE_DEADLINE, async move {
            let mut client = connect(endpoint, tls).await?;
            let status = client.status().await?;
            // A learner refuses to return the list.
            let list = if status.is_learner() { None } else { Some(client.member_list().await?) };
            let members = list.as_ref().map_or(&[][..], |list| list.members());
            let header = status.header();
            Ok(MemberStatus {
                cluster_id: header.map_or(0, etcd_client::ResponseHeader::cluster_id),
                member_id: header.map_or(0, etcd_client::ResponseHeader::member_id),
                leader: status.leader(),
                learner: status.is_learner(),
                applied: status.raft_applied_index(),
                errors: status.errors().to_vec(),
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
            let added = first_answer(what, access, |mut client| async move {
                let options = MemberAddOptions::new().with_is_learner();
                client.member_add([peer_url], Some(options)).await.map(|_| ())
            })
            .await;
            // etcd derives the identity from the peer URL and the second, so a repeat within one
            // second fails for the identity instead of the URL.
            accept_if_done(added, |message| {
                message.contains("Peer URLs already exists")
                    || message.contains("member ID already exist")
            })
        })
    }

    fn promote<'a>(&'a self, access: &'a Access, id: u64) -> BoxFuture<'a, Result<(), Error>> {
        Box::pin(async move {
            let promoted = first_answer("promote a learner", access, |mut client| async move {
                client.member_promote(id).await.map(|_| ())
            })
            .await;
            // A second message starts with this one; the longer one means "not in sync yet".
            accept_if_done(promoted, |message| message.ends_with(NOT_A_LEARNER))
        })
    }

    fn remove<'a>(&'a self, access: &'a Access, id: u64) -> BoxFuture<'a, Result<(), Error>> {
        Box::pin(async move {
            let removed = first_answer("remove a member", access, |mut client| async move {
                client.member_remove(id).await.map(|_| ())
            })
            .await;
            accept_if_done(removed, |message| message.contains("member not found"))
        })
    }

    fn list<'a>(
        &'a self,
        access: &'a Access,
        prefix: &'a str,
    ) -> BoxFuture<'a, Result<Listing, Error>> {
        Box::pin(async move {
            let response = first_answer("list keys", access, |mut client| async move {
                client.get(prefix, Some(GetOptions::new().with_prefix())).await
            })
            .await?;
            let header = response.header();
            let entries = response.kvs().iter().map(|kv| Entry {
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
            let response = first_answer("change a key", access, |mut client| {
                let txn = txn.clone();
                async move { client.txn(txn).await }
            })
            .await?;
            Ok(response.header().map_or(0, etcd_client::ResponseHeader::revision))
        })
    }
}

/// Tries the endpoints in turn and returns the first answer. A refusal counts as an answer, because
/// the other members would refuse too.
async fn first_answer<T, F, R>(what: &'static str, access: &Access, call: F) -> Result<T, Error>
where
    F: Fn(Client) -> R,
    R: Future<Output = Result<T, etcd_client::Error>>,
{
    let mut failure = Error::NoEndpoint;
    for endpoint in &access.endpoints {
        let tls = access.tls.as_deref();
        let request = async { Ok(call(connect(endpoint, tls).await?).await?) };
        // On the heap, because etcd-client's futures are large.
        match with_deadline(what, endpoint, QUORUM_DEADLINE, Box::pin(request)).await {
            Ok(response) => return Ok(response),
            Err(error @ Error::NotYet { .. }) => return Err(error),
            Err(error) => failure = error,
        }
    }
    Err(failure)
}

/// Why a call failed, before the operation and the endpoint are added to the error.
enum CallError {
    Tls(Box<dyn std::error::Error + Send + Sync>),
    Etcd(etcd_client::Error),
}

impl From<etcd_client::Error> for CallError {
    fn from(error: etcd_client::Error) -> Self {
        Self::Etcd(error)
    }
}

async fn with_deadline<T>(
    what: &'static str,
    endpoint: &Endpoint,
    deadline: Duration,
    call: impl Future<Output = Result<T, CallError>>,
) -> Result<T, Error> {
    match tokio::time::timeout(deadline, call).await {
        Err(_) => Err(Error::Deadline { what, endpoint: endpoint.url.clone() }),
        Ok(Ok(response)) => Ok(response),
        Ok(Err(CallError::Tls(source))) => Err(Error::Tls(source)),
        Ok(Err(CallError::Etcd(source))) => Err(classify(what, endpoint, source)),
    }
}

fn classify(what: &'static str, endpoint: &Endpoint, source: etcd_client::Error) -> Error {
    let endpoint = endpoint.url.clone();
    let refused = match &source {
        etcd_client::Error::GRpcStatus(status) => {
            let message = status.message();
            let code = i32::from(status.code());
            // "unhealthy cluster" and "not in sync": etcd protects its quorum.
            (code == FAILED_PRECONDITION && !message.ends_with(NOT_A_LEARNER))
                || (code == UNAVAILABLE && message.contains("unhealthy cluster"))
        }
        _ => false,
    };
    let source = Box::new(source);
    if refused { Error::NotYet { what, source } } else { Error::Call { what, endpoint, source } }
}

/// Turns the refusal of a change that is already made into success.
fn accept_if_done(done: Result<(), Error>, already: impl Fn(&str) -> bool) -> Result<(), Error> {
    let (Err(Error::Call { source, .. }) | Err(Error::NotYet { source, .. })) = &done else {
        return done;
    };
    match source.as_ref() {
        etcd_client::Error::GRpcStatus(status) if already(status.message()) => Ok(()),
        _ => done,
    }
}

async fn connect(endpoint: &Endpoint, tls: Option<&Pem>) -> Result<Client, CallError> {
    let mut options =
        ConnectOptions::new().with_connect_timeout(CONNECT_DEADLINE).with_timeout(QUORUM_DEADLINE);
    if let Some(pem) = tls.filter(|_| endpoint.url.starts_with("https://")) {
        // A process installs its TLS provider once; ring is the one that is linked.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut with = TlsOptions::new().ca_certificate(Certificate::from_pem(&pem.ca));
        if let Some(identity) = &pem.identity {
            with = with.identity(Identity::from_pem(&identity.certificate, &identity.key));
        }
        options = options.with_tls(with);
    } else if endpoint.url.starts_with("https://") {
        return Err(CallError::Tls("an https endpoint without certificates".into()));
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
