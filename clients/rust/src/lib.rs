//! Market history from a historyd server, as Arrow record batches.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use markethistory::{Client, Range, ReadOptions};
//!
//! let client = Client::connect("127.0.0.1:50051")?;
//! let january = Range::parse("2024-01-01T00:00:00Z", "2024-02-01T00:00:00Z")?;
//! let table = client.read_table("ohlcv:binance:BTC/USDT:1m", january, ReadOptions::default()).await?;
//! println!("{} rows, complete: {}", table.num_rows(), table.summary.complete);
//! # Ok(())
//! # }
//! ```
//!
//! Rows are returned completely or not at all: a stream that breaks is resumed after the last row that came, without
//! doubling or losing one; a stream that ends without the server's summary is an error ([`Error::StreamCut`]). Ranges
//! are half-open, times are exact to the microsecond. Bars have the columns `ts` (timestamp\[us, UTC\]), `open`, `high`,
//! `low`, `close` and `volume` (float64); trades `ts`, `seq` (int32), `id`, `price`, `amount` and `side`.
//!
//! A [`Client`] is cheap to clone and may be used from many tasks. Dropping a future or a stream cancels its call.
//! Nothing about series, coverage or quotas is computed here, the server does that.

mod attempts;
mod client;
mod ensure;
mod error;
mod read;
mod session;
mod values;

/// The contract, generated from `proto/markethistory/v1`: for what has no method on [`Client`], see [`Client::service`].
#[allow(missing_docs, clippy::all, rustdoc::all)]
#[rustfmt::skip]
pub mod v1 {
    include!("generated/markethistory/v1/markethistory.v1.rs");
}

pub use arrow_array::RecordBatch;
pub use arrow_schema::SchemaRef;
pub use attempts::RetryPolicy;
pub use client::{Builder, Client, Service};
pub use ensure::{EnsureEvent, EnsurePlan, EnsureProgress, EnsureResult, EnsureStream};
pub use error::{Error, Failure};
pub use prost_types::Timestamp;
pub use read::{BatchStream, Compression, ReadOptions, Table};
pub use v1::CoverageState;
pub use values::{CoverageSpan, Range, Summary};

/// Version of this client, and of the server that it was released with.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
