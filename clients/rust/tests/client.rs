//! What only Rust has: dropping, settings, a stalled task. What a client has to give for what a server may send is told by
//! the golden cases of the repository's `tests/clients`.

mod fake;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use fake::{Answers, message, serve, serve_tls};
use futures_util::{StreamExt, stream};
use markethistory::{Client, Error, Range, ReadOptions, RetryPolicy, v1};
use tokio::sync::oneshot;
use tonic::Code;
use tonic::transport::{Certificate, ClientTlsConfig};

const SERIES: &str = "ohlcv:x:A/B:1m";

fn quick(target: &str) -> Client {
    let policy = RetryPolicy { attempts: 3, backoff: Duration::from_millis(1), ..Default::default() };
    Client::builder(target).retry(policy).connect().unwrap()
}

/// Tells when it is dropped, as a server's stream is when its call is over.
struct Watched(Option<oneshot::Sender<()>>);

impl Drop for Watched {
    fn drop(&mut self) {
        let _ = self.0.take().unwrap().send(());
    }
}

#[tokio::test]
async fn dropping_a_stream_ends_the_call_at_the_server() {
    let (over, gone) = oneshot::channel();
    let watched = std::sync::Mutex::new(Some(Watched(Some(over))));
    let target = serve(move |_| {
        let watched = watched.lock().unwrap().take();
        let first = stream::iter([Ok(message(0, 2))]);
        let forever = stream::once(async move {
            let _watched = watched;
            std::future::pending().await
        });
        Answers::new(first.chain(forever))
    })
    .await;
    let mut rows = quick(&target).read(SERIES, Range::default(), ReadOptions::default()).await.unwrap();
    assert_eq!(rows.next().await.unwrap().unwrap().num_rows(), 2);
    assert!(rows.summary().is_none());
    drop(rows);
    gone.await.unwrap();
}

#[tokio::test]
async fn a_reader_that_pauses_holds_the_server_back() {
    const ROWS: usize = 65_000; // 1 MiB
    const MESSAGES: u64 = 200;
    let sent = Arc::new(AtomicU64::new(0));
    let counted = sent.clone();
    let target = serve(move |_| {
        let counted = counted.clone();
        Answers::new(stream::iter(0..MESSAGES).map(move |number| {
            counted.fetch_add(1, Ordering::SeqCst);
            let mut answer = message(number as usize * ROWS, ROWS);
            if number > 0 {
                answer.arrow_ipc = fake::without_schema(answer.arrow_ipc);
            }
            if number == MESSAGES - 1 {
                answer.summary =
                    Some(v1::ReadSummary { row_count: ROWS as i64 * MESSAGES as i64, ..Default::default() });
            }
            Ok(answer)
        }))
    })
    .await;
    let mut rows = quick(&target).read(SERIES, Range::default(), ReadOptions::default()).await.unwrap();
    // The server has stopped when it made nothing new for a while.
    let mut before = u64::MAX;
    while before != sent.load(Ordering::SeqCst) {
        before = sent.load(Ordering::SeqCst);
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    assert!(before < MESSAGES / 2, "{before} messages were made for one that was taken");
    let mut count = 0;
    while let Some(batch) = rows.next().await {
        count += batch.unwrap().num_rows() as u64;
    }
    assert_eq!(rows.summary().unwrap().row_count, count);
    assert_eq!(count, ROWS as u64 * MESSAGES);
}

#[tokio::test]
async fn rows_that_were_not_counted_are_a_bad_answer() {
    let calls = Arc::new(AtomicU64::new(0));
    let counted = calls.clone();
    let target = serve(move |_| {
        counted.fetch_add(1, Ordering::SeqCst);
        Answers::new(stream::iter([Ok(v1::ReadRangeResponse { row_count: 4, ..message(0, 3) })]))
    })
    .await;
    let error = quick(&target).read_table(SERIES, Range::default(), ReadOptions::default()).await.unwrap_err();
    assert!(matches!(error, Error::BadAnswer(_)), "{error}");
    assert_eq!(calls.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_server_that_is_not_there_is_unavailable_soon() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let client = quick(&format!("127.0.0.1:{port}"));
    let options = ReadOptions { last: 3, ..Default::default() };
    let error = client.read_table(SERIES, Range::default(), options).await.unwrap_err();
    assert!(matches!(&error, Error::Failed(failure) if failure.code == Code::Unavailable), "{error}");
}

#[tokio::test]
async fn a_token_comes_with_each_call_and_needs_tls_beyond_this_machine() {
    assert!(matches!(Client::builder("history.example:443").token("secret").connect(), Err(Error::Settings(_))));
    let check = |request: &tonic::metadata::MetadataMap| {
        assert_eq!(request.get("authorization").unwrap(), "Bearer secret");
        Answers::new(stream::iter([Ok(v1::ReadRangeResponse {
            summary: Some(v1::ReadSummary { row_count: 2, ..Default::default() }),
            ..message(0, 2)
        })]))
    };
    let plain = Client::builder(&serve(check).await).token("secret").connect().unwrap();
    let (target, certificate) = serve_tls(check).await;
    let tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(certificate));
    let secure = Client::builder(&target).token("secret").tls(tls).connect().unwrap();
    for client in [plain, secure] {
        let table = client.read_table(SERIES, Range::default(), ReadOptions::default()).await.unwrap();
        assert_eq!(table.concat().unwrap().num_rows(), 2);
    }
    let stranger = Client::builder(&target).tls(ClientTlsConfig::new().with_enabled_roots()).connect().unwrap();
    let error = stranger.read_table(SERIES, Range::default(), ReadOptions::default()).await.unwrap_err();
    assert!(matches!(&error, Error::Failed(failure) if failure.code == Code::Unavailable), "{error}");
}
