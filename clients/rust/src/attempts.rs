//! When a broken call is made again, and after what pause.

use std::time::Duration;

use tonic::Code;

use crate::Error;

/// How often and how patiently a broken call is made again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Calls in a row that may fail without bringing anything new; 1: never resume. Default 6.
    pub attempts: u32,
    /// Longest pause before the second of them; it doubles with each further one. Default 200 ms.
    pub backoff: Duration,
    /// Longest pause at all. A server that asks for a longer one gets none: its error is returned. Default 30 s.
    pub longest: Duration,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self { attempts: 6, backoff: Duration::from_millis(200), longest: Duration::from_secs(30) }
    }
}

/// Counts the failures of one logical call.
#[derive(Debug)]
pub(crate) struct Attempts {
    policy: RetryPolicy,
    failures: u32,
    heard: bool,
}

impl Attempts {
    pub(crate) fn new(policy: RetryPolicy) -> Self {
        Self { policy, failures: 0, heard: false }
    }

    /// The server is there.
    pub(crate) fn heard(&mut self) {
        self.heard = true;
    }

    /// The server brought something new: failures count anew.
    pub(crate) fn progressed(&mut self) {
        self.heard = true;
        self.failures = 0;
    }

    /// The pause before the next attempt; the error itself if there should be none.
    pub(crate) fn pause_after(&mut self, error: Error) -> Result<Duration, Error> {
        self.failures += 1;
        let (answered, asked) = match &error {
            Error::Failed(failure) => (!failure.reason.is_empty(), failure.retry_after.unwrap_or_default()),
            _ => (false, Duration::ZERO),
        };
        // A server that never answered is more likely down than restarting: say so soon.
        let allowed = if self.heard || answered { self.policy.attempts } else { self.policy.attempts.min(2) };
        if self.failures >= allowed || !may_help(&error) || asked > self.policy.longest {
            return Err(error);
        }
        let doubled = self.policy.backoff.saturating_mul(1 << (self.failures - 1).min(20));
        Ok(doubled.min(self.policy.longest).mul_f64(0.5 + fastrand::f64() / 2.0).max(asked))
    }
}

/// Whether the server says that asking again may help or, if it said nothing, the call just broke. What the exchange
/// refuses was tried again by the server already, as often as it is told to.
fn may_help(error: &Error) -> bool {
    match error {
        Error::StreamCut { .. } => true,
        Error::Failed(failure) => match failure.reason.as_str() {
            "" => matches!(failure.code, Code::Unavailable | Code::Internal | Code::Unknown | Code::Cancelled),
            "EXCHANGE_UNAVAILABLE" | "BAD_ANSWER" | "RATE_LIMITED" => false,
            _ => failure.retry_after.is_some(),
        },
        Error::BadAnswer(_) | Error::Settings(_) => false,
    }
}
