//! The servers of a comparison: on loopback, pinned to processor 0, killed when dropped.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use serde_json::json;
use tempfile::TempDir;

use crate::{command, http};

/// Names of the servers in the tables.
pub(crate) const MEMBER: &str = "larder-node";
pub(crate) const ECHO: &str = "tonic echo";
pub(crate) const MEMCACHED: &str = "memcached";
/// Number of keys that are read; all stay resident.
pub(crate) const KEYS: u32 = 100_000;
/// Size of every value, bytes.
pub(crate) const VALUE_BYTES: usize = 100;

/// Processors of the servers and of the generator.
const SERVER_PROCESSOR: &str = "0";
const LOAD_PROCESSOR: &str = "1";
/// Longest wait for a server to become ready.
const START_TIMEOUT: Duration = Duration::from_secs(20);

/// A server that accepts connections.
pub(crate) struct Server {
    pub(crate) name: &'static str,
    protocol: &'static str,
    address: SocketAddr,
    child: Child,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The servers, and the registry and origin of the member.
pub(crate) struct Servers {
    servers: [Server; 3],
    /// Resident memory of the member before its first request, bytes.
    pub(crate) idle_bytes: u64,
    _surroundings: Server,
    _folder: TempDir,
}

impl Servers {
    /// Starts the servers and fills them, from the programs of a member and of the bench.
    ///
    /// # Errors
    /// When a server does not start, or gives a wrong answer.
    pub(crate) fn start(node: &Path, bench: &Path) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let value_bytes = VALUE_BYTES.to_string();
        let mut surroundings = pinned(LOAD_PROCESSOR, bench);
        surroundings.args(["surroundings", "--value-bytes", &value_bytes]);
        let (surroundings, registry) = start_surroundings(&mut surroundings)?;
        let (member, idle_bytes) = member(node, folder.path(), &registry)?;
        let echo_address = free_address()?;
        let mut echo = pinned(SERVER_PROCESSOR, bench);
        echo.args(["echo", "--value-bytes", &value_bytes]);
        echo.args(["--listen", &echo_address.to_string()]);
        let servers = [member, start(ECHO, "grpc", echo_address, &mut echo)?, memcached()?];
        for server in servers.iter().filter(|server| server.name != ECHO) {
            load(
                bench,
                server,
                &["--connections", "1", "--depth", "16", "--fill"].map(String::from),
            )?;
        }
        Ok(Self { servers, idle_bytes, _surroundings: surroundings, _folder: folder })
    }

    /// The servers, in the order in which they are measured.
    pub(crate) fn in_turn(&self) -> &[Server] {
        &self.servers
    }
}

/// Runs the generator against a server and returns what it printed.
///
/// # Errors
/// When the generator fails; the error holds its message.
pub(crate) fn load(generator: &Path, server: &Server, options: &[String]) -> Result<String> {
    let mut load = pinned(LOAD_PROCESSOR, generator);
    load.args(["load", "--protocol", server.protocol]);
    load.args(["--address", &server.address.to_string()]);
    load.args(["--pid", &server.child.id().to_string()]);
    load.args(["--keys", &KEYS.to_string(), "--value-bytes", &VALUE_BYTES.to_string()]);
    command::output(load.args(options))
        .with_context(|| format!("could not measure {}", server.name))
}

/// Starts a member with one worker, waits until it is ready, and returns its resident memory before
/// its first request.
fn member(program: &Path, folder: &Path, registry: &str) -> Result<(Server, u64)> {
    let (grpc, peer, gateway, admin) =
        (free_address()?, free_address()?, free_address()?, free_address()?);
    let config = json!({
        "cluster": {"namespace": "bench", "name": "bench"},
        "mode": {"member": {
            "registry": {"endpoints": [registry]},
            "placement": {"rendezvous": {}},
            "capacityBytes": 256 << 20,
        }},
        "listen": {
            "grpc": grpc.to_string(), "peer": peer.to_string(),
            "http": gateway.to_string(), "admin": admin.to_string(),
        },
        "limits": {"workers": 1},
        "credentialsDirectory": folder,
        "allowedTargets": ["127.0.0.0/8"],
    });
    let file = folder.join("node.json");
    fs::write(&file, config.to_string())?;
    let mut node = pinned(SERVER_PROCESSOR, program);
    node.arg("--config").arg(&file);
    node.env("LARDER_MEMBER_NAME", "bench-0").env("LARDER_POD_UID", "bench");
    node.env("LARDER_POD_IP", Ipv4Addr::LOCALHOST.to_string());
    let server = start(MEMBER, "grpc", grpc, &mut node)?;
    // A ready member is registered and in the ring; a listening one may not be.
    wait_for("the member to be ready", || {
        http::get(admin, "/readyz").is_ok_and(|(status, _)| status == 200)
    })?;
    let status = fs::read_to_string(format!("/proc/{}/status", server.child.id()))?;
    let idle = resident_bytes(&status).context("the process status has no VmRSS")?;
    Ok((server, idle))
}

fn memcached() -> Result<Server> {
    let address = free_address()?;
    let program = command::find(MEMCACHED).context("memcached is missing")?;
    let mut memcached = pinned(SERVER_PROCESSOR, &program);
    memcached.args(["-l", "127.0.0.1", "-p", &address.port().to_string(), "-U", "0"]);
    memcached.args(["-t", "1", "-m", "256", "-u", "nobody"]);
    start(MEMCACHED, "memcached", address, &mut memcached)
}

/// The command for a program on one processor that is killed when this process ends. Neither taskset
/// nor setpriv forks, so the process id is the program's own.
fn pinned(processor: &str, program: &Path) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "--", "taskset", "--cpu-list", processor]).arg(program);
    command
}

fn start(
    name: &'static str,
    protocol: &'static str,
    address: SocketAddr,
    command: &mut Command,
) -> Result<Server> {
    let child = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn();
    let child = child.with_context(|| format!("could not start {name}"))?;
    let server = Server { name, protocol, address, child };
    wait_for(name, || TcpStream::connect(address).is_ok())?;
    Ok(server)
}

/// Starts the registry and origin, which print the registry's address when they are ready.
fn start_surroundings(command: &mut Command) -> Result<(Server, String)> {
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
    let stdout = child.stdout.take().context("its standard output is piped")?;
    let address = (Ipv4Addr::LOCALHOST, 0).into();
    let server = Server { name: "surroundings", protocol: "none", address, child };
    let mut line = String::new();
    BufReader::new(stdout).read_line(&mut line)?;
    if line.trim().is_empty() {
        bail!("the registry and origin of the comparison did not start");
    }
    Ok((server, line.trim().to_owned()))
}

fn wait_for(what: &str, mut condition: impl FnMut() -> bool) -> Result<()> {
    let begin = Instant::now();
    while !condition() {
        if begin.elapsed() > START_TIMEOUT {
            bail!("waited {} s for {what}", START_TIMEOUT.as_secs());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

fn free_address() -> Result<SocketAddr> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?)
}

/// `VmRSS` in a process's status, in bytes.
fn resident_bytes(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    Some(line.trim().strip_suffix(" kB")?.parse::<u64>().ok()? * 1_024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resident_memory_is_read_in_bytes() {
        assert_eq!(resident_bytes("VmPeak:\t9 kB\nVmRSS:\t   12 kB\n"), Some(12 * 1_024));
        assert_eq!(resident_bytes("VmPeak:\t9 kB\n"), None);
    }

    #[test]
    fn a_pinned_program_keeps_the_process_id_and_the_processor() {
        let script = "echo $$ $(grep Cpus_allowed_list /proc/$$/status)";
        let mut command = pinned("0", Path::new("sh"));
        let child = command.args(["-c", script]).stdout(Stdio::piped()).spawn().expect("starts");
        let pid = child.id();
        let output = child.wait_with_output().expect("ends").stdout;
        let text = String::from_utf8(output).expect("text");
        assert_eq!(text.trim(), format!("{pid} Cpus_allowed_list: 0"));
    }
}
