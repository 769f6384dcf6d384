//! The request to stop: SIGTERM or SIGINT. A second signal ends the process at once.

use tokio::signal::unix::{Signal, SignalKind, signal};

/// Waits for the operating system's request to stop.
#[derive(Debug)]
pub struct Shutdown {
    term: Signal,
    int: Signal,
}

impl Shutdown {
    /// Listens from now on, in place of the default that ends the process.
    ///
    /// # Errors
    /// When the signals cannot be listened to.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn on_signals() -> std::io::Result<Self> {
        Ok(Self { term: signal(SignalKind::terminate())?, int: signal(SignalKind::interrupt())? })
    }

    /// Returns at the first signal. From then on a second signal ends the process without drain,
    /// with the code 128 plus the signal's number, as a shell reports it.
    ///
    /// # Cancel safety
    /// Nothing is lost: a signal that arrives between two calls is seen by the next.
    pub async fn wait(mut self) {
        let name = self.next().await.0;
        tracing::info!(signal = name, "stop asked for, draining; a second signal stops at once");
        tokio::spawn(async move {
            let (name, code) = self.next().await;
            tracing::warn!(signal = name, "second signal, stopping without drain");
            std::process::exit(code);
        });
    }

    async fn next(&mut self) -> (&'static str, i32) {
        tokio::select! {
            _ = self.term.recv() => ("SIGTERM", 143),
            _ = self.int.recv() => ("SIGINT", 130),
        }
    }
}
