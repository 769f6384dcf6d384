//! Values from an HTTP server: 200 is the value, 404 is absent, anything else is an error. A
//! response header may contain the tags of the value.
//!
//! Redirects are not followed: they would let the origin direct members to any host.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::FutureExt;
use futures::future::BoxFuture;
use larder_proto::contract::{HttpOrigin, OriginLimits};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};
use reqwest::header::HeaderName;
use reqwest::{Client, Response, StatusCode, Url};

use super::error::Error;
use super::loader::{Loaded, Loader};
use super::tags::split_tags;

/// Replaced by the key in a template.
const PLACEHOLDER: &str = "{key}";
/// All but RFC 3986's unreserved characters.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
/// Connections idle for longer are closed.
const IDLE_TIMEOUT: Duration = Duration::from_secs(90);

/// Loads keys by HTTP GET.
#[derive(Debug)]
pub struct HttpLoader {
    client: Client,
    template: String,
    /// Number of path segments of every URL of this template.
    path_segments: usize,
    /// Host and port.
    place: String,
    /// The response header with the tags of the value.
    tags_header: Option<HeaderName>,
    max_value_bytes: usize,
}

impl HttpLoader {
    /// A loader for `origin`. It does not connect yet.
    ///
    /// # Errors
    /// The template is not an `http` or `https` URL with `{key}` in its path or query, or the
    /// header with the tags has no valid name.
    pub fn new(
        origin: &HttpOrigin,
        limits: &OriginLimits,
        max_value_bytes: usize,
    ) -> Result<Self, Error> {
        let template = origin.url_template.clone();
        let CheckedTemplate { path_segments, place } = check(&template)?;
        let tags_header = origin.tags_header.as_deref().map(header_name).transpose()?;
        let client = Client::builder()
            .tls_backend_preconfigured(tls())
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(Duration::from_millis(limits.timeout_ms))
            .pool_max_idle_per_host(limits.concurrency as usize)
            .pool_idle_timeout(IDLE_TIMEOUT)
            .user_agent(concat!("larder/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|error| Error::Template { problem: error.to_string() })?;
        Ok(Self { client, template, path_segments, place, tags_header, max_value_bytes })
    }

    fn url(&self, key: &[u8]) -> Result<Url, Error> {
        let url = Url::parse(&expand(&self.template, key)).map_err(|_| Error::Key)?;
        // URL parsing resolves `.` and `..` as path steps, even percent-encoded.
        let changes_path = key == b"." || segments(&url) != self.path_segments;
        if changes_path { Err(Error::Key) } else { Ok(url) }
    }

    async fn get(&self, key: &[u8]) -> Result<Loaded, Error> {
        let response = {
            let url = self.url(key)?;
            self.client.get(url).send().await.map_err(|error| self.failed(error))?
        };
        match response.status() {
            StatusCode::OK => {
                let tags = self.tags(&response);
                Ok(Loaded::with_tags(self.body(response).await?, tags))
            }
            StatusCode::NOT_FOUND => Ok(Loaded::Absent),
            status => {
                let place = self.place.clone();
                Err(Error::Status { place, status: status.as_u16() })
            }
        }
    }

    fn tags(&self, response: &Response) -> Vec<Bytes> {
        let Some(name) = &self.tags_header else { return Vec::new() };
        let lines = response.headers().get_all(name).iter();
        lines.flat_map(|line| split_tags(line.as_bytes())).collect()
    }

    async fn body(&self, mut response: Response) -> Result<Bytes, Error> {
        let max = self.max_value_bytes;
        let announced = response.content_length().unwrap_or(0);
        if announced > max as u64 {
            return Err(Error::TooLarge { max });
        }
        let mut value = BytesMut::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| self.failed(error))? {
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

    /// Keeps the root cause only: the rest of the text has the URL, which may contain a password or
    /// a key.
    fn failed(&self, error: reqwest::Error) -> Error {
        let is_connect = error.is_connect();
        let error = error.without_url();
        let mut cause: &dyn std::error::Error = &error;
        while let Some(source) = cause.source() {
            cause = source;
        }
        let (place, problem) = (self.place.clone(), cause.to_string());
        if is_connect { Error::Connect { place, problem } } else { Error::Ask { place, problem } }
    }
}

impl Loader for HttpLoader {
    fn load<'l>(&'l self, key: &'l [u8]) -> BoxFuture<'l, Result<Loaded, Error>> {
        self.get(key).boxed()
    }
}

/// What all URLs of a template have in common.
struct CheckedTemplate {
    path_segments: usize,
    place: String,
}

fn check(template: &str) -> Result<CheckedTemplate, Error> {
    let refuse = |problem: &str| Err(Error::Template { problem: problem.to_owned() });
    if !template.contains(PLACEHOLDER) {
        return refuse("it has no {key}");
    }
    let (Ok(one), Ok(other)) =
        (Url::parse(&expand(template, b"k")), Url::parse(&expand(template, b"kk")))
    else {
        return refuse("it is not a URL");
    };
    if !matches!(one.scheme(), "http" | "https") {
        return refuse("its scheme is neither http nor https");
    }
    if one.authority() != other.authority() {
        return refuse("{key} is in its host or user");
    }
    if (one.path(), one.query()) == (other.path(), other.query()) {
        return refuse("{key} is neither in its path nor in its query");
    }
    let port = one.port_or_known_default().unwrap_or_default();
    let place = format!("{}:{port}", one.host_str().unwrap_or_default());
    Ok(CheckedTemplate { path_segments: segments(&one), place })
}

fn header_name(name: &str) -> Result<HeaderName, Error> {
    HeaderName::from_bytes(name.as_bytes()).map_err(|_| Error::TagsHeader { name: name.to_owned() })
}

fn expand(template: &str, key: &[u8]) -> String {
    template.replace(PLACEHOLDER, &percent_encode(key, ESCAPED).to_string())
}

fn segments(url: &Url) -> usize {
    url.path_segments().map_or(0, Iterator::count)
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
