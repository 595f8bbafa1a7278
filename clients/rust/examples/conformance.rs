//! Runs the golden cases of tests/clients against a server: `conformance TARGET CASES`.

use std::fmt::Write;
use std::time::Duration;

use arrow_array::cast::AsArray;
use arrow_array::types::{Float64Type, Int32Type, TimestampMicrosecondType};
use arrow_array::{Array, RecordBatch};
use arrow_schema::DataType;
use futures_util::StreamExt;
use markethistory::{
    Client, Compression, CoverageSpan, EnsureEvent, Error, Range, ReadOptions, RetryPolicy, Table, Timestamp,
};
use sha2::{Digest, Sha256};
use tonic::transport::{Certificate, ClientTlsConfig};

#[derive(serde::Deserialize)]
struct Case {
    name: String,
    series: String,
    call: String,
    start: Option<String>,
    end: Option<String>,
    last: Option<u64>,
    columns: Option<Vec<String>>,
    compression: String,
}

/// Rows and digest of a case, or the error and what has to be said of it.
type Outcome = Result<(i64, String), Box<dyn std::error::Error>>;

impl Case {
    fn window(&self) -> Range {
        let instant = |text: &Option<String>| text.as_ref().map(|text| text.parse().expect("an instant"));
        Range { start: instant(&self.start), end: instant(&self.end) }
    }

    fn options(&self) -> ReadOptions {
        ReadOptions {
            last: self.last.unwrap_or(0),
            columns: self.columns.clone().unwrap_or_default(),
            compression: match self.compression.as_str() {
                "lz4" => Compression::Lz4,
                "zstd" => Compression::Zstd,
                _ => Compression::None,
            },
            stored_only: true,
            ..Default::default()
        }
    }

    async fn run(&self, client: &Client) -> Outcome {
        match self.call.as_str() {
            "read" => self.read(client).await,
            "last" => Ok(rows_and_digest(&self.table(client).await?)),
            "coverage" => self.coverage(client).await,
            _ => self.ensure(client).await,
        }
    }

    async fn table(&self, client: &Client) -> Result<Table, Error> {
        client.read_table(&self.series, self.window(), self.options()).await
    }

    async fn read(&self, client: &Client) -> Outcome {
        let mut stream = client.read(&self.series, self.window(), self.options()).await?;
        let mut streamed = Sha256::new();
        while let Some(batch) = stream.next().await {
            add_rows(&mut streamed, &batch?);
        }
        let rows = stream.summary().ok_or("no summary")?.row_count as i64;
        let found = (rows, hex(streamed));
        let table = self.table(client).await?;
        if rows_and_digest(&table) != found || table.concat()?.num_rows() as i64 != rows {
            return Err("TABLE_DIFFERS".into());
        }
        Ok(found)
    }

    async fn coverage(&self, client: &Client) -> Outcome {
        let spans = client.coverage(&self.series, self.window()).await?;
        Ok((spans.iter().map(|span| span.row_count).sum(), hex(Sha256::new_with_prefix(span_lines(&spans)))))
    }

    async fn ensure(&self, client: &Client) -> Outcome {
        let mut stream = client.ensure_range(&self.series, self.window());
        let (mut lines, mut rows) = (String::new(), 0);
        while let Some(event) = stream.next().await {
            match event? {
                EnsureEvent::Plan(plan) => lines += &line(plan.range, "PLAN", plan.page_count),
                EnsureEvent::Progress(told) => {
                    let nowhere = Range::new(Timestamp::default(), Timestamp::default());
                    lines += &line(told.page.unwrap_or(nowhere), "PROGRESS", told.rows_done);
                }
                EnsureEvent::Result(result) => {
                    rows = result.row_count;
                    lines += &line(result.plan.range, "RESULT", rows);
                    lines += &span_lines(&result.uncovered);
                }
            }
        }
        Ok((rows, hex(Sha256::new_with_prefix(lines))))
    }
}

fn line(range: Range, state: &str, rows: i64) -> String {
    let micros = |at: Option<Timestamp>| at.map_or(0, |at| at.seconds * 1_000_000 + i64::from(at.nanos) / 1_000);
    format!("{} {} {state} {rows}\n", micros(range.start), micros(range.end))
}

fn span_lines(spans: &[CoverageSpan]) -> String {
    let state = |span: &CoverageSpan| span.state.as_str_name().trim_start_matches("COVERAGE_STATE_");
    spans.iter().map(|span| line(span.range, state(span), span.row_count)).collect()
}

fn rows_and_digest(table: &Table) -> (i64, String) {
    let mut digest = Sha256::new();
    table.batches.iter().for_each(|batch| add_rows(&mut digest, batch));
    (table.num_rows() as i64, hex(digest))
}

fn add_rows(digest: &mut Sha256, batch: &RecordBatch) {
    for row in 0..batch.num_rows() {
        for column in batch.columns() {
            if column.is_null(row) {
                digest.update([0]);
            } else {
                digest.update([1]);
                add_value(digest, column, row);
            }
        }
    }
}

fn add_value(digest: &mut Sha256, column: &dyn Array, row: usize) {
    match column.data_type() {
        DataType::Timestamp(..) => {
            digest.update(column.as_primitive::<TimestampMicrosecondType>().value(row).to_le_bytes());
        }
        DataType::Int32 => digest.update(column.as_primitive::<Int32Type>().value(row).to_le_bytes()),
        DataType::Float64 => digest.update(column.as_primitive::<Float64Type>().value(row).to_le_bytes()),
        DataType::Utf8 => {
            let text = column.as_string::<i32>().value(row);
            digest.update((text.len() as u32).to_le_bytes());
            digest.update(text);
        }
        other => panic!("a column of type {other}"),
    }
}

fn hex(digest: Sha256) -> String {
    digest.finalize().iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// The error's reason, and its digest if the server gave the reason.
fn told(error: &(dyn std::error::Error + 'static)) -> (String, Option<String>) {
    match error.downcast_ref::<Error>() {
        Some(Error::StreamCut { .. }) => ("STREAM_CUT".into(), None),
        Some(Error::BadAnswer(_)) => ("CONTRACT_BROKEN".into(), None),
        Some(Error::Failed(failure)) if failure.reason.is_empty() => (format!("{:?}", failure.code), None),
        Some(Error::Failed(failure)) => {
            let mut entries: Vec<_> = failure.metadata.iter().collect();
            entries.sort();
            let lines: String = entries.into_iter().map(|(key, value)| format!("{key}={value}\n")).collect();
            let pause = failure.retry_after.map_or("-".into(), |pause| pause.as_millis().to_string());
            let text = format!("{}\n{lines}retry_after_ms={pause}\n", failure.reason);
            (failure.reason.clone(), Some(hex(Sha256::new_with_prefix(text))))
        }
        _ => (error.to_string(), None),
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().collect();
    let cases: Vec<Case> = serde_json::from_str(&std::fs::read_to_string(&arguments[2])?)?;
    let quick = RetryPolicy { attempts: 3, backoff: Duration::from_millis(10), longest: Duration::from_secs(10) };
    let mut builder = Client::builder(&arguments[1]).retry(quick);
    if let Ok(file) = std::env::var("CONFORMANCE_CA") {
        let authority = Certificate::from_pem(std::fs::read(file)?);
        builder = builder.tls(ClientTlsConfig::new().ca_certificate(authority));
    }
    if let Ok(token) = std::env::var("CONFORMANCE_TOKEN") {
        builder = builder.token(token);
    }
    let client = builder.connect()?;
    for case in cases {
        let name = &case.name;
        let line = match case.run(&client).await {
            Ok((rows, digest)) => serde_json::json!({"case": name, "rows": rows, "digest": digest, "error": null}),
            Err(error) => {
                let (reason, digest) = told(error.as_ref());
                let message = error.to_string();
                serde_json::json!({"case": name, "rows": 0, "digest": digest, "error": reason, "message": message})
            }
        };
        println!("{line}");
    }
    Ok(())
}
