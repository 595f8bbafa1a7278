//! Everything that can go wrong.

use std::collections::HashMap;
use std::time::Duration;

use tonic::{Code, Status};
use tonic_types::StatusExt;

/// What every call fails with.
///
/// ```
/// # use markethistory::Error;
/// fn advise(error: &Error) -> Option<&str> {
///     match error {
///         Error::Failed(failure) if failure.reason == "UNKNOWN_SYMBOL" => failure.metadata.get("nearest").map(String::as_str),
///         _ => None,
///     }
/// }
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The server, or something on the way to it, ended the call with a status.
    #[error(transparent)]
    Failed(Box<Failure>),
    /// A stream ended before its summary (or result), and resuming it did not help. What it brought is incomplete.
    #[error("the stream of {series} ended after {rows} rows without its summary")]
    StreamCut {
        /// The series that was asked for.
        series: String,
        /// Rows that came before the end.
        rows: u64,
    },
    /// The server's answer breaks the contract: a defect, of the server or of this client.
    #[error("the server's answer cannot be read: {0}")]
    BadAnswer(String),
    /// Something given to [`crate::Client::builder`] cannot be right. Nothing was sent.
    #[error("{0}")]
    Settings(String),
}

/// A call that ended with a status other than OK.
#[derive(Debug, thiserror::Error)]
#[error("{}{}: {message}", .code.description(), if .reason.is_empty() { String::new() } else { format!(" ({})", .reason) })]
#[non_exhaustive]
pub struct Failure {
    /// The gRPC status.
    pub code: Code,
    /// Name of the contract's ErrorReason without its prefix, such as `UNKNOWN_SYMBOL`. Empty if the server did not
    /// answer itself.
    pub reason: String,
    /// One sentence for a person.
    pub message: String,
    /// What was wrong and with what value, by the names of the contract's `error_reason.proto`.
    pub metadata: HashMap<String, String>,
    /// The pause after which asking again may help; `None` if it may not, or nobody knows.
    pub retry_after: Option<Duration>,
    #[source]
    status: Status,
}

impl Failure {
    /// `reason` as the contract's enum; `Unspecified` if there is none, or this client does not know it yet.
    pub fn error_reason(&self) -> crate::v1::ErrorReason {
        crate::v1::ErrorReason::from_str_name(&format!("ERROR_REASON_{}", self.reason)).unwrap_or_default()
    }
}

/// How prost says that bytes are no message. tonic gives its words as a status of its own, without a source.
const UNDECODABLE: &str = "failed to decode Protobuf message";

impl From<Status> for Error {
    fn from(status: Status) -> Self {
        if status.code() == Code::Internal && status.message().starts_with(UNDECODABLE) {
            return Error::BadAnswer(status.message().to_owned());
        }
        let details = status.get_error_details();
        let (reason, metadata) = match details.error_info() {
            Some(info) => (info.reason.clone(), info.metadata.clone()),
            None => Default::default(),
        };
        let retry_after = details.retry_info().map(|retry| retry.retry_delay.unwrap_or_default());
        let (code, message) = (status.code(), status.message().to_owned());
        Error::Failed(Box::new(Failure { code, reason, message, metadata, retry_after, status }))
    }
}
