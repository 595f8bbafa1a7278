//! What the contract's messages say, in Rust's words.

use prost_types::Timestamp;

use crate::v1;
use crate::{CoverageState, Error};

/// A range of time, half-open: `start` belongs to it, `end` does not.
///
/// In requests an absent start is 1970, an absent end is now, fixed by the server when the call begins; microseconds
/// count, anything finer is refused by the server. A [`Timestamp`] is made `from` a `SystemTime`, or parsed from RFC 3339.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Range {
    /// First instant, inclusive.
    pub start: Option<Timestamp>,
    /// First instant after the range, exclusive.
    pub end: Option<Timestamp>,
}

impl Range {
    /// From one instant to another.
    pub fn new(start: impl Into<Timestamp>, end: impl Into<Timestamp>) -> Self {
        Self { start: Some(start.into()), end: Some(end.into()) }
    }

    /// From one instant to another, such as `2024-01-01T00:00:00Z`. Fails with [`Error::Settings`] on what is no instant.
    pub fn parse(start: &str, end: &str) -> Result<Self, Error> {
        let instant = |text: &str| {
            text.parse::<Timestamp>().map_err(|error| Error::Settings(format!("{text:?} is no instant: {error}")))
        };
        Ok(Self::new(instant(start)?, instant(end)?))
    }
}

impl From<Range> for v1::TimeRange {
    fn from(range: Range) -> Self {
        Self { start: range.start, end: range.end }
    }
}

impl From<v1::TimeRange> for Range {
    fn from(range: v1::TimeRange) -> Self {
        Self { start: range.start, end: range.end }
    }
}

/// A maximal span of one state.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct CoverageSpan {
    /// The span.
    pub range: Range,
    /// What is known about it; the contract's `coverage.proto` says what each state means.
    pub state: CoverageState,
    /// Rows stored in the span; covered with 0 is confirmed empty.
    pub row_count: i64,
    /// When the exchange was asked. Absent unless covered.
    pub checked_at: Option<Timestamp>,
    /// Why the span is unreachable. Empty otherwise.
    pub reason: String,
}

impl From<v1::CoverageSpan> for CoverageSpan {
    fn from(span: v1::CoverageSpan) -> Self {
        Self {
            state: span.state(),
            range: span.range.unwrap_or_default().into(),
            row_count: span.row_count,
            checked_at: span.checked_at,
            reason: span.reason,
        }
    }
}

pub(crate) fn spans(messages: Vec<v1::CoverageSpan>) -> Vec<CoverageSpan> {
    messages.into_iter().map(Into::into).collect()
}

/// How a read ended.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Summary {
    /// The range that was read, as the server resolved it.
    pub range: Range,
    /// Rows that were read.
    pub row_count: u64,
    /// All that closed before this instant has been settled; what is later is pending.
    pub closed_through: Option<Timestamp>,
    /// Spans of the range that are not covered, ascending.
    pub uncovered: Vec<CoverageSpan>,
    /// Rows of the range that were set aside because they break a rule of their kind.
    pub quarantined_count: i64,
    /// Whether the range holds all that the exchange can have: no span is missing or unreachable.
    pub complete: bool,
}

impl Summary {
    pub(crate) fn new(told: v1::ReadSummary, range: Range, row_count: u64) -> Self {
        Self {
            range,
            row_count,
            closed_through: told.closed_through,
            uncovered: spans(told.uncovered),
            quarantined_count: told.quarantined_count,
            complete: told.complete,
        }
    }
}
