//! Answers the benchmark of the clients; tests/clients/README.md says how.
//!
//!     bench history TARGET SERIES START END
//!     bench flight TARGET TICKET

use std::io::BufRead;
use std::time::Instant;

use arrow_flight::{FlightClient, Ticket};
use futures_util::TryStreamExt;
use markethistory::{Client, Range, ReadOptions, RecordBatch};
use tonic::transport::Endpoint;

type Failure = Box<dyn std::error::Error>;

enum Peer {
    History(Box<Client>, String, Range),
    Flight(Box<FlightClient>, Ticket),
}

impl Peer {
    async fn new(arguments: &[String]) -> Result<Self, Failure> {
        match arguments[0].as_str() {
            "history" => {
                let window = Range::parse(&arguments[3], &arguments[4])?;
                Ok(Peer::History(Box::new(Client::connect(&arguments[1])?), arguments[2].clone(), window))
            }
            _ => {
                let channel = Endpoint::from_shared(format!("http://{}", arguments[1]))?.connect().await?;
                Ok(Peer::Flight(Box::new(FlightClient::new(channel)), Ticket::new(arguments[2].clone())))
            }
        }
    }

    /// All rows, as the peer's users get them.
    async fn read(&mut self) -> Result<usize, Failure> {
        match self {
            Peer::History(client, series, window) => {
                Ok(client.read_table(series, *window, ReadOptions::default()).await?.num_rows())
            }
            Peer::Flight(client, ticket) => {
                let batches: Vec<RecordBatch> = client.do_get(ticket.clone()).await?.try_collect().await?;
                Ok(batches.iter().map(RecordBatch::num_rows).sum())
            }
        }
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let mut peer = Peer::new(&arguments).await?;
    println!("ready");
    for line in std::io::stdin().lock().lines() {
        line?;
        let began = Instant::now();
        let rows = peer.read().await?;
        println!("{}", serde_json::json!({"rows": rows, "seconds": began.elapsed().as_secs_f64()}));
    }
    Ok(())
}
