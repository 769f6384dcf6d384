//! etcd as a [`RegistryClient`]. The only file that imports etcd's client.
//!
//! Each session opens its own connection, so names are resolved again, rotated certificates are
//! read again, and a silent client is discarded. Each renewal of a lease uses a short stream of its
//! own: one long stream can stay silent forever after a restart (etcdv3/etcd-client#48).

use std::path::PathBuf;
use std::time::Duration;

use etcd_client::{
    Certificate, Client, Compare, CompareOp, ConnectOptions, EventType, GetOptions, Identity,
    PutOptions, TlsOptions, Txn, TxnOp, TxnOpResponse, WatchOptions, WatchResponse, WatchStream,
};
use futures::FutureExt;
use futures::future::BoxFuture;
use larder_runtime::tls::{self, Material};
use rustls::pki_types::UnixTime;

use super::registry::{
    Error, Feed, KeyChange, Listing, RegistryClient, Session, StoredValue, WatchMessage,
};

/// How to reach etcd.
#[derive(Debug, Clone)]
pub struct Etcd {
    /// `http://host:port` or `https://host:port`, one or more.
    pub endpoints: Vec<String>,
    /// Folder with `ca.crt`, and `tls.crt` with `tls.key` for client authentication.
    pub tls_directory: Option<PathBuf>,
    /// Limit of one call.
    pub call_timeout: Duration,
}

struct EtcdSession {
    client: Client,
    call_timeout: Duration,
}

struct EtcdFeed {
    stream: WatchStream,
    call_timeout: Duration,
}

impl RegistryClient for Etcd {
    fn connect(&self) -> BoxFuture<'_, Result<Box<dyn Session>, Error>> {
        async move {
            let options = self.options()?;
            let connect = Client::connect(&self.endpoints, Some(options));
            let client = within(self.call_timeout, "connect", connect).await?;
            let session = EtcdSession { client, call_timeout: self.call_timeout };
            Ok(Box::new(session) as Box<dyn Session>)
        }
        .boxed()
    }
}

impl Etcd {
    fn options(&self) -> Result<ConnectOptions, Error> {
        // Ends a watch on an etcd member without a leader, so that another endpoint is tried.
        let options =
            ConnectOptions::new().with_connect_timeout(self.call_timeout).with_require_leader(true);
        let Some(directory) = &self.tls_directory else { return Ok(options) };
        let pem = tls::load(directory).map_err(Error::Certificates)?;
        let place = directory.display().to_string();
        Material::check_pair(&pem, &place, UnixTime::now()).map_err(Error::Certificates)?;
        let mut tls = TlsOptions::new().ca_certificate(Certificate::from_pem(pem.ca));
        if let Some(identity) = pem.identity {
            tls = tls.identity(Identity::from_pem(identity.certificate, identity.key));
        }
        Ok(options.with_tls(tls))
    }
}

impl EtcdSession {
    async fn call<T>(
        &self,
        what: &'static str,
        call: impl Future<Output = Result<T, etcd_client::Error>>,
    ) -> Result<T, Error> {
        within(self.call_timeout, what, call).await
    }
}

impl Session for EtcdSession {
    fn grant(&self, ttl_s: u64) -> BoxFuture<'_, Result<i64, Error>> {
        let mut client = self.client.lease_client();
        async move {
            let ttl = i64::try_from(ttl_s).unwrap_or(i64::MAX);
            Ok(self.call("grant a lease", client.grant(ttl, None)).await?.id())
        }
        .boxed()
    }

    fn keep_alive(&self, lease: i64) -> BoxFuture<'_, Result<bool, Error>> {
        let mut client = self.client.lease_client();
        async move {
            // The client sends one keep-alive and waits for the response before it returns.
            let kept = client.clone();
            let renewed = async move { { kept }.keep_alive(lease).await.map(|_| ()) };
            let what = "keep the lease alive";
            match tokio::time::timeout(self.call_timeout, renewed).await {
                Ok(Ok(())) => Ok(true),
                Ok(Err(etcd_client::Error::LeaseKeepAliveError(_))) => {
                    // The error's text is not a contract, so query the lease itself.
                    let life = self.call(what, client.time_to_live(lease, None)).await?;
                    Ok(life.ttl() > 0)
                }
                Ok(Err(source)) => Err(Error::Call { what, source: Box::new(source) }),
                Err(_) => Err(Error::Silent { what }),
            }
        }
        .boxed()
    }

    fn revoke(&self, lease: i64) -> BoxFuture<'_, Result<(), Error>> {
        let mut client = self.client.lease_client();
        async move {
            let what = "revoke the lease";
            let revoked = tokio::time::timeout(self.call_timeout, client.revoke(lease)).await;
            match revoked {
                Ok(Ok(_)) => Ok(()),
                Ok(Err(etcd_client::Error::GRpcStatus(status)))
                    if status.code() == tonic::Code::NotFound =>
                {
                    Ok(())
                }
                Ok(Err(source)) => Err(Error::Call { what, source: Box::new(source) }),
                Err(_) => Err(Error::Silent { what }),
            }
        }
        .boxed()
    }

    fn get<'s>(&'s self, key: &'s str) -> BoxFuture<'s, Result<Option<StoredValue>, Error>> {
        let mut client = self.client.kv_client();
        async move {
            let got = self.call("read the member's key", client.get(key, None)).await?;
            Ok(got.kvs().first().map(|kv| StoredValue {
                value: kv.value().to_vec(),
                revision: kv.mod_revision().unsigned_abs(),
            }))
        }
        .boxed()
    }

    fn put_if<'s>(
        &'s self,
        key: &'s str,
        value: Vec<u8>,
        lease: i64,
        expected: u64,
    ) -> BoxFuture<'s, Result<Option<u64>, Error>> {
        let mut client = self.client.kv_client();
        async move {
            let expected = i64::try_from(expected).unwrap_or(i64::MAX);
            let put = TxnOp::put(key, value, Some(PutOptions::new().with_lease(lease)));
            let txn = Txn::new()
                .when([Compare::mod_revision(key, CompareOp::Equal, expected)])
                .and_then([put]);
            let done = self.call("write the member's key", client.txn(txn)).await?;
            let revision = done.op_responses().iter().find_map(|response| match response {
                TxnOpResponse::Put(put) => put.header().map(|h| h.revision().unsigned_abs()),
                _ => None,
            });
            Ok(revision.filter(|_| done.succeeded()))
        }
        .boxed()
    }

    fn list<'s>(&'s self, prefix: &'s str) -> BoxFuture<'s, Result<Listing, Error>> {
        let mut client = self.client.kv_client();
        async move {
            let options = GetOptions::new().with_prefix();
            let mut got = self.call("list the cluster", client.get(prefix, Some(options))).await?;
            let header = got.take_header();
            let entries = got.take_kvs().into_iter().map(etcd_client::KeyValue::into_key_value);
            Ok(Listing {
                cluster: header.as_ref().map_or(0, etcd_client::ResponseHeader::cluster_id),
                revision: header.map_or(0, |header| header.revision().unsigned_abs()),
                entries: entries.collect(),
            })
        }
        .boxed()
    }

    fn watch<'s>(
        &'s self,
        prefix: &'s str,
        revision: u64,
    ) -> BoxFuture<'s, Result<Box<dyn Feed>, Error>> {
        let mut client = self.client.watch_client();
        async move {
            let from = i64::try_from(revision).unwrap_or(i64::MAX);
            let options = WatchOptions::new().with_prefix().with_start_revision(from);
            let stream = self.call("begin the watch", client.watch(prefix, Some(options))).await?;
            let feed = EtcdFeed { stream, call_timeout: self.call_timeout };
            Ok(Box::new(feed) as Box<dyn Feed>)
        }
        .boxed()
    }
}

impl Feed for EtcdFeed {
    fn next(&mut self) -> BoxFuture<'_, Result<WatchMessage, Error>> {
        async move {
            match self.stream.message().await {
                Ok(Some(response)) => message(&response),
                Ok(None) => Err(Error::Ended),
                Err(source) => Err(Error::Call { what: "watch", source: Box::new(source) }),
            }
        }
        .boxed()
    }

    fn request_progress(&mut self) -> BoxFuture<'_, Result<(), Error>> {
        async move {
            // Waits only while the connection's send buffer is full.
            let what = "accept a heartbeat";
            within(self.call_timeout, what, self.stream.request_progress()).await
        }
        .boxed()
    }
}

fn message(response: &WatchResponse) -> Result<WatchMessage, Error> {
    let revision = response.header().map_or(0, |header| header.revision().unsigned_abs());
    if response.compact_revision() > 0 {
        return Ok(WatchMessage::Compacted);
    }
    if response.canceled() {
        let source = response.cancel_reason().to_owned().into();
        return Err(Error::Call { what: "keep the watch", source });
    }
    if response.created() {
        let cluster = response.header().map_or(0, etcd_client::ResponseHeader::cluster_id);
        return Ok(WatchMessage::Began { cluster, revision });
    }
    if response.events().is_empty() {
        return Ok(WatchMessage::Progress { revision });
    }
    let change = |event: &etcd_client::Event| {
        let kv = event.kv()?;
        let deleted = event.event_type() == EventType::Delete;
        Some(KeyChange {
            key: kv.key().to_vec(),
            value: (!deleted).then(|| kv.value().to_vec()),
            revision: kv.mod_revision().unsigned_abs(),
        })
    };
    Ok(WatchMessage::Changes(response.events().iter().filter_map(change).collect()))
}

async fn within<T>(
    limit: Duration,
    what: &'static str,
    call: impl Future<Output = Result<T, etcd_client::Error>>,
) -> Result<T, Error> {
    match tokio::time::timeout(limit, call).await {
        Ok(Ok(result)) => Ok(result),
        Ok(Err(source)) => Err(Error::Call { what, source: Box::new(source) }),
        Err(_) => Err(Error::Silent { what }),
    }
}

#[cfg(test)]
mod tests {
    use larder_tls::testing::{Authority, Leaf, mount};

    use super::*;

    #[test]
    fn a_torn_pair_is_refused_before_etcd_is_called() {
        let (folder, authority) = (tempfile::tempdir().expect("a folder"), Authority::new("etcd"));
        let etcd = Etcd {
            endpoints: vec!["https://127.0.0.1:1".into()],
            tls_directory: Some(folder.path().to_owned()),
            call_timeout: Duration::from_secs(1),
        };
        let mut pem = authority.pem_of(&Leaf::default());
        mount(folder.path(), &pem);
        etcd.options().expect("valid");
        pem.identity.as_mut().expect("a pair").key = authority.issue(&Leaf::default()).key;
        mount(folder.path(), &pem);
        let Err(Error::Certificates(error)) = etcd.options() else { panic!("torn") };
        assert!(error.to_string().contains("tls.key: the private key does not belong"), "{error}");
    }
}
