//! Making a range covered, with progress.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_core::Stream;
use prost_types::Timestamp;

use crate::attempts::Attempts;
use crate::client::Service;
use crate::session::{Resumed, Session};
use crate::values::spans;
use crate::{Client, CoverageSpan, Error, Range, v1};

/// One event of an [`EnsureStream`].
#[derive(Debug, Clone, PartialEq)]
pub enum EnsureEvent {
    /// The first event: what will be done.
    Plan(EnsurePlan),
    /// How far it is; at least one a second while it runs.
    Progress(EnsureProgress),
    /// The last event: what was done.
    Result(EnsureResult),
}

/// What has to be done to cover a range.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct EnsurePlan {
    /// The range to cover, as the server resolved it.
    pub range: Range,
    /// Spans that will be fetched, ascending.
    pub missing: Vec<Range>,
    /// Pages to fetch.
    pub page_count: i64,
    /// Calls to the exchange that this takes at least.
    pub call_count: i64,
    /// Estimate of the bytes that will be stored.
    pub byte_count: i64,
    /// Least time that the quota allows for these calls.
    pub least_duration: Duration,
}

/// How far an ensure is. Counters never decrease, also where a broken stream was resumed.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct EnsureProgress {
    /// Pages done so far.
    pub pages_done: i64,
    /// Rows stored so far by these pages.
    pub rows_done: i64,
    /// Calls made so far, repeated ones among them.
    pub calls_done: i64,
    /// Estimate of the time that is left, if it is known.
    pub remaining: Option<Duration>,
    /// The page last completed. Absent if none was since the last event.
    pub page: Option<Range>,
    /// What is waited for; absent while calls are under way.
    pub wait: Option<EnsureWait>,
}

/// Why no call is under way at the moment.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct EnsureWait {
    /// What is waited for.
    pub cause: v1::ensure_wait::Cause,
    /// When the wait is expected to end.
    pub until: Option<Timestamp>,
    /// The key of the quota; for a retry one sentence on the failure.
    pub detail: String,
}

/// What an ensure did.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct EnsureResult {
    /// What was planned.
    pub plan: EnsurePlan,
    /// Rows stored in the pages fetched.
    pub row_count: i64,
    /// Pages fetched, by this call or by others that it waited for.
    pub page_count: i64,
    /// Calls made to the exchange for them.
    pub call_count: i64,
    /// Spans of the range that are not covered, ascending, with the reason.
    pub uncovered: Vec<CoverageSpan>,
    /// Rows set aside because they break a rule of their kind.
    pub quarantined_count: i64,
}

/// The events of an ensure: a [`Stream`]. Dropping it cancels the call; pages fetched are kept.
pub struct EnsureStream {
    resumed: Resumed<EnsureSession>,
}

impl EnsureStream {
    /// Waits for the end, and gives what was done.
    pub async fn finish(mut self) -> Result<EnsureResult, Error> {
        while let Some(event) = std::future::poll_fn(|context| Pin::new(&mut self).poll_next(context)).await {
            if let EnsureEvent::Result(result) = event? {
                return Ok(result);
            }
        }
        Err(self.resumed.session.cut())
    }
}

impl Stream for EnsureStream {
    type Item = Result<EnsureEvent, Error>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.resumed.poll_item(context)
    }
}

impl Client {
    /// Makes a range covered. Nothing happens until the stream is polled; a range that was covered in part may be asked
    /// for again at no cost.
    pub fn ensure_range(&self, series: &str, window: Range) -> EnsureStream {
        self.ensure(v1::EnsureRangeRequest {
            series: series.to_owned(),
            range: Some(window.into()),
            ..Default::default()
        })
    }

    /// As [`Client::ensure_range`], but asks the exchange again for what is covered already; its newest answer replaces the
    /// old one.
    pub fn refresh_range(&self, series: &str, window: Range) -> EnsureStream {
        let range = Some(window.into());
        self.ensure(v1::EnsureRangeRequest { series: series.to_owned(), range, refresh: true, plan_only: false })
    }

    /// What [`Client::ensure_range`] would do. Nothing is fetched.
    pub async fn plan_range(&self, series: &str, window: Range) -> Result<EnsurePlan, Error> {
        let range = Some(window.into());
        let mut stream =
            self.ensure(v1::EnsureRangeRequest { series: series.to_owned(), range, refresh: false, plan_only: true });
        match std::future::poll_fn(|context| Pin::new(&mut stream).poll_next(context)).await {
            Some(Ok(EnsureEvent::Plan(plan))) => Ok(plan),
            Some(Ok(_)) => Err(Error::BadAnswer("something came before the plan".into())),
            Some(Err(error)) => Err(error),
            None => Err(stream.resumed.session.cut()),
        }
    }

    fn ensure(&self, request: v1::EnsureRangeRequest) -> EnsureStream {
        let attempts = Attempts::new(self.retry);
        let session = EnsureSession { request, attempts, plan: None, done: false, before: [0; 3], now: [0; 3] };
        EnsureStream { resumed: Resumed::new(self, session) }
    }
}

/// One logical ensure over as many calls as it takes. Progress and result add up over the calls.
struct EnsureSession {
    request: v1::EnsureRangeRequest,
    attempts: Attempts,
    plan: Option<EnsurePlan>,
    done: bool,
    /// Pages, rows and calls done before the call under way, and in all.
    before: [i64; 3],
    now: [i64; 3],
}

impl EnsureSession {
    fn keep_plan(&mut self, plan: v1::EnsurePlan) -> Option<EnsureEvent> {
        if self.plan.is_some() {
            return None;
        }
        self.request.range = plan.range; // a moving end is fixed by the first plan
        self.done = self.request.plan_only;
        let plan = EnsurePlan {
            range: plan.range.unwrap_or_default().into(),
            missing: plan.missing.into_iter().map(Into::into).collect(),
            page_count: plan.page_count,
            call_count: plan.call_count,
            byte_count: plan.byte_count,
            least_duration: plan.least_duration.and_then(|d| d.try_into().ok()).unwrap_or_default(),
        };
        self.plan = Some(plan.clone());
        Some(EnsureEvent::Plan(plan))
    }

    fn add(&self, told: [i64; 3]) -> [i64; 3] {
        std::array::from_fn(|i| self.before[i] + told[i])
    }

    fn progress(&mut self, told: v1::EnsureProgress) -> EnsureEvent {
        if told.pages_done > self.now[0] - self.before[0] {
            self.attempts.progressed();
        }
        self.now = self.add([told.pages_done, told.rows_done, told.calls_done]);
        let [pages_done, rows_done, calls_done] = self.now;
        EnsureEvent::Progress(EnsureProgress {
            pages_done,
            rows_done,
            calls_done,
            remaining: told.remaining.and_then(|d| d.try_into().ok()),
            page: told.page.map(Into::into),
            wait: told.wait.map(|wait| EnsureWait { cause: wait.cause(), until: wait.until, detail: wait.detail }),
        })
    }

    fn result(&mut self, told: v1::EnsureResult) -> Result<EnsureEvent, Error> {
        let Some(plan) = self.plan.clone() else {
            return Err(Error::BadAnswer("a result without a plan".into()));
        };
        self.done = true;
        let [page_count, row_count, call_count] = self.add([told.page_count, told.row_count, told.call_count]);
        let (uncovered, quarantined_count) = (spans(told.uncovered), told.quarantined_count);
        Ok(EnsureEvent::Result(EnsureResult { plan, row_count, page_count, call_count, uncovered, quarantined_count }))
    }
}

impl Session for EnsureSession {
    type Message = v1::EnsureRangeResponse;
    type Item = EnsureEvent;

    fn call(
        &mut self,
        mut service: Service,
    ) -> Pin<Box<dyn Future<Output = Result<tonic::Response<tonic::Streaming<Self::Message>>, tonic::Status>> + Send>>
    {
        self.before = self.now;
        let request = self.request.clone();
        Box::pin(async move { service.ensure_range(request).await })
    }

    fn receive(&mut self, message: v1::EnsureRangeResponse) -> Result<Vec<EnsureEvent>, Error> {
        use v1::ensure_range_response::Event;
        self.attempts.heard();
        Ok(match message.event {
            Some(Event::Plan(plan)) => self.keep_plan(plan).into_iter().collect(),
            Some(Event::Progress(told)) => vec![self.progress(told)],
            Some(Event::Result(told)) => vec![self.result(told)?],
            None => Vec::new(),
        })
    }

    fn done(&self) -> bool {
        self.done
    }

    fn cut(&self) -> Error {
        Error::StreamCut { series: self.request.series.clone(), rows: self.now[1].max(0) as u64 }
    }

    fn pause_after(&mut self, error: Error) -> Result<Duration, Error> {
        self.attempts.pause_after(error)
    }
}
