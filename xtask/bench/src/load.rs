//! The load generator: one thread, its own event loop, a closed loop of requests on every
//! connection, every reply checked for its length.
//!
//! It speaks each protocol through [`Protocol`], so every server meets the same generator. It never
//! retries: one bad reply ends the run with an error.

mod grpc;
mod memcached;

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use clap::ValueEnum;
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};
use serde::Serialize;

use crate::cpu;

/// A reply that takes longer is a fault of the server, not a figure.
const PATIENCE: Duration = Duration::from_secs(10);

/// What to ask, and how hard.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// What the server speaks.
    #[arg(long)]
    protocol: Name,
    /// Where it listens.
    #[arg(long)]
    address: SocketAddr,
    /// Its process id.
    #[arg(long)]
    pid: u32,
    /// Connections.
    #[arg(long)]
    connections: usize,
    /// Requests in flight on each connection.
    #[arg(long)]
    depth: usize,
    /// Keys asked for, each as often as any other.
    #[arg(long)]
    keys: u32,
    /// Size of the value that every reply must have, bytes.
    #[arg(long)]
    value_bytes: usize,
    /// Instead of measuring, puts each key in once (memcached: writes it; gRPC: asks for it).
    #[arg(long)]
    fill: bool,
    /// Not counted, milliseconds.
    #[arg(long, default_value_t = 1_000)]
    warm_up_ms: u64,
    /// Counted, milliseconds.
    #[arg(long, default_value_t = 2_000)]
    measure_ms: u64,
}

/// A protocol, by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Name {
    /// Larder's Cache.Get.
    Grpc,
    /// memcached's text protocol.
    Memcached,
}

/// One connection's side of a protocol.
pub(crate) trait Protocol {
    /// Appends what a connection begins with.
    fn begin(&mut self, out: &mut Vec<u8>);
    /// Appends one request for a key; `at` comes back with its reply.
    fn request(&mut self, key: u32, at: Instant, out: &mut Vec<u8>);
    /// Takes whole replies off `input`, appends when each was asked to `replied` and what the
    /// protocol itself has to say to `out`; returns how many bytes were taken.
    ///
    /// # Errors
    /// On anything but the expected value.
    fn take(
        &mut self,
        input: &[u8],
        replied: &mut Vec<Instant>,
        out: &mut Vec<u8>,
    ) -> Result<usize>;
}

/// What came of a run.
#[derive(Debug, PartialEq, Serialize)]
pub(crate) struct Figures {
    /// Replies a second.
    operations_per_second: f64,
    /// Server's processor time a request, microseconds.
    server_us: f64,
    /// Generator's processor time a request, microseconds.
    client_us: f64,
    /// Median time from request to reply, microseconds.
    p50_us: f64,
    /// 99th percentile of the same, microseconds.
    p99_us: f64,
    /// What everything else on the machine used, percent of all processors.
    foreign_percent: f64,
}

/// Runs to the end.
///
/// # Errors
/// When the server cannot be reached, goes away, stalls, or gives a wrong reply.
pub(crate) fn run(options: &Options) -> Result<Figures> {
    let protocol = || -> Box<dyn Protocol> {
        match options.protocol {
            Name::Grpc => Box::new(grpc::Grpc::new(options.address, options.value_bytes)),
            Name::Memcached => {
                Box::new(memcached::Memcached::new(options.value_bytes, options.fill))
            }
        }
    };
    let mut load = Load::connect(options, protocol)?;
    if options.fill {
        let begin = Mark::now(options.pid)?;
        load.until(|load| load.asked >= options.keys && load.in_flight == 0)?;
        return begin.figures(&mut load.latencies);
    }
    let warm = Instant::now() + Duration::from_millis(options.warm_up_ms);
    load.until(|_| Instant::now() >= warm)?;
    load.latencies.clear();
    let begin = Mark::now(options.pid)?;
    let end = Instant::now() + Duration::from_millis(options.measure_ms);
    load.until(|_| Instant::now() >= end)?;
    begin.figures(&mut load.latencies)
}

/// Clocks at the beginning of what is counted.
struct Mark {
    at: Instant,
    pid: u32,
    server: u64,
    client: u64,
    machine: u64,
}

impl Mark {
    fn now(pid: u32) -> Result<Self> {
        Ok(Self {
            pid,
            server: cpu::of_process(pid)?,
            client: cpu::of_process(std::process::id())?,
            machine: cpu::of_machine()?,
            at: Instant::now(),
        })
    }

    #[expect(clippy::cast_precision_loss, reason = "figures are printed to three digits")]
    fn figures(&self, latencies: &mut [u64]) -> Result<Figures> {
        let now = Self::now(self.pid)?;
        if latencies.is_empty() {
            bail!("no reply came in the time that counts");
        }
        let count = latencies.len() as f64;
        latencies.sort_unstable();
        let percentile =
            |percent: usize| latencies[(latencies.len() - 1) * percent / 100] as f64 / 1_000.0;
        let (server, client) = (now.server - self.server, now.client - self.client);
        let wall = now.at.duration_since(self.at);
        let ours = (server + client) as f64 / cpu::processors()? as f64;
        // The machine's clock ticks in hundredths of a second, so a quiet machine may come out below.
        let foreign = (now.machine - self.machine) as f64 - ours;
        Ok(Figures {
            operations_per_second: count / wall.as_secs_f64(),
            server_us: server as f64 / 1_000.0 / count,
            client_us: client as f64 / 1_000.0 / count,
            p50_us: percentile(50),
            p99_us: percentile(99),
            foreign_percent: (foreign / wall.as_nanos() as f64 * 100.0).max(0.0),
        })
    }
}

struct Connection {
    stream: TcpStream,
    protocol: Box<dyn Protocol>,
    input: Vec<u8>,
    output: Vec<u8>,
}

struct Load {
    poll: Poll,
    connections: Vec<Connection>,
    keys: u32,
    /// Each key once, in order; otherwise keys at random, for ever.
    fill: bool,
    asked: u32,
    in_flight: usize,
    random: u64,
    replied: Vec<Instant>,
    /// Nanoseconds from request to reply.
    latencies: Vec<u64>,
}

impl Load {
    fn connect(options: &Options, protocol: impl Fn() -> Box<dyn Protocol>) -> Result<Self> {
        let poll = Poll::new()?;
        let mut load = Self {
            poll,
            connections: Vec::new(),
            keys: options.keys.max(1),
            fill: options.fill,
            asked: 0,
            in_flight: 0,
            random: 0x9e37_79b9_7f4a_7c15,
            replied: Vec::new(),
            latencies: Vec::with_capacity(1 << 20),
        };
        for number in 0..options.connections {
            let stream = std::net::TcpStream::connect(options.address)
                .with_context(|| format!("connect to {}", options.address))?;
            stream.set_nodelay(true)?;
            stream.set_nonblocking(true)?;
            let mut stream = TcpStream::from_std(stream);
            let both = Interest::READABLE | Interest::WRITABLE;
            load.poll.registry().register(&mut stream, Token(number), both)?;
            let mut connection =
                Connection { stream, protocol: protocol(), input: vec![], output: vec![] };
            connection.protocol.begin(&mut connection.output);
            load.connections.push(connection);
            load.ask(number, options.depth);
            load.write(number)?;
        }
        Ok(load)
    }

    /// Goes on until `done`, which is asked after every turn of the loop.
    fn until(&mut self, done: impl Fn(&Self) -> bool) -> Result<()> {
        let mut events = Events::with_capacity(1_024);
        while !done(self) {
            match self.poll.poll(&mut events, Some(PATIENCE)) {
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                other => other?,
            }
            if events.is_empty() {
                bail!("the server has not answered for {} s", PATIENCE.as_secs());
            }
            for event in &events {
                let number = event.token().0;
                if event.is_readable() {
                    self.read(number)?;
                }
                self.write(number)?;
            }
        }
        Ok(())
    }

    /// Reads all there is; each reply is followed by the next request.
    fn read(&mut self, number: usize) -> Result<()> {
        let mut buffer = [0; 64 * 1_024];
        loop {
            let connection = &mut self.connections[number];
            let count = match connection.stream.read(&mut buffer) {
                Ok(0) => bail!("the server closed a connection"),
                Ok(count) => count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(error).context("read from the server"),
            };
            connection.input.extend_from_slice(&buffer[..count]);
            let Connection { protocol, input, output, .. } = connection;
            let taken = protocol.take(input, &mut self.replied, output)?;
            input.drain(..taken);
            let now = Instant::now();
            let replies = self.replied.len();
            for asked in self.replied.drain(..) {
                let nanoseconds = now.duration_since(asked).as_nanos();
                self.latencies.push(u64::try_from(nanoseconds).unwrap_or(u64::MAX));
            }
            self.in_flight -= replies;
            self.ask(number, replies);
        }
    }

    fn ask(&mut self, number: usize, count: usize) {
        let now = Instant::now();
        for _ in 0..count {
            if self.fill && self.asked >= self.keys {
                return;
            }
            let key = self.next_key();
            let Connection { protocol, output, .. } = &mut self.connections[number];
            protocol.request(key, now, output);
            self.in_flight += 1;
        }
    }

    fn next_key(&mut self) -> u32 {
        if self.fill {
            self.asked += 1;
            return self.asked - 1;
        }
        // xorshift64 (source: Marsaglia, "Xorshift RNGs", 2003, triple 13, 7, 17).
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        u32::try_from(((self.random >> 32) * u64::from(self.keys)) >> 32).expect("below `keys`")
    }

    fn write(&mut self, number: usize) -> Result<()> {
        let Connection { stream, output, .. } = &mut self.connections[number];
        let mut written = 0;
        while written < output.len() {
            match stream.write(&output[written..]) {
                Ok(count) => written += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error).context("write to the server"),
            }
        }
        output.drain(..written);
        Ok(())
    }
}

/// The key with this number; every key has the same length.
pub(crate) fn key(number: u32) -> String {
    format!("key-{number:08}")
}
