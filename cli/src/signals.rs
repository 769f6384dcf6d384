//! Signals of a verb that keeps running: the first asks it to stop, the second ends it at once.
//!
//! Ending means dropping the work, not leaving the process, so that temporary files are removed
//! after any signal that can be caught.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

struct Signals {
    interrupt: Signal,
    terminate: Signal,
    /// Nothing when the process was started with hangups ignored, as by `nohup`.
    hangup: Option<Signal>,
}

/// Runs `work`. The first of SIGINT, SIGTERM and SIGHUP cancels `stop`; the second drops `work`.
///
/// # Errors
/// The handlers cannot be installed; or the exit code of the second signal, 128 plus its number.
pub(crate) async fn run_until_stopped<T>(
    stop: &CancellationToken,
    work: impl Future<Output = T>,
) -> io::Result<Result<T, u8>> {
    let mut signals = Signals::listen()?;
    let second = async {
        signals.next().await;
        stop.cancel();
        signals.next().await
    };
    Ok(tokio::select! {
        ended = work => Ok(ended),
        code = second => Err(code),
    })
}

impl Signals {
    fn listen() -> io::Result<Self> {
        let hangup = (!hangup_is_ignored()).then(|| signal(SignalKind::hangup())).transpose()?;
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hangup,
        })
    }

    /// The next signal, as the exit code of a process that it ends.
    async fn next(&mut self) -> u8 {
        let hangup = async {
            match &mut self.hangup {
                Some(signal) => _ = signal.recv().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = self.interrupt.recv() => 130,
            _ = self.terminate.recv() => 143,
            () = hangup => 129,
        }
    }
}

/// Whether SIGHUP was set to be ignored before the process started.
fn hangup_is_ignored() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    ignores_hangup(&status)
}

/// Reads the mask of ignored signals; its lowest bit is signal 1, SIGHUP (proc_pid_status(5)).
fn ignores_hangup(status: &str) -> bool {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.is_some_and(|mask| mask & 1 == 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ignored_hangup_is_the_lowest_bit_of_the_mask() {
        assert!(ignores_hangup("Name:\tx\nSigIgn:\t0000000000001001\n"));
        assert!(!ignores_hangup("SigIgn:\t0000000000001000\n"));
        assert!(!ignores_hangup(""));
    }
}
