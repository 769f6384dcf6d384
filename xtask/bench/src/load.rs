//! The load generator: one thread with its own event loop, and a closed loop of requests on every
//! connection. It checks the length of every reply.
//!
//! [`Protocol`] separates it from the protocols, so that every server gets the same load. It never
//! retries: one wrong reply ends the run with an error.

mod grpc;
mod memcached;
mod protocol;

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use clap::ValueEnum;
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};
use serde::Serialize;

use self::protocol::Protocol;
use crate::cpu;

/// A slower reply is a fault of the server and ends the run.
const REPLY_LIMIT: Duration = Duration::from_secs(10);

/// The server and the load.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Protocol of the server.
    #[arg(long)]
    protocol: ProtocolName,
    /// Address of the server.
    #[arg(long)]
    address: SocketAddr,
    /// Process id of the server, for its processor time.
    #[arg(long)]
    pid: u32,
    /// Number of connections.
    #[arg(long)]
    connections: usize,
    /// Requests in flight on each connection.
    #[arg(long)]
    depth: usize,
    /// Number of keys, read with equal probability.
    #[arg(long)]
    keys: u32,
    /// Size in bytes of the value in every reply.
    #[arg(long)]
    value_bytes: usize,
    /// Fill the cache with each key once instead of measuring (memcached: set; gRPC: Get).
    #[arg(long)]
    fill: bool,
    /// Warm-up before the measurement, in milliseconds.
    #[arg(long, default_value_t = 1_000)]
    warm_up_ms: u64,
    /// Length of the measurement, in milliseconds.
    #[arg(long, default_value_t = 2_000)]
    measure_ms: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum ProtocolName {
    /// Larder's Cache.Get.
    Grpc,
    /// memcached's text protocol.
    Memcached,
}

/// The result of a run.
#[derive(Debug, PartialEq, Serialize)]
pub(crate) struct Figures {
    /// Replies per second.
    operations_per_second: f64,
    /// The server's processor time per request, in microseconds.
    server_us: f64,
    /// The generator's processor time per request, in microseconds.
    client_us: f64,
    /// Median latency, in microseconds.
    p50_us: f64,
    /// 99th percentile of the latency, in microseconds.
    p99_us: f64,
    /// Processor time of everything else on the machine, as a percentage of all processors.
    foreign_percent: f64,
}

/// Runs the load to its end.
///
/// # Errors
/// The server cannot be reached, closes a connection, stalls, or sends a wrong reply.
pub(crate) fn run(options: &Options) -> Result<Figures> {
    let protocol = || -> Box<dyn Protocol> {
        match options.protocol {
            ProtocolName::Grpc => Box::new(grpc::Grpc::new(options.address, options.value_bytes)),
            ProtocolName::Memcached => {
                Box::new(memcached::Memcached::new(options.value_bytes, options.fill))
            }
        }
    };
    let mut load = Load::connect(options, protocol)?;
    if options.fill {
        let begin = Mark::now(options.pid)?;
        load.run_until(|load| load.filled >= options.keys && load.in_flight == 0)?;
        return begin.figures(&mut load.latencies);
    }
    let warm = Instant::now() + Duration::from_millis(options.warm_up_ms);
    load.run_until(|_| Instant::now() >= warm)?;
    load.latencies.clear();
    let begin = Mark::now(options.pid)?;
    let end = Instant::now() + Duration::from_millis(options.measure_ms);
    load.run_until(|_| Instant::now() >= end)?;
    begin.figures(&mut load.latencies)
}

/// All clocks at one moment.
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
            bail!("no reply during the measurement");
        }
        let count = latencies.len() as f64;
        latencies.sort_unstable();
        let percentile =
            |percent: usize| latencies[(latencies.len() - 1) * percent / 100] as f64 / 1_000.0;
        let (server, client) = (now.server - self.server, now.client - self.client);
        let wall = now.at.duration_since(self.at);
        let measured = (server + client) as f64 / cpu::processors()? as f64;
        // The machine's clock has ticks of ten milliseconds, so an idle machine can give a negative.
        let others = (now.machine - self.machine) as f64 - measured;
        Ok(Figures {
            operations_per_second: count / wall.as_secs_f64(),
            server_us: server as f64 / 1_000.0 / count,
            client_us: client as f64 / 1_000.0 / count,
            p50_us: percentile(50),
            p99_us: percentile(99),
            foreign_percent: (others / wall.as_nanos() as f64 * 100.0).max(0.0),
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
    /// Send each key once, in order; otherwise random keys without end.
    fill: bool,
    /// Keys sent so far while filling.
    filled: u32,
    in_flight: usize,
    random: u64,
    replied: Vec<Instant>,
    /// In nanoseconds.
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
            filled: 0,
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
            load.send(number, options.depth);
            load.write(number)?;
        }
        Ok(load)
    }

    /// Runs the event loop until `done`, which is evaluated on every turn.
    fn run_until(&mut self, done: impl Fn(&Self) -> bool) -> Result<()> {
        let mut events = Events::with_capacity(1_024);
        while !done(self) {
            match self.poll.poll(&mut events, Some(REPLY_LIMIT)) {
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                other => other?,
            }
            if events.is_empty() {
                bail!("no reply from the server for {} s", REPLY_LIMIT.as_secs());
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

    /// Reads all that has arrived, and queues a new request for each reply.
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
            let consumed = protocol.consume(input, &mut self.replied, output)?;
            input.drain(..consumed);
            let now = Instant::now();
            let replies = self.replied.len();
            for sent in self.replied.drain(..) {
                let nanoseconds = now.duration_since(sent).as_nanos();
                self.latencies.push(u64::try_from(nanoseconds).unwrap_or(u64::MAX));
            }
            self.in_flight -= replies;
            self.send(number, replies);
        }
    }

    /// Queues requests on a connection.
    fn send(&mut self, number: usize, count: usize) {
        let now = Instant::now();
        for _ in 0..count {
            if self.fill && self.filled >= self.keys {
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
            self.filled += 1;
            return self.filled - 1;
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
