//! A server that answers every call as a test says.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use arrow_array::{Float64Array, RecordBatch, TimestampMicrosecondArray};
use arrow_ipc::writer::StreamWriter;
use arrow_schema::{DataType, Field, Schema, TimeUnit};
use bytes::Bytes;
use futures_util::Stream;
use markethistory::{Timestamp, v1};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::body::Body;
use tonic::codegen::{BoxFuture, Service, http};
use tonic::metadata::MetadataMap;
use tonic::server::{Grpc, NamedService, ServerStreamingService};
use tonic::transport::{Identity, Server, ServerTlsConfig};
use tonic::{Request, Response, Status};

type Message = Result<v1::ReadRangeResponse, Status>;

/// The messages of one call.
pub struct Answers(Pin<Box<dyn Stream<Item = Message> + Send>>);

impl Answers {
    pub fn new(messages: impl Stream<Item = Message> + Send + 'static) -> Self {
        Self(Box::pin(messages))
    }
}

type Handler = Arc<dyn Fn(&MetadataMap) -> Answers + Send + Sync>;

#[derive(Clone)]
struct Fake(Handler);

impl NamedService for Fake {
    const NAME: &'static str = "markethistory.v1.HistoryService";
}

impl ServerStreamingService<v1::ReadRangeRequest> for Fake {
    type Response = v1::ReadRangeResponse;
    type ResponseStream = Pin<Box<dyn Stream<Item = Message> + Send>>;
    type Future = BoxFuture<Response<Self::ResponseStream>, Status>;

    fn call(&mut self, request: Request<v1::ReadRangeRequest>) -> Self::Future {
        let answers = (self.0)(request.metadata());
        Box::pin(async move { Ok(Response::new(answers.0)) })
    }
}

impl Service<http::Request<Body>> for Fake {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Infallible>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let fake = self.clone();
        Box::pin(async move {
            let codec = tonic_prost::ProstCodec::<v1::ReadRangeResponse, v1::ReadRangeRequest>::default();
            Ok(Grpc::new(codec).server_streaming(fake, request).await)
        })
    }
}

/// Serves on a free port until the test's runtime ends; gives the target.
pub async fn serve(handler: impl Fn(&MetadataMap) -> Answers + Send + Sync + 'static) -> String {
    run(Server::builder(), Fake(Arc::new(handler))).await
}

/// The same with TLS; gives the certificate too.
pub async fn serve_tls(handler: impl Fn(&MetadataMap) -> Answers + Send + Sync + 'static) -> (String, String) {
    let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let (certificate, key) = (made.cert.pem(), made.signing_key.serialize_pem());
    let tls = ServerTlsConfig::new().identity(Identity::from_pem(&certificate, key));
    (run(Server::builder().tls_config(tls).unwrap(), Fake(Arc::new(handler))).await, certificate)
}

async fn run(mut server: Server, fake: Fake) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let target = listener.local_addr().unwrap().to_string();
    tokio::spawn(server.add_service(fake).serve_with_incoming(TcpListenerStream::new(listener)));
    target
}

/// A message of `count` bars from minute `first` on, with the schema.
pub fn message(first: usize, count: usize) -> v1::ReadRangeResponse {
    let minutes = first..first + count;
    let ts = TimestampMicrosecondArray::from_iter_values(minutes.clone().map(|minute| minute as i64 * 60_000_000));
    let close = Float64Array::from_iter_values(minutes.map(|minute| minute as f64));
    let schema = Schema::new(vec![
        Field::new("ts", DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())), false),
        Field::new("close", DataType::Float64, true),
    ]);
    let columns: Vec<arrow_array::ArrayRef> = vec![Arc::new(ts.with_timezone("UTC")), Arc::new(close)];
    let batch = RecordBatch::try_new(Arc::new(schema), columns).unwrap();
    let mut data = Vec::new();
    let mut writer = StreamWriter::try_new(&mut data, &batch.schema()).unwrap();
    writer.write(&batch).unwrap();
    drop(writer);
    let last = Timestamp { seconds: (first + count - 1) as i64 * 60, nanos: 0 };
    v1::ReadRangeResponse {
        range: Some(v1::TimeRange {
            start: Some(Timestamp::default()),
            end: Some(Timestamp { seconds: 1 << 37, nanos: 0 }),
        }),
        row_count: count as i64,
        last_key: Some(v1::RowKey { ts: Some(last), seq: 0 }),
        summary: None,
        arrow_ipc: data.into(),
    }
}

/// Cuts the schema's message off, which ends where the next one begins.
pub fn without_schema(data: Bytes) -> Bytes {
    let next = (8..).step_by(8).find(|&at| data[at..at + 4] == [0xff; 4]).unwrap();
    data.slice(next..)
}
