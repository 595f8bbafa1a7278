//! Reads: what to ask, what an answer means, and the stream and the table that it becomes.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use arrow_array::RecordBatch;
use arrow_array::cast::AsArray;
use arrow_array::types::TimestampMicrosecondType;
use arrow_buffer::Buffer;
use arrow_ipc::reader::StreamDecoder;
use arrow_schema::{ArrowError, SchemaRef};
use bytes::Bytes;
use futures_core::Stream;
use prost_types::Timestamp;

use crate::attempts::Attempts;
use crate::client::Service;
use crate::session::{Resumed, Session};
use crate::{Client, Error, Range, RetryPolicy, Summary, v1};

/// Rows that ReadLast gives at most.
const MOST_FEW: u64 = 1000;

/// Compression of record batches on the wire.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Compression {
    /// None: the fastest on one machine or a fast network.
    #[default]
    None,
    /// LZ4 frames: about half the size.
    Lz4,
    /// Zstandard: about a third of the size, slower.
    Zstd,
}

/// What can be chosen for a read. The default reads all columns of the range, fetching first what the server does not
/// have.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ReadOptions {
    /// If not 0, only the last so many rows before the range's end; its start does not count.
    pub last: u64,
    /// Columns to read; `ts` always comes. Default: all.
    pub columns: Vec<String>,
    /// Reads what is stored, without asking the exchange for what is missing.
    pub stored_only: bool,
    /// Fails with the reason INCOMPLETE if a span of the range cannot be had. Without it the summary names the spans.
    pub require_complete: bool,
    /// Compression of the rows on the wire.
    pub compression: Compression,
    /// Bound of one message's Arrow bytes, from 65,536 to 3,145,728. Default 0: 1 MiB.
    pub max_chunk_bytes: u32,
}

impl ReadOptions {
    fn request(&self, series: &str, window: Range) -> v1::ReadRangeRequest {
        let start = if self.last == 0 { window.start } else { None };
        v1::ReadRangeRequest {
            series: series.to_owned(),
            range: Some(v1::TimeRange { start, end: window.end }),
            last: i64::try_from(self.last).unwrap_or(i64::MAX),
            columns: self.columns.clone(),
            ensure: !self.stored_only,
            require_complete: self.require_complete,
            resume_after: None,
            max_chunk_bytes: self.max_chunk_bytes.into(),
            compression: match self.compression {
                Compression::None => v1::Compression::Unspecified,
                Compression::Lz4 => v1::Compression::Lz4,
                Compression::Zstd => v1::Compression::Zstd,
            }
            .into(),
        }
    }

    fn few(&self, series: &str, window: Range) -> Option<v1::ReadLastRequest> {
        let few =
            (1..=MOST_FEW).contains(&self.last) && self.compression == Compression::None && self.max_chunk_bytes == 0;
        few.then(|| v1::ReadLastRequest {
            series: series.to_owned(),
            count: self.last as i64,
            end: window.end,
            columns: self.columns.clone(),
            ensure: !self.stored_only,
            require_complete: self.require_complete,
        })
    }
}

/// All rows of a read.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Table {
    /// The rows' schema.
    pub schema: SchemaRef,
    /// The rows, in key order.
    pub batches: Vec<RecordBatch>,
    /// How the read ended.
    pub summary: Summary,
}

impl Table {
    /// How many rows there are.
    pub fn num_rows(&self) -> usize {
        self.batches.iter().map(RecordBatch::num_rows).sum()
    }

    /// All rows in one batch, copied.
    pub fn concat(&self) -> Result<RecordBatch, ArrowError> {
        arrow_select::concat::concat_batches(&self.schema, &self.batches)
    }
}

/// The rows of a read as they come, in key order and in bounded memory: a [`Stream`] of record batches.
///
/// After an error the stream ends, and what it gave is incomplete. Dropping it cancels the read.
pub struct BatchStream {
    resumed: Resumed<ReadSession>,
}

impl BatchStream {
    /// The rows' schema.
    pub fn schema(&self) -> SchemaRef {
        let schema = self.resumed.session.schema.clone();
        schema.unwrap_or_else(|| Arc::new(arrow_schema::Schema::empty()))
    }

    /// How the read ended; `None` before all rows were taken, or if it failed.
    pub fn summary(&self) -> Option<&Summary> {
        self.resumed.session.summary.as_ref().filter(|_| self.resumed.exhausted())
    }
}

impl Stream for BatchStream {
    type Item = Result<RecordBatch, Error>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.resumed.poll_item(context)
    }
}

impl Client {
    /// Begins to read the rows of a range. Ready when the first rows came, or the news that there are none.
    pub async fn read(&self, series: &str, window: Range, options: ReadOptions) -> Result<BatchStream, Error> {
        let session = ReadSession::new(options.request(series, window), self.retry);
        let mut resumed = Resumed::new(self, session);
        while resumed.session.schema.is_none() && !resumed.session.done() {
            std::future::poll_fn(|context| resumed.poll_advance(context)).await?;
        }
        if resumed.session.schema.is_none() {
            return Err(Error::BadAnswer("a summary without a schema".into()));
        }
        Ok(BatchStream { resumed })
    }

    /// Reads the rows of a range into a table, completely or not at all. A few last rows come in one answer, in less time
    /// than a stream takes.
    pub async fn read_table(&self, series: &str, window: Range, options: ReadOptions) -> Result<Table, Error> {
        if let Some(request) = options.few(series, window) {
            return self.read_few(request).await;
        }
        let mut stream = self.read(series, window, options).await?;
        let mut batches = Vec::new();
        while let Some(batch) = std::future::poll_fn(|context| Pin::new(&mut stream).poll_next(context)).await {
            batches.push(batch?);
        }
        let schema = stream.schema();
        match stream.resumed.session.summary {
            Some(summary) => Ok(Table { schema, batches, summary }),
            None => Err(stream.resumed.session.cut()),
        }
    }

    /// By ReadLast. A call that breaks is made again from the start.
    async fn read_few(&self, request: v1::ReadLastRequest) -> Result<Table, Error> {
        let mut attempts = Attempts::new(self.retry);
        loop {
            match self.service().read_last(request.clone()).await {
                Ok(response) => return table_of(response.into_inner()),
                Err(status) => tokio::time::sleep(attempts.pause_after(status.into())?).await,
            }
        }
    }
}

fn table_of(answer: v1::ReadLastResponse) -> Result<Table, Error> {
    let (Some(range), Some(told)) = (answer.range, answer.summary) else {
        return Err(Error::BadAnswer("it lacks its range or its summary".into()));
    };
    let mut decoder = StreamDecoder::new();
    let batches = decode(&mut decoder, answer.arrow_ipc)?;
    let Some(schema) = decoder.schema() else {
        return Err(Error::BadAnswer("it lacks its schema".into()));
    };
    let rows = count(&batches);
    if rows as i64 != answer.row_count || rows as i64 != told.row_count {
        return Err(Error::BadAnswer(format!("{rows} rows, counted {} and {}", answer.row_count, told.row_count)));
    }
    Ok(Table { schema, batches, summary: Summary::new(told, range.into(), rows) })
}

fn decode(decoder: &mut StreamDecoder, data: Bytes) -> Result<Vec<RecordBatch>, Error> {
    let mut buffer = Buffer::from(data);
    let mut found = Vec::new();
    while !buffer.is_empty() {
        match decoder.decode(&mut buffer) {
            Ok(batch) => found.extend(batch),
            Err(error) => return Err(Error::BadAnswer(error.to_string())),
        }
    }
    Ok(found)
}

fn count(batches: &[RecordBatch]) -> u64 {
    batches.iter().map(|batch| batch.num_rows() as u64).sum()
}

/// One logical read over as many calls as it takes.
///
/// The first message fixes the range; each message names the key of its last row. If a call breaks, the next one asks for
/// the same range after that key, so that rows are neither doubled nor lost, and a moving end does not move. Only the
/// summary ends a read.
struct ReadSession {
    request: v1::ReadRangeRequest,
    attempts: Attempts,
    schema: Option<SchemaRef>,
    summary: Option<Summary>,
    resolved: Option<v1::TimeRange>,
    last_key: Option<v1::RowKey>,
    rows: u64,
    decoder: StreamDecoder,
    call_rows: u64,
}

impl ReadSession {
    fn new(request: v1::ReadRangeRequest, policy: RetryPolicy) -> Self {
        Self {
            request,
            attempts: Attempts::new(policy),
            schema: None,
            summary: None,
            resolved: None,
            last_key: None,
            rows: 0,
            decoder: StreamDecoder::new(),
            call_rows: 0,
        }
    }

    fn next_request(&self) -> v1::ReadRangeRequest {
        let mut request = self.request.clone();
        if let Some(range) = self.resolved {
            request.range = Some(range);
            if self.last_key.is_some() {
                request.last = 0; // the resolved range begins at the first of the last N
                request.resume_after = self.last_key;
            }
        }
        request
    }

    fn keep_schema(&mut self) -> Result<(), Error> {
        match (&self.schema, self.decoder.schema()) {
            (Some(known), Some(found)) if *known != found => {
                Err(Error::BadAnswer("a resumed stream has another schema".into()))
            }
            (None, found) => {
                self.schema = found;
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn keep_key(&mut self, key: Option<v1::RowKey>, first: &RecordBatch) -> Result<(), Error> {
        let Some(key) = key else {
            return Err(Error::BadAnswer("rows without the key of the last one".into()));
        };
        if let Some(before) = &self.last_key {
            let resumed = self.call_rows == 0;
            if order(&key) <= order(before) || (resumed && !self.follows(first, before)) {
                return Err(Error::BadAnswer("rows that do not follow the rows before".into()));
            }
        }
        self.last_key = Some(key);
        self.attempts.progressed();
        Ok(())
    }

    /// Whether a resumed stream begins after a key; trades may share its time.
    fn follows(&self, batch: &RecordBatch, key: &v1::RowKey) -> bool {
        let Some(times) = batch.column(0).as_primitive_opt::<TimestampMicrosecondType>() else {
            return false;
        };
        let last = key.ts.as_ref().map_or(0, micros);
        let first = if times.is_empty() { last } else { times.value(0) };
        first > last || (first == last && !self.request.series.starts_with("ohlcv:"))
    }

    fn keep_summary(&mut self, told: v1::ReadSummary) -> Result<(), Error> {
        if told.row_count != self.call_rows as i64 {
            return Err(Error::BadAnswer(format!("{} rows, counted {}", self.call_rows, told.row_count)));
        }
        let range = self.resolved.unwrap_or_default().into();
        self.summary = Some(Summary::new(told, range, self.rows));
        Ok(())
    }
}

impl Session for ReadSession {
    type Message = v1::ReadRangeResponse;
    type Item = RecordBatch;

    fn call(
        &mut self,
        mut service: Service,
    ) -> Pin<Box<dyn Future<Output = Result<tonic::Response<tonic::Streaming<Self::Message>>, tonic::Status>> + Send>>
    {
        self.decoder = StreamDecoder::new();
        self.call_rows = 0;
        let request = self.next_request();
        Box::pin(async move { service.read_range(request).await })
    }

    fn receive(&mut self, message: v1::ReadRangeResponse) -> Result<Vec<RecordBatch>, Error> {
        self.attempts.heard();
        let batches = decode(&mut self.decoder, message.arrow_ipc)?;
        let rows = count(&batches);
        if rows as i64 != message.row_count {
            return Err(Error::BadAnswer(format!("{rows} rows in a message, counted {}", message.row_count)));
        }
        if self.resolved.is_none() {
            self.resolved = message.range;
            if self.resolved.is_none() {
                return Err(Error::BadAnswer("the first message does not state the range".into()));
            }
        }
        self.keep_schema()?;
        if rows > 0 {
            self.keep_key(message.last_key, &batches[0])?;
        }
        self.call_rows += rows;
        self.rows += rows;
        if let Some(told) = message.summary {
            self.keep_summary(told)?;
        }
        Ok(batches)
    }

    fn done(&self) -> bool {
        self.summary.is_some()
    }

    fn cut(&self) -> Error {
        Error::StreamCut { series: self.request.series.clone(), rows: self.rows }
    }

    fn pause_after(&mut self, error: Error) -> Result<Duration, Error> {
        self.attempts.pause_after(error)
    }
}

fn order(key: &v1::RowKey) -> (i64, i32, i32) {
    let ts = key.ts.unwrap_or_default();
    (ts.seconds, ts.nanos, key.seq)
}

fn micros(instant: &Timestamp) -> i64 {
    instant.seconds * 1_000_000 + i64::from(instant.nanos) / 1_000
}
