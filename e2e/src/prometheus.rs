//! A real Prometheus that scrapes the members, and plain HTTP to query it.

use std::ffi::OsStr;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;

use crate::process::{self, Running};

/// A server with its own data. It ends when dropped or when the tests end.
#[derive(Debug)]
pub struct Prometheus {
    _server: Running,
    address: String,
}

impl Prometheus {
    /// Starts Prometheus on a free port of `host` with the configuration `config` (YAML).
    ///
    /// # Panics
    /// When Prometheus is missing or does not start.
    #[must_use]
    pub fn start(host: &str, config: &str) -> Self {
        let program = process::find("prometheus", &[] as &[PathBuf], "prometheus");
        let folder = process::folder("larder-prometheus");
        let file = folder.join("prometheus.yaml");
        std::fs::write(&file, config).expect("the folder is new");
        let address = format!("{host}:{}", process::free_port(host));
        let arguments = [
            format!("--config.file={}", file.display()),
            format!("--storage.tsdb.path={}", folder.join("data").display()),
            format!("--web.listen-address={address}"),
        ];
        let mut command = vec![program.as_os_str()];
        command.extend(arguments.iter().map(OsStr::new));
        Self { _server: Running::start(&command, &folder), address }
    }

    /// Labels and value of each sample of an instant query.
    ///
    /// # Errors
    /// While Prometheus does not answer.
    pub fn query(&self, query: &str) -> Result<Vec<(Value, f64)>, String> {
        let escaped: String = query
            .bytes()
            .map(|b| match b {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'_' => char::from(b).to_string(),
                other => format!("%{other:02X}"),
            })
            .collect();
        let body = http_get(&self.address, &format!("/api/v1/query?query={escaped}"))?;
        let answer: Value = serde_json::from_str(&body).map_err(|e| format!("{e}: {body}"))?;
        let result = answer.pointer("/data/result").and_then(Value::as_array);
        Ok(result
            .ok_or_else(|| format!("no result: {body}"))?
            .iter()
            .filter_map(|s| {
                let value = s.pointer("/value/1")?.as_str()?.parse().ok()?;
                Some((s["metric"].clone(), value))
            })
            .collect())
    }
}

/// The body of a GET with status 200.
///
/// # Errors
/// When there is no connection or another status.
pub fn http_get(address: &str, path: &str) -> Result<String, String> {
    let (status, body) = http_get_any(address, path)?;
    if status == 200 { Ok(body) } else { Err(format!("{status}: {body}")) }
}

/// Status and body of a GET.
///
/// # Errors
/// When there is no connection or the answer is not HTTP.
pub fn http_get_any(address: &str, path: &str) -> Result<(u16, String), String> {
    let io = |e: std::io::Error| format!("{address}{path}: {e}");
    let mut stream = TcpStream::connect(address).map_err(io)?;
    stream.set_read_timeout(Some(Duration::from_secs(10))).map_err(io)?;
    // HTTP 1.0 has no chunks: the body ends with the connection.
    write!(stream, "GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n").map_err(io)?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).map_err(io)?;
    let (head, body) = answer.split_once("\r\n\r\n").ok_or("no HTTP answer")?;
    let status = head.split(' ').nth(1).and_then(|s| s.parse().ok()).ok_or("no HTTP status")?;
    Ok((status, body.to_owned()))
}
