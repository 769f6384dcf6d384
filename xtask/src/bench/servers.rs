//! The servers of a comparison, each pinned to processor 0, on loopback, ended when dropped.

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

/// How the tables call them.
pub(crate) const MEMBER: &str = "larder-node";
pub(crate) const ECHO: &str = "tonic echo";
pub(crate) const MEMCACHED: &str = "memcached";
/// Keys that are asked for; all stay resident.
pub(crate) const KEYS: u32 = 100_000;
/// Size of every value, bytes.
pub(crate) const VALUE_BYTES: usize = 100;

/// Servers and generator each have one of these to themselves.
const SERVER_PROCESSOR: &str = "0";
const LOAD_PROCESSOR: &str = "1";
/// Longest wait for a server to answer.
const PATIENCE: Duration = Duration::from_secs(20);

/// A server that answers.
pub(crate) struct Server {
    /// As the table calls it.
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

/// All of them, and what the member needs around it.
pub(crate) struct Servers {
    servers: [Server; 3],
    /// What the member held resident before its first request, bytes.
    pub(crate) idle_bytes: u64,
    _surroundings: Server,
    _folder: TempDir,
}

impl Servers {
    /// Starts and fills them.
    ///
    /// # Errors
    /// When one does not answer, or gives a wrong answer.
    pub(crate) fn start(node: &Path, ours: &Path) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let value_bytes = VALUE_BYTES.to_string();
        let mut surroundings = pinned(LOAD_PROCESSOR, ours);
        surroundings.args(["surroundings", "--value-bytes", &value_bytes]);
        let (surroundings, registry) = speaking(&mut surroundings)?;
        let (member, idle_bytes) = member(node, folder.path(), &registry)?;
        let echo_address = free_address()?;
        let mut echo = pinned(SERVER_PROCESSOR, ours);
        echo.args(["echo", "--value-bytes", &value_bytes]);
        echo.args(["--listen", &echo_address.to_string()]);
        let servers = [member, start(ECHO, "grpc", echo_address, &mut echo)?, memcached()?];
        for server in servers.iter().filter(|server| server.name != ECHO) {
            load(
                ours,
                server,
                &["--connections", "1", "--depth", "16", "--fill"].map(String::from),
            )?;
        }
        Ok(Self { servers, idle_bytes, _surroundings: surroundings, _folder: folder })
    }

    /// In the order in which they take turns.
    pub(crate) fn all(&self) -> &[Server] {
        &self.servers
    }
}

/// Runs the generator against a server and returns what it printed.
///
/// # Errors
/// The generator's words.
pub(crate) fn load(generator: &Path, server: &Server, how: &[String]) -> Result<String> {
    let mut load = pinned(LOAD_PROCESSOR, generator);
    load.args(["load", "--protocol", server.protocol]);
    load.args(["--address", &server.address.to_string()]);
    load.args(["--pid", &server.child.id().to_string()]);
    load.args(["--keys", &KEYS.to_string(), "--value-bytes", &VALUE_BYTES.to_string()]);
    command::output(load.args(how)).with_context(|| format!("load on {}", server.name))
}

/// A member with one worker, ready, and what it holds resident before anyone asked it anything.
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
    });
    let file = folder.join("node.json");
    fs::write(&file, config.to_string())?;
    let mut node = pinned(SERVER_PROCESSOR, program);
    node.arg("--config").arg(&file);
    node.env("LARDER_MEMBER_NAME", "bench-0").env("LARDER_POD_UID", "bench");
    node.env("LARDER_POD_IP", Ipv4Addr::LOCALHOST.to_string());
    let server = start(MEMBER, "grpc", grpc, &mut node)?;
    // Ready is more than listening: registered, and in the ring.
    wait_for("the member to be ready", || {
        http::get(admin, "/readyz").is_ok_and(|(status, _)| status == 200)
    })?;
    let status = fs::read_to_string(format!("/proc/{}/status", server.child.id()))?;
    let idle = resident_bytes(&status).context("the kernel does not say what is resident")?;
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

/// The program on one processor, told to end when this process does. Neither taskset nor setpriv
/// forks: the process id is the program's own.
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

/// Starts a program that says one line when it is ready.
fn speaking(command: &mut Command) -> Result<(Server, String)> {
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
    let stdout = child.stdout.take().context("it is piped")?;
    let address = (Ipv4Addr::LOCALHOST, 0).into();
    let server = Server { name: "surroundings", protocol: "none", address, child };
    let mut line = String::new();
    BufReader::new(stdout).read_line(&mut line)?;
    if line.trim().is_empty() {
        bail!("the registry and origin of the comparison did not start");
    }
    Ok((server, line.trim().to_owned()))
}

fn wait_for(what: &str, mut there: impl FnMut() -> bool) -> Result<()> {
    let begin = Instant::now();
    while !there() {
        if begin.elapsed() > PATIENCE {
            bail!("waited {} s for {what}", PATIENCE.as_secs());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

fn free_address() -> Result<SocketAddr> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?)
}

/// `VmRSS` of a process's status.
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
