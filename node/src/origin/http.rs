//! Values from an HTTP server: 200 is the value, 404 is absent, anything else is an error. A
//! response header may contain the tags of the value.
//!
//! With a `batch`, one POST loads several keys (`batch_body`). Keys that are not UTF-8 are loaded
//! alone.
//!
//! The author of a group chooses the URL, and a caller the key, so both are limited: `Targets` says
//! which addresses a member connects to, redirects are not followed, no proxy is used, and a key
//! never changes the URL around it.

mod batch_body;

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::FutureExt;
use futures::future::BoxFuture;
use larder_proto::contract::{HttpBatch, HttpOrigin, OriginLimits};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};
use reqwest::header::{CONTENT_TYPE, HeaderName};
use reqwest::{Client, Response, StatusCode, Url};

use super::error::Error;
use super::keyed::{KeyedLoads, MAX_BATCH_BYTES};
use super::loader::{BatchLoader, BatchedLoad, Loaded, Loader};
use super::tags::split_tags;
use super::targets::{Forbidden, Targets};

/// Replaced by the key in a template.
const PLACEHOLDER: &str = "{key}";
/// Takes the placeholder's place while a template is brought into normal form: in a URL, a brace
/// would be percent-encoded. Longer than a template may be by chance.
const STAND_IN: &str = "larder-puts-the-key-here";
/// All but RFC 3986's unreserved characters.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
/// Connections idle for longer are closed.
const IDLE_TIMEOUT: Duration = Duration::from_secs(90);

/// Loads keys by HTTP GET, or several with a POST.
#[derive(Debug)]
pub struct HttpLoader {
    client: Client,
    template: Template,
    batch: Option<Batch>,
    /// The response header with the tags of the value.
    tags_header: Option<HeaderName>,
    max_value_bytes: usize,
}

/// A URL with places for the key.
#[derive(Debug)]
struct Template {
    /// In normal form: parsing it with a key in its places changes nothing, unless the key does.
    text: String,
    /// Host and port.
    place: String,
}

/// Where several keys are loaded.
#[derive(Debug)]
struct Batch {
    url: Url,
    /// Host and port.
    place: String,
}

impl HttpLoader {
    /// A loader for `origin`. It does not connect yet.
    ///
    /// # Errors
    /// The template is not an `http` or `https` URL with `{key}` in its path or query, the URL of the
    /// batch is not such a URL without `{key}`, one of them names a forbidden address, or the header
    /// with the tags has no valid name.
    pub fn new(
        origin: &HttpOrigin,
        limits: &OriginLimits,
        targets: &Targets,
        max_value_bytes: usize,
    ) -> Result<Self, Error> {
        let template = Template::new(&origin.url_template, targets)?;
        let batch = origin.batch.as_ref().map(|batch| Batch::new(batch, targets)).transpose()?;
        let tags_header = origin.tags_header.as_deref().map(header_name).transpose()?;
        let client = Client::builder()
            .tls_backend_preconfigured(tls())
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .dns_resolver(Arc::new(targets.clone()))
            .connect_timeout(Duration::from_millis(limits.timeout_ms))
            .pool_max_idle_per_host(limits.concurrency as usize)
            .pool_idle_timeout(IDLE_TIMEOUT)
            .user_agent(concat!("larder/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|error| Error::Template { problem: error.to_string() })?;
        Ok(Self { client, template, batch, tags_header, max_value_bytes })
    }

    async fn get(&self, key: &[u8]) -> Result<Loaded, Error> {
        let place = &self.template.place;
        let response = {
            let url = self.template.url(key)?;
            self.client.get(url).send().await.map_err(|error| failed(place, error))?
        };
        match response.status() {
            StatusCode::OK => {
                let tags = self.tags(&response);
                let value = body(place, response, self.max_value_bytes).await?;
                Ok(Loaded::with_tags(value, tags))
            }
            StatusCode::NOT_FOUND => Ok(Loaded::Absent),
            status => Err(Error::Status { place: place.clone(), status: status.as_u16() }),
        }
    }

    async fn post(&self, batch: &Batch, keys: &[Bytes]) -> Result<Vec<BatchedLoad>, Error> {
        let mut loads = KeyedLoads::new(keys);
        let texts = loads.texts(|| BatchedLoad::LoadAlone);
        if texts.is_empty() {
            return Ok(loads.finish());
        }
        let place = &batch.place;
        let request = self.client.post(batch.url.clone()).header(CONTENT_TYPE, "application/json");
        let sent = request.body(batch_body::encode(&texts)).send().await;
        let response = sent.map_err(|error| failed(place, error))?;
        match response.status() {
            StatusCode::OK => {}
            status if may_be_about_one_key(status) => return Ok(loads.all_alone()),
            status => {
                return Err(Error::Status { place: place.clone(), status: status.as_u16() });
            }
        }
        let body = match body(place, response, MAX_BATCH_BYTES).await {
            Err(Error::TooLarge { .. }) => return Ok(loads.all_alone()),
            body => body?,
        };
        batch_body::decode(&body, self.max_value_bytes, &mut loads)
            .map_err(|problem| Error::BatchBody { place: place.clone(), problem })?;
        Ok(loads.finish())
    }

    fn tags(&self, response: &Response) -> Vec<Bytes> {
        let Some(name) = &self.tags_header else { return Vec::new() };
        let lines = response.headers().get_all(name).iter();
        lines.flat_map(|line| split_tags(line.as_bytes())).collect()
    }
}

impl Loader for HttpLoader {
    fn load<'l>(&'l self, key: &'l [u8]) -> BoxFuture<'l, Result<Loaded, Error>> {
        self.get(key).boxed()
    }

    fn batch(&self) -> Option<&dyn BatchLoader> {
        self.batch.is_some().then_some(self)
    }
}

impl BatchLoader for HttpLoader {
    fn load_batch<'l>(
        &'l self,
        keys: &'l [Bytes],
    ) -> BoxFuture<'l, Result<Vec<BatchedLoad>, Error>> {
        async move {
            match &self.batch {
                Some(batch) => self.post(batch, keys).await,
                None => Ok(KeyedLoads::new(keys).all_alone()),
            }
        }
        .boxed()
    }
}

impl Batch {
    fn new(batch: &HttpBatch, targets: &Targets) -> Result<Self, Error> {
        let refuse = |problem: &str| Error::BatchUrl { problem: problem.to_owned() };
        if batch.url.contains(PLACEHOLDER) {
            return Err(refuse("it has {key}, but the keys are in the body"));
        }
        let url = Url::parse(&batch.url).map_err(|_| refuse("it is not a URL"))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(refuse("its scheme is neither http nor https"));
        }
        check_address(&url, targets).map_err(|error| refuse(&error.to_string()))?;
        let place = place(&url);
        Ok(Self { url, place })
    }
}

/// True for a status that one key of many may have caused: invalid, or too large a request or
/// response.
fn may_be_about_one_key(status: StatusCode) -> bool {
    matches!(status.as_u16(), 400 | 413 | 414 | 422)
}

/// The body of a response, if it has at most `max` bytes.
async fn body(place: &str, mut response: Response, max: usize) -> Result<Bytes, Error> {
    let announced = response.content_length().unwrap_or(0);
    if announced > max as u64 {
        return Err(Error::TooLarge { max });
    }
    let mut value = BytesMut::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| failed(place, error))? {
        if value.len() + chunk.len() > max {
            return Err(Error::TooLarge { max });
        }
        if value.is_empty() && chunk.len() as u64 == announced {
            return Ok(chunk);
        }
        value.extend_from_slice(&chunk);
    }
    Ok(Bytes::from(value))
}

/// Keeps the root cause only: the rest of the text has the URL, which may contain a password or a
/// key.
fn failed(place: &str, error: reqwest::Error) -> Error {
    let is_connect = error.is_connect();
    let error = error.without_url();
    let mut cause: &dyn std::error::Error = &error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    let (place, problem) = (place.to_owned(), cause.to_string());
    if is_connect { Error::Connect { place, problem } } else { Error::Ask { place, problem } }
}

impl Template {
    fn new(template: &str, targets: &Targets) -> Result<Self, Error> {
        let refuse = |problem: &str| Err(Error::Template { problem: problem.to_owned() });
        if !template.contains(PLACEHOLDER) {
            return refuse("it has no {key}");
        }
        let with = |key: &str| Url::parse(&template.replace(PLACEHOLDER, key));
        let (Ok(url), Ok(other)) = (with(STAND_IN), with("other")) else {
            return refuse("it is not a URL");
        };
        if !matches!(url.scheme(), "http" | "https") {
            return refuse("its scheme is neither http nor https");
        }
        if url.authority() != other.authority() {
            return refuse("{key} is in its host or user");
        }
        if (url.path(), url.query()) == (other.path(), other.query()) {
            return refuse("{key} is neither in its path nor in its query");
        }
        if let Err(error) = check_address(&url, targets) {
            return refuse(&error.to_string());
        }
        let text = url.as_str().replace(STAND_IN, PLACEHOLDER);
        Ok(Self { text, place: place(&url) })
    }

    /// # Errors
    /// The key cannot be part of the URL: `.` and `..` are steps of a path, even percent-encoded.
    fn url(&self, key: &[u8]) -> Result<Url, Error> {
        let text = self.text.replace(PLACEHOLDER, &percent_encode(key, ESCAPED).to_string());
        let url = Url::parse(&text).map_err(|_| Error::Key)?;
        // The template is in normal form, so a difference is the key's doing.
        if url.as_str() == text { Ok(url) } else { Err(Error::Key) }
    }
}

/// Judges an address that is written in the URL. Names are judged when they are resolved.
fn check_address(url: &Url, targets: &Targets) -> Result<(), Forbidden> {
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    host.parse().map_or(Ok(()), |address| targets.check(address))
}

/// Host and port.
fn place(url: &Url) -> String {
    let port = url.port_or_known_default().unwrap_or_default();
    format!("{}:{port}", url.host_str().unwrap_or_default())
}

fn header_name(name: &str) -> Result<HeaderName, Error> {
    HeaderName::from_bytes(name.as_bytes()).map_err(|_| Error::TagsHeader { name: name.to_owned() })
}

/// The public web's root certificates, compiled in: an image built from scratch has none.
fn tls() -> rustls::ClientConfig {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let roots = rustls::RootCertStore::from_iter(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("ring knows TLS 1.2 and 1.3")
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    config
}

#[cfg(test)]
mod tests;
