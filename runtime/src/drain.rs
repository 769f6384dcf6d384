//! Shutdown on SIGTERM or SIGINT. A second signal ends the process at once.

use tokio::signal::unix::{Signal, SignalKind, signal};

/// Waits for the first SIGTERM or SIGINT.
#[derive(Debug)]
pub struct Shutdown {
    term: Signal,
    int: Signal,
}

impl Shutdown {
    /// Installs the signal handlers. From now on a signal no longer ends the process by itself.
    ///
    /// # Errors
    /// A signal handler cannot be installed.
    ///
    /// # Panics
    /// If called outside a tokio runtime.
    pub fn on_signals() -> std::io::Result<Self> {
        Ok(Self { term: signal(SignalKind::terminate())?, int: signal(SignalKind::interrupt())? })
    }

    /// Returns after the first signal. A second signal then ends the process without a drain, with
    /// the exit code 128 plus the signal number, as a shell reports it.
    ///
    /// # Cancel safety
    /// Dropping the future consumes the handlers: later signals are ignored.
    pub async fn wait(mut self) {
        let name = self.next().await.0;
        tracing::info!(
            signal = name,
            "shutdown requested, draining; a second signal exits at once"
        );
        tokio::spawn(async move {
            let (name, code) = self.next().await;
            tracing::warn!(signal = name, "second signal, exiting without drain");
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
