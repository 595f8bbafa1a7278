//! The connection, and the calls that are one question and one answer.

use std::net::IpAddr;
use std::time::Duration;

use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};

use crate::v1::history_service_client::HistoryServiceClient;
use crate::values::spans;
use crate::{CoverageSpan, Error, Range, RetryPolicy, v1};

// A read's messages are bounded by the contract to 3 MiB and an envelope; the answer to Coverage grows with its spans.
const MAX_MESSAGE_BYTES: usize = 64 << 20;

// What the server may send of a stream before it is taken in. With less it waits for us again and again.
const STREAM_WINDOW_BYTES: u32 = 16 << 20;

/// The generated stub, with the client's token and bounds.
pub type Service = HistoryServiceClient<InterceptedService<Channel, Bearer>>;

/// Asks one server. Cheap to clone: clones share a connection.
#[derive(Debug, Clone)]
pub struct Client {
    service: Service,
    pub(crate) retry: RetryPolicy,
}

impl Client {
    /// A client of the server at `target` (`host:port`), without encryption. Nothing is sent before the first call.
    /// Must be called within a tokio runtime.
    pub fn connect(target: &str) -> Result<Self, Error> {
        Self::builder(target).connect()
    }

    /// A client with other than the default settings.
    pub fn builder(target: &str) -> Builder {
        Builder { target: target.to_owned(), token: None, retry: RetryPolicy::default(), tls: None }
    }

    /// The generated stub on the same connection, for all that has no method here: `list_series`, `list_markets`,
    /// `quality`. A `Status` of it becomes an [`Error`] by `from`.
    pub fn service(&self) -> Service {
        self.service.clone()
    }

    /// Spans that tile a window of a series, ascending, without holes or overlaps; `Range::default()` is all of time up
    /// to now. Never asks the exchange.
    pub async fn coverage(&self, series: &str, window: Range) -> Result<Vec<CoverageSpan>, Error> {
        let request = v1::CoverageRequest { series: series.to_owned(), range: Some(window.into()) };
        Ok(spans(self.service().coverage(request).await?.into_inner().spans))
    }
}

/// Settings of a [`Client`].
#[derive(Debug, Clone)]
pub struct Builder {
    target: String,
    token: Option<String>,
    retry: RetryPolicy,
    tls: Option<Tls>,
}

#[cfg(feature = "tls")]
type Tls = tonic::transport::ClientTlsConfig;
#[cfg(not(feature = "tls"))]
type Tls = std::convert::Infallible;

impl Builder {
    /// Encrypts the connection; `ClientTlsConfig::new().with_enabled_roots()` trusts the system's roots.
    #[cfg(feature = "tls")]
    pub fn tls(mut self, config: tonic::transport::ClientTlsConfig) -> Self {
        self.tls = Some(config);
        self
    }

    /// Sends `authorization: Bearer TOKEN` with each call. Without TLS it is refused but for loopback targets.
    pub fn token(mut self, token: impl Into<String>) -> Self {
        self.token = Some(token.into());
        self
    }

    /// How broken calls are made again.
    pub fn retry(mut self, policy: RetryPolicy) -> Self {
        self.retry = policy;
        self
    }

    /// The client. Fails with [`Error::Settings`] if a setting cannot be right; nothing is sent before the first call.
    /// Must be called within a tokio runtime.
    pub fn connect(self) -> Result<Client, Error> {
        if self.token.is_some() && self.tls.is_none() && !is_loopback(&self.target) {
            return Err(Error::Settings("a token needs TLS, unless the server is on this machine".into()));
        }
        let token = self.token.map(|token| format!("Bearer {token}").parse()).transpose();
        let bearer = Bearer(token.map_err(|_| Error::Settings("the token has characters that no header can".into()))?);
        let channel = endpoint(&self.target, self.tls)?.connect_lazy();
        let service =
            HistoryServiceClient::with_interceptor(channel, bearer).max_decoding_message_size(MAX_MESSAGE_BYTES);
        Ok(Client { service, retry: self.retry })
    }
}

fn endpoint(target: &str, tls: Option<Tls>) -> Result<Endpoint, Error> {
    let scheme = if tls.is_some() { "https" } else { "http" };
    let wrong = |error: tonic::transport::Error| {
        Error::Settings(format!("{target:?} is no host:port, or its TLS is wrong: {error}"))
    };
    let endpoint = Endpoint::from_shared(format!("{scheme}://{target}"))
        .and_then(|endpoint| endpoint.user_agent(concat!("markethistory-rust/", env!("CARGO_PKG_VERSION"))))
        .map_err(wrong)?
        .connect_timeout(Duration::from_secs(5))
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(2 * STREAM_WINDOW_BYTES);
    match tls {
        #[cfg(feature = "tls")]
        Some(config) => endpoint.tls_config(config).map_err(wrong),
        #[cfg(not(feature = "tls"))]
        Some(never) => match never {},
        None => Ok(endpoint),
    }
}

fn is_loopback(target: &str) -> bool {
    let host = target.rsplit_once(':').map_or(target, |(host, _)| host);
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || bare.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// Adds the token to each call.
#[derive(Clone)]
pub struct Bearer(Option<MetadataValue<Ascii>>);

impl std::fmt::Debug for Bearer {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(if self.0.is_some() { "Bearer(..)" } else { "Bearer(none)" })
    }
}

impl tonic::service::Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(token) = &self.0 {
            request.metadata_mut().insert("authorization", token.clone());
        }
        Ok(request)
    }
}
